//! The later states have private fields: only the check before makes them.
use sealbus_envelope::wire::{Admitted, Opened, ProvenAdmission, Verified};

fn main() {
    let _ = Verified {};
    let _ = Admitted {};
    let _ = Opened {};
    let _ = ProvenAdmission {};
}

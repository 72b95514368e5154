//! Public keys and reader keys are checked when they are made: no other way makes one.
use sealbus_envelope::keys::{BoxKey, ReaderKey, SealingPublic};
use sealbus_envelope::identity::PublicKey;

fn main() {
    let _ = SealingPublic {};
    let _ = ReaderKey {};
    let _ = BoxKey {};
    let _ = PublicKey([0; 32]);
}

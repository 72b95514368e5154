//! A decoded envelope was verified by nobody: it cannot be admitted.
use sealbus_envelope::{identity::Credential, proof::admission::Admission, wire::Decoded};

fn shortcut(decoded: Decoded<'_>, admission: &Admission, guard: &Credential) {
    let _ = decoded.admit(admission, guard, &());
}

fn main() {}

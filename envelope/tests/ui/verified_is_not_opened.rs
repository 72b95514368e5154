//! A verified envelope was admitted by no guard: it cannot be opened.
use sealbus_envelope::{keys::SenderKey, wire::Verified};

fn shortcut(verified: Verified<'_>, key: &SenderKey) {
    let _ = verified.open(key);
}

fn main() {}

//! A grant that nobody verified opens nothing, and a verified one is not made by hand.
use sealbus_envelope::keys::{Grant, ReaderSecret, VerifiedGrant};

fn shortcut(grant: Grant, secret: &ReaderSecret) {
    let _ = grant.open(secret, [0; 32]);
}

fn by_hand(grant: Grant) -> VerifiedGrant {
    VerifiedGrant(grant)
}

fn main() {}

//! Batch roots whose signature was verified, so that the rest of a batch costs hashes only.

use moka::sync::Cache;
use sealbus_envelope::{identity::PublicKey, proof::batch::SignedRoot, wire::SeenRoots};

/// How many roots are remembered: a few seconds' worth at the highest rates.
const CAPACITY: u64 = 16_384;

/// The cache. Revocation is looked up before it, never remembered in it.
#[derive(Debug, Clone)]
pub(crate) struct Seen(Cache<([u8; 32], SignedRoot), ()>);

impl Seen {
    pub(crate) fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl SeenRoots for Seen {
    fn contains(&self, signer: &PublicKey, root: &SignedRoot) -> bool {
        self.0.contains_key(&(*signer.as_bytes(), root.clone()))
    }

    fn insert(&self, signer: &PublicKey, root: SignedRoot) {
        self.0.insert((*signer.as_bytes(), root), ());
    }
}

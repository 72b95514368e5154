//! Roots whose signature was verified, so that the rest of a batch costs only hashes.

use moka::sync::Cache;
use sealbus_envelope::{identity::PublicKey, proof::batch::SignedRoot, wire::SeenRoots};

/// How many roots are remembered: some seconds of traffic.
const CAPACITY: u64 = 65_536;

/// Verified roots, the least used forgotten first.
#[derive(Debug, Clone)]
pub struct SeenCache(Cache<(PublicKey, SignedRoot), ()>);

impl Default for SeenCache {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl SeenRoots for SeenCache {
    fn contains(&self, signer: &PublicKey, root: &SignedRoot) -> bool {
        self.0.contains_key(&(signer.clone(), root.clone()))
    }

    fn insert(&self, signer: &PublicKey, root: SignedRoot) {
        self.0.insert((signer.clone(), root), ());
    }
}

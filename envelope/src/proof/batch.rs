//! Batched signatures: one Ed25519 signature over the Merkle root of up to 256 digests.
//!
//! One signature per message is the wall that a signed bus runs into (a verification costs 28 µs); with
//! batches a verifier that has seen a root pays only hashes, and each message still proves itself alone.
//!
//! ```
//! use sealbus_envelope::{identity::{Purpose, SigningKey}, proof::batch};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = SigningKey::generate(&mut rand_core::UnwrapErr(getrandom::SysRng));
//! let digests = [[1; 32], [2; 32], [3; 32]];
//! let session = [7; 32];
//! let proofs = batch::sign(&key, Purpose::Batch, &session, &digests);
//! let signed = proofs[1].root(Purpose::Batch, &session, &digests[1])?;
//! signed.verify(key.public())?;
//! # Ok(())
//! # }
//! ```

use crate::{
    hash::Hash,
    identity::{PublicKey, Purpose, Signature, SigningKey},
    proof::merkle,
    reason::{Reason, Refused},
    wire::codec::{Reader, Writer},
};

/// The most leaves of a batch.
pub const MAX_BATCH: usize = 256;
/// The longest path: log2 of [`MAX_BATCH`].
const MAX_PATH: usize = 8;
/// The longest encoded proof, in bytes.
pub const MAX_PROOF: usize = 1 + 3 + 3 + 3 + 32 * MAX_PATH + 2 + 64;

/// Shows that one digest is a leaf of a signed batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchProof {
    /// How many leaves the tree has, 1 to 256.
    pub size: u16,
    /// Which leaf, below `size`.
    pub index: u16,
    /// Siblings from the leaf up.
    pub path: Vec<Hash>,
    /// Over purpose, scope, size and root.
    pub signature: Signature,
}

/// A root that a proof leads to: not yet verified, only computed.
///
/// It holds all that the signature covers. A cache of verified roots that left out purpose or scope would
/// accept from one verifier what another, whose cache is cold, refuses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SignedRoot {
    purpose: Purpose,
    scope: [u8; 32],
    size: u16,
    root: Hash,
    signature: Signature,
}

impl SignedRoot {
    /// Verifies the signature over (purpose, scope, size, root).
    ///
    /// # Errors
    /// `bad_signature`.
    pub fn verify(&self, key: &PublicKey) -> Result<(), Refused> {
        key.verify(self.purpose, &text(&self.scope, self.size, &self.root), &self.signature)
    }
}

impl BatchProof {
    /// The root that `digest` leads to along this proof, as a batch of this purpose and scope.
    ///
    /// # Errors
    /// `bad_proof`.
    pub fn root(&self, purpose: Purpose, scope: &[u8; 32], digest: &Hash) -> Result<SignedRoot, Refused> {
        let root = merkle::root_from_path(digest, u64::from(self.index), u64::from(self.size), &self.path)?;
        Ok(SignedRoot { purpose, scope: *scope, size: self.size, root, signature: self.signature })
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// The codec's reasons; `bad_proof` if size, index or path length cannot be.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let mut r = Reader::new(bytes, "proof");
        r.array(4)?;
        let proof = Self::read(&mut r)?;
        r.finish()?;
        Ok(proof)
    }

    /// Writes the proof.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(MAX_PROOF);
        w.array(4);
        self.write(&mut w);
        w.into_bytes()
    }

    /// Reads the four elements, the array head already read.
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Refused> {
        let bad = Refused::new(Reason::BadProof, "proof");
        let (size, index) = (r.small::<u16>()?, r.small::<u16>()?);
        let path = r.bin(32 * MAX_PATH)?;
        let signature = r.bin_array()?;
        let (path, rest) = path.as_chunks::<32>();
        if size == 0 || usize::from(size) > MAX_BATCH || index >= size || !rest.is_empty() {
            return Err(bad);
        }
        Ok(Self { size, index, path: path.to_vec(), signature })
    }

    /// Writes the four elements without an array head.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.uint(self.size).uint(self.index).bin(self.path.as_flattened()).bin(&self.signature);
    }
}

/// Signs up to 256 digests at once; one proof a digest, in order. `scope` binds the batch to its signer's
/// context (a session id, a guard's bus).
///
/// More than 256 digests are signed as several batches.
#[must_use]
pub fn sign(key: &SigningKey, purpose: Purpose, scope: &[u8; 32], digests: &[Hash]) -> Vec<BatchProof> {
    let mut proofs = Vec::with_capacity(digests.len());
    for chunk in digests.chunks(MAX_BATCH) {
        let tree = merkle::Tree::build(chunk.iter().map(|digest| digest.as_slice()));
        let size = u16::try_from(chunk.len()).unwrap_or(u16::MAX);
        let signature = key.sign(purpose, &text(scope, size, &tree.root()));
        proofs.extend((0..size).map(|index| BatchProof {
            size,
            index,
            path: tree.path(usize::from(index)).unwrap_or_default(),
            signature,
        }));
    }
    proofs
}

fn text(scope: &[u8; 32], size: u16, root: &Hash) -> Vec<u8> {
    let mut w = Writer::with_capacity(scope.len() + 48);
    w.array(3).bin(scope).uint(size).bin(root);
    w.into_bytes()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn each_proof_of_a_batch_verifies_alone_and_for_its_digest_only(count in 1usize..600, pick: prop::sample::Index) {
            let key = SigningKey::from_seed(&[9; 32]);
            let digests: Vec<Hash> = (0..count).map(|n| { let mut d = [0; 32]; d[..8].copy_from_slice(&n.to_be_bytes()); d }).collect();
            let proofs = sign(&key, Purpose::Batch, &[1; 32], &digests);
            let n = pick.index(count);
            let proof = BatchProof::decode(&proofs[n].encode()).unwrap();
            prop_assert_eq!(&proof, &proofs[n]);
            let verify = |purpose, scope, digest| proof.root(purpose, &scope, digest).unwrap().verify(key.public());
            prop_assert!(verify(Purpose::Batch, [1; 32], &digests[n]).is_ok());
            prop_assert!(verify(Purpose::Batch, [2; 32], &digests[n]).is_err());
            prop_assert!(verify(Purpose::Grant, [1; 32], &digests[n]).is_err());
            prop_assert!(verify(Purpose::Batch, [1; 32], &[0xee; 32]).is_err());
        }
    }
}

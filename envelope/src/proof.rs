//! Proofs: Merkle trees, batched signatures, proof of admission.

pub mod admission;
pub mod batch;
pub mod merkle;

//! Sealed envelopes for AI agents on NATS: labels, identities, keys, the wire format and its proofs.
pub mod label;

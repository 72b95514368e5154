//! Sealed envelopes for AI agents on NATS: labels, identities, keys, the wire format and its proofs.
//!
//! Pure: no IO, no clock. Time and randomness are arguments, so the same code runs in the guard, in every
//! agent, in property tests and under a fuzzer.

pub mod approval;
pub mod control;
#[doc(hidden)]
pub mod fuzzing;
pub mod hash;
pub mod identity;
pub mod keys;
pub mod label;
pub mod name;
pub mod order;
pub mod policy;
pub mod proof;
pub mod reader;
pub mod reason;
pub mod subject;
pub mod time;
pub mod wire;

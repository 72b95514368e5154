//! What people have a say in: envelopes that wait for their approval.
//!
//! Pure: who may approve what is in the signed policy, the time is an argument, and what is to be durable or told is
//! the caller's to do.

pub mod holds;
pub mod recheck;

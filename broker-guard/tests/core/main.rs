//! The guard's core without a server: real keys, real envelopes, a real log, a clock that tests turn.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod checks;
mod clear;
mod control;
mod floors;
mod flow;
mod holds;
mod noninterference;
mod oversight;
mod parents;
mod quarantine;
mod reference;
mod simulation;
mod taint;
mod world;

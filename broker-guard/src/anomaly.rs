//! What deviates: a detector that is a pure function of (state, observation, time).

mod signal;

pub use signal::{COUNT, SIGNALS, Signal, SignalKind, Standing, named};

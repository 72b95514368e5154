//! What a reader does with what it is handed: every check, in order, in one place.
//!
//! [`read`] takes a delivery (the bytes, the admission header, the subject it came on) to an
//! [`Opened`](crate::wire::Opened) message or to a reason. [`accept_grant`] takes a key grant to a key, and
//! [`check_reader`] decides for a sender whether to seal to somebody. All three are pure: what the reader
//! knows is a [`Context`], what it looks up is a [`Lookup`].

mod check;
mod exchange;
mod held;
mod history;
mod replay;

pub use check::{Context, DEFAULT_SKEW_MS, Delivery, Lookup, ReadingKey, read};
pub use exchange::{accept_grant, check_reader};
pub use held::read_held;
pub use history::{EpochFloor, POLICY_GRACE_MS, PolicyHistory};
pub use replay::ReplayWindow;

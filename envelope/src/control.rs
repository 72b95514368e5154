//! What sessions and guards say to each other beside envelopes.
//!
//! ```
//! use sealbus_envelope::control::{self, LobbyNotice};
//! use sealbus_envelope::reason::Reason;
//! # fn main() -> Result<(), sealbus_envelope::reason::Refused> {
//! let bytes = control::encode(&LobbyNotice { reason: Reason::Quarantined })?;
//! let read: LobbyNotice = control::decode(&bytes)?;
//! assert_eq!(read.reason, Reason::Quarantined);
//! # Ok(())
//! # }
//! ```

mod held;
mod message;
mod statement;

pub use held::{
    AskHeld, Handed, HeldHold, HeldList, HeldNotice, HeldReport, ListState, MAX_HELD_LISTED, SubmitApproval,
    Submitted,
};
pub use message::*;
pub use statement::{GuardEpoch, Heartbeat, LiveKey, MAX_LIVE_KEYS, SessionStatement};

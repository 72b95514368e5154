//! What can be ordered, and how many must sign it.

use std::fmt;

use crate::{
    identity::Roots,
    reason::{Reason, Refused},
    wire::codec::Reader,
};

/// What is ordered. On the wire an array of its number and, for kinds to come, what else it needs: a guard refuses a
/// kind that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OrderKind {
    /// Forget what the agent was given to read: whoever signs vouches that nothing of it is left in the agent.
    ClearTaint,
    /// Take the agent off the bus.
    Quarantine,
    /// Let the agent back.
    Release,
    /// Never let the agent back.
    Revoke,
    /// Deliver what was kept of the agent's envelopes to their readers after all.
    ReplayEvidence,
    /// Set what was kept of the agent's envelopes aside for good.
    DiscardEvidence,
    /// Pause a workflow.
    Pause,
    /// Let a paused workflow go on.
    Resume,
}

impl OrderKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::ClearTaint,
        Self::Quarantine,
        Self::Release,
        Self::Revoke,
        Self::ReplayEvidence,
        Self::DiscardEvidence,
        Self::Pause,
        Self::Resume,
    ];

    /// The stable word.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::ClearTaint => "clear_taint",
            Self::Quarantine => "quarantine",
            Self::Release => "release",
            Self::Revoke => "revoke",
            Self::ReplayEvidence => "replay_evidence",
            Self::DiscardEvidence => "discard_evidence",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::ClearTaint => 1,
            Self::Quarantine => 2,
            Self::Release => 3,
            Self::Revoke => 4,
            Self::ReplayEvidence => 5,
            Self::DiscardEvidence => 6,
            Self::Pause => 7,
            Self::Resume => 8,
        }
    }

    /// The kind with this number.
    ///
    /// # Errors
    /// `order_unknown`.
    pub fn from_number(number: u64) -> Result<Self, Refused> {
        let kind = Self::ALL.into_iter().find(|kind| u64::from(kind.number()) == number);
        kind.ok_or(Refused::new(Reason::OrderUnknown, "order.kind"))
    }

    /// How many policy keys must sign it, whatever the policy says; the policy may ask for more. One person may take
    /// an agent off the bus, stop a workflow, or let one go on that was stopped; giving back what was taken for cause
    /// needs the quorum.
    #[must_use]
    pub fn needed(self, roots: &Roots) -> usize {
        match self {
            Self::Quarantine | Self::Revoke | Self::Pause | Self::Resume => 1,
            Self::ClearTaint | Self::Release | Self::ReplayEvidence | Self::DiscardEvidence => {
                roots.quorum.max(1)
            }
        }
    }

    /// Whether it concerns a workflow, and not an agent.
    #[must_use]
    pub const fn is_of_workflow(self) -> bool {
        matches!(self, Self::Pause | Self::Resume)
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Refused> {
        // The length is the kind's: one that is not known may have any.
        let len = r.array_len(16)?;
        if len == 0 {
            return Err(Refused::new(Reason::WrongArity, "order.kind"));
        }
        let kind = Self::from_number(r.uint()?)?;
        if len == 1 { Ok(kind) } else { Err(Refused::new(Reason::WrongArity, "order.kind")) }
    }
}

impl fmt::Display for OrderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

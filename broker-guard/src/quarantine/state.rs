//! The states an agent goes through, and the one table of what leads where.
//!
//! ```text
//! normal ◄─calm/watch─► watched ──quarantine──► quarantined ──release──► released ──quarantine──► …
//!                                                    └───────revoke─────────┴──► revoked
//! ```
//! Automatic action ends at `quarantined`; release and revoke are orders of people. Who was released and is
//! watched again is calmed to `released`: its past stays on record.

use std::fmt;

use sealbus_envelope::{
    hash::Hash,
    identity::PublicKey,
    name::AgentToken,
    reason::{Reason, Refused},
    time::Millis,
};
use serde::{Deserialize, Serialize};

/// The most envelope digests that one record keeps as evidence.
pub const MAX_EVIDENCE: usize = 16;

/// Where an agent stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing is held against it.
    #[default]
    Normal,
    /// Suspected: on the bus, with lower limits.
    Watched,
    /// Off the bus until a person decides.
    Quarantined,
    /// A person let it back; its past stays on record.
    Released,
    /// Off the bus for good: only a status statement of the quorum could change that, with a new identity.
    Revoked,
}

impl State {
    /// Whether the agent is kept off the bus.
    #[must_use]
    pub const fn is_barred(self) -> bool {
        matches!(self, Self::Quarantined | Self::Revoked)
    }

    /// The stable word for events, audit and the command.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Watched => "watched",
            Self::Quarantined => "quarantined",
            Self::Released => "released",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What set a change off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// One piece of hard evidence.
    Evidence,
    /// Too much of what is excusable once.
    Flood,
    /// The anomaly score passed a threshold of the policy.
    Anomaly,
    /// The anomaly score decayed.
    Calm,
    /// An order of a person.
    Order,
}

/// Why an agent's state is to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What set it off.
    pub trigger: Trigger,
    /// The stable reason.
    pub reason: Reason,
    /// Which part of the evidence gave the reason, such as `header.label`; for an order, who gave it.
    pub what: String,
    /// Digests of the envelopes that are the evidence, at most [`MAX_EVIDENCE`].
    pub envelopes: Vec<Hash>,
}

impl Cause {
    /// Evidence or a flood, found by the guard.
    #[must_use]
    pub fn found(trigger: Trigger, refused: Refused, envelopes: &[Hash]) -> Self {
        Self {
            trigger,
            reason: refused.reason,
            what: refused.what.to_owned(),
            envelopes: envelopes.iter().take(MAX_EVIDENCE).copied().collect(),
        }
    }

    /// An order given by `who`.
    #[must_use]
    pub fn ordered(reason: Reason, who: impl Into<String>) -> Self {
        Self { trigger: Trigger::Order, reason, what: who.into(), envelopes: Vec::new() }
    }
}

/// What may happen to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Lower its limits.
    Watch,
    /// Give it its limits back.
    Calm,
    /// Take it off the bus.
    Quarantine,
    /// Let it back.
    Release,
    /// Never let it back.
    Revoke,
}

/// A change that the agent's state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an agent that is {from} cannot be {}; {}", .change.done(), .change.remedy())]
pub struct NotAllowed {
    /// The state it is in.
    pub from: State,
    /// What was asked.
    pub change: Change,
}

impl Change {
    const fn done(self) -> &'static str {
        match self {
            Self::Watch => "watched",
            Self::Calm => "calmed",
            Self::Quarantine => "quarantined",
            Self::Release => "released",
            Self::Revoke => "revoked",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Release => "only a quarantined agent can, and a revoked one needs a new identity",
            Self::Watch | Self::Calm | Self::Quarantine | Self::Revoke => "nothing more can be done to it",
        }
    }
}

/// What the guard remembers of an agent that was ever in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The agent as subjects name it.
    pub agent: AgentToken,
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since: Millis,
    /// Why.
    pub cause: Cause,
    /// How many times it was quarantined.
    pub times: u32,
}

/// An agent in the guard's books: identity key and record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The identity key: names can be given again, keys cannot.
    pub identity: PublicKey,
    /// What is remembered.
    pub record: Record,
}

/// The agent's record after `change`, or `None` if it changes nothing (quarantining again what is off the bus
/// already keeps the first cause, which is the one people look for).
///
/// # Errors
/// [`NotAllowed`].
pub fn apply(
    before: Option<&Record>,
    agent: &AgentToken,
    change: Change,
    cause: Cause,
    now: Millis,
) -> Result<Option<Record>, NotAllowed> {
    let from = before.map_or(State::Normal, |record| record.state);
    let times = before.map_or(0, |record| record.times);
    let (state, times) = match (from, change) {
        (State::Quarantined | State::Revoked, Change::Quarantine) | (State::Revoked, Change::Revoke) => {
            return Ok(None);
        }
        // Who is off the bus is watched already, and only a person calms that.
        (State::Watched | State::Quarantined | State::Revoked, Change::Watch)
        | (State::Normal | State::Quarantined | State::Released | State::Revoked, Change::Calm) => {
            return Ok(None);
        }
        (State::Normal | State::Released, Change::Watch) => (State::Watched, times),
        (State::Watched, Change::Calm) => (if times == 0 { State::Normal } else { State::Released }, times),
        (State::Normal | State::Watched | State::Released, Change::Quarantine) => {
            (State::Quarantined, times.saturating_add(1))
        }
        (State::Quarantined, Change::Release) => (State::Released, times),
        (_, Change::Revoke) => (State::Revoked, times),
        (State::Normal | State::Watched | State::Released | State::Revoked, Change::Release) => {
            return Err(NotAllowed { from, change });
        }
    };
    Ok(Some(Record { agent: agent.clone(), state, since: now, cause, times }))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn agent() -> AgentToken {
        AgentToken::parse("collector-abcdefghij").unwrap()
    }

    fn cause(reason: Reason) -> Cause {
        Cause::ordered(reason, "test")
    }

    fn step(before: Option<&Record>, change: Change) -> Result<Option<Record>, NotAllowed> {
        apply(before, &agent(), change, cause(Reason::WrongSender), Millis(7))
    }

    #[test]
    fn the_way_through_quarantine_and_back() {
        let quarantined = step(None, Change::Quarantine).unwrap().unwrap();
        assert!(quarantined.state.is_barred());
        assert_eq!(quarantined.times, 1);
        let released = step(Some(&quarantined), Change::Release).unwrap().unwrap();
        assert!(!released.state.is_barred());
        let again = step(Some(&released), Change::Quarantine).unwrap().unwrap();
        assert_eq!((again.state, again.times), (State::Quarantined, 2));
        let revoked = step(Some(&again), Change::Revoke).unwrap().unwrap();
        assert_eq!(step(Some(&revoked), Change::Release).unwrap_err().from, State::Revoked);
    }

    #[test]
    fn who_is_watched_is_calmed_to_where_it_was() {
        let watched = step(None, Change::Watch).unwrap().unwrap();
        assert!(!watched.state.is_barred());
        assert_eq!(step(Some(&watched), Change::Calm).unwrap().unwrap().state, State::Normal);
        let quarantined = step(Some(&watched), Change::Quarantine).unwrap().unwrap();
        assert_eq!(step(Some(&quarantined), Change::Calm), Ok(None));
        let released = step(Some(&quarantined), Change::Release).unwrap().unwrap();
        let again = step(Some(&released), Change::Watch).unwrap().unwrap();
        assert_eq!(step(Some(&again), Change::Calm).unwrap().unwrap().state, State::Released);
    }

    #[test]
    fn a_second_finding_does_not_replace_the_first() {
        let first = step(None, Change::Quarantine).unwrap().unwrap();
        let second = apply(Some(&first), &agent(), Change::Quarantine, cause(Reason::RateLimited), Millis(9));
        assert_eq!(second, Ok(None));
    }

    #[test]
    fn who_was_never_quarantined_cannot_be_released() {
        let text = step(None, Change::Release).unwrap_err().to_string();
        assert!(text.contains("normal") && text.contains("only a quarantined agent"), "{text}");
    }

    fn changes() -> impl Strategy<Value = Change> {
        proptest::sample::select(vec![
            Change::Watch,
            Change::Calm,
            Change::Quarantine,
            Change::Release,
            Change::Revoke,
        ])
    }

    proptest! {
        #[test]
        fn only_an_order_of_release_ends_a_bar(changes in proptest::collection::vec(changes(), 0..20)) {
            let mut record: Option<Record> = None;
            for change in changes {
                let barred = record.as_ref().is_some_and(|record| record.state.is_barred());
                let revoked = record.as_ref().is_some_and(|record| record.state == State::Revoked);
                if let Ok(Some(next)) = step(record.as_ref(), change) {
                    if barred && !next.state.is_barred() { prop_assert_eq!(change, Change::Release); }
                    prop_assert!(!revoked, "nothing follows revoked");
                    record = Some(next);
                }
            }
        }
    }
}

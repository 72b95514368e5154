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
    label::Label,
    name::AgentToken,
    reason::{Reason, Refused},
    time::Millis,
};
use serde::{Deserialize, Serialize};

/// The most envelope digests that one record keeps as evidence.
pub const MAX_EVIDENCE: usize = 16;
/// The most changes that one record tells of.
pub const MAX_HISTORY: usize = 32;

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
    /// The order, if it was one.
    #[serde(default)]
    pub order: Option<Ordered>,
}

/// The order behind a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// The order's id.
    pub id: [u8; 16],
    /// The policy keys that signed it, as nkeys.
    pub signers: Vec<String>,
    /// Why, in the words of who made it.
    pub why: String,
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
            order: None,
        }
    }

    /// An order given by `who`.
    #[must_use]
    pub fn ordered(reason: Reason, who: impl Into<String>) -> Self {
        Self { trigger: Trigger::Order, reason, what: who.into(), envelopes: Vec::new(), order: None }
    }

    /// A signed order.
    #[must_use]
    pub fn of_order(reason: Reason, order: Ordered) -> Self {
        let what = order.signers.join(", ");
        Self { trigger: Trigger::Order, reason, what, envelopes: Vec::new(), order: Some(order) }
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
    /// What led here, oldest first, the present state last: at most [`MAX_HISTORY`].
    #[serde(default)]
    pub history: Vec<Step>,
    /// While it is watched: the highest it may open keys for.
    #[serde(default)]
    pub ceiling: Option<Ceiling>,
    /// What the servers said after its last quarantine or revocation.
    #[serde(default)]
    pub enforced: Option<Seen>,
    /// When the incident began that it is in, or was in last: no two of an agent have the same, whatever the clock
    /// does. Zero of a record that was written before this was.
    #[serde(default)]
    pub opened: Millis,
}

/// One change in the story of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: Millis,
    /// The state that it entered.
    pub state: State,
    /// Why.
    pub cause: Cause,
}

/// What the servers said when they were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// When they had all been asked twice.
    pub at: Millis,
    /// Connections that were cut.
    pub cut: u32,
    /// Connections that are still there, or could not be cut.
    pub left: u32,
    /// Servers that did not answer, by name.
    pub silent: Vec<String>,
}

impl Seen {
    /// Whether every server answered that it holds no connection of the agent.
    #[must_use]
    pub const fn confirmed(&self) -> bool {
        self.left == 0 && self.silent.is_empty()
    }
}

/// What an agent used when it began to be watched: it opens no key for more, in any of the three directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceiling {
    /// The highest level.
    pub level: u8,
    /// All compartments.
    pub compartments: u64,
    /// The highest integrity.
    pub integrity: u8,
}

impl Ceiling {
    /// The least that covers all of `labels`; none if there is none, for then there is nothing to go by.
    #[must_use]
    pub fn over(labels: impl Iterator<Item = Label>) -> Option<Self> {
        labels.fold(None, |ceiling: Option<Self>, label| {
            let before = ceiling.unwrap_or(Self { level: 0, compartments: 0, integrity: 0 });
            Some(Self {
                level: before.level.max(label.level.number()),
                compartments: before.compartments | label.compartments.bits(),
                integrity: before.integrity.max(label.integrity.number()),
            })
        })
    }

    /// Whether a key for `label` is no more than what was used.
    #[must_use]
    pub const fn covers(&self, label: Label) -> bool {
        label.level.number() <= self.level
            && label.compartments.bits() & !self.compartments == 0
            && label.integrity.number() <= self.integrity
    }
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
    let last = before.map_or(Millis(0), |record| record.opened);
    // Whoever is off the bus or watched is in an incident already; what calms it or lets it back ends that one.
    let opened = match from {
        State::Normal | State::Released => now.max(last.plus(1)),
        State::Watched | State::Quarantined | State::Revoked => last,
    };
    let mut history = before.map(|record| record.history.clone()).unwrap_or_default();
    history.push(Step { at: now, state, cause: cause.clone() });
    forget_one(&mut history);
    Ok(Some(Record {
        agent: agent.clone(),
        state,
        since: now,
        cause,
        times,
        history,
        ceiling: None,
        enforced: None,
        opened,
    }))
}

/// Who is watched and calmed again and again must not have its quarantines forgotten for it.
fn forget_one(history: &mut Vec<Step>) {
    if history.len() > MAX_HISTORY {
        let first = history.iter().position(|step| step.state == State::Watched).unwrap_or(0);
        history.remove(first);
        // The calm behind it goes with it.
        if matches!(history.get(first), Some(next) if matches!(next.state, State::Normal | State::Released)) {
            history.remove(first);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]
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
    fn a_record_tells_its_story_and_forgets_the_slight_first() {
        let mut record = step(None, Change::Quarantine).unwrap().unwrap();
        record = step(Some(&record), Change::Release).unwrap().unwrap();
        for _ in 0..MAX_HISTORY {
            record = step(Some(&record), Change::Watch).unwrap().unwrap();
            record = step(Some(&record), Change::Calm).unwrap().unwrap();
        }
        assert!(record.history.len() <= MAX_HISTORY);
        assert_eq!(record.history[0].state, State::Quarantined);
        assert_eq!(record.history.last().map(|step| step.state), Some(record.state));
    }

    #[test]
    fn a_record_of_before_is_still_read() {
        #[derive(Serialize)]
        struct Before(AgentToken, State, Millis, (Trigger, Reason, String, Vec<Hash>), u32);
        let cause = (Trigger::Evidence, Reason::WrongBus, "header.bus".to_owned(), vec![[7; 32]]);
        let before = Before(agent(), State::Quarantined, Millis(3), cause, 2);
        let record: Record = rmp_serde::from_slice(&rmp_serde::to_vec(&before).unwrap()).unwrap();
        assert_eq!((record.state, record.times, record.history.len()), (State::Quarantined, 2, 0));
    }

    #[test]
    fn what_was_used_covers_itself_and_less() {
        use sealbus_envelope::label::{Compartments, Integrity, Level};
        let label = |level, compartments, integrity| {
            let (level, integrity) = (Level::new(level).unwrap(), Integrity::new(integrity).unwrap());
            Label::new(level, Compartments::from_bits(compartments), integrity)
        };
        let ceiling = Ceiling::over([label(2, 1, 0), label(1, 2, 1)].into_iter()).unwrap();
        assert!(ceiling.covers(label(2, 3, 1)) && ceiling.covers(label(0, 0, 0)));
        for above in [label(3, 0, 0), label(0, 4, 0), label(0, 0, 2)] {
            assert!(!ceiling.covers(above), "{above:?}");
        }
        assert_eq!(Ceiling::over(std::iter::empty()), None);
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

//! Clearing a floor, by a signed order.
//!
//! A floor stands for keys. It may fall only when none of them opens anything any more, or who kept one would
//! read on and write as if it had not. So it falls in two steps. First, on disk in one transaction: the order is
//! used up, the floor is set apart and goes on counting, and it is noted which keys are outdated. Then those
//! keys rotate, and when all of them are refused, what was set apart is forgotten. What is read between the
//! steps is a new floor and stays. A guard that dies between them finds what was set apart and goes on; of
//! senders that come back with keys of before, it takes none.

use std::collections::{BTreeMap, HashSet};

use sealbus_envelope::{
    identity::{MAX_SESSION_MS, SessionCertificate, SessionId},
    label::Label,
    name::{AgentToken, Name},
    time::Millis,
};
use serde::{Deserialize, Serialize};

use super::Floors;

/// A certificate's validity begins up to this long before its session does, because clocks differ.
const BACKDATED_MS: u64 = 60_000;

/// What is remembered of a clear, for as long as a session from before it may live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// When it began.
    pub at: Millis,
    /// What the agent had been given to read by then. Keys of then, under these rules and at or below these
    /// labels, may be among what it holds.
    pub held: Vec<(Name, Label)>,
    /// Its sessions that were live: over for good, because what they were given is still in their memory.
    pub ended: Vec<SessionId>,
}

impl Cleared {
    /// Whether a key for `rule` and `label` may be from before, whose session's certificate is valid from
    /// `begun`. A session that is valid only later can have granted nothing by then.
    fn outdates(&self, rule: &Name, label: Label, begun: Millis) -> bool {
        begun <= self.at && self.held.iter().any(|(held, up_to)| held == rule && up_to.dominates(label))
    }

    /// Whether it ended the session: one that was live, or is old enough to be from before for certain.
    fn ended(&self, certificate: &SessionCertificate) -> bool {
        let begun = certificate.validity().not_before;
        begun.plus(BACKDATED_MS) <= self.at || self.ended.contains(&certificate.id())
    }

    /// Whether no session from before it can be valid any more.
    #[must_use]
    pub const fn is_over(&self, now: Millis) -> bool {
        self.at.plus(MAX_SESSION_MS).0 < now.0
    }
}

impl Floors {
    /// What a clear of the agent that begins now leaves to be remembered, while `live` are its sessions.
    #[must_use]
    pub fn clear_of(&self, agent: &AgentToken, live: Vec<SessionId>, now: Millis) -> Cleared {
        let before = self.cleared.get(agent.as_str());
        let floor = self.of_agent(agent);
        let mut held: BTreeMap<&Name, Label> = floor.by_name();
        let mut ended: HashSet<SessionId> = live.into_iter().collect();
        if let Some(before) = before {
            for (rule, label) in &before.held {
                let held = held.entry(rule).or_insert(*label);
                *held = held.join(*label);
            }
            // Those that ended longer ago are known by their age.
            if now.since(before.at) < BACKDATED_MS {
                ended.extend(&before.ended);
            }
        }
        let mut ended: Vec<SessionId> = ended.into_iter().collect();
        ended.sort();
        let at = before.map_or(now, |before| before.at.max(now));
        Cleared { at, held: held.into_iter().map(|(rule, label)| (rule.clone(), label)).collect(), ended }
    }

    /// When the agent's floor was last cleared, for as long as that is remembered.
    #[must_use]
    pub fn cleared_at(&self, agent: &AgentToken) -> Option<Millis> {
        self.cleared.get(agent.as_str()).map(|cleared| cleared.at)
    }

    /// Sets apart what counts against the agent as a whole.
    pub fn begin_clear(&mut self, agent: &AgentToken, cleared: Cleared) {
        let floor = self.agents.remove(agent.as_str()).unwrap_or_default();
        let before = self.clearing.remove(agent.as_str()).unwrap_or_default();
        self.clearing.insert(agent.clone(), floor.with(&before));
        self.cleared.insert(agent.clone(), cleared);
    }

    /// Remembers a clear that the store knows of.
    pub(crate) fn remember(&mut self, agent: AgentToken, cleared: Cleared) {
        self.cleared.insert(agent, cleared);
    }

    /// Agents whose clear began at or before `begun` and is not finished.
    #[must_use]
    pub fn clearing(&self, begun: Millis) -> Vec<AgentToken> {
        let due =
            |agent: &&AgentToken| self.cleared.get(agent.as_str()).is_none_or(|cleared| cleared.at <= begun);
        self.clearing.keys().filter(due).cloned().collect()
    }

    /// Forgets what was set apart, once it is forgotten on disk.
    pub fn finish_clear(&mut self, agent: &AgentToken) {
        self.clearing.remove(agent.as_str());
    }

    /// Whether a key that a session brings with it may be among what a cleared agent holds.
    #[must_use]
    pub fn is_outdated(&self, rule: &Name, label: Label, certificate: &SessionCertificate) -> bool {
        let begun = certificate.validity().not_before;
        self.cleared.values().any(|cleared| cleared.outdates(rule, label, begun))
    }

    /// Whether an order to clear the agent ended the session.
    #[must_use]
    pub fn is_ended(&self, agent: &AgentToken, certificate: &SessionCertificate) -> bool {
        self.cleared.get(agent.as_str()).is_some_and(|cleared| cleared.ended(certificate))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use sealbus_envelope::{
        identity::{BusId, SigningKey},
        label::{Compartments, Integrity, Level},
        subject::Pattern,
        time::Validity,
    };

    use super::*;
    use crate::taint::{Holder, Raise};

    const AT: Millis = Millis(10_000_000);

    fn label(level: u8) -> Label {
        Label::new(Level::new(level).unwrap(), Compartments::EMPTY, Integrity::HIGHEST)
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn agent() -> AgentToken {
        AgentToken::parse("alice-abcdefghij").unwrap()
    }

    fn session(begun: Millis) -> SessionCertificate {
        let [identity, session] = [1, 2].map(|n| SigningKey::from_seed(&[n; 32]));
        let validity = Validity::starting(begun, 3_600_000);
        SessionCertificate::issue(BusId::from_bytes([0; 32]), &identity, &session, validity).unwrap()
    }

    fn raise(rule: &str, level: u8) -> Raise {
        let pattern = Pattern::parse(rule).unwrap();
        Raise { holder: Holder::Agent(agent()), rule: name(rule), pattern, label: label(level) }
    }

    fn join(floors: &Floors) -> Label {
        floors.of(&agent(), SessionId::from_bytes([0; 32])).join()
    }

    #[test]
    fn a_floor_counts_until_its_keys_are_stale_and_what_is_read_meanwhile_stays() {
        let mut floors: Floors = [raise("notes", 3)].into_iter().collect();
        let cleared = floors.clear_of(&agent(), vec![], AT);
        floors.begin_clear(&agent(), cleared);
        assert_eq!(join(&floors), label(3));
        floors.raise(&raise("notes", 1));
        assert!(floors.clearing(AT.minus(1)).is_empty());
        assert_eq!(floors.clearing(AT), [agent()]);
        floors.finish_clear(&agent());
        assert_eq!(join(&floors), label(1));
        assert!(floors.clearing(AT).is_empty());
    }

    #[test]
    fn keys_of_before_are_outdated_under_what_was_read() {
        let mut floors: Floors = [raise("notes", 2)].into_iter().collect();
        let cleared = floors.clear_of(&agent(), vec![], AT);
        floors.begin_clear(&agent(), cleared);
        floors.finish_clear(&agent());
        let outdated = |rule, level, begun| floors.is_outdated(&name(rule), label(level), &session(begun));
        assert!(outdated("notes", 2, AT) && outdated("notes", 1, Millis(0)));
        assert!(!outdated("notes", 2, AT.plus(1)), "its session began later");
        assert!(!outdated("notes", 3, AT) && !outdated("other", 2, AT), "the agent was never given such");
    }

    #[test]
    fn a_second_clear_forgets_nothing_of_the_first() {
        let mut floors: Floors = [raise("notes", 2)].into_iter().collect();
        let (first, second) = (SessionId::from_bytes([1; 32]), SessionId::from_bytes([2; 32]));
        let cleared = floors.clear_of(&agent(), vec![first], AT);
        floors.begin_clear(&agent(), cleared);
        floors.raise(&raise("other", 3));
        let again = floors.clear_of(&agent(), vec![second], AT.plus(5));
        assert_eq!(again.ended, [first, second]);
        floors.begin_clear(&agent(), again);
        assert_eq!(join(&floors), label(3));
        assert!(floors.is_outdated(&name("notes"), label(2), &session(AT)));
        assert!(floors.is_outdated(&name("other"), label(3), &session(AT)));
        floors.expire(AT.plus(6).plus(MAX_SESSION_MS));
        assert!(!floors.is_outdated(&name("other"), label(3), &session(AT)), "nothing of then is valid");
        assert_eq!(join(&floors), label(3), "though the clear never finished");
    }

    #[test]
    fn sessions_of_before_are_over() {
        let mut floors = Floors::default();
        let live = session(AT);
        assert!(!floors.is_ended(&agent(), &live));
        let cleared = floors.clear_of(&agent(), vec![live.id()], AT);
        floors.begin_clear(&agent(), cleared);
        assert!(floors.is_ended(&agent(), &live), "it was live");
        assert!(floors.is_ended(&agent(), &session(AT.minus(BACKDATED_MS))), "it is old enough");
        assert!(!floors.is_ended(&agent(), &session(AT.minus(BACKDATED_MS - 1))), "it may have begun since");
        let other = AgentToken::parse("bob-abcdefghij").unwrap();
        assert!(!floors.is_ended(&other, &live));
    }
}

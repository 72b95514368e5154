//! Parents that their sender could not have read, as the guard sees it while it runs.
//!
//! [`audit::parents`](crate::audit::parents) answers the same from the whole log. Here is what the guard can keep: of
//! the newest [`REMEMBERED`] envelopes, about, who sealed them for what; and of the sessions that it saw from their
//! beginning, which agents they had keys handed to. What it does not remember is no evidence: a parent that is too
//! old, one from before the guard was started, one whose session began before, one that never was admitted. So an agent
//! that names what it read is never told of, whatever was forgotten.
//!
//! A session was seen from its beginning if its certificate, which the guard checked against its own clock, begins after
//! the guard did: no guard before can have handed out a key of it. Sessions are forgotten in the order in which they
//! begin, so one comparison tells whether something of a session may be forgotten; its sender gains nothing by a
//! certificate that says another time.
//!
//! What a server cannot bring about: keys are handed out through the guard only, and nothing is noted that did not verify.
//! A *sender* and a server together can hand an agent a key past the guard, and have it name what it read so; this
//! signal alone never adds up to a quarantine.

use std::collections::{BTreeSet, HashMap, HashSet};

use sealbus_envelope::{
    hash::Hash, identity::SessionId, label::Label, name::AgentToken, time::Millis, wire::Parent,
};

use super::known::{digest, mix};
use crate::audit::parents::{Fault, judge};

/// How many envelopes are remembered, six megabytes of them: at 1,000 a second the last minute.
pub const REMEMBERED: usize = 1 << 16;
/// How many sessions are remembered at most.
pub const MAX_SESSIONS: usize = 1 << 14;
/// How many handed keys are remembered at most, each reader counted once for a session, rule and label: four megabytes.
pub const MAX_GIVEN: usize = 1 << 18;

/// An envelope that was admitted.
#[derive(Debug, Clone, Copy)]
struct Slot {
    digest: Hash,
    session: SessionId,
    /// Digest of the rule's name.
    rule: u64,
    label: Label,
}

/// Whom a session handed its keys.
#[derive(Debug)]
struct Told {
    /// Digest of the session's agent.
    sender: u64,
    /// What was handed to whom, see [`handed`].
    given: HashSet<u64>,
}

/// What is remembered of envelopes and of who could read them. No IO, no clock.
#[derive(Debug)]
pub struct Parents {
    /// Written one behind the other, then over the oldest: the hot path would wait for memory if each had a place by its
    /// digest, or its place in an order of use.
    slots: Vec<Slot>,
    /// Where the next one goes.
    next: usize,
    /// Where the newest envelope of a place is: its digest tells whether it is the one.
    index: Vec<u32>,
    sessions: HashMap<SessionId, Told>,
    by_age: BTreeSet<(Millis, SessionId)>,
    given: usize,
    /// Of sessions that began until then something may be forgotten.
    forgotten: Millis,
}

impl Default for Parents {
    /// One that knows nothing, and of no session all.
    fn default() -> Self {
        Self::since(Millis(u64::MAX))
    }
}

/// A key for a rule and label in the hands of an agent, as one word. Who finds two that are alike makes a lie look true.
fn handed(rule: u64, label: Label, reader: u64) -> u64 {
    let levels = u64::from(label.level.number()) << 8 | u64::from(label.integrity.number());
    mix(mix(mix(rule ^ levels) ^ label.compartments.bits()) ^ reader)
}

/// Where an envelope is looked up. Its digest is of the sender's making: who puts one in another's place hides a lie.
fn place(digest: &Hash) -> usize {
    let [a, b, c, d, ..] = *digest;
    usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(0) % REMEMBERED
}

impl Parents {
    /// For a guard that starts now.
    #[must_use]
    pub fn since(now: Millis) -> Self {
        Self {
            slots: Vec::new(),
            next: 0,
            index: Vec::new(),
            sessions: HashMap::new(),
            by_age: BTreeSet::new(),
            given: 0,
            forgotten: now,
        }
    }

    /// A session said hello: the first time, or again.
    pub fn began(&mut self, session: SessionId, agent: &AgentToken, certified_from: Millis) {
        if certified_from <= self.forgotten || self.sessions.contains_key(&session) {
            return;
        }
        let told = Told { sender: digest(agent.as_str()), given: HashSet::new() };
        self.sessions.insert(session, told);
        self.by_age.insert((certified_from, session));
        self.make_room();
    }

    /// A key of the session was handed to a reader.
    pub fn granted(&mut self, session: SessionId, rule: &str, label: Label, reader: &str) {
        let Some(told) = self.sessions.get_mut(&session) else { return };
        if told.given.insert(handed(digest(rule), label, digest(reader))) {
            self.given += 1;
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        while self.sessions.len() > MAX_SESSIONS || self.given > MAX_GIVEN {
            let Some((began, oldest)) = self.by_age.pop_first() else { return };
            self.given -= self.sessions.remove(&oldest).map_or(0, |told| told.given.len());
            self.forgotten = self.forgotten.max(began);
        }
    }

    /// An envelope was admitted, or waits for people: it may be named from now on. The hot path.
    pub fn sent(&mut self, envelope: Hash, session: SessionId, rule: &str, label: Label) {
        if self.index.is_empty() {
            self.index = vec![0; REMEMBERED];
        }
        let slot = Slot { digest: envelope, session, rule: digest(rule), label };
        match self.slots.get_mut(self.next) {
            Some(oldest) => *oldest = slot,
            None => self.slots.push(slot),
        }
        if let Some(at) = self.index.get_mut(place(&envelope)) {
            *at = u32::try_from(self.next).unwrap_or(0);
        }
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// What is wrong with the parents that an envelope of this sender names, as far as is known: the first fault.
    #[must_use]
    pub fn fault(&self, sender: &str, named: impl IntoIterator<Item = Parent>) -> Option<(Hash, Fault)> {
        let mut named = named.into_iter();
        named.find_map(|parent| Some((parent.digest, self.fault_of(sender, &parent)?)))
    }

    fn fault_of(&self, sender: &str, parent: &Parent) -> Option<Fault> {
        let at = *self.index.get(place(&parent.digest))?;
        let slot = self.slots.get(usize::try_from(at).ok()?)?;
        if slot.digest != parent.digest {
            return None;
        }
        let told = self.sessions.get(&slot.session)?;
        let sender = digest(sender);
        let given = || told.given.contains(&handed(slot.rule, slot.label, sender));
        // That its own label keeps to the label it says, or a flow grant allows the step, was checked before.
        judge(told.sender == sender, given, parent.label.dominates(slot.label))
    }

    /// How many things are remembered: sessions, and keys handed.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.sessions.len(), self.given)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;
    use sealbus_envelope::label::{Compartments, Integrity, Level};

    use super::*;

    const START: Millis = Millis(1_000_000);

    fn label(level: u8) -> Label {
        Label::new(Level::new(level).unwrap(), Compartments::EMPTY, Integrity::LOWEST)
    }

    fn agent(n: u8) -> AgentToken {
        AgentToken::parse(&format!("{}-abcdefghij", char::from(b'a' + n))).unwrap()
    }

    fn session(n: u32) -> SessionId {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(n.to_le_bytes()).for_each(|(to, from)| *to = from);
        SessionId::from_bytes(bytes)
    }

    fn envelope(n: u32) -> Hash {
        let mut digest = [7; 32];
        digest.iter_mut().zip(n.to_le_bytes()).for_each(|(to, from)| *to = from);
        digest
    }

    /// Agent `a` in a session that the guard saw from its beginning, and its first envelope.
    fn told() -> Parents {
        let mut parents = Parents::since(START);
        parents.began(session(0), &agent(0), START.plus(1));
        parents.sent(envelope(1), session(0), "notes", label(1));
        parents
    }

    fn fault(parents: &Parents, who: u8, named: u32, level: u8) -> Option<Fault> {
        let named = [Parent { digest: envelope(named), label: label(level) }];
        parents.fault(agent(who).as_str(), named).map(|(_, fault)| fault)
    }

    #[test]
    fn who_was_given_no_key_could_not_have_read_it() {
        let mut parents = told();
        assert_eq!(fault(&parents, 1, 1, 1), Some(Fault::NotGiven));
        assert_eq!(fault(&parents, 0, 1, 1), None, "its own");
        parents.granted(session(0), "notes", label(2), agent(1).as_str());
        parents.granted(session(0), "mail", label(1), agent(1).as_str());
        parents.granted(session(0), "notes", label(1), agent(2).as_str());
        assert_eq!(fault(&parents, 1, 1, 1), Some(Fault::NotGiven), "keys for something else");
        parents.granted(session(0), "notes", label(1), agent(1).as_str());
        assert_eq!(fault(&parents, 1, 1, 1), None);
        assert_eq!(fault(&parents, 1, 1, 0), Some(Fault::Below), "it says its parent was lower than it is");
        assert_eq!(fault(&parents, 0, 1, 0), Some(Fault::Below), "its own, too");
    }

    #[test]
    fn what_is_not_remembered_is_no_evidence() {
        let mut parents = told();
        assert_eq!(fault(&parents, 1, 2, 1), None, "never admitted, as far as is known");
        let other = u32::try_from(REMEMBERED).unwrap() + 1;
        parents.sent(envelope(other), session(0), "notes", label(1));
        assert_eq!(fault(&parents, 1, 1, 1), None, "another is in its place");
        assert_eq!(fault(&parents, 1, other, 1), Some(Fault::NotGiven));
        for certified_from in [START, Millis(0)] {
            let mut parents = Parents::since(START);
            parents.began(session(0), &agent(0), certified_from);
            parents.sent(envelope(1), session(0), "notes", label(1));
            assert_eq!(fault(&parents, 1, 1, 1), None, "a guard before may have handed out its key");
        }
    }

    #[test]
    fn sessions_are_forgotten_by_age_and_stay_so() {
        let mut parents = told();
        for n in 1..=u32::try_from(MAX_SESSIONS).unwrap() {
            parents.began(session(n), &agent(0), START.plus(u64::from(n) + 1));
        }
        assert_eq!(parents.len().0, MAX_SESSIONS);
        assert_eq!(fault(&parents, 1, 1, 1), None);
        parents.began(session(0), &agent(0), START.plus(1));
        assert_eq!(fault(&parents, 1, 1, 1), None, "its hello does not bring back what it handed out");
    }

    #[test]
    fn one_session_that_hands_out_too_much_is_forgotten_alone() {
        let mut parents = told();
        parents.began(session(1), &agent(0), START.plus(2));
        parents.sent(envelope(2), session(1), "notes", label(1));
        for n in 0..=MAX_GIVEN {
            parents.granted(session(0), "notes", label(1), &format!("reader{n}"));
        }
        assert_eq!(parents.len(), (1, 0));
        assert_eq!((fault(&parents, 9, 1, 1), fault(&parents, 9, 2, 1)), (None, Some(Fault::NotGiven)));
    }

    /// What happens on a bus.
    #[derive(Debug, Clone)]
    enum Happens {
        Began {
            session: u32,
            agent: u8,
        },
        Granted {
            session: u32,
            level: u8,
            reader: u8,
        },
        Sent {
            envelope: u32,
            session: u32,
            level: u8,
        },
        /// Another guard starts, on nothing but the sessions' keys.
        Restart,
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            (0_u32..6, 0_u8..4).prop_map(|(session, agent)| Happens::Began { session, agent }),
            (0_u32..6, 0_u8..3, 0_u8..4).prop_map(|(session, level, reader)| Happens::Granted {
                session,
                level,
                reader
            }),
            (0_u32..200_000, 0_u32..6, 0_u8..3).prop_map(|(envelope, session, level)| Happens::Sent {
                envelope,
                session,
                level
            }),
            Just(Happens::Restart),
        ]
    }

    proptest! {
        #[test]
        fn who_names_what_it_read_or_sent_itself_is_never_told_of(
            story in proptest::collection::vec(happens(), 1..120)
        ) {
            let (mut parents, mut now) = (Parents::since(START), START);
            // The truth, which no guard has: whose a session is and since when, who read what.
            let mut owners: HashMap<u32, (u8, Millis)> = HashMap::new();
            let mut given: HashSet<(u32, u8, u8)> = HashSet::new();
            let mut sent: HashMap<u32, (u32, u8)> = HashMap::new();
            for what in story {
                now = now.plus(1_000);
                match what {
                    Happens::Began { session: id, agent: who } => {
                        let (who, began) = *owners.entry(id).or_insert((who, now));
                        parents.began(session(id), &agent(who), began);
                    }
                    Happens::Granted { session: id, level, reader } if owners.contains_key(&id) => {
                        given.insert((id, level, reader));
                        parents.granted(session(id), "notes", label(level), agent(reader).as_str());
                    }
                    Happens::Sent { envelope: n, session: id, level }
                        if owners.contains_key(&id) && !sent.contains_key(&n) =>
                    {
                        sent.insert(n, (id, level));
                        parents.sent(envelope(n), session(id), "notes", label(level));
                    }
                    Happens::Restart => parents = Parents::since(now),
                    Happens::Granted { .. } | Happens::Sent { .. } => {}
                }
                for (n, (id, level)) in &sent {
                    for who in 0..4 {
                        let own = owners.get(id).is_some_and(|(owner, _)| *owner == who);
                        if own || given.contains(&(*id, *level, who)) {
                            prop_assert_eq!(fault(&parents, who, *n, *level), None);
                        }
                    }
                }
            }
        }
    }
}

//! How far the sequences of keys that are gone had come.
//!
//! A statement that opens a key stays good for as long as the guard's epoch lasts. Without these marks a
//! hostile server could have a session forget a key (or could wait until it rotates, or leaves), send the old
//! statement again and with it every envelope that is still fresh. A mark is kept until all of them are stale.

use std::collections::{BTreeSet, HashMap};

use sealbus_envelope::{name::AgentToken, time::Millis};

use super::OwnedKey;

#[derive(Debug)]
struct Mark {
    next: u64,
    until: Millis,
    agent: AgentToken,
}

/// The marks, by key.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: HashMap<OwnedKey, Mark>,
    by_time: BTreeSet<(Millis, OwnedKey)>,
    of_agent: HashMap<AgentToken, usize>,
}

impl Marks {
    /// Remembers a key that goes. One that sealed nothing needs no mark.
    pub(super) fn leave(&mut self, key: OwnedKey, next: u64, agent: &AgentToken, until: Millis) {
        if next == 0 {
            return;
        }
        let next = next.max(self.take(&key).unwrap_or(0));
        *self.of_agent.entry(agent.clone()).or_default() += 1;
        self.by_time.insert((until, key));
        self.marks.insert(key, Mark { next, until, agent: agent.clone() });
    }

    /// The mark of a key that comes back, which carries it on from there.
    pub(super) fn take(&mut self, key: &OwnedKey) -> Option<u64> {
        let mark = self.marks.remove(key)?;
        self.by_time.remove(&(mark.until, *key));
        if let Some(count) = self.of_agent.get_mut(&mark.agent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_agent.remove(&mark.agent);
            }
        }
        Some(mark.next)
    }

    /// Forgets the marks whose envelopes are all stale.
    pub(super) fn expire(&mut self, now: Millis) {
        while let Some((_, key)) = self.by_time.first().copied().filter(|(until, _)| *until < now) {
            self.take(&key);
        }
    }

    /// Whether this key went a short while ago.
    pub(super) fn remember(&self, key: &OwnedKey) -> bool {
        self.marks.contains_key(key)
    }

    pub(super) fn of_agent(&self, agent: &AgentToken) -> usize {
        self.of_agent.get(agent).copied().unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }
}

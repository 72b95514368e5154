//! Which logged envelopes are suspect if a key was stolen at some time.
//!
//! The log is read once, in its order. An envelope that derives from another was sent after it was read, and
//! it was logged before it was forwarded, so parents stand before children.

use std::collections::{BTreeMap, HashMap, HashSet};

use sealbus_envelope::{label::Label, time::Millis};

use crate::audit::entry::{Admitted, Body, Entry, Hex, KeyGranted};

/// An envelope in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Its leaf in the log.
    pub leaf: u64,
    /// When it was admitted, by the guard's clock.
    pub time: Millis,
    /// Its digest.
    pub digest: Hex<32>,
    /// Its id.
    pub envelope: Hex<16>,
    /// Who sent it.
    pub sender: String,
    /// The rule.
    pub rule: String,
    /// The subject.
    pub subject: String,
    /// The label.
    pub label: Label,
}

/// An agent that was given the key of something suspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// Since when it may have read it, by the guard's clock.
    pub since: Millis,
    /// From whom it had it.
    pub from: String,
    /// How many envelopes it had admitted since: any may carry on what it read, declared or not.
    pub sent: u64,
}

/// What the log says of one stolen key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    agent: String,
    since: Millis,
    /// Envelopes of the agent itself.
    pub own: Vec<Envelope>,
    /// Envelopes of others that name one of those, or a descendant, as a parent.
    pub derived: Vec<Envelope>,
    /// Agents that were given a key of a suspect sender for what it sent, by token: the agent's readers, their
    /// readers, and so on.
    pub exposed: BTreeMap<String, Exposure>,
    /// Rules and labels whose keys the agent was given: what it was able to read, and how often a key.
    pub given: BTreeMap<(String, Vec<u8>), (Label, u64)>,
    /// How often the agent was denied something.
    pub denied: u64,
    /// How many entries were read, and the time of the first and the last.
    pub entries: u64,
    /// When the log begins.
    pub begins: Option<Millis>,
    /// When it ends.
    pub ends: Option<Millis>,
    /// How many gaps the log admits to from that time on.
    pub gaps: u64,
    digests: HashSet<[u8; 32]>,
    /// Who was given a key, by sender's session, rule and label.
    readers: HashMap<Key, HashSet<String>>,
    /// Keys under which something suspect was sent.
    tainted: HashMap<Key, String>,
}

type Key = ([u8; 32], String, Label);

impl Suspects {
    /// Nothing read yet. `agent` is a token, or a name without the short id: then keys the agent had before
    /// count too.
    #[must_use]
    pub fn of(agent: &str, since: Millis) -> Self {
        Self { agent: agent.to_owned(), since, ..Self::default() }
    }

    /// Reads the next entry. All must be given, also those before the time asked about: keys granted then are
    /// still in the hands of readers.
    pub fn read(&mut self, leaf: u64, entry: &Entry<'_>) {
        self.entries += 1;
        self.begins.get_or_insert(entry.time);
        self.ends = Some(entry.time);
        match &entry.body {
            Body::Admitted(admitted) => self.admitted(leaf, entry.time, admitted),
            Body::KeyGranted(granted) => self.granted(entry.time, granted),
            Body::Denied(denied)
                if entry.time >= self.since
                    && denied.sender.as_deref().is_some_and(|sender| self.is_agent(sender)) =>
            {
                self.denied += denied.count;
            }
            Body::Gap(_) if entry.time >= self.since => self.gaps += 1,
            _ => {}
        }
    }

    fn is_agent(&self, token: &str) -> bool {
        token == self.agent || token.rsplit_once('-').is_some_and(|(name, _)| name == self.agent)
    }

    fn admitted(&mut self, leaf: u64, time: Millis, admitted: &Admitted<'_>) {
        let sender = admitted.sender.as_ref();
        let own = self.is_agent(sender);
        if time < self.since {
            return;
        }
        let derived = admitted.parents.iter().any(|parent| self.digests.contains(&parent.0));
        let exposed = self.exposed.get_mut(sender);
        if !own && !derived && exposed.is_none() {
            return;
        }
        if let Some(exposure) = exposed {
            exposure.sent += 1;
        }
        if own || derived {
            self.digests.insert(admitted.digest.0);
            let envelope = Envelope {
                leaf,
                time,
                digest: admitted.digest,
                envelope: admitted.envelope,
                sender: sender.to_owned(),
                rule: admitted.rule.to_string(),
                subject: admitted.subject.to_string(),
                label: admitted.label,
            };
            if own { self.own.push(envelope) } else { self.derived.push(envelope) }
        }
        let key = (admitted.session.0, admitted.rule.to_string(), admitted.label);
        for reader in self.readers.get(&key).cloned().unwrap_or_default() {
            self.expose(reader, sender, time);
        }
        self.tainted.insert(key, sender.to_owned());
    }

    fn granted(&mut self, time: Millis, granted: &KeyGranted<'_>) {
        let reader = granted.reader.as_ref();
        if self.is_agent(reader) && time >= self.since {
            let (rule, label) = (granted.rule.to_string(), granted.label);
            let order = [label.level.number(), label.integrity.number()].to_vec();
            let order = [order, label.compartments.bits().to_be_bytes().to_vec()].concat();
            self.given.entry((rule, order)).or_insert((label, 0)).1 += 1;
        }
        let key = (granted.sender_session.0, granted.rule.to_string(), granted.label);
        // Readers hold back what they have no key for yet, so a key that comes later opens it too.
        if let Some(sender) = self.tainted.get(&key).cloned() {
            self.expose(reader.to_owned(), &sender, time);
        }
        self.readers.entry(key).or_default().insert(reader.to_owned());
    }

    fn expose(&mut self, reader: String, from: &str, since: Millis) {
        if !self.is_agent(&reader) {
            self.exposed.entry(reader).or_insert_with(|| Exposure { since, from: from.to_owned(), sent: 0 });
        }
    }

    /// What no log can tell, and what this one does not.
    #[must_use]
    pub fn limits(&self) -> Vec<String> {
        let mut limits = vec![
            "parents are what senders declare: who lies declares none; the exposed agents are the list that \
             misses nothing the guard relayed"
                .to_owned(),
            "the log has no payloads, and not what agents did outside the bus with what they read".to_owned(),
            "a key in the log means that its reader could read from then on, not that it did".to_owned(),
        ];
        if self.entries == 0 {
            limits.push("the log is empty".to_owned());
        } else if self.begins.is_none_or(|begins| begins > self.since) {
            limits.push("the log begins after that time: what was sent before is not in it".to_owned());
        }
        if self.gaps > 0 {
            limits.push(format!(
                "the log has {} gap(s) since: what was admitted there is not in it",
                self.gaps
            ));
        }
        limits
    }
}

#[cfg(test)]
mod tests;

//! The roster: which sessions are live, what each reads and which keys it seals with.
//!
//! Pure state with its indexes kept together, so that "who reads this rule" and "whose keys must rotate"
//! have one answer. No IO, no clock.

use std::collections::{HashMap, HashSet};

use sealbus_envelope::{
    hash::Hash,
    identity::SessionId,
    keys::{KeyId, ReaderKey},
    label::Label,
    name::{AgentToken, Name},
};

pub mod requests;
pub mod session;

use session::{LiveSession, Reading, SendingKey};

/// A sender key and the session that seals with it.
pub type OwnedKey = (SessionId, KeyId);

/// The live sessions.
#[derive(Debug, Default)]
pub struct Roster {
    sessions: HashMap<SessionId, LiveSession>,
    by_token: HashMap<String, SessionId>,
    by_agent: HashMap<AgentToken, HashSet<SessionId>>,
    readers: HashMap<Name, HashSet<SessionId>>,
    senders: HashMap<Name, HashSet<OwnedKey>>,
    reader_keys: HashMap<Hash, SessionId>,
}

impl Roster {
    /// The session.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<&LiveSession> {
        self.sessions.get(&id)
    }

    /// The session, to change what no index depends on.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut LiveSession> {
        self.sessions.get_mut(&id)
    }

    /// The session that a subject names.
    #[must_use]
    pub fn by_token(&self, token: &str) -> Option<&LiveSession> {
        self.sessions.get(self.by_token.get(token)?)
    }

    /// The sessions of an agent.
    pub fn of_agent(&self, agent: &str) -> impl Iterator<Item = &LiveSession> {
        self.by_agent.get(agent).into_iter().flatten().filter_map(|id| self.sessions.get(id))
    }

    /// Every session.
    pub fn iter(&self) -> impl Iterator<Item = &LiveSession> {
        self.sessions.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Adds a session. One with the same id is replaced, and returned as [`remove`](Self::remove) does.
    pub fn insert(&mut self, session: LiveSession) -> Option<(LiveSession, Vec<OwnedKey>)> {
        let id = session.id();
        let replaced = self.remove(id);
        self.by_token.insert(id.token(), id);
        self.by_agent.entry(session.agent().clone()).or_default().insert(id);
        if let Some(key) = &session.reader_key {
            self.reader_keys.insert(key.digest(), id);
        }
        for (&key, sending) in &session.keys {
            self.senders.entry(sending.rule.clone()).or_default().insert((id, key));
        }
        for reading in session.readings.values() {
            self.readers.entry(reading.rule.clone()).or_default().insert(id);
        }
        self.sessions.insert(id, session);
        replaced
    }

    /// Removes a session and returns it with the keys of others that it was granted.
    pub fn remove(&mut self, id: SessionId) -> Option<(LiveSession, Vec<OwnedKey>)> {
        let session = self.sessions.remove(&id)?;
        self.by_token.remove(&id.token());
        drop_from(&mut self.by_agent, session.agent(), &id);
        for reading in session.readings.values() {
            drop_from(&mut self.readers, &reading.rule, &id);
        }
        for (&key, sending) in &session.keys {
            drop_from(&mut self.senders, &sending.rule, &(id, key));
        }
        self.reader_keys.retain(|_, owner| *owner != id);
        let held = self.keys_granted_to(id);
        for &(owner, key) in &held {
            if let Some(sending) = self.sessions.get_mut(&owner).and_then(|s| s.keys.get_mut(&key)) {
                sending.granted.remove(&id);
            }
        }
        Some((session, held))
    }

    /// The keys of other sessions that `reader` was granted.
    #[must_use]
    pub fn keys_granted_to(&self, reader: SessionId) -> Vec<OwnedKey> {
        let keys = self.sessions.values().flat_map(|session| {
            let granted = session.keys.iter().filter(|(_, key)| key.granted.contains(&reader));
            granted.map(|(&key, _)| (session.id(), key))
        });
        keys.collect()
    }

    /// Replaces a session's reader key. Grants to the one before are still handed on.
    pub fn set_reader_key(&mut self, id: SessionId, key: ReaderKey) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(old) = session.previous_reader_key.take() {
            self.reader_keys.remove(&old);
        }
        session.previous_reader_key = session.reader_key.as_ref().map(ReaderKey::digest);
        self.reader_keys.insert(key.digest(), id);
        session.reader_key = Some(key);
    }

    /// The session that a reader key belongs to.
    #[must_use]
    pub fn owner_of_reader_key(&self, digest: &Hash) -> Option<&LiveSession> {
        self.sessions.get(self.reader_keys.get(digest)?)
    }

    /// Declares a reading.
    pub fn add_reading(&mut self, id: SessionId, number: u32, reading: Reading) {
        if let Some(session) = self.sessions.get_mut(&id) {
            self.readers.entry(reading.rule.clone()).or_default().insert(id);
            session.readings.insert(number, reading);
        }
    }

    /// Ends a reading; returns its rule if that was the session's last one under it.
    pub fn remove_reading(&mut self, id: SessionId, number: u32) -> Option<Name> {
        let session = self.sessions.get_mut(&id)?;
        let reading = session.readings.remove(&number)?;
        if session.reads(&reading.rule) {
            return None;
        }
        drop_from(&mut self.readers, &reading.rule, &id);
        Some(reading.rule)
    }

    /// Sessions that declared a reading under `rule`.
    pub fn readers(&self, rule: &str) -> impl Iterator<Item = &LiveSession> {
        self.readers.get(rule).into_iter().flatten().filter_map(|id| self.sessions.get(id))
    }

    /// Adds a sender key.
    pub fn add_key(&mut self, id: SessionId, key: KeyId, sending: SendingKey) {
        if let Some(session) = self.sessions.get_mut(&id) {
            self.senders.entry(sending.rule.clone()).or_default().insert((id, key));
            session.keys.insert(key, sending);
        }
    }

    /// Removes a sender key.
    pub fn remove_key(&mut self, id: SessionId, key: KeyId) {
        if let Some(sending) = self.sessions.get_mut(&id).and_then(|session| session.keys.remove(&key)) {
            drop_from(&mut self.senders, &sending.rule, &(id, key));
        }
    }

    /// The sender key.
    pub fn key_mut(&mut self, (id, key): OwnedKey) -> Option<&mut SendingKey> {
        self.sessions.get_mut(&id)?.keys.get_mut(&key)
    }

    /// The keys in use under `rule`, with their labels.
    pub fn keys_under(&self, rule: &str) -> impl Iterator<Item = (OwnedKey, Label, &SendingKey)> {
        self.senders.get(rule).into_iter().flatten().filter_map(|&(id, key)| {
            let sending = self.sessions.get(&id)?.keys.get(&key)?;
            Some(((id, key), sending.label, sending))
        })
    }
}

fn drop_from<K, V>(index: &mut HashMap<K, HashSet<V>>, key: &K, value: &V)
where
    K: std::hash::Hash + Eq,
    V: std::hash::Hash + Eq,
{
    if let Some(set) = index.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            index.remove(key);
        }
    }
}

//! The roster: which sessions are live, what each reads and which keys it seals with.
//!
//! Pure state with its indexes kept together, so that "who reads this rule" and "whose keys must rotate"
//! have one answer. No IO, no clock. Leaving costs what the session itself had, not what the bus has: else
//! a storm of joins and leaves would cost its square.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sealbus_envelope::{
    hash::Hash,
    identity::{Credential, SessionId},
    keys::{KeyId, ReaderKey},
    label::Label,
    name::{AgentToken, Name},
    time::Millis,
};

use crate::{policy::decide::Principal, taint::Floor};

mod marks;
pub mod requests;
pub mod session;

use marks::Marks;
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
    /// The keys of others that each session was granted: the other side of [`SendingKey::granted`].
    held: HashMap<SessionId, HashSet<OwnedKey>>,
    marks: Marks,
}

impl Roster {
    /// The session.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<&LiveSession> {
        self.sessions.get(&id)
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

    /// Adds a session that has neither readings nor keys yet. One with the same id stays as it is.
    pub fn insert(&mut self, session: LiveSession) {
        let id = session.id();
        if self.sessions.contains_key(&id) {
            return;
        }
        self.by_token.insert(id.token(), id);
        self.by_agent.entry(session.agent().clone()).or_default().insert(id);
        if let Some(key) = &session.reader_key {
            self.reader_keys.insert(key.digest(), id);
        }
        self.sessions.insert(id, session);
    }

    /// A session shows another credential of the same agent.
    pub fn renew(&mut self, id: SessionId, credential: Credential, principal: Principal) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.agent() == credential.token()
        {
            session.credential = credential;
            session.principal = principal;
        }
    }

    /// The session as another policy sees it.
    pub fn set_principal(&mut self, id: SessionId, principal: Principal) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.principal = principal;
        }
    }

    /// Sets what counts against a session; gives the join of what did before.
    pub fn set_floor(&mut self, id: SessionId, floor: Arc<Floor>) -> Option<Label> {
        let session = self.sessions.get_mut(&id)?;
        Some(std::mem::replace(&mut session.floor, floor).join())
    }

    /// Removes a session and returns it with the keys of others that it was granted. Where its own keys
    /// stood is remembered until `marks_until`.
    pub fn remove(&mut self, id: SessionId, marks_until: Millis) -> Option<(LiveSession, Vec<OwnedKey>)> {
        let keys: Vec<KeyId> = self.sessions.get(&id)?.keys.keys().copied().collect();
        for key in keys {
            self.remove_key(id, key, marks_until);
        }
        let session = self.sessions.remove(&id)?;
        self.by_token.remove(&id.token());
        drop_from(&mut self.by_agent, session.agent(), &id);
        for reading in session.readings.values() {
            drop_from(&mut self.readers, &reading.rule, &id);
        }
        let current = session.reader_key.as_ref().map(ReaderKey::digest);
        for digest in current.into_iter().chain(session.previous_reader_key) {
            self.reader_keys.remove(&digest);
        }
        let held: Vec<OwnedKey> = self.held.remove(&id).unwrap_or_default().into_iter().collect();
        for &owned in &held {
            if let Some(sending) = self.key_mut(owned) {
                sending.granted.remove(&id);
            }
        }
        Some((session, held))
    }

    /// The keys of other sessions that `reader` was granted.
    pub fn keys_granted_to(&self, reader: SessionId) -> impl Iterator<Item = OwnedKey> {
        self.held.get(&reader).into_iter().flatten().copied()
    }

    /// Notes that `reader` was granted a key.
    pub fn grant(&mut self, owned: OwnedKey, reader: SessionId) {
        if self.sessions.contains_key(&reader)
            && let Some(sending) = self.key_mut(owned)
        {
            sending.granted.insert(reader);
            self.held.entry(reader).or_default().insert(owned);
        }
    }

    /// Replaces a session's reader key, unless it is older than the one it has: a repeated message must not
    /// have senders seal to a key that was deleted. Grants to the one before are still handed on. Says
    /// whether the session has the key now.
    pub fn set_reader_key(&mut self, id: SessionId, key: ReaderKey) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        if let Some(current) = &session.reader_key {
            if current.digest() == key.digest() {
                return true;
            }
            if key.validity().not_before < current.validity().not_before {
                return false;
            }
        }
        if let Some(old) = session.previous_reader_key.take() {
            self.reader_keys.remove(&old);
        }
        session.previous_reader_key = session.reader_key.as_ref().map(ReaderKey::digest);
        self.reader_keys.insert(key.digest(), id);
        session.reader_key = Some(key);
        true
    }

    /// The session that a reader key belongs to.
    #[must_use]
    pub fn owner_of_reader_key(&self, digest: &Hash) -> Option<&LiveSession> {
        self.sessions.get(self.reader_keys.get(digest)?)
    }

    /// Declares a reading, in place of what had the number before; returns the rule of that one if it was
    /// the session's last under it.
    pub fn add_reading(&mut self, id: SessionId, number: u32, reading: Reading) -> Option<Name> {
        let session = self.sessions.get_mut(&id)?;
        self.readers.entry(reading.rule.clone()).or_default().insert(id);
        let replaced = session.readings.insert(number, reading)?;
        self.end_reading(id, replaced)
    }

    /// Ends a reading; returns its rule if that was the session's last one under it.
    pub fn remove_reading(&mut self, id: SessionId, number: u32) -> Option<Name> {
        let reading = self.sessions.get_mut(&id)?.readings.remove(&number)?;
        self.end_reading(id, reading)
    }

    fn end_reading(&mut self, id: SessionId, reading: Reading) -> Option<Name> {
        if self.sessions.get(&id)?.reads(&reading.rule) {
            return None;
        }
        drop_from(&mut self.readers, &reading.rule, &id);
        Some(reading.rule)
    }

    /// Sessions that declared a reading under `rule`.
    pub fn readers(&self, rule: &str) -> impl Iterator<Item = &LiveSession> {
        self.readers.get(rule).into_iter().flatten().filter_map(|id| self.sessions.get(id))
    }

    /// Adds a sender key, which goes on from where it stood if the session had it before.
    pub fn add_key(&mut self, id: SessionId, key: KeyId, mut sending: SendingKey) {
        if let Some(session) = self.sessions.get_mut(&id) {
            sending.next = sending.next.max(self.marks.take(&(id, key)).unwrap_or(0));
            self.senders.entry(sending.rule.clone()).or_default().insert((id, key));
            session.epochs.entry(sending.purpose()).or_default().push((sending.epoch, key));
            session.keys.insert(key, sending);
        }
    }

    /// Removes a sender key. Where it stood is remembered until `mark_until`.
    pub fn remove_key(&mut self, id: SessionId, key: KeyId, mark_until: Millis) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(sending) = session.keys.remove(&key) else { return };
        if let Some(epochs) = session.epochs.get_mut(&sending.purpose()) {
            epochs.retain(|&(_, other)| other != key);
            if epochs.is_empty() {
                session.epochs.remove(&sending.purpose());
            }
        }
        self.marks.leave((id, key), sending.next, session.agent(), mark_until);
        drop_from(&mut self.senders, &sending.rule, &(id, key));
        for reader in &sending.granted {
            drop_from(&mut self.held, reader, &(id, key));
        }
    }

    /// The sender key.
    pub fn key_mut(&mut self, (id, key): OwnedKey) -> Option<&mut SendingKey> {
        self.sessions.get_mut(&id)?.keys.get_mut(&key)
    }

    /// The sender key.
    #[must_use]
    pub fn key(&self, (id, key): OwnedKey) -> Option<&SendingKey> {
        self.sessions.get(&id)?.keys.get(&key)
    }

    /// Whether its session has a newer key in use for the same.
    #[must_use]
    pub fn is_superseded(&self, (id, key): OwnedKey) -> bool {
        let newer = |session: &LiveSession, key: &SendingKey| {
            session.epochs_of(key).iter().any(|(epoch, _)| *epoch > key.epoch)
        };
        self.get(id).is_some_and(|session| session.keys.get(&key).is_some_and(|key| newer(session, key)))
    }

    /// This sequence number and all below it are used up. Whether it was not before; of a key that is not known, nobody
    /// can tell.
    pub fn pass_sequence(&mut self, owned: OwnedKey, sequence: u64) -> bool {
        let Some(sending) = self.key_mut(owned) else { return false };
        let first = sequence >= sending.next;
        sending.next = sending.next.max(sequence.saturating_add(1));
        first
    }

    /// The keys in use under `rule`.
    pub fn keys_under(&self, rule: &str) -> impl Iterator<Item = (OwnedKey, &SendingKey)> {
        let owned = self.senders.get(rule).into_iter().flatten();
        owned.filter_map(|&owned| Some((owned, self.key(owned)?)))
    }

    /// How many keys of an agent are in use or remembered.
    #[must_use]
    pub fn keys_of_agent(&self, agent: &AgentToken) -> usize {
        let in_use: usize = self.of_agent(agent.as_str()).map(|session| session.keys.len()).sum();
        in_use + self.marks.of_agent(agent)
    }

    /// Forgets where keys stood whose envelopes are all stale.
    pub fn expire_marks(&mut self, now: Millis) {
        self.marks.expire(now);
    }

    /// Whether a key was in use until a short while ago, and sealed something.
    #[must_use]
    pub fn was_in_use(&self, key: &OwnedKey) -> bool {
        self.marks.remember(key)
    }

    /// How many things the roster holds besides sessions: readings, keys, grants, marks and index entries.
    /// For tests and metrics; every one of them is bounded by a limit per agent.
    #[must_use]
    pub fn weight(&self) -> usize {
        let sets = |sets: &HashMap<Name, HashSet<SessionId>>| sets.values().map(HashSet::len).sum::<usize>();
        let of_sessions: usize = self
            .sessions
            .values()
            .map(|session| session.readings.len() + session.keys.len() + session.epochs.len())
            .sum();
        of_sessions
            + self.marks.len()
            + self.reader_keys.len()
            + sets(&self.readers)
            + self.senders.values().map(HashSet::len).sum::<usize>()
            + self.held.values().map(HashSet::len).sum::<usize>()
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

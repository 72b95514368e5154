//! One live session: what it may do, what it reads, which keys it seals with.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sealbus_envelope::{
    control::{self, LiveKey, ReaderRecord},
    hash::Hash,
    identity::{Credential, SessionCertificate, SessionId},
    keys::{KeyId, ReaderKey},
    label::Label,
    name::{AgentToken, Name},
    subject::Pattern,
    time::Millis,
};
use serde_bytes::ByteBuf;

use crate::{policy::decide::Principal, taint::Floor};

/// The most readings one session declares: a bound on what a hostile agent makes the guard remember.
pub const MAX_READINGS: usize = 256;
/// The most sender keys one session has in use: as many as a statement names.
pub const MAX_KEYS: usize = control::MAX_LIVE_KEYS;
/// The most sessions of one agent: at one more the oldest gives way.
pub const MAX_SESSIONS: usize = 64;
/// The most sender keys of one agent that are in use, or remembered until nothing sealed with them is fresh.
pub const MAX_AGENT_KEYS: usize = 16_384;

/// A session that said hello to this guard epoch.
#[derive(Debug)]
pub struct LiveSession {
    /// When it first said hello.
    pub since: Millis,
    /// Who.
    pub credential: Credential,
    /// Its session certificate.
    pub certificate: SessionCertificate,
    /// Who, as the policy in force sees it.
    pub principal: Principal,
    /// What it and its agent were given to read.
    pub floor: Arc<Floor>,
    /// What to seal to, if it reads.
    pub reader_key: Option<ReaderKey>,
    /// The reader key before this one: grants under way may still name it.
    pub previous_reader_key: Option<Hash>,
    /// What it declared to read, by its own number.
    pub readings: HashMap<u32, Reading>,
    /// The keys it seals with.
    pub keys: HashMap<KeyId, SendingKey>,
    /// The same by what they are for, with their epochs: few each.
    pub(super) epochs: HashMap<KeyUse, Vec<(u32, KeyId)>>,
}

/// What a sender key is for, whatever its epoch: rule, label, and for replies the asker.
pub type KeyUse = (Name, Label, Option<SessionId>);

/// A declared reading.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Which rule.
    pub rule: Name,
    /// Which subjects of it.
    pub pattern: Pattern,
    /// Whether it answers requests.
    pub serve: bool,
}

/// A sender key in use.
#[derive(Debug)]
pub struct SendingKey {
    /// For which rule.
    pub rule: Name,
    /// For which label.
    pub label: Label,
    /// Its epoch.
    pub epoch: u32,
    /// The lowest sequence number that is no replay.
    pub next: u64,
    /// For reply keys: the one session that reads them.
    pub asker: Option<SessionId>,
    /// When the guard first heard of it.
    pub opened: Millis,
    /// Who was handed it; the roster keeps the other side of it.
    pub(super) granted: HashSet<SessionId>,
    /// From when on it is refused, once a reader lost its right to it.
    pub stale_from: Option<Millis>,
}

impl SendingKey {
    /// A key as its session announces it.
    #[must_use]
    pub fn new(key: LiveKey, now: Millis) -> Self {
        Self {
            rule: key.rule,
            label: key.label,
            epoch: key.epoch,
            next: key.next,
            asker: key.asker,
            opened: now,
            granted: HashSet::new(),
            stale_from: None,
        }
    }

    /// What it is for.
    #[must_use]
    pub fn purpose(&self) -> KeyUse {
        (self.rule.clone(), self.label, self.asker)
    }

    /// Who was handed it.
    #[must_use]
    pub const fn granted(&self) -> &HashSet<SessionId> {
        &self.granted
    }
}

impl LiveSession {
    /// A session that has just said hello.
    #[must_use]
    pub fn new(
        credential: Credential,
        certificate: SessionCertificate,
        principal: Principal,
        floor: Arc<Floor>,
        now: Millis,
    ) -> Self {
        Self {
            since: now,
            credential,
            certificate,
            principal,
            floor,
            reader_key: None,
            previous_reader_key: None,
            readings: HashMap::new(),
            keys: HashMap::new(),
            epochs: HashMap::new(),
        }
    }

    /// The keys in use for what `key` is for, with their epochs.
    #[must_use]
    pub fn epochs_of(&self, key: &SendingKey) -> &[(u32, KeyId)] {
        self.epochs.get(&key.purpose()).map_or(&[], Vec::as_slice)
    }

    /// The agent, as subjects name it.
    #[must_use]
    pub const fn agent(&self) -> &AgentToken {
        self.credential.token()
    }

    /// The session.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.certificate.id()
    }

    /// What a sender needs to seal to it, if it reads at all.
    #[must_use]
    pub fn record(&self) -> Option<ReaderRecord> {
        let key = self.reader_key.as_ref()?;
        Some(ReaderRecord {
            credential: self.credential.as_str().to_owned(),
            certificate: ByteBuf::from(self.certificate.as_bytes()),
            reader_key: ByteBuf::from(key.as_bytes()),
        })
    }

    /// Whether it declared a reading under `rule`.
    #[must_use]
    pub fn reads(&self, rule: &Name) -> bool {
        self.readings.values().any(|reading| reading.rule == *rule)
    }

    /// Whether it answers requests on `subject` under `rule`.
    #[must_use]
    pub fn serves(&self, rule: &str, subject: &str) -> bool {
        self.readings.values().any(|r| r.serve && r.rule.as_str() == rule && r.pattern.matches_str(subject))
    }
}

//! What is kept of an agent that is off the bus: its envelopes as they came, sealed, and what was known of each when
//! it came. Nobody here can open them.
//!
//! What stood in the guard's queue when the agent was quarantined is kept, and what arrives after, up to
//! [`MAX_KEPT`] envelopes and [`MAX_KEPT_BYTES`] an agent; the rest is counted. The list of what is kept, with the
//! digests and the senders' papers, is in the guard's own store; the envelopes themselves are in the bus's stream
//! where there is one, for they are large and their digests tell whether a server changed them.

use std::time::Duration;

use bytes::Bytes;
use sealbus_envelope::{
    hash::Hash,
    identity::SessionId,
    keys::KeyId,
    label::Label,
    name::{AgentToken, Name},
    reason::Reason,
    time::Millis,
    wire::Decoded,
};
use serde::{Deserialize, Serialize};

use crate::roster::session::LiveSession;

/// The most envelopes kept of one agent.
pub const MAX_KEPT: u32 = 1_000;
/// The most bytes of envelopes kept of one agent.
pub const MAX_KEPT_BYTES: u64 = 8 << 20;
/// The most bytes of envelopes on the guard's own disk, of all agents, where there is no stream for them.
pub const MAX_SPOOL_BYTES: u64 = 64 << 20;

/// How much the bus's stream keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Most bytes; nats-server sets them aside. What does not fit is kept on the guard's disk, bounded.
    pub max_bytes: u64,
    /// Most messages.
    pub max_messages: u64,
    /// Older ones go.
    pub max_age: Duration,
}

impl Default for StreamLimits {
    /// 64 MiB and 65,536 messages of the last 90 days.
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_messages: 65_536, max_age: Duration::from_hours(90 * 24) }
    }
}

/// Something to be kept.
#[derive(Debug, Clone)]
pub enum Custody {
    /// A session that ended by the quarantine: what a second judgement of its envelopes needs.
    Session(Box<Papers>),
    /// An envelope.
    Envelope(Box<Sealed>),
    /// Envelopes that were not kept, because there are too many.
    Dropped {
        /// Whose.
        agent: AgentToken,
        /// How many.
        count: u64,
    },
}

/// A session's papers, and where its keys stood when it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Papers {
    /// Whose.
    pub agent: AgentToken,
    /// The session.
    pub session: SessionId,
    /// Its credential.
    pub credential: String,
    /// Its certificate.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// Its keys, each with the lowest sequence number that nothing was judged under. Not those that were to be
    /// refused already: who lost its right to them must be given nothing under them.
    pub keys: Vec<(KeyId, u64)>,
    /// The rule and label that each of them was opened for.
    #[serde(default)]
    pub purposes: Vec<(KeyId, Name, Label)>,
    /// Which quarantine of the agent ended it, counted from 1. Of what came in a later one these papers tell nothing:
    /// the session was back in between, and nobody wrote down how far it used its keys then.
    #[serde(default)]
    pub incident: u32,
}

impl Papers {
    /// What is known of a session that is live, to be kept when it ends.
    #[must_use]
    pub fn of(session: &LiveSession) -> Self {
        let keys = session.keys.iter().filter(|(_, key)| key.stale_from.is_none());
        let (keys, purposes) =
            keys.map(|(id, key)| ((*id, key.next), (*id, key.rule.clone(), key.label))).unzip();
        Self {
            agent: session.agent().clone(),
            session: session.id(),
            credential: session.credential.as_str().to_owned(),
            certificate: session.certificate.as_bytes().to_vec(),
            keys,
            purposes,
            incident: 0,
        }
    }

    /// Where a key stood; nothing if it was not open.
    #[must_use]
    pub fn stood(&self, key: &KeyId) -> Option<Stood<'_>> {
        let next = self.keys.iter().find(|(id, _)| id == key)?.1;
        let purpose = self.purposes.iter().find(|(id, ..)| id == key);
        Some(Stood { next, purpose: purpose.map(|(_, rule, label)| (rule.as_str(), *label)) })
    }

    /// The same of a session that was here before, as its papers of then are replaced: what was judged under its keys
    /// by then stays judged. A key that it does not use any more is not kept: nobody knows any more how far it was
    /// used since, and a server that has copies of what was admitted under it could have them delivered again.
    pub fn after(&mut self, before: &Self) {
        for (key, next) in &mut self.keys {
            let judged = before.keys.iter().find(|(id, _)| id == key);
            *next = judged.map_or(*next, |(_, judged)| (*next).max(*judged));
        }
    }
}

/// Where a key stood when its session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stood<'p> {
    /// The lowest sequence number that nothing was judged under.
    pub next: u64,
    /// The rule and label that it was opened for, if that was kept.
    pub purpose: Option<(&'p str, Label)>,
}

/// An envelope as it came.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The agent that the server attests.
    pub agent: AgentToken,
    /// The logical subject on the wire.
    pub subject: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// The guard's clock.
    pub time: Millis,
    /// Why it is kept: `quarantined`, or what was wrong with it.
    pub reason: Reason,
    /// Whether it is what the agent was quarantined for.
    pub trigger: bool,
}

/// One envelope in the list of what is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its number, counted for each agent from 1.
    pub n: u64,
    /// The agent that the server attested.
    pub agent: AgentToken,
    /// When it came, by the guard's clock.
    pub time: Millis,
    /// The logical subject it came on.
    pub subject: String,
    /// Its size in bytes.
    pub size: u32,
    /// Why it is kept.
    pub reason: Reason,
    /// Whether it is what the agent was quarantined for.
    pub trigger: bool,
    /// What it claims of itself, if it can be read at all. Nobody has verified it.
    pub claims: Option<Claimed>,
    /// Where its bytes are.
    pub place: Place,
    /// What became of it.
    pub fate: Option<Fate>,
    /// In which quarantine of the agent it came, counted from 1.
    #[serde(default)]
    pub incident: u32,
}

/// What an envelope claims of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// Its digest.
    pub digest: Hash,
    /// The session.
    pub session: SessionId,
    /// The rule.
    pub rule: String,
    /// The label.
    pub label: Label,
}

impl Claimed {
    /// Reads what there is to read.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let decoded = Decoded::decode(bytes).ok()?;
        let header = decoded.claimed();
        Some(Self {
            digest: decoded.digest(),
            session: header.session,
            rule: header.rule.to_owned(),
            label: header.label,
        })
    }
}

/// Where the bytes of an envelope are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In the guard's store.
    Disk,
    /// In the stream, at this sequence number.
    Stream(u64),
    /// Nowhere: there was no room, or it was discarded.
    Gone,
}

/// What became of a kept envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Delivered to its readers after all, by an order.
    Delivered,
    /// To be delivered by an order, and refused for this.
    Refused(Reason),
    /// Discarded by an order.
    Discarded,
}

/// An order about all that is kept of an agent, under way. What it covers is fixed when it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The order's id.
    pub order: [u8; 16],
    /// The last number that it covers.
    pub upto: u64,
}

/// The account of what is kept of one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The number of the last envelope kept.
    pub last: u64,
    /// Envelopes that wait for a decision.
    pub waiting: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Envelopes that were not kept.
    pub dropped: u64,
    /// Delivered after all.
    pub delivered: u64,
    /// Refused when they were to be delivered.
    pub refused: u64,
    /// Discarded.
    pub discarded: u64,
    /// All up to this number is decided.
    pub decided: u64,
    /// The replay that is under way.
    pub job: Option<Job>,
}

impl Account {
    /// Whether one more envelope of this size is kept.
    #[must_use]
    pub fn has_room(&self, size: u64) -> bool {
        self.waiting < MAX_KEPT && self.bytes.saturating_add(size) <= MAX_KEPT_BYTES
    }
}

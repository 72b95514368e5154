//! Where envelopes come in: each is read, or waits until its key or policy came, in the order of its sender.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sealbus_envelope::{
    approval,
    hash::Hash,
    identity::{Credential, Member, SessionId},
    keys::KeyId,
    policy::{FlowGrant, Rule},
    proof::admission,
    reader::{self, Delivery, Lookup, ReadingKey},
    reason::{Reason, Refused},
    wire::Decoded,
};

use crate::{
    events::Event,
    message::Message,
    policy_view::View,
    shared::{Command, Shared},
    sync,
};

/// How many envelopes wait for their key at most,
const MAX_PARKED: usize = 4096;
/// and how many bytes of them,
const MAX_PARKED_BYTES: usize = 64 << 20;
/// and for how long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many keys have a replay window; above, those unused for longest go first.
const MAX_KEYS: usize = 32_768;

/// An envelope as it came.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    bytes: Bytes,
    admission: Option<String>,
    approvals: Option<String>,
    subject: async_nats::Subject,
}

impl Raw {
    /// Takes envelope and proof of admission out of a NATS message; its other headers and reply subject are
    /// nobody's word.
    pub(crate) fn new(message: async_nats::Message) -> Self {
        let header = |name: &str| Some(message.headers.as_ref()?.get(name)?.as_str().to_owned());
        Self {
            admission: header(admission::HEADER_NAME),
            approvals: header(approval::HEADER_NAME),
            bytes: message.payload,
            subject: message.subject,
        }
    }
}

/// What came under one key.
#[derive(Debug)]
struct Under {
    key: Arc<ReadingKey>,
    /// The highest sequence read.
    highest: Option<u64>,
    used: Instant,
}

/// What an inlet looks up: policy and senders are the client's, keys have windows of the inlet's own.
struct Known<'a> {
    shared: &'a Shared,
    view: &'a View,
    keys: &'a HashMap<KeyId, Under>,
    /// Knows no sender and no key: to ask only whether a guard admitted something.
    blind: bool,
}

impl Lookup for Known<'_> {
    fn guard(&self, key: &[u8; 32]) -> Option<Arc<Credential>> {
        self.view.guard(key).cloned()
    }

    fn member(&self, session: &SessionId) -> Option<Arc<Member>> {
        if self.blind { None } else { sync::lock(&self.shared.keyring).sender(session) }
    }

    fn rule(&self, name: &str) -> Option<Arc<Rule>> {
        self.view.rule(name).cloned()
    }

    fn flow_grant(&self, name: &str) -> Option<Arc<FlowGrant>> {
        self.view.flow_grant(name).cloned()
    }

    fn key(&self, id: &KeyId) -> Option<Arc<ReadingKey>> {
        if self.blind { None } else { self.keys.get(id).map(|under| Arc::clone(&under.key)) }
    }

    fn asked(&self, request: &Hash) -> bool {
        sync::lock(&self.shared.replies).contains_key(request)
    }
}

/// What is missing to judge an envelope that a guard admitted: it waits.
fn is_missing(refused: &Refused) -> bool {
    matches!(
        refused.reason,
        Reason::UnknownKey | Reason::UnknownSender | Reason::NewPolicy | Reason::NoPolicy
    )
}

/// One way in, with its own replay windows: two subscriptions that match one message each get it once.
pub(crate) struct Inlet {
    shared: Arc<Shared>,
    keys: HashMap<KeyId, Under>,
    parked: HashMap<KeyId, VecDeque<(Raw, Instant)>>,
    parked_count: usize,
    parked_bytes: usize,
    whole: bool,
}

impl Inlet {
    /// `whole` says that every message under a key comes here, so that a gap in its sequence is a loss.
    pub(crate) fn new(shared: Arc<Shared>, whole: bool) -> Self {
        Self { shared, keys: HashMap::new(), parked: HashMap::new(), parked_count: 0, parked_bytes: 0, whole }
    }

    /// Takes an envelope in; what passes goes to `out`.
    pub(crate) fn arrive(&mut self, raw: Raw, out: &mut Vec<Message>) {
        let (session, key) = match Decoded::decode(&raw.bytes) {
            Ok(decoded) => (decoded.claimed().session, decoded.claimed().key),
            Err(refused) => return self.refuse(&raw, refused),
        };
        // What this session published itself comes back if it reads the same rule; nobody seals to itself.
        if session == self.shared.session.id() {
            return;
        }
        if self.parked.contains_key(&key) {
            self.retry_key(key, out);
        }
        // Behind those of its key that wait already: then it is only asked whether a guard admitted it.
        let behind = self.parked.contains_key(&key);
        match self.read(&raw, key, behind) {
            Ok(message) => out.push(message),
            Err(refused) if is_missing(&refused) => {
                if !behind && refused.reason != Reason::NewPolicy {
                    self.shared.tell(Command::Want(session, key));
                }
                self.park(key, raw);
            }
            Err(refused) => self.refuse(&raw, refused),
        }
    }

    /// Looks again at what waits; what passes goes to `out`.
    pub(crate) fn retry(&mut self, out: &mut Vec<Message>) {
        let keys: Vec<_> = self.parked.keys().copied().collect();
        for key in keys {
            self.retry_key(key, out);
        }
    }

    /// Refuses what waited too long, and forgets windows nobody needs.
    pub(crate) fn expire(&mut self) {
        let now = Instant::now();
        let mut late = Vec::new();
        for (key, waiting) in &mut self.parked {
            while let Some((raw, _)) =
                waiting.pop_front_if(|(_, since)| now.saturating_duration_since(*since) > PATIENCE)
            {
                late.push((*key, raw));
            }
        }
        self.parked.retain(|_, waiting| !waiting.is_empty());
        for (key, raw) in late {
            self.unpark(&raw);
            // What is missing still is the reason.
            if let Err(refused) = self.read(&raw, key, false) {
                self.refuse(&raw, refused);
            }
        }
        if self.keys.len() > MAX_KEYS {
            let mut ages: Vec<_> = self.keys.iter().map(|(key, under)| (under.used, *key)).collect();
            ages.sort_unstable_by_key(|(used, _)| *used);
            for (_, key) in ages.into_iter().take(MAX_KEYS / 8) {
                self.keys.remove(&key);
            }
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.parked.is_empty()
    }

    fn retry_key(&mut self, key: KeyId, out: &mut Vec<Message>) {
        let Some(mut waiting) = self.parked.remove(&key) else { return };
        while let Some((raw, since)) = waiting.pop_front() {
            match self.read(&raw, key, false) {
                Ok(message) => {
                    self.unpark(&raw);
                    out.push(message);
                }
                Err(refused) if is_missing(&refused) => {
                    // Asked again now and then: question or answer may have been lost on a restart.
                    if let Ok(decoded) = Decoded::decode(&raw.bytes) {
                        self.shared.tell(Command::Want(decoded.claimed().session, key));
                    }
                    waiting.push_front((raw, since));
                    self.parked.insert(key, waiting);
                    return;
                }
                Err(refused) => {
                    self.unpark(&raw);
                    self.refuse(&raw, refused);
                }
            }
        }
    }

    fn read(&mut self, raw: &Raw, key: KeyId, blind: bool) -> Result<Message, Refused> {
        let shared = Arc::clone(&self.shared);
        let view = sync::get(&shared.view).ok_or(Refused::new(Reason::NoPolicy, "envelope"))?;
        let now = Instant::now();
        if !blind
            && !self.keys.contains_key(&key)
            && let Some(held) = sync::lock(&shared.keyring).key(&key, now)
        {
            self.keys.insert(key, Under { key: Arc::new(ReadingKey::new(held)), highest: None, used: now });
        }
        let delivery = Delivery {
            bytes: &raw.bytes,
            admission: raw.admission.as_deref(),
            approvals: raw.approvals.as_deref(),
            subject: &raw.subject,
        };
        let known = Known { shared: &shared, view: &view, keys: &self.keys, blind };
        let opened = reader::read(&delivery, &shared.context(&view), &known, &shared.seen)?;
        let header = opened.header();
        let sender = known.member(&header.session).ok_or(Refused::new(Reason::UnknownSender, "envelope"))?;
        if let Some(under) = self.keys.get_mut(&key) {
            under.used = now;
            let skipped = under.highest.map_or(0, |highest| header.sequence.saturating_sub(highest + 1));
            under.highest = under.highest.max(Some(header.sequence));
            if self.whole && skipped > 0 {
                let sender = sender.token().to_string();
                shared.events.send(Event::GapSeen { sender, key, count: skipped });
            }
        }
        let admission = raw.admission.clone().unwrap_or_default();
        Ok(Message::new(opened, sender, view, raw.bytes.clone(), admission))
    }

    fn park(&mut self, key: KeyId, raw: Raw) {
        if self.parked_count >= MAX_PARKED || self.parked_bytes + raw.bytes.len() > MAX_PARKED_BYTES {
            return self.shared.events.refused(Reason::UnknownKey, &raw.subject);
        }
        self.parked_count += 1;
        self.parked_bytes += raw.bytes.len();
        self.parked.entry(key).or_default().push_back((raw, Instant::now()));
    }

    fn unpark(&mut self, raw: &Raw) {
        self.parked_count = self.parked_count.saturating_sub(1);
        self.parked_bytes = self.parked_bytes.saturating_sub(raw.bytes.len());
    }

    fn refuse(&self, raw: &Raw, refused: Refused) {
        tracing::debug!(subject = %raw.subject, %refused, "envelope refused");
        self.shared.events.refused(refused.reason, &raw.subject);
    }
}

//! A session spoken by hand: everything the real client says, and anything else.
#![expect(clippy::expect_used, clippy::panic, reason = "a fixture that cannot work fails its test")]

use std::collections::VecDeque;

use bytes::Bytes;
use sealbus_client::credentials::Credentials;
use sealbus_envelope::{
    control::{
        self, Grants, Greet, GuardEpoch, Heartbeat, Hello, Open, ReaderRecord, Readers, Subscribe,
        Subscribed, Welcome, kind, verb,
    },
    identity::{SessionCertificate, SessionId},
    keys::{self, ReaderKey},
    label::Label,
    name::AgentToken,
    reason::Reason,
    subject::{Partition, Pattern, WireSubjects},
    wire::HeaderFields,
};
use serde::Serialize;

use super::papers::{Key, Papers, rng};
use crate::{
    bus::{name, soon},
    raw::{RawClient, RawMessage, Refusal},
};

/// A session that is logged in.
pub struct Hand {
    /// Its papers.
    pub papers: Papers,
    /// Its connection.
    pub raw: RawClient,
    /// The guard that it said hello to.
    pub guard: Option<GuardEpoch>,
    wire: WireSubjects,
    epoch: u32,
    readings: u32,
    kept: VecDeque<RawMessage>,
}

impl Hand {
    /// Logs in with good papers, listens to its own box and says hello.
    ///
    /// # Panics
    /// If any of it is refused.
    pub async fn join(credentials: &Credentials) -> Self {
        let mut hand = Self::connect(Papers::new(credentials), credentials).await.expect("a login");
        hand.listen().await;
        hand.hello(&[]).await;
        hand
    }

    /// As [`join`](Self::join), as soon as the agent is let in: it may be held back for a while.
    pub async fn join_again(credentials: &Credentials) -> Self {
        let trying = async {
            loop {
                let Ok(mut hand) = Self::connect(Papers::new(credentials), credentials).await else {
                    continue;
                };
                let own = hand.wire.session_box(hand.papers.token(), &hand.papers.session(), kind::LOBBY);
                // In the lobby it may listen, and say nothing.
                if hand.raw.subscribe(&own, None).await.is_ok()
                    && hand.say(verb::GREET, &Greet {}).await.is_ok()
                {
                    hand.listen().await;
                    hand.hello(&[]).await;
                    return hand;
                }
            }
        };
        soon("the agent to be let in again", trying).await
    }

    /// Logs in with these papers and says nothing.
    ///
    /// # Errors
    /// The server's refusal.
    ///
    /// # Panics
    /// If there is no server.
    pub async fn connect(papers: Papers, credentials: &Credentials) -> Result<Self, Refusal> {
        let url = credentials.urls().first().expect("a server").clone();
        let address = url.trim_start_matches("nats://").to_owned();
        let raw = RawClient::connect(&address, |nonce| papers.login(nonce)).await?;
        Ok(Self {
            papers,
            raw,
            guard: None,
            wire: WireSubjects::default(),
            epoch: 0,
            readings: 0,
            kept: VecDeque::new(),
        })
    }

    /// The agent, as subjects name it.
    #[must_use]
    pub fn token(&self) -> AgentToken {
        self.papers.token().clone()
    }

    /// Subscribes its box and the heartbeat.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn listen(&mut self) {
        let own = self.wire.session_box(self.papers.token(), &self.papers.session(), ">");
        let heartbeat = self.wire.heartbeat(Partition::of(self.papers.token()));
        for subject in [own, heartbeat] {
            self.raw.subscribe(&subject, None).await.expect("its own box and heartbeat");
        }
    }

    /// The next heartbeat, of those that are still to come.
    ///
    /// # Panics
    /// If the connection ended, or what comes is no heartbeat.
    pub async fn heartbeat(&mut self) -> Heartbeat {
        let subject = self.wire.heartbeat(Partition::of(self.papers.token()));
        self.kept.extend(self.raw.arrived().await.expect("a live connection"));
        self.kept.retain(|message| message.subject != subject);
        let beat = self.message(&|message: &RawMessage| message.subject == subject).await;
        let signer = Heartbeat::signer(&beat.payload).expect("a heartbeat");
        Heartbeat::verify(&beat.payload, self.papers.bus(), &[signer]).expect("a good heartbeat").0
    }

    /// What `hello` says to a guard epoch.
    #[must_use]
    pub fn hello_message(&self, guard: GuardEpoch, keys: &[&Key]) -> Hello {
        self.papers.hello(guard, keys)
    }

    /// Waits for a heartbeat, says hello with these keys in use, and waits for the welcome.
    ///
    /// # Panics
    /// If the guard does not welcome it.
    pub async fn hello(&mut self, keys: &[&Key]) -> Welcome {
        let guard = self.heartbeat().await.guard;
        self.guard = Some(guard);
        let hello = self.hello_message(guard, keys);
        self.say(verb::HELLO, &hello).await.expect("its own control subject");
        control::decode(&self.told(kind::WELCOME).await).expect("a welcome")
    }

    /// Says something on its own control subject.
    ///
    /// # Errors
    /// The server's refusal.
    ///
    /// # Panics
    /// If the message cannot be encoded.
    pub async fn say<T: Serialize>(&mut self, verb: &str, message: &T) -> Result<(), Refusal> {
        let subject = self.wire.control(self.papers.token(), &self.papers.session(), verb);
        let payload = control::encode(message).expect("a control message");
        self.raw.publish_bytes(&subject, None, "", &payload).await
    }

    /// The next message of this kind in its box; others are kept for later.
    pub async fn told(&mut self, kind: &str) -> Bytes {
        let subject = self.wire.session_box(self.papers.token(), &self.papers.session(), kind);
        self.message(&|message: &RawMessage| message.subject == subject).await.payload
    }

    /// The next message that is `wanted`; others are kept for later.
    ///
    /// # Panics
    /// If the connection ends or none comes.
    pub async fn message(&mut self, wanted: &(dyn Fn(&RawMessage) -> bool + Sync)) -> RawMessage {
        if let Some(place) = self.kept.iter().position(wanted) {
            return self.kept.remove(place).expect("it is there");
        }
        let come = async {
            loop {
                match self.raw.next().await {
                    Ok(message) if wanted(&message) => return message,
                    Ok(message) => self.kept.push_back(message),
                    Err(refusal) => panic!("waited for a message, and the server said: {}", refusal.0),
                }
            }
        };
        soon("a message", come).await
    }

    /// Everything else that arrived, until now.
    ///
    /// # Panics
    /// If the connection ended.
    pub async fn heard(&mut self) -> Vec<RawMessage> {
        let mut all: Vec<_> = self.kept.drain(..).collect();
        all.extend(self.raw.arrived().await.expect("a live connection"));
        all
    }

    /// A new sender key, known to nobody yet.
    pub fn make_key(&mut self, rule: &str, label: Label, asker: Option<SessionId>) -> Key {
        let epoch = self.epoch;
        self.epoch += 1;
        self.papers.make_key(rule, label, epoch, asker)
    }

    /// Opens a new key and grants it to every reader the guard names.
    ///
    /// # Panics
    /// If the guard refuses it.
    pub async fn open(&mut self, rule: &str, label: Label) -> Key {
        let key = self.make_key(rule, label, None);
        let readers = self.announce(&key).await;
        assert_eq!(readers.refused, None, "the guard refused a key under `{rule}`");
        self.grant(&key, &readers.readers).await;
        key
    }

    /// Tells the guard of a key and returns its answer.
    ///
    /// # Panics
    /// If it said no hello, or no answer comes.
    pub async fn announce(&mut self, key: &Key) -> Readers {
        let statement = self.papers.statement(self.guard.expect("a hello before"), vec![key.live()]);
        self.say(verb::OPEN, &Open { statement }).await.expect("its own control subject");
        loop {
            // Of keys that are in use already, newcomers may be told meanwhile.
            let readers: Readers = control::decode(&self.told(kind::READERS).await).expect("readers");
            if readers.key == key.sender.id() {
                return readers;
            }
        }
    }

    /// Grants a key to these readers.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn grant(&mut self, key: &Key, readers: &[ReaderRecord]) {
        if readers.is_empty() {
            return;
        }
        let grants = self.grants(key, readers);
        self.say(verb::GRANT, &grants).await.expect("its own control subject");
    }

    /// Grants of a key to these readers.
    ///
    /// # Panics
    /// If a record is not good.
    #[must_use]
    pub fn grants(&self, key: &Key, readers: &[ReaderRecord]) -> Grants {
        let bus = self.papers.bus();
        let keys: Vec<ReaderKey> = readers
            .iter()
            .map(|record| {
                let certificate =
                    SessionCertificate::verify(&record.certificate, bus).expect("a certificate");
                ReaderKey::verify(&record.reader_key, bus, &certificate).expect("a reader key")
            })
            .collect();
        let sealed_to: Vec<_> = keys.iter().map(|key| (key.digest(), key.public())).collect();
        let grants = keys::grant(&key.sender, &self.papers.key, &sealed_to, &mut rng()).expect("grants");
        Grants { key: key.sender.id(), grants: grants.into_iter().map(Into::into).collect() }
    }

    /// Declares a reading; the guard's refusal, if any.
    ///
    /// # Panics
    /// If the guard does not answer.
    pub async fn declare(&mut self, rule: &str, pattern: &str, serve: bool) -> Option<Reason> {
        self.readings += 1;
        let pattern = Pattern::parse(pattern).expect("a pattern");
        let wanted = Subscribe { id: self.readings, rule: name(rule), pattern, serve };
        self.say(verb::SUBSCRIBE, &wanted).await.expect("its own control subject");
        let answer: Subscribed = control::decode(&self.told(kind::SUBSCRIBED).await).expect("an answer");
        assert_eq!(answer.id, self.readings);
        answer.refused
    }

    /// A header with everything right, for the next envelope under a key.
    #[must_use]
    pub fn fields(&self, key: &Key, subject: &str) -> HeaderFields {
        self.papers.fields(key, subject)
    }

    /// Seals and signs, and moves the key's sequence on.
    #[must_use]
    pub fn seal(&self, key: &mut Key, fields: &HeaderFields, payload: &[u8]) -> Vec<u8> {
        self.papers.seal(key, fields, payload)
    }

    /// An honest envelope, sealed.
    #[must_use]
    pub fn envelope(&self, key: &mut Key, subject: &str, payload: &[u8]) -> Vec<u8> {
        let fields = self.fields(key, subject);
        self.seal(key, &fields, payload)
    }

    /// Sends bytes on its own ingress.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn send(&mut self, subject: &str, envelope: &[u8]) -> Result<(), Refusal> {
        let subject = self.wire.ingress(self.papers.token(), subject);
        self.raw.publish_bytes(&subject, None, "", envelope).await
    }

    /// An honest envelope, sealed and sent.
    ///
    /// # Panics
    /// If the server refuses it.
    pub async fn publish(&mut self, key: &mut Key, subject: &str, payload: &[u8]) -> Vec<u8> {
        let envelope = self.envelope(key, subject, payload);
        self.send(subject, &envelope).await.expect("its own ingress");
        envelope
    }

    /// The wire subjects.
    #[must_use]
    pub const fn wire(&self) -> &WireSubjects {
        &self.wire
    }
}

//! An agent with its hands free: it logs in and says hello as a client does, but what it seals, and when, is
//! for the benchmark to say.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use async_nats::{Auth, AuthError, Client, ConnectOptions, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use rand_core::UnwrapErr;
use sealbus_envelope::{
    control::{
        AuthToken, DeniedNotice, GuardEpoch, Heartbeat, Hello, LiveKey, SessionStatement, decode, encode,
        kind, verb,
    },
    identity::{Member, SessionCertificate, SigningKey},
    keys::{KeyScope, SenderKey},
    label::{Compartments, Integrity, Label, Level},
    name::Name,
    proof::batch::MAX_BATCH,
    subject::{Partition, Subject as Logical, WireSubjects},
    time::Validity,
    wire::{self, Content, EnvelopeId, Flags, HeaderFields},
};
use sealbus_guard::clock;
use sealbus_tests::bus::{TestBus, name, soon};

const SESSION_MS: u64 = 3_600_000;
const TTL_MS: u32 = 3_600_000;
/// The one label of the benchmark's policy.
const LABEL: Label = Label::new(Level::LOWEST, Compartments::EMPTY, Integrity::LOWEST);

/// One session.
pub(crate) struct Agent {
    member: Member,
    session_key: SigningKey,
    nats: Client,
    wire: WireSubjects,
}

impl Agent {
    /// Connects through the auth callout, with its own permissions.
    pub(crate) async fn connect(bus: &TestBus, agent: &str, team: &str) -> Self {
        let credentials = bus.agent(agent, team);
        let session_key = SigningKey::generate(&mut UnwrapErr(getrandom::SysRng));
        let validity = Validity::starting(clock::now().minus(1_000), SESSION_MS);
        let certificate =
            SessionCertificate::issue(bus.roots().bus(), credentials.identity(), &session_key, validity)
                .expect("a certificate");
        let member = Member::new(credentials.credential().clone(), certificate).expect("a member");
        let nats = log_in(bus.url(), &member, &session_key).await;
        Self { member, session_key, nats, wire: bus.config().subjects() }
    }

    pub(crate) const fn nats(&self) -> &Client {
        &self.nats
    }

    /// Subscribes to what the guard lets through; the permission is the policy's.
    pub(crate) async fn deliveries(&self, pattern: &str) -> Subscriber {
        let subject = self.wire.delivery(LABEL.level, pattern);
        let subscriber = self.nats.subscribe(subject).await.expect("a subscription");
        self.nats.flush().await.expect("the server answers");
        subscriber
    }

    /// Says hello to the guard with one sender key for `rule`, and waits for the welcome.
    pub(crate) async fn open(self, rule: &str, subject: &str) -> Sealer {
        let (me, agent) = (self.member.session(), self.member.token());
        let bus = self.member.certificate().bus();
        let scope = KeyScope { bus, session: me, rule: name(rule), label: LABEL, epoch: 0 };
        let key = SenderKey::generate(&mut UnwrapErr(getrandom::SysRng), scope);
        let live = LiveKey { key: key.id(), rule: name(rule), label: LABEL, epoch: 0, next: 0, asker: None };
        let boxed = self.wire.session_box(agent, &me, ">");
        let mut answers = self.nats.subscribe(boxed).await.expect("the box");
        let statement = SessionStatement { bus, session: me, guard: self.guard().await, keys: vec![live] };
        let hello = Hello {
            credential: self.member.credential().as_str().to_owned(),
            certificate: self.member.certificate().as_bytes().to_vec().into(),
            statement: statement.sign(&self.session_key).into(),
            reader_key: None,
        };
        let control = self.wire.control(agent, &me, verb::HELLO);
        let payload = encode(&hello).expect("a hello");
        self.nats.publish(control, payload.into()).await.expect("a connection");
        let answer = soon("the welcome", answers.next()).await.expect("the welcome");
        if self.wire.read_box_kind(&answer.subject) != Some(kind::WELCOME) {
            unwelcome(&answer.payload);
        }
        Sealer {
            subject: Subject::from(self.wire.ingress(agent, subject)),
            logical: Logical::parse(subject).expect("a subject"),
            rule: name(rule),
            agent: self,
            key,
            sequence: 0,
        }
    }

    /// The guard's epoch and challenge, out of its next heartbeat.
    async fn guard(&self) -> GuardEpoch {
        let subject = self.wire.heartbeat(Partition::of(self.member.token()));
        let mut beats = self.nats.subscribe(subject).await.expect("the heartbeat");
        let beat = soon("a heartbeat", beats.next()).await.expect("a heartbeat");
        let signer = Heartbeat::signer(&beat.payload).expect("a heartbeat");
        let bus = self.member.certificate().bus();
        Heartbeat::verify(&beat.payload, bus, &[signer]).expect("a heartbeat").0.guard
    }
}

#[expect(clippy::panic, reason = "a benchmark that cannot be set up stops")]
fn unwelcome(payload: &[u8]) -> ! {
    panic!("the guard refused the hello: {:?}", decode::<DeniedNotice>(payload));
}

async fn log_in(url: String, member: &Member, session_key: &SigningKey) -> Client {
    let token = AuthToken {
        credential: member.credential().as_str().to_owned(),
        certificate: member.certificate().as_bytes().to_vec().into(),
    };
    let token = token.to_text().expect("a token");
    let signer = std::sync::Arc::new(SigningKey::from_seed(&session_key.to_seed()));
    let options = ConnectOptions::with_auth_callback(move |nonce| {
        let (token, signer) = (token.clone(), std::sync::Arc::clone(&signer));
        async move {
            let mut auth = Auth::new();
            auth.token = Some(token);
            auth.signature = Some(signer.sign_nonce(&nonce).map_err(AuthError::new)?.to_vec());
            Ok(auth)
        }
    });
    options.no_echo().connect(url).await.expect("the guard admits the agent")
}

/// A session that seals under one key, on one subject.
pub(crate) struct Sealer {
    agent: Agent,
    subject: Subject,
    logical: Logical,
    rule: Name,
    key: SenderKey,
    sequence: u64,
}

impl Sealer {
    pub(crate) const fn nats(&self) -> &Client {
        self.agent.nats()
    }

    /// The wire subject that it publishes on.
    pub(crate) fn subject(&self) -> Subject {
        self.subject.clone()
    }

    /// Seals the next `count` envelopes, signed `batch` at a time, in the order of their sequence.
    pub(crate) fn seal(&mut self, count: usize, batch: usize, payload: &[u8]) -> Vec<Bytes> {
        let content = Content::new("application/octet-stream", payload);
        let mut out = Vec::with_capacity(count);
        let me = self.agent.member.session();
        while out.len() < count {
            let part = batch.min(MAX_BATCH).min(count - out.len());
            let sealed: Vec<_> = (0..part).map(|_| self.next(&content)).collect();
            let signed = wire::sign(&sealed, me, &self.agent.session_key).expect("signed envelopes");
            out.extend(signed.into_iter().map(Bytes::from));
        }
        out
    }

    fn next(&mut self, content: &Content) -> wire::Sealed {
        let fields = HeaderFields {
            bus: self.key.scope().bus,
            id: EnvelopeId::generate(&mut UnwrapErr(getrandom::SysRng)),
            sender: self.agent.member.token().clone(),
            session: self.agent.member.session(),
            rule: self.rule.clone(),
            subject: self.logical.clone(),
            label: LABEL,
            flow_grant: None,
            key: self.key.id(),
            sequence: self.sequence,
            issued_at: clock::now(),
            ttl_ms: TTL_MS,
            parents: vec![],
            request: None,
            flags: Flags::NONE,
        };
        self.sequence += 1;
        wire::seal(&fields, content, &self.key).expect("a sealed envelope")
    }
}

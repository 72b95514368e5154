//! A bus in memory: issuer, policy, a guard's desk with its log in a temporary directory, and agents.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use async_nats::Message;
use bytes::Bytes;
use rand_core::UnwrapErr;
use sealbus_envelope::{
    control::{
        self, DeniedNotice, Granted, Grants, GuardEpoch, Hello, LiveKey, Open, ReaderKeyNotice, ReaderRecord,
        Readers, SessionStatement, Subscribe, Unsubscribe, kind, verb,
    },
    hash::Hash,
    identity::{
        Claims, Credential, Member, Revocation, Role, Roots, SessionCertificate, SessionId, SigningKey,
        Status,
    },
    keys::{self, KeyId, KeyScope, ReaderKey, ReaderSecret, SenderKey},
    label::{Clearance, Compartments, Integrity, Label, Level},
    name::{AgentToken, Name},
    policy::{Bundle, Records, Tables},
    reason::Reason,
    subject::{Pattern, Subject, WireSubjects},
    time::{Millis, Validity},
    wire::{self, Content, EnvelopeId, Flags, HeaderFields, Parent},
};
use sealbus_guard::{
    audit::{
        entry::{Body, Entry},
        note::SignWith,
        search::{Filter, search},
        store::{AuditLog, Options},
    },
    bus::{
        desk::{Desk, Todo},
        egress::Outgoing,
    },
    metrics::Metrics,
    policy::{
        self,
        bundle::{self, ServiceKeys},
        source::PolicySource,
    },
    sessions::{InForce, Sessions},
    store::Store,
};
use serde_bytes::ByteBuf;
use tempfile::TempDir;

pub(crate) const POLICY: &str = include_str!("policy.toml");
pub(crate) const START: Millis = Millis(1_800_000_000_000);
const LIFETIME: u64 = 6 * 24 * 3_600_000;

pub(crate) fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn label(level: u8, compartments: u64, integrity: u8) -> Label {
    Label::new(
        Level::new(level).unwrap(),
        Compartments::from_bits(compartments),
        Integrity::new(integrity).unwrap(),
    )
}

/// The bus.
pub(crate) struct World {
    pub(crate) desk: Desk,
    pub(crate) wire: WireSubjects,
    pub(crate) roots: Roots,
    pub(crate) epoch: GuardEpoch,
    pub(crate) guard_credential: Credential,
    pub(crate) now: Millis,
    pub(crate) versions: (u64, u64),
    pub(crate) revoked: Vec<Revocation>,
    pub(crate) policy: Records,
    keys: Keys,
    limits: Limits,
    directory: TempDir,
}

struct Keys {
    issuer: SigningKey,
    policy: SigningKey,
    status: SigningKey,
    guard: SigningKey,
}

impl Keys {
    fn new() -> Self {
        let [issuer, policy, status, guard] = [1, 2, 3, 4].map(|n| SigningKey::from_seed(&[n; 32]));
        Self { issuer, policy, status, guard }
    }

    fn roots(&self) -> Roots {
        Roots {
            name: name("test"),
            issuer: self.issuer.public().clone(),
            policy_keys: vec![self.policy.public().clone()],
            quorum: 1,
        }
    }

    fn guard(&self) -> SigningKey {
        SigningKey::from_seed(&self.guard.to_seed())
    }

    fn service(&self) -> ServiceKeys {
        ServiceKeys { status: self.status.public().clone(), guards: vec![self.guard.public().clone()] }
    }

    /// The records of a policy file.
    fn records(&self, text: &str) -> Records {
        let checked = policy::check(&PolicySource::new("test.toml", text))
            .unwrap_or_else(|found| panic!("{:?}", miette::Report::new(found)));
        bundle::records(&checked.policy, &self.service(), &self.roots())
    }

    fn in_force(&self, records: &Records, versions: (u64, u64), revoked: &[Revocation]) -> InForce {
        let (roots, (version, status_version)) = (self.roots(), versions);
        let bundle = Bundle::sign(records.clone(), version, START, &[&self.policy], &roots).unwrap();
        let (bundle, policy) = bundle::load(&bundle.encode(), &roots, 0).unwrap();
        let status = Status {
            bus: roots.bus(),
            version: status_version,
            policy_version: version,
            issued: START,
            valid_until: START.plus(1_000_000_000_000),
            revoked: revoked.to_vec(),
        };
        let status_bytes = status.sign(&self.status).unwrap();
        InForce { bundle: bundle.into(), policy: policy.into(), status: status.into(), status_bytes }
    }
}

#[derive(Clone, Copy)]
struct Limits {
    max_payload: u32,
    /// After so many entries the log takes no more, for a seal that never comes.
    unsealed_max: u64,
}

/// What the guard did in one go.
#[derive(Default)]
pub(crate) struct Did {
    pub(crate) published: Vec<Outgoing>,
    pub(crate) verdicts: Vec<Outgoing>,
    pub(crate) disconnected: Vec<(SessionId, Reason)>,
    pub(crate) offenders: Vec<(AgentToken, sealbus_guard::quarantine::evidence::Response)>,
    pub(crate) custody: Vec<sealbus_guard::quarantine::custody::Custody>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(POLICY, 1 << 20, 4_000_000)
    }

    /// `unsealed_max`: after so many entries the log takes no more, for a seal that never comes.
    pub(crate) fn with(policy_text: &str, max_payload: u32, unsealed_max: u64) -> Self {
        let keys = Keys::new();
        let records = keys.records(policy_text);
        Self::open(keys, records, Limits { max_payload, unsealed_max })
    }

    /// A bus under the policy that `fill` makes of tables that name nothing but the bus and its keys.
    pub(crate) fn under(fill: impl FnOnce(Tables) -> Records) -> Self {
        let keys = Keys::new();
        let service = keys.service();
        let tables = Tables {
            bus: keys.roots().bus(),
            levels: vec![],
            compartments: vec![],
            integrity: vec![],
            teams: vec![],
            zones: vec![],
            status_key: service.status,
            guards: service.guards,
            freshness_ms: 30_000,
            max_readers: 64,
            observe: false,
        };
        Self::open(keys, fill(tables), Limits { max_payload: 1 << 20, unsealed_max: 4_000_000 })
    }

    fn open(keys: Keys, policy: Records, limits: Limits) -> Self {
        let (roots, directory) = (keys.roots(), tempfile::tempdir().unwrap());
        let claims = claims(&roots, &keys.guard, "guard", "guards", Role::Guard);
        let guard_credential = Credential::issue(&claims, &keys.issuer).unwrap();
        let in_force = keys.in_force(&policy, (1, 1), &[]);
        let (desk, epoch) = start(&keys, &guard_credential, in_force, limits, directory.path(), START);
        Self {
            desk,
            wire: WireSubjects::default(),
            roots,
            epoch,
            guard_credential,
            now: START,
            versions: (1, 1),
            revoked: vec![],
            policy,
            keys,
            limits,
            directory,
        }
    }

    /// The guard dies and another starts on its disk. Agents must [`rejoin`](Agent::rejoin).
    pub(crate) fn restarted(self) -> Self {
        let in_force = self.in_force(self.versions);
        drop(self.desk);
        let (credential, directory) = (&self.guard_credential, self.directory.path());
        let (desk, epoch) = start(&self.keys, credential, in_force, self.limits, directory, self.now);
        Self { desk, epoch, ..self }
    }

    pub(crate) fn agent(&self, who: &str, team: &str) -> Agent {
        self.agent_as(who, team, |_| ())
    }

    /// An agent whose credential says something else than that it may all that its team may.
    pub(crate) fn agent_as(&self, who: &str, team: &str, change: impl FnOnce(&mut Claims)) -> Agent {
        let identity = SigningKey::generate(&mut rng());
        let mut claims = claims(&self.roots, &identity, who, team, Role::Agent);
        change(&mut claims);
        let credential = Credential::issue(&claims, &self.keys.issuer).unwrap();
        Agent::start(self, identity, credential)
    }

    /// The same agent in a new session.
    pub(crate) fn restart(&self, agent: &Agent) -> Agent {
        let identity = SigningKey::from_seed(&agent.identity.to_seed());
        Agent::start(self, identity, agent.credential.clone())
    }

    /// Another name for the same identity, in the same session.
    pub(crate) fn rename(&self, agent: &Agent, who: &str, team: &str) -> Credential {
        let claims = claims(&self.roots, &agent.identity, who, team, Role::Agent);
        Credential::issue(&claims, &self.keys.issuer).unwrap()
    }

    pub(crate) fn control(&mut self, agent: &Agent, verb: &str, payload: Vec<u8>) -> Did {
        let subject = self.wire.control(agent.token(), &agent.session(), verb);
        self.control_on(&subject, payload)
    }

    pub(crate) fn control_on(&mut self, subject: &str, payload: Vec<u8>) -> Did {
        self.desk.control(&message(subject, payload), self.now);
        self.did()
    }

    pub(crate) fn envelope(&mut self, agent: &Agent, logical: &str, bytes: &[u8]) -> Did {
        self.envelope_on(&self.wire.ingress(agent.token(), logical), bytes)
    }

    pub(crate) fn envelope_on(&mut self, subject: &str, bytes: &[u8]) -> Did {
        self.desk.envelopes(&[message(subject, bytes.to_vec())], self.now);
        self.did()
    }

    pub(crate) fn batch(&mut self, messages: &[(String, Vec<u8>)]) -> Did {
        let batch: Vec<Message> = messages.iter().map(|(to, bytes)| message(to, bytes.clone())).collect();
        self.desk.envelopes(&batch, self.now);
        self.did()
    }

    /// Time passes; the guard ticks once a second.
    pub(crate) fn pass(&mut self, ms: u64) -> Did {
        let mut did = Did::default();
        let until = self.now.plus(ms);
        // Of a long time only the ends are of interest.
        if ms > 60_000 {
            self.now = until.minus(60_000);
        }
        while self.now < until {
            self.now = self.now.plus(1_000).min(until);
            self.desk.tick(self.now);
            let more = self.did();
            did.published.extend(more.published);
            did.disconnected.extend(more.disconnected);
        }
        did
    }

    /// One tick of the guard, a second later.
    pub(crate) fn tick(&mut self) -> Did {
        self.now = self.now.plus(1_000);
        self.desk.tick(self.now);
        self.did()
    }

    pub(crate) fn expel(&mut self, agent: &AgentToken) -> Did {
        self.desk.expel(agent, Reason::Quarantined, self.now);
        self.did()
    }

    pub(crate) fn records(&self, policy_text: &str) -> Records {
        self.keys.records(policy_text)
    }

    /// Puts a policy (of the next version, if it differs) and a status of the next version in force.
    pub(crate) fn replace(&mut self, policy_text: &str) -> Did {
        self.replace_with(self.records(policy_text))
    }

    pub(crate) fn replace_with(&mut self, policy: Records) -> Did {
        if policy != self.policy {
            self.versions.0 += 1;
            self.policy = policy;
        }
        self.versions.1 += 1;
        let in_force = self.in_force(self.versions);
        self.desk.replace(in_force, self.now).unwrap();
        self.did()
    }

    pub(crate) fn in_force(&self, versions: (u64, u64)) -> InForce {
        self.keys.in_force(&self.policy, versions, &self.revoked)
    }

    pub(crate) fn did(&mut self) -> Did {
        let Todo { publish, verdicts, disconnect, offenders, custody, .. } = self.desk.take_todo();
        Did {
            published: publish,
            verdicts: verdicts.into_iter().flat_map(|pending| pending.notices).collect(),
            disconnected: disconnect,
            offenders,
            custody,
        }
    }

    /// Every entry of the log so far.
    pub(crate) fn log(&self) -> Vec<Entry<'static>> {
        let found = search(self.directory.path(), Filter::default()).unwrap();
        found.map(|found| found.unwrap().entry).collect()
    }

    pub(crate) fn admitted_in_log(&self) -> HashMap<Hash, usize> {
        let mut digests = HashMap::new();
        for entry in self.log() {
            if let Body::Admitted(admitted) = entry.body {
                *digests.entry(admitted.digest.0).or_default() += 1;
            }
        }
        digests
    }
}

impl Did {
    /// What was told to a session under this kind.
    pub(crate) fn told<T: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        agent: &Agent,
        kind: &str,
    ) -> Vec<T> {
        let subject = agent.wire.session_box(agent.token(), &agent.session(), kind);
        let all = self.published.iter().chain(&self.verdicts);
        all.filter(|out| out.subject() == subject)
            .map(|out| control::decode(out.payload()).unwrap())
            .collect()
    }

    pub(crate) fn denials(&self, agent: &Agent) -> Vec<Reason> {
        self.told::<DeniedNotice>(agent, kind::DENIED).iter().map(|denied| denied.reason).collect()
    }

    /// Envelopes that were forwarded.
    pub(crate) fn forwarded(&self) -> Vec<&Outgoing> {
        self.published.iter().filter(|out| out.admission().is_some()).collect()
    }

    /// The reason of the one denial there is.
    pub(crate) fn denied(&self, agent: &Agent) -> Reason {
        assert!(self.forwarded().is_empty(), "forwarded as well");
        let denials = self.denials(agent);
        assert_eq!(denials.len(), 1, "{denials:?}");
        denials[0]
    }
}

fn message(subject: &str, payload: Vec<u8>) -> Message {
    Message {
        subject: subject.into(),
        // Both are as hostile as may be, and ignored.
        reply: Some("$JS.API.STREAM.DELETE.X".into()),
        length: payload.len(),
        payload: Bytes::from(payload),
        headers: None,
        status: None,
        description: None,
    }
}

fn claims(roots: &Roots, identity: &SigningKey, who: &str, team: &str, role: Role) -> Claims {
    Claims {
        bus: roots.bus(),
        identity: identity.public().clone(),
        name: name(who),
        team: name(team),
        role,
        clearance: Clearance { level: Level::new(15).unwrap(), compartments: Compartments::ALL },
        integrity_ceiling: Integrity::HIGHEST,
        zones: vec![],
        validity: Validity { not_before: START.minus(1_000_000), not_after: START.plus(1_000_000_000_000) },
    }
}

/// A guard that finds in `directory` what it left there.
fn start(
    keys: &Keys,
    credential: &Credential,
    in_force: InForce,
    limits: Limits,
    directory: &Path,
    now: Millis,
) -> (Desk, GuardEpoch) {
    let mut options = Options::new("sealbus/test/guard");
    options.reserve_bytes = 0;
    options.unsealed_max = limits.unsealed_max;
    if limits.unsealed_max < 1_000 {
        options.checkpoint_interval = Duration::from_secs(3_600);
    }
    let signer = keys.guard();
    let signer =
        SignWith { public: *signer.public().as_bytes(), sign: move |text: &[u8]| signer.sign_raw(text) };
    let audit = AuditLog::open(directory, options, Box::new(signer)).unwrap();
    let epoch = GuardEpoch { epoch: audit.epoch(), challenge: [7; 16] };
    let store = Arc::new(Store::open(&directory.join("guard.redb")).unwrap());
    let sessions = Sessions::new(
        keys.roots(),
        epoch,
        credential.clone(),
        limits.max_payload,
        in_force,
        HashSet::new(),
        store.floors().unwrap(),
    );
    let mut desk = Desk::new(WireSubjects::default(), keys.guard(), sessions, audit, store, Metrics::new());
    desk.resume_watching([], now);
    (desk, epoch)
}

/// A sender key with the sequence number that comes next.
pub(crate) struct Sending {
    pub(crate) key: SenderKey,
    pub(crate) live: LiveKey,
}

/// An agent in one session. Does what it is told to, right or wrong.
pub(crate) struct Agent {
    pub(crate) identity: SigningKey,
    pub(crate) credential: Credential,
    pub(crate) certificate: SessionCertificate,
    pub(crate) session_key: SigningKey,
    pub(crate) secret: ReaderSecret,
    pub(crate) reader_key: ReaderKey,
    epoch: GuardEpoch,
    wire: WireSubjects,
}

/// What to say in an envelope besides what the key says.
#[derive(Clone)]
pub(crate) struct Say {
    pub(crate) fields: HeaderFields,
    pub(crate) payload: Vec<u8>,
}

impl Agent {
    fn start(world: &World, identity: SigningKey, credential: Credential) -> Self {
        let session_key = SigningKey::generate(&mut rng());
        let bus = world.roots.bus();
        let validity = Validity::starting(world.now, LIFETIME);
        let certificate = SessionCertificate::issue(bus, &identity, &session_key, validity).unwrap();
        let secret = ReaderSecret::generate(&mut rng());
        let reader_key = ReaderKey::issue(bus, certificate.id(), &session_key, &secret, validity).unwrap();
        Self {
            identity,
            credential,
            certificate,
            session_key,
            secret,
            reader_key,
            epoch: world.epoch,
            wire: world.wire.clone(),
        }
    }

    /// Speaks to the guard that is there now.
    pub(crate) const fn rejoin(&mut self, world: &World) {
        self.epoch = world.epoch;
    }

    pub(crate) fn token(&self) -> &AgentToken {
        self.credential.token()
    }

    pub(crate) fn session(&self) -> SessionId {
        self.certificate.id()
    }

    pub(crate) fn member(&self) -> Member {
        Member::new(self.credential.clone(), self.certificate.clone()).unwrap()
    }

    pub(crate) fn statement(&self, keys: &[&Sending]) -> Vec<u8> {
        SessionStatement {
            bus: self.certificate.bus(),
            session: self.session(),
            guard: self.epoch,
            keys: keys.iter().map(|sending| sending.live.clone()).collect(),
        }
        .sign(&self.session_key)
    }

    pub(crate) fn hello_message(&self, keys: &[&Sending]) -> Vec<u8> {
        control::encode(&Hello {
            credential: self.credential.as_str().to_owned(),
            certificate: ByteBuf::from(self.certificate.as_bytes()),
            statement: self.statement(keys).into(),
            reader_key: Some(ByteBuf::from(self.reader_key.as_bytes())),
        })
        .unwrap()
    }

    pub(crate) fn hello(&self, world: &mut World, keys: &[&Sending]) -> Did {
        world.control(self, verb::HELLO, self.hello_message(keys))
    }

    /// A new reader key, valid from `now`.
    pub(crate) fn new_reader_key(&mut self, now: Millis) -> Vec<u8> {
        self.secret = ReaderSecret::generate(&mut rng());
        let validity = Validity::starting(now, LIFETIME);
        self.reader_key = ReaderKey::issue(
            self.certificate.bus(),
            self.session(),
            &self.session_key,
            &self.secret,
            validity,
        )
        .unwrap();
        let reader_key = ByteBuf::from(self.reader_key.as_bytes());
        control::encode(&ReaderKeyNotice { reader_key }).unwrap()
    }

    pub(crate) fn subscribe(&self, world: &mut World, id: u32, rule: &str, pattern: &str) -> Did {
        let pattern = Pattern::parse(pattern).unwrap();
        let message = Subscribe { id, rule: name(rule), pattern, serve: rule.starts_with("ask") };
        world.control(self, verb::SUBSCRIBE, control::encode(&message).unwrap())
    }

    pub(crate) fn unsubscribe(&self, world: &mut World, id: u32) -> Did {
        world.control(self, verb::UNSUBSCRIBE, control::encode(&Unsubscribe { id }).unwrap())
    }

    pub(crate) fn make_key(&self, rule: &str, label: Label, epoch: u32, asker: Option<SessionId>) -> Sending {
        let bus = self.certificate.bus();
        let scope = KeyScope { bus, session: self.session(), rule: name(rule), label, epoch };
        let key = SenderKey::generate(&mut rng(), scope);
        let live = LiveKey { key: key.id(), rule: name(rule), label, epoch, next: 0, asker };
        Sending { key, live }
    }

    pub(crate) fn open_message(&self, keys: &[&Sending]) -> Vec<u8> {
        control::encode(&Open { statement: self.statement(keys).into() }).unwrap()
    }

    pub(crate) fn open(&self, world: &mut World, keys: &[&Sending]) -> Did {
        world.control(self, verb::OPEN, self.open_message(keys))
    }

    /// Makes and announces a key; gives it with the readers that the guard names.
    pub(crate) fn opened(
        &self,
        world: &mut World,
        rule: &str,
        label: Label,
        epoch: u32,
    ) -> (Sending, Vec<ReaderRecord>) {
        let sending = self.make_key(rule, label, epoch, None);
        let did = self.open(world, &[&sending]);
        let readers = self.readers(&did, sending.key.id());
        (sending, readers)
    }

    pub(crate) fn readers(&self, did: &Did, key: KeyId) -> Vec<ReaderRecord> {
        let told: Vec<Readers> = did.told(self, kind::READERS);
        told.into_iter()
            .filter(|readers| readers.key == key)
            .inspect(|readers| assert_eq!(readers.refused, None))
            .flat_map(|readers| readers.readers)
            .collect()
    }

    pub(crate) fn grant_message(&self, sending: &Sending, readers: &[&ReaderKey]) -> Vec<u8> {
        let to: Vec<_> = readers.iter().map(|key| (key.digest(), key.public())).collect();
        let grants = keys::grant(&sending.key, &self.session_key, &to, &mut rng()).unwrap();
        let grants = grants.into_iter().map(ByteBuf::from).collect();
        control::encode(&Grants { key: sending.key.id(), grants }).unwrap()
    }

    pub(crate) fn grant(&self, world: &mut World, sending: &Sending, readers: &[&Agent]) -> Did {
        let readers: Vec<_> = readers.iter().map(|reader| &reader.reader_key).collect();
        let message = self.grant_message(sending, &readers);
        world.control(self, verb::GRANT, message)
    }

    pub(crate) fn granted(&self, did: &Did) -> Vec<Granted> {
        did.told(self, kind::GRANT)
    }

    /// An honest envelope's fields, the sequence number taken.
    pub(crate) fn say(&self, world: &World, sending: &mut Sending, subject: &str) -> Say {
        let scope = sending.key.scope();
        let sequence = sending.live.next;
        sending.live.next = sequence.wrapping_add(1);
        Say {
            fields: HeaderFields {
                bus: scope.bus,
                id: EnvelopeId::generate(&mut rng()),
                sender: self.token().clone(),
                session: self.session(),
                rule: scope.rule.clone(),
                subject: Subject::parse(subject).unwrap(),
                label: scope.label,
                flow_grant: None,
                key: sending.key.id(),
                sequence,
                issued_at: world.now,
                ttl_ms: 60_000,
                parents: Vec::<Parent>::new(),
                request: None,
                flags: Flags::CONFIRM,
            },
            payload: b"payload".to_vec(),
        }
    }

    /// Seals and signs exactly these fields, though they may contradict the key: then under a key made up to
    /// suit them, whose id is replaced by what the fields say.
    pub(crate) fn seal(&self, sending: &Sending, say: &Say) -> (Hash, Vec<u8>) {
        let content = Content::new("text/plain", say.payload.clone());
        let scope = KeyScope {
            bus: say.fields.bus,
            session: self.session(),
            rule: say.fields.rule.clone(),
            label: say.fields.label,
            epoch: sending.key.scope().epoch,
        };
        let fields = HeaderFields { session: self.session(), ..say.fields.clone() };
        let sealed = if scope == *sending.key.scope() && fields.key == sending.key.id() {
            wire::seal(&fields, &content, &sending.key).unwrap()
        } else {
            let key = SenderKey::generate(&mut rng(), scope);
            wire::seal(&HeaderFields { key: key.id(), ..fields }, &content, &key).unwrap()
        };
        let digest = sealed.digest();
        let bytes = wire::sign(&[sealed], self.session(), &self.session_key).unwrap().remove(0);
        (digest, bytes)
    }

    /// Publishes an honest envelope.
    pub(crate) fn publish(&self, world: &mut World, sending: &mut Sending, subject: &str) -> (Did, Vec<u8>) {
        let say = self.say(world, sending, subject);
        let (_, bytes) = self.seal(sending, &say);
        (world.envelope(self, subject, &bytes), bytes)
    }
}

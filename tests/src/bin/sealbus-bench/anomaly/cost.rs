//! What the detector costs the guard a message: two desks of which one tells it of no envelope, in turn in one run.
//!
//! Each desk does all that a guard does of an envelope: checks, log on disk, proof of admission, what is to be
//! forwarded. Only nats-server and the sockets are missing, which cost both alike and would make the ratio smaller.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::{
    collections::HashSet,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::Message;
use rand_core::UnwrapErr;
use sealbus_envelope::{
    control::{GuardEpoch, Open, encode, verb},
    identity::{Claims, Credential, Role, Roots, SessionCertificate, SessionId, SigningKey, Status},
    keys::ReaderSecret,
    label::{Compartments, Integrity, Label, Level},
    policy::Bundle,
    proof::batch::MAX_BATCH,
    subject::WireSubjects,
    time::{Millis, Validity},
    wire::{self, Content},
};
use sealbus_guard::{
    anomaly::{Detector, Mark, Observation, Sent, Settings, parents::Parents},
    audit::{
        note::SignWith,
        store::{AuditLog, Options},
    },
    bus::desk::Desk,
    clock,
    metrics::Metrics,
    policy::{
        self,
        bundle::{self, ServiceKeys},
        source::PolicySource,
    },
    sessions::{InForce, Sessions},
    store::Store,
};
use sealbus_tests::{
    bus::{everything, name},
    hostile::papers::{Key, Papers},
};
use tempfile::TempDir;

use crate::{report::Row, samples::median};

const HOUR: u64 = 3_600_000;
const PAYLOAD: usize = 1_024;
const SUBJECT: &str = "out.result";
/// Agents that send in turn, so that what is known of each is not always at hand.
const AGENTS: u8 = 32;
const POLICY: &str = "\
levels = [\"low\"]
integrity = [\"any\"]
[teams.workers]
clearance = { level = \"low\" }
[rules.out]
pattern = \"out.>\"
publishers = [\"workers\"]
subscribers = [\"workers\"]
labels = { level = \"low\" }
rate = { per_second = 1000000, burst = 1000000 }
";

/// Cost of a message with and without the detector; all must be admitted.
pub(super) fn measure(budget: Duration) -> Row {
    let (mut plain, mut watched) = (Guard::start(), Guard::start());
    plain.desk.stop_watching();
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // Caches and branch predictors are cold at first: each agent's first turn does not count.
    for turn in 0..usize::from(AGENTS) {
        plain.turn(turn);
        watched.turn(turn);
    }
    let begun = Instant::now();
    for turn in 0_usize.. {
        // Whoever comes second finds caches warmer, or the disk busier.
        let (bare, told) = if turn % 2 == 0 {
            let bare = plain.turn(turn);
            (bare, watched.turn(turn))
        } else {
            let told = watched.turn(turn);
            (plain.turn(turn), told)
        };
        without.push(bare);
        with.push(told);
        ratios.push(told / bare);
        if begun.elapsed() >= budget {
            break;
        }
    }
    let (bare, alone) = (median(&without), detector_alone());
    Row::new("cost of a message")
        .measured("guard_ns", bare)
        .measured("guard_and_detector_ns", median(&with))
        .measured("times_without", median(&ratios))
        .measured("detector_alone_ns", alone)
        .measured("alone_share_of_guard", alone / bare)
        .with("messages", ratios.len() * MAX_BATCH)
}

/// All that is told, by itself: the difference of two noisy figures says less.
fn detector_alone() -> f64 {
    let mut parents = Parents::since(Millis(0));
    let mut detector = Detector::new(Settings::default());
    let agents: Vec<String> = (0..AGENTS).map(agent_name).map(|name| format!("{name}-abcdefghij")).collect();
    let now = clock::now();
    let envelope = Sent { session: 1, rule: "out", ..Sent::plain(now, SUBJECT, 1_200) };
    let times: Vec<f64> = agents
        .iter()
        .cycle()
        .take(256)
        .map(|agent| {
            let begun = Instant::now();
            for n in 0..MAX_BATCH {
                let mark = u64::try_from(n).unwrap_or(0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let sent = Sent { mark: Some(Mark { number: mark, envelope: mark }), ..black_box(envelope) };
                black_box(detector.observe(agent, Observation::Sent(sent), now));
                let mut digest = [0; 32];
                digest.iter_mut().zip(mark.to_le_bytes().iter().rev()).for_each(|(to, from)| *to = *from);
                black_box(parents.fault(agent, []));
                parents.sent(black_box(digest), SessionId::from_bytes([1; 32]), "out", sent.label);
            }
            nanoseconds(begun.elapsed())
        })
        .collect();
    median(&times)
}

fn agent_name(n: u8) -> String {
    format!("sender{n}")
}

fn nanoseconds(of_a_batch: Duration) -> f64 {
    of_a_batch.as_secs_f64() * 1e9 / f64::from(u32::try_from(MAX_BATCH).unwrap_or(1))
}

/// A guard's desk with its log and store in a directory of its own, and agents.
struct Guard {
    desk: Desk,
    senders: Vec<(Papers, Key, String)>,
    _directory: TempDir,
}

impl Guard {
    fn start() -> Self {
        let [issuer, policy_key, status, guard_key] = [1, 2, 3, 4].map(|n| SigningKey::from_seed(&[n; 32]));
        let roots = Roots {
            name: name("bench"),
            issuer: issuer.public().clone(),
            policy_keys: vec![policy_key.public().clone()],
            quorum: 1,
        };
        let now = clock::now();
        let directory = tempfile::tempdir().expect("a directory");
        let service =
            ServiceKeys { status: status.public().clone(), guards: vec![guard_key.public().clone()] };
        let guard_credential = credential(&roots, &issuer, &guard_key, "guard", Role::Guard, now);
        let signer = SigningKey::from_seed(&guard_key.to_seed());
        let signer =
            SignWith { public: *signer.public().as_bytes(), sign: move |text: &[u8]| signer.sign_raw(text) };
        let audit = AuditLog::open(directory.path(), Options::new("sealbus/bench/guard"), Box::new(signer))
            .expect("a log");
        let epoch = GuardEpoch { epoch: audit.epoch(), challenge: [7; 16] };
        let store = Arc::new(Store::open(&directory.path().join("guard.redb")).expect("a store"));
        let sessions = Sessions::new(
            roots.clone(),
            epoch,
            guard_credential,
            1 << 20,
            in_force(&roots, &service, (&policy_key, &status), now),
            HashSet::new(),
            store.floors().expect("floors"),
        );
        let wire = WireSubjects::default();
        let mut desk = Desk::new(wire.clone(), guard_key, sessions, audit, store, Metrics::new());
        desk.resume_watching([], now);
        let senders =
            (0..AGENTS).map(|n| join(&mut desk, &wire, &roots, &issuer, epoch, &agent_name(n))).collect();
        Self { desk, senders, _directory: directory }
    }

    /// A batch of one agent: the mean time of a message, in nanoseconds.
    fn turn(&mut self, turn: usize) -> f64 {
        let at = turn % self.senders.len();
        let (papers, key, subject) = self.senders.get_mut(at).expect("a sender");
        let batch = seal(papers, key, subject);
        let now = clock::now();
        let begun = Instant::now();
        self.desk.envelopes(black_box(&batch), now);
        let todo = black_box(self.desk.take_todo());
        let time = begun.elapsed();
        let forwarded = todo.publish.iter().filter(|out| out.admission().is_some()).count();
        assert_eq!(forwarded, MAX_BATCH, "a denial would be another thing");
        nanoseconds(time)
    }
}

fn in_force(
    roots: &Roots,
    service: &ServiceKeys,
    (policy_key, status_key): (&SigningKey, &SigningKey),
    now: Millis,
) -> InForce {
    let checked = policy::check(&PolicySource::new("bench.toml", POLICY)).expect("a policy");
    let records = bundle::records(&checked.policy, service, roots);
    let bundle = Bundle::sign(records, 1, Millis(1), &[policy_key], roots).expect("a bundle");
    let (bundle, policy) = bundle::load(&bundle.encode(), roots, 0).expect("a policy");
    let status = Status {
        bus: roots.bus(),
        version: 1,
        policy_version: 1,
        issued: now,
        valid_until: now.plus(24 * HOUR),
        revoked: vec![],
    };
    let status_bytes = status.sign(status_key).expect("a status");
    InForce { bundle: bundle.into(), policy: policy.into(), status: status.into(), status_bytes }
}

fn credential(
    roots: &Roots,
    issuer: &SigningKey,
    identity: &SigningKey,
    who: &str,
    role: Role,
    now: Millis,
) -> Credential {
    let claims = Claims {
        bus: roots.bus(),
        identity: identity.public().clone(),
        name: name(who),
        team: name(if role == Role::Guard { "guards" } else { "workers" }),
        role,
        clearance: everything(),
        integrity_ceiling: Integrity::HIGHEST,
        zones: vec![],
        // JWTs count whole seconds.
        validity: Validity::starting(Millis::from_seconds(now.minus(HOUR).seconds()), 24 * HOUR),
    };
    Credential::issue(&claims, issuer).expect("a credential")
}

/// An agent with one session and one key; nobody reads.
fn join(
    desk: &mut Desk,
    wire: &WireSubjects,
    roots: &Roots,
    issuer: &SigningKey,
    epoch: GuardEpoch,
    who: &str,
) -> (Papers, Key, String) {
    let fresh = || SigningKey::generate(&mut UnwrapErr(getrandom::SysRng));
    let (identity, session_key, now) = (fresh(), fresh(), clock::now());
    let credential = credential(roots, issuer, &identity, who, Role::Agent, now);
    let validity = Validity::starting(now, HOUR);
    let certificate =
        SessionCertificate::issue(roots.bus(), &identity, &session_key, validity).expect("a certificate");
    let secret = ReaderSecret::generate(&mut UnwrapErr(getrandom::SysRng));
    let papers = Papers { credential, certificate, key: session_key, secret };
    let key =
        papers.make_key("out", Label::new(Level::LOWEST, Compartments::EMPTY, Integrity::LOWEST), 0, None);
    let say = |verb: &str, payload: Vec<u8>, desk: &mut Desk| {
        let subject = wire.control(papers.token(), &papers.session(), verb);
        desk.control(&message(&subject, payload), clock::now());
        desk.take_todo();
    };
    say(verb::HELLO, encode(&papers.hello(epoch, &[])).expect("a hello"), desk);
    let open = Open { statement: papers.statement(epoch, vec![key.live()]) };
    say(verb::OPEN, encode(&open).expect("an open"), desk);
    let subject = wire.ingress(papers.token(), SUBJECT);
    (papers, key, subject)
}

fn seal(papers: &Papers, key: &mut Key, subject: &str) -> Vec<Message> {
    let content = Content::new("application/octet-stream", vec![7; PAYLOAD]);
    let sealed: Vec<_> = (0..MAX_BATCH)
        .map(|_| {
            let fields = papers.fields(key, SUBJECT);
            key.next += 1;
            wire::seal(&fields, &content, &key.sender).expect("a sealed envelope")
        })
        .collect();
    let signed = wire::sign(&sealed, papers.session(), &papers.key).expect("signed envelopes");
    signed.into_iter().map(|bytes| message(subject, bytes)).collect()
}

fn message(subject: &str, payload: Vec<u8>) -> Message {
    Message {
        subject: subject.into(),
        reply: None,
        length: payload.len(),
        payload: payload.into(),
        headers: None,
        status: None,
        description: None,
    }
}

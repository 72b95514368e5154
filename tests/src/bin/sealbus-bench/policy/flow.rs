//! What holding envelopes to what their senders read costs the guard: all of its checks, on envelopes that name
//! parents, of senders with a floor, or under a flow grant, beside envelopes with none of it.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::{
    collections::HashSet,
    fmt::Write as _,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use rand_core::UnwrapErr;
use sealbus_envelope::{
    control::LiveKey,
    identity::{Claims, Credential, Role, Roots, SessionCertificate, SigningKey},
    keys::{KeyScope, SenderKey},
    label::{Compartments, Integrity, Label, Level},
    policy::{Bundle, FlowGrant},
    proof::batch::MAX_BATCH,
    subject::{Pattern, Subject, WireSubjects},
    time::{Millis, Validity},
    wire::{self, Content, EnvelopeId, Flags, HeaderFields, Parent},
};
use sealbus_guard::{
    bus::seen::SeenCache,
    check::{Checker, View},
    policy::{
        self,
        bundle::{self, ServiceKeys},
        compile::CompiledPolicy,
        source::PolicySource,
    },
    roster::{
        Roster,
        session::{LiveSession, SendingKey},
    },
    taint::Floor,
};
use sealbus_tests::bus::{everything, name};

use crate::{
    report::Row,
    samples::{Samples, median},
};

const NOW: Millis = Millis(1_800_000_000_000);
const HOUR: u64 = 3_600_000;
const PAYLOAD: usize = 1_024;
/// Rules that something was read under, at most.
const READ: u16 = 256;
const SUBJECT: &str = "out.result";
/// As much as the policy's format lets a rule allow.
const RATE: &str = "rate = { per_second = 1000000, burst = 1000000 }\n";

/// What the sender read, and what the envelope says of it.
#[derive(Debug, Clone, Copy)]
struct Case {
    what: &'static str,
    parents: u8,
    floor: u16,
    /// The label is below parents and floor, and a flow grant is named.
    grant: bool,
}

/// The first is what the others are compared with.
const CASES: &[Case] = &[
    case("no parents, nothing read", 0, 0, false),
    case("1 parent", 1, 0, false),
    case("8 parents", 8, 0, false),
    case("64 parents", 64, 0, false),
    case("1 rule read", 0, 1, false),
    case("16 rules read", 0, 16, false),
    case("256 rules read", 0, READ, false),
    case("flow grant, 1 rule read", 0, 1, true),
    case("flow grant, 16 rules read", 0, 16, true),
    case("flow grant, 256 rules read", 0, READ, true),
    case("flow grant, 8 parents, 16 rules read", 8, 16, true),
];

const fn case(what: &'static str, parents: u8, floor: u16, grant: bool) -> Case {
    Case { what, parents, floor, grant }
}

/// How many envelopes share a signature, and a row's samples are means of.
pub(crate) const BATCH: usize = MAX_BATCH;

pub(crate) fn measure(budget: Duration) -> Vec<Row> {
    let mut guard = Guard::new();
    let mut senders: Vec<_> = CASES.iter().map(|case| guard.sender(*case)).collect();
    let mut times = vec![Vec::new(); CASES.len()];
    let mut sizes = vec![0; CASES.len()];
    let begun = Instant::now();
    for turn in 0_u64.. {
        for ((sender, times), size) in senders.iter_mut().zip(&mut times).zip(&mut sizes) {
            let envelopes = sender.seal();
            *size = envelopes.first().map_or(0, Vec::len);
            // A millisecond later, so that rates allow it.
            let time = guard.check(sender, &envelopes, NOW.plus(turn));
            // Caches and branch predictors are cold in the first turn.
            if turn > 0 {
                times.push(time);
            }
        }
        if turn > 0 && begun.elapsed() >= budget {
            break;
        }
    }
    let base = times.first().cloned().unwrap_or_default();
    let rows = CASES.iter().zip(&times).zip(sizes).map(|((case, times), size)| {
        let ratios: Vec<_> =
            times.iter().zip(&base).map(|(own, base)| own.as_secs_f64() / base.as_secs_f64()).collect();
        let mut samples = Samples::default();
        times.iter().for_each(|time| samples.push(*time));
        Row::new(format!("sealbus check: {}", case.what))
            .measured("p50_ns", samples.p50_us() * 1e3)
            .measured("p99_ns", samples.p99_us() * 1e3)
            .with("envelope_bytes", size)
            .measured("times_without", median(&ratios))
            .with("decisions", times.len() * BATCH)
    });
    rows.collect()
}

/// The pure part of a guard.
struct Guard {
    issuer: SigningKey,
    roots: Roots,
    policy: CompiledPolicy,
    checker: Checker,
    roster: Roster,
    seen: SeenCache,
    wire: WireSubjects,
}

impl Guard {
    fn new() -> Self {
        let [issuer, key, status] = [1, 2, 3].map(|n| SigningKey::from_seed(&[n; 32]));
        let roots = Roots {
            name: name("bench"),
            issuer: issuer.public().clone(),
            policy_keys: vec![key.public().clone()],
            quorum: 1,
        };
        let checked = policy::check(&PolicySource::new("bench.toml", toml())).expect("a policy");
        let service = ServiceKeys { status: status.public().clone(), guards: vec![] };
        let mut records = bundle::records(&checked.policy, &service, &roots);
        records.grants.push(flow_grant());
        let bundle = Bundle::sign(records, 1, Millis(1), &[&key], &roots).expect("a bundle");
        let wire = WireSubjects::default();
        Self {
            checker: Checker::new(roots.bus(), wire.clone()),
            policy: CompiledPolicy::compile(&bundle).expect("a policy"),
            roster: Roster::default(),
            seen: SeenCache::default(),
            issuer,
            roots,
            wire,
        }
    }

    /// An agent with one session and one sender key, which read what the case says.
    fn sender(&mut self, case: Case) -> Sender {
        let fresh = || SigningKey::generate(&mut UnwrapErr(getrandom::SysRng));
        let (identity, session_key, bus) = (fresh(), fresh(), self.roots.bus());
        let claims = Claims {
            bus,
            identity: identity.public().clone(),
            name: name("sender"),
            team: name("workers"),
            role: Role::Agent,
            clearance: everything(),
            integrity_ceiling: Integrity::HIGHEST,
            zones: vec![],
            validity: Validity::starting(NOW, HOUR),
        };
        let credential = Credential::issue(&claims, &self.issuer).expect("a credential");
        let validity = Validity::starting(NOW, HOUR);
        let certificate =
            SessionCertificate::issue(bus, &identity, &session_key, validity).expect("a certificate");
        let (session, rule) = (certificate.id(), name("out"));
        let label = if case.grant { level(0) } else { level(1) };
        let scope = KeyScope { bus, session, rule: rule.clone(), label, epoch: 0 };
        let key = SenderKey::generate(&mut UnwrapErr(getrandom::SysRng), scope);
        let live = LiveKey { key: key.id(), rule, label, epoch: 0, next: 0, asker: None };

        let mut floor = Floor::default();
        (0..case.floor).for_each(|n| {
            let rule = name(&format!("read{n}"));
            let pattern = &self.policy.rule(rule.as_str()).expect("a rule").pattern;
            floor.raise(&rule, pattern, level(1));
        });
        let principal = self.policy.principal(&claims).expect("a principal");
        let fields = HeaderFields {
            bus,
            id: EnvelopeId::generate(&mut UnwrapErr(getrandom::SysRng)),
            sender: credential.token().clone(),
            session,
            rule: name("out"),
            subject: Subject::parse(SUBJECT).expect("a subject"),
            label,
            flow_grant: case.grant.then(|| name("release")),
            key: key.id(),
            sequence: 0,
            issued_at: NOW,
            ttl_ms: u32::try_from(HOUR).unwrap_or(u32::MAX),
            parents: (0..case.parents).map(|n| Parent { digest: [n; 32], label: level(1) }).collect(),
            request: None,
            flags: Flags::NONE,
        };
        let ingress = self.wire.ingress(credential.token(), SUBJECT);
        self.roster.insert(LiveSession::new(credential, certificate, principal, Arc::new(floor), NOW));
        self.roster.add_key(session, key.id(), SendingKey::new(live, NOW));
        Sender { session_key, key, fields, ingress }
    }

    /// The mean time of checking one of them; all must pass.
    fn check(&mut self, sender: &Sender, envelopes: &[Vec<u8>], now: Millis) -> Duration {
        let (quarantined, workflows) =
            (HashSet::new(), sealbus_guard::oversight::pause::Workflows::default());
        let view = View {
            policy: &self.policy,
            quarantined: &quarantined,
            workflows: &workflows,
            max_envelope: usize::MAX,
            freshness_ms: HOUR,
        };
        let begun = Instant::now();
        let mut permits = 0;
        for bytes in envelopes {
            let checked = self.checker.check(view, &mut self.roster, &self.seen, &sender.ingress, bytes, now);
            permits += usize::from(black_box(checked).is_ok());
        }
        let time = begun.elapsed() / u32::try_from(BATCH).unwrap_or(u32::MAX);
        assert_eq!(permits, BATCH, "a denial would be another thing");
        time
    }
}

/// A session that seals.
struct Sender {
    session_key: SigningKey,
    key: SenderKey,
    /// Of the next envelope.
    fields: HeaderFields,
    ingress: String,
}

impl Sender {
    fn seal(&mut self) -> Vec<Vec<u8>> {
        let content = Content::new("application/octet-stream", vec![7; PAYLOAD]);
        let sealed: Vec<_> = (0..BATCH)
            .map(|_| {
                self.fields.id = EnvelopeId::generate(&mut UnwrapErr(getrandom::SysRng));
                self.fields.sequence += 1;
                wire::seal(&self.fields, &content, &self.key).expect("a sealed envelope")
            })
            .collect();
        wire::sign(&sealed, self.fields.session, &self.session_key).expect("signed envelopes")
    }
}

fn toml() -> String {
    let mut text = String::from(
        "levels = [\"low\", \"high\"]\nintegrity = [\"any\"]\nfreshness = \"1h\"\n\
         [teams.workers]\nclearance = { level = \"high\" }\n\
         [rules.out]\npattern = \"out.>\"\npublishers = [\"workers\"]\nsubscribers = [\"workers\"]\n\
         labels = { level = { min = \"low\", max = \"high\" } }\ndefault = { level = \"low\" }\n",
    );
    text.push_str(RATE);
    for n in 0..READ {
        let _ = writeln!(
            text,
            "[rules.read{n}]\npattern = \"read.r{n}.>\"\npublishers = [\"workers\"]\n\
             subscribers = [\"workers\"]\nlabels = {{ level = \"high\" }}\n{RATE}",
        );
    }
    text
}

/// Lets the team say at the low level what it made of what it read at the high one.
fn flow_grant() -> FlowGrant {
    let pattern = |text| Pattern::parse(text).expect("a pattern");
    FlowGrant {
        name: name("release"),
        team: name("workers"),
        from: pattern("read.>"),
        to: pattern("out.>"),
        from_label: level(1),
        to_label: level(0),
        max_bytes: None,
        rate: None,
        expires: NOW.plus(HOUR),
        approval: None,
    }
}

fn level(n: u8) -> Label {
    Label::new(Level::new(n).expect("a level"), Compartments::EMPTY, Integrity::LOWEST)
}

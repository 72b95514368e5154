//! One policy of any size, for both engines, and what is tried on it.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::fmt::Write as _;

use sealbus_envelope::{
    identity::{Claims, Role, Roots, SigningKey},
    label::{Compartments, Integrity, Label, Level},
    policy::Bundle,
    reason::Reason,
    time::{Millis, Validity},
};
use sealbus_guard::policy::{
    self,
    bundle::{self, ServiceKeys},
    compile::CompiledPolicy,
    decide::Principal,
    source::PolicySource,
};
use sealbus_tests::bus::{everything, name};

/// The most teams: each then publishes under a hundredth of the rules and reads another.
const TEAMS: usize = 100;
/// The largest envelope of every rule.
pub(crate) const MAX_BYTES: usize = 4_096;

/// What an agent asks for.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// The number of its team; each team has one agent.
    pub(crate) team: usize,
    pub(crate) rule: String,
    pub(crate) subject: String,
    pub(crate) label: Label,
    pub(crate) bytes: usize,
}

/// How many teams a policy of so many rules has.
pub(crate) fn teams(rules: usize) -> usize {
    rules.min(TEAMS)
}

/// The subject that every pattern of rule `rule` begins with, up to its `>`.
pub(crate) fn subject_prefix(rule: usize) -> String {
    format!("area{}.topic{rule}.", rule / 100)
}

/// The team that publishes under the rule.
pub(crate) fn publisher(rule: usize, rules: usize) -> usize {
    rule % teams(rules)
}

/// What the rule allows.
pub(crate) fn allowed(rule: usize, rules: usize) -> Attempt {
    Attempt {
        team: publisher(rule, rules),
        rule: format!("rule{rule}"),
        subject: format!("{}item.42", subject_prefix(rule)),
        label: label(2, 0b11, 1),
        bytes: 1_024,
    }
}

/// What the rule denies: one attempt for each thing that it looks at, with our reason.
pub(crate) fn denied(rule: usize, rules: usize) -> Vec<(Attempt, Reason)> {
    let good = || allowed(rule, rules);
    vec![
        (Attempt { team: (rule + 1) % teams(rules), ..good() }, Reason::NotPublisher),
        (Attempt { rule: "rule".to_owned(), ..good() }, Reason::UnknownRule),
        (Attempt { subject: "area.topic.item".to_owned(), ..good() }, Reason::SubjectOutsideRule),
        (Attempt { label: label(0, 0b11, 1), ..good() }, Reason::LabelOutOfRange),
        (Attempt { label: label(3, 0b11, 1), ..good() }, Reason::LabelOutOfRange),
        (Attempt { label: label(2, 0b10, 1), ..good() }, Reason::LabelOutOfRange),
        (Attempt { label: label(2, 0b111, 1), ..good() }, Reason::LabelOutOfRange),
        (Attempt { label: label(2, 0b11, 2), ..good() }, Reason::AboveIntegrity),
        (Attempt { bytes: MAX_BYTES + 1, ..good() }, Reason::TooBigForRule),
    ]
}

fn label(level: u8, compartments: u64, integrity: u8) -> Label {
    Label::new(
        Level::new(level).expect("a level"),
        Compartments::from_bits(compartments),
        Integrity::new(integrity).expect("a rank"),
    )
}

/// Our side of the policy, signed.
pub(crate) struct Signed {
    pub(crate) source: PolicySource,
    pub(crate) bundle: Bundle,
    pub(crate) bytes: Vec<u8>,
    pub(crate) roots: Roots,
}

impl Signed {
    pub(crate) fn new(rules: usize) -> Self {
        let source = PolicySource::new("bench.toml", toml(rules));
        let checked = policy::check(&source).expect("a policy");
        let [issuer, key, status] = [1, 2, 3].map(|n| SigningKey::from_seed(&[n; 32]));
        let roots = Roots {
            name: name("bench"),
            issuer: issuer.public().clone(),
            policy_keys: vec![key.public().clone()],
            quorum: 1,
        };
        let service = ServiceKeys { status: status.public().clone(), guards: vec![] };
        let bundle =
            bundle::sign(&checked.policy, &service, 1, Millis(1), &[&key], &roots).expect("a bundle");
        let bytes = bundle.encode();
        Self { source, bundle, bytes, roots }
    }

    /// Each team's one agent, under `policy`.
    pub(crate) fn principals(&self, policy: &CompiledPolicy) -> Vec<Principal> {
        let principal = |team: usize| {
            let claims = Claims {
                bus: self.roots.bus(),
                identity: SigningKey::from_seed(&[9; 32]).public().clone(),
                name: name("agent"),
                team: name(&format!("team{team}")),
                role: Role::Agent,
                clearance: everything(),
                integrity_ceiling: Integrity::HIGHEST,
                zones: vec![],
                validity: Validity { not_before: Millis(0), not_after: Millis(1) },
            };
            policy.principal(&claims).expect("a principal")
        };
        (0..policy.teams().len()).map(principal).collect()
    }
}

fn toml(rules: usize) -> String {
    let mut text = String::from(
        "levels = [\"l0\", \"l1\", \"l2\", \"l3\"]\ncompartments = [\"c0\", \"c1\", \"c2\"]\n\
         integrity = [\"i0\", \"i1\", \"i2\"]\n",
    );
    for team in 0..teams(rules) {
        let clearance = "clearance = { level = \"l3\", compartments = [\"c0\", \"c1\", \"c2\"] }";
        let _ = writeln!(text, "[teams.team{team}]\n{clearance}\nintegrity = \"i1\"");
    }
    for rule in 0..rules {
        let (from, to) = (publisher(rule, rules), (rule + 1) % teams(rules));
        let _ = writeln!(
            text,
            "[rules.rule{rule}]\npattern = \"{}>\"\npublishers = [\"team{from}\"]\n\
             subscribers = [\"team{to}\"]\nmax_bytes = {MAX_BYTES}\n\
             labels = {{ level = {{ min = \"l1\", max = \"l2\" }}, required = [\"c0\"], allowed = [\"c1\"] }}\n\
             default = {{ level = \"l1\", compartments = [\"c0\"] }}",
            subject_prefix(rule),
        );
    }
    text
}

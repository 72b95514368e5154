//! How long a policy of 10,000 rules takes to check, load and compile, and a decision under it.
//!
//! `cargo run --release -p sealbus-guard --example policy_speed`

#![expect(clippy::unwrap_used, reason = "a measurement may fail by panicking")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use sealbus_envelope::identity::{Claims, Role, Roots, SigningKey};
use sealbus_envelope::label::{Clearance, Compartments, Integrity, Label, Level};
use sealbus_envelope::name::Name;
use sealbus_envelope::time::{Millis, Validity};
use sealbus_guard::policy::bundle::{self, ServiceKeys};
use sealbus_guard::policy::compile::CompiledPolicy;
use sealbus_guard::policy::{self, source::PolicySource};

const RULES: usize = 10_000;
const TEAMS: usize = 100;
const DECISIONS: usize = 4_000_000;

fn main() {
    let source = PolicySource::new("speed.toml", text());
    let (checked, time) = timed(|| policy::check(&source).unwrap());
    println!("check {RULES} rules, {} KiB of TOML: {time:?}", source.text().len() >> 10);

    let [issuer, key, status] = [1, 2, 3].map(|n| SigningKey::from_seed(&[n; 32]));
    let roots = Roots {
        name: Name::parse("speed").unwrap(),
        issuer: issuer.public().clone(),
        policy_keys: vec![key.public().clone()],
        quorum: 1,
    };
    let service = ServiceKeys { status: status.public().clone(), guards: vec![] };
    let (signed, time) =
        timed(|| bundle::sign(&checked.policy, &service, 1, Millis(1), &[&key], &roots).unwrap());
    println!("sign: {time:?}");
    let bytes = signed.encode();
    let ((_, compiled), time) = timed(|| bundle::load(&bytes, &roots, 0).unwrap());
    println!("load (verify, decode, compile) {} KiB: {time:?}", bytes.len() >> 10);
    let (again, time) = timed(|| CompiledPolicy::compile(&signed).unwrap());
    println!("of which compile: {time:?}");
    drop(again);

    decide(&compiled, &roots);
}

/// Each team publishes under 100 rules and reads 100.
fn text() -> String {
    let mut text = String::from(
        "levels = [\"l0\", \"l1\", \"l2\", \"l3\"]\ncompartments = [\"c0\", \"c1\"]\nintegrity = [\"i0\", \"i1\"]\n",
    );
    for team in 0..TEAMS {
        let clearance = "clearance = { level = \"l3\", compartments = [\"c0\", \"c1\"] }";
        writeln!(text, "[teams.team{team}]\n{clearance}\nintegrity = \"i1\"").unwrap();
    }
    for rule in 0..RULES {
        let (from, to) = (rule % TEAMS, (rule + 1) % TEAMS);
        writeln!(
            text,
            "[rules.rule{rule}]\npattern = \"area{}.topic{rule}.>\"\npublishers = [\"team{from}\"]\nsubscribers = [\"team{to}\"]\n\
             labels = {{ level = {{ min = \"l1\", max = \"l2\" }}, required = [\"c0\"], allowed = [\"c1\"] }}\n\
             default = {{ level = \"l1\", compartments = [\"c0\"] }}",
            rule / 100
        )
        .unwrap();
    }
    text
}

/// Rules in an order no cache foresees, one sender each; the hot path of a guard sees fewer.
fn decide(policy: &CompiledPolicy, roots: &Roots) {
    let principals: Vec<_> = (0..TEAMS)
        .map(|team| {
            let claims = Claims {
                bus: roots.bus(),
                identity: SigningKey::from_seed(&[9; 32]).public().clone(),
                name: Name::parse("agent").unwrap(),
                team: Name::parse(&format!("team{team}")).unwrap(),
                role: Role::Agent,
                clearance: Clearance { level: Level::HIGHEST, compartments: Compartments::ALL },
                integrity_ceiling: Integrity::HIGHEST,
                zones: vec![],
                validity: Validity { not_before: Millis(0), not_after: Millis(1) },
            };
            policy.principal(&claims).unwrap()
        })
        .collect();
    let label = Label::new(Level::new(2).unwrap(), Compartments::from_bits(0b11), Integrity::new(1).unwrap());
    let attempts: Vec<_> = (0..RULES)
        .map(|n| {
            let rule = n * 7919 % RULES;
            let subject = format!("area{}.topic{rule}.item.42", rule / 100);
            (principals.get(rule % TEAMS).unwrap(), format!("rule{rule}"), subject)
        })
        .collect();
    for (name, count) in [("all 10,000 rules in turn", RULES), ("100 rules in turn", 100), ("one rule", 1)] {
        let (allowed, time) = timed(|| {
            let tries = attempts.iter().take(count).cycle().take(DECISIONS);
            let decided = tries.filter(|(who, rule, subject)| {
                black_box(policy.may_publish(who, rule, subject, black_box(label), 1024)).is_ok()
            });
            decided.count()
        });
        assert_eq!(allowed, DECISIONS, "a denial would be cheaper");
        println!(
            "decide, {name}: {:.0} ns",
            time.as_secs_f64() * 1e9 / f64::from(u32::try_from(DECISIONS).unwrap())
        );
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

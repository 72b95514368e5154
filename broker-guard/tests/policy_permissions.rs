//! Permission lists and excerpts where no server is needed to tell right from wrong.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use sealbus_envelope::identity::{Claims, Role, Roots, SessionId, SigningKey};
use sealbus_envelope::label::{Clearance, Compartments, Integrity, Level};
use sealbus_envelope::name::{AgentToken, Name};
use sealbus_envelope::policy::{Bundle, Records};
use sealbus_envelope::subject::WireSubjects;
use sealbus_envelope::time::{Millis, Validity};
use sealbus_guard::policy::bundle::{self, Excerpts, ServiceKeys};
use sealbus_guard::policy::compile::CompiledPolicy;
use sealbus_guard::policy::decide::Principal;
use sealbus_guard::policy::permissions::{Permissions, PermissionsError, Side};
use sealbus_guard::policy::{self, DEFAULT_POLICY, source::PolicySource};

struct Bus {
    roots: Roots,
    bundle: Bundle,
    policy: CompiledPolicy,
}

fn bus(text: &str) -> Bus {
    let [issuer, key, status] = [1, 2, 3].map(|n| SigningKey::from_seed(&[n; 32]));
    let roots = Roots {
        name: Name::parse("test").unwrap(),
        issuer: issuer.public().clone(),
        policy_keys: vec![key.public().clone()],
        quorum: 1,
    };
    let source = PolicySource::new("test.toml", text);
    let checked = policy::check(&source).unwrap_or_else(|found| panic!("{:?}", miette::Report::new(found)));
    let service = ServiceKeys { status: status.public().clone(), guards: vec![] };
    let bundle = bundle::sign(&checked.policy, &service, 1, Millis(1), &[&key], &roots).unwrap();
    let policy = CompiledPolicy::compile(&bundle).unwrap();
    Bus { roots, bundle, policy }
}

impl Bus {
    fn agent(&self, name: &str, team: &str, level: u8) -> Principal {
        let clearance = Clearance { level: Level::new(level).unwrap(), compartments: Compartments::ALL };
        let claims = Claims {
            bus: self.roots.bus(),
            identity: SigningKey::from_seed(&[9; 32]).public().clone(),
            name: Name::parse(name).unwrap(),
            team: Name::parse(team).unwrap(),
            role: Role::Agent,
            clearance,
            integrity_ceiling: Integrity::HIGHEST,
            zones: vec![],
            validity: Validity { not_before: Millis(0), not_after: Millis(1) },
        };
        self.policy.principal(&claims).unwrap()
    }

    fn permissions(&self, who: &Principal) -> Result<Permissions, PermissionsError> {
        Permissions::of_session(&self.policy, who, &SESSION, &WireSubjects::default())
    }
}

const SESSION: SessionId = SessionId::from_bytes([7; 32]);

#[test]
fn the_lists_of_the_default_policy_are_these() {
    let bus = bus(DEFAULT_POLICY);
    let who = bus.agent("ana", "analyst", 15);
    insta::assert_snapshot!(serde_json::to_string_pretty(&bus.permissions(&who).unwrap()).unwrap());
}

#[test]
fn a_credential_below_its_team_narrows_the_lists() {
    let bus = bus(DEFAULT_POLICY);
    let (full, low) = (bus.agent("ana", "analyst", 15), bus.agent("ana", "analyst", 0));
    let hears = |who, part: &str| {
        bus.permissions(who).unwrap().subscribe.allow().iter().any(|subject| subject.contains(part))
    };
    assert!(hears(&full, ".deps.item.>") && hears(&full, ".hello.>"));
    assert!(!hears(&low, ".deps.item.>") && hears(&low, ".hello.>"));
}

#[test]
fn no_side_is_ever_empty() {
    let full = |side: &Side| !side.allow().is_empty() || side.deny() == [">"];
    let bus = bus(DEFAULT_POLICY);
    let wire = WireSubjects::default();
    let token = AgentToken::parse("ana-abcdefghij").unwrap();
    for permissions in [
        bus.permissions(&bus.agent("olga", "observer", 0)).unwrap(),
        Permissions::lobby(&token, &SESSION, &wire),
        Permissions::observer(&token, &wire),
    ] {
        assert!(full(&permissions.publish) && full(&permissions.subscribe), "{permissions:?}");
    }
}

const NAMED_AGENT: &str = r#"
levels = ["low"]
integrity = ["untrusted"]
[teams.all]
clearance = { level = "low" }
[rules.wide]
pattern = "a.>"
publishers = ["all"]
subscribers = ["all"]
labels = { level = "low" }
[rules.deep]
pattern = "a.b"
publishers = ["all"]
subscribers = [{ agent = "ada", queue = "work" }]
labels = { level = "low" }
"#;

#[test]
fn an_agent_whose_grants_nats_cannot_hold_apart_gets_none() {
    let bus = bus(NAMED_AGENT);
    let refused = bus.permissions(&bus.agent("ada", "all", 0)).unwrap_err();
    assert!(matches!(refused, PermissionsError::Conflict { .. }), "{refused}");
    assert!(bus.permissions(&bus.agent("bob", "all", 0)).is_ok());
}

#[test]
fn lists_too_large_for_a_jwt_are_refused() {
    let mut text = String::from("levels = [\"low\"]\nintegrity = [\"untrusted\"]\n");
    text.push_str("[teams.all]\nclearance = { level = \"low\" }\n");
    for n in 0..4_000 {
        write!(text, "[rules.r{n}]\npattern = \"area.of.some.length.topic{n}.>\"\n").unwrap();
        text.push_str("publishers = [\"all\"]\nsubscribers = [\"all\"]\nlabels = { level = \"low\" }\n");
    }
    let bus = bus(&text);
    let refused = bus.permissions(&bus.agent("ada", "all", 0)).unwrap_err();
    assert!(matches!(refused, PermissionsError::TooLarge { .. }), "{refused}");
}

#[test]
fn an_excerpt_proves_exactly_the_rules_that_name_the_agent() {
    let bus = bus(DEFAULT_POLICY);
    let excerpts = Excerpts::new(&bus.bundle);
    for (team, expected) in [
        ("collector", vec!["hello", "deps-item"]),
        ("analyst", vec!["hello", "deps-item", "findings", "ask-analyst"]),
        ("observer", vec!["hello", "report-final"]),
    ] {
        let excerpt = excerpts.concerning(&bus.policy, &bus.agent("x", team, 15));
        let (head, Records { tables, rules, .. }) = excerpt.verify(&bus.roots).unwrap();
        assert_eq!(head.fields(), bus.bundle.head().fields());
        assert_eq!(tables, *bus.bundle.tables());
        assert_eq!(rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), expected);
    }
}

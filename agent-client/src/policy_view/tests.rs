#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use sealbus_envelope::{
    identity::{SigningKey, Status},
    label::{Clearance, Compartments, Integrity, LabelRange},
    policy::{Bundle, Party, TaintScope, Team, Who},
    time::Validity,
};
use serde_bytes::ByteBuf;

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn label(level: u8) -> Label {
    Label::new(Level::new(level).unwrap(), Compartments::EMPTY, Integrity::LOWEST)
}

struct Policy {
    issuer: SigningKey,
    policy: SigningKey,
    status: SigningKey,
    guard: SigningKey,
}

impl Policy {
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

    fn claims(&self, agent: &str, team: &str, role: Role, key: &SigningKey) -> Claims {
        Claims {
            bus: self.roots().bus(),
            identity: key.public().clone(),
            name: name(agent),
            team: name(team),
            role,
            clearance: Clearance { level: Level::HIGHEST, compartments: Compartments::ALL },
            integrity_ceiling: Integrity::HIGHEST,
            zones: vec![],
            validity: Validity { not_before: Millis(1_000), not_after: Millis(9_000_000) },
        }
    }

    fn welcome(&self, rules: Vec<Rule>, version: u64, status_version: u64) -> Welcome {
        let team = |team, level| Team {
            name: name(team),
            clearance: Clearance { level: Level::new(level).unwrap(), compartments: Compartments::EMPTY },
            integrity_ceiling: Integrity::LOWEST,
            zone: None,
            taint: TaintScope::Agent,
            oversight: None,
            observe: false,
        };
        let tables = Tables {
            bus: self.roots().bus(),
            levels: vec![name("public"), name("internal"), name("secret")],
            compartments: vec![],
            integrity: vec![name("untrusted")],
            teams: vec![team("readers", 1), team("writers", 2)],
            zones: vec![],
            status_key: self.status.public().clone(),
            guards: vec![self.guard.public().clone()],
            freshness_ms: 60_000,
            max_readers: 10,
            observe: false,
        };
        let roots = self.roots();
        let bundle = Bundle::sign(
            Records { tables, rules, grants: vec![], supervision: None },
            version,
            Millis(1),
            &[&self.policy],
            &roots,
        )
        .unwrap();
        let status = Status {
            bus: roots.bus(),
            version: status_version,
            policy_version: 1,
            issued: Millis(1),
            valid_until: Millis(9_000_000),
            revoked: vec![],
        };
        let guard = self.claims("guard", "guards", Role::Guard, &self.guard);
        Welcome {
            policy: bundle.excerpt(|_| true),
            status: ByteBuf::from(status.sign(&self.status).unwrap()),
            guards: vec![Credential::issue(&guard, &self.issuer).unwrap().as_str().to_owned()],
            max_payload: 1 << 20,
            floor: Label::BOTTOM,
        }
    }

    fn view(&self, rules: Vec<Rule>) -> View {
        View::read(&self.welcome(rules, 1, 1), &self.roots(), None, Millis(2_000)).unwrap()
    }

    fn writer(&self) -> Claims {
        self.claims("ann", "writers", Role::Agent, &SigningKey::from_seed(&[7; 32]))
    }

    fn reader(&self) -> Claims {
        self.claims("bob", "readers", Role::Agent, &SigningKey::from_seed(&[8; 32]))
    }
}

fn rule(text: &str, pattern: &str, levels: (u8, u8), queue: Option<&str>) -> Rule {
    let party = |team, queue: Option<&str>| Party { who: Who::Team(name(team)), queue: queue.map(name) };
    Rule {
        name: name(text),
        pattern: Pattern::parse(pattern).unwrap(),
        kind: MessageKind::Stream,
        publishers: vec![party("writers", None)],
        subscribers: vec![party("readers", queue)],
        labels: LabelRange { low: label(levels.0), high: label(levels.1) },
        default_label: label(levels.0),
        max_bytes: 1000,
        rate: None,
        fan_in: None,
        hold: None,
        oversight: None,
        observe: false,
    }
}

fn subject(text: &str) -> Subject {
    Subject::parse(text).unwrap()
}

#[test]
fn the_only_rule_that_takes_a_subject_is_chosen() {
    let policy = Policy::new();
    let view = policy.view(vec![rule("a", "a.>", (0, 0), None), rule("b", "b.>", (1, 2), None)]);
    let (chosen, label_of) =
        view.choose(&policy.writer(), &subject("b.x"), None, (None, Label::BOTTOM), false).unwrap();
    assert_eq!((chosen.name.as_str(), label_of), ("b", label(1)));
}

#[test]
fn among_several_the_label_or_the_name_decides() {
    let policy = Policy::new();
    let view = policy.view(vec![rule("low", "a.>", (0, 0), None), rule("high", "a.*", (1, 2), None)]);
    let choose =
        |named, label| view.choose(&policy.writer(), &subject("a.x"), named, (label, Label::BOTTOM), false);
    let error = choose(None, None).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("`low`, `high`"), "{error}");
    assert_eq!(choose(None, Some(label(2))).unwrap().0.name.as_str(), "high");
    assert_eq!(choose(Some("low"), None).unwrap().0.name.as_str(), "low");
    assert_eq!(choose(Some("low"), Some(label(2))).unwrap_err().reason(), Some(Reason::LabelOutOfRange));
    assert_eq!(choose(Some("none"), None).unwrap_err().reason(), Some(Reason::UnknownRule));
}

#[test]
fn a_label_that_nobody_chose_dominates_what_was_read() {
    let policy = Policy::new();
    let view = policy.view(vec![rule("a", "a.>", (0, 2), None), rule("b", "b.>", (0, 1), None)]);
    let choose =
        |on, label| view.choose(&policy.writer(), &subject(on), None, (label, self::label(2)), false);
    assert_eq!(choose("a.x", None).unwrap().1, label(2));
    assert_eq!(
        choose("a.x", Some(label(1))).unwrap().1,
        label(1),
        "one that was chosen is the guard's to judge"
    );
    assert_eq!(choose("b.x", None).unwrap_err().reason(), Some(Reason::LabelOutOfRange));
}

#[test]
fn what_may_not_be_published_names_what_may() {
    let policy = Policy::new();
    let view = policy.view(vec![rule("a", "a.>", (0, 0), None)]);
    let error = view.choose(&policy.writer(), &subject("z"), None, (None, Label::BOTTOM), false).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NotPublisher));
    assert!(error.to_string().contains("it may on `a.>`"), "{error}");
    let error =
        view.choose(&policy.reader(), &subject("a.x"), None, (None, Label::BOTTOM), false).unwrap_err();
    assert!(error.to_string().contains("it may on nothing"), "{error}");
    let error =
        view.choose(&policy.writer(), &subject("a.x"), Some("a"), (None, Label::BOTTOM), true).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::WrongPattern));
}

#[test]
fn a_reading_spans_the_levels_that_rule_and_clearance_share() {
    let policy = Policy::new();
    let view = policy.view(vec![rule("a", "a.>", (0, 2), None)]);
    let pattern = Pattern::parse("a.b.*").unwrap();
    let reading = view.reading(&policy.reader(), &pattern, None, None, false).unwrap();
    let levels: Vec<_> = reading.levels.iter().map(|level| level.number()).collect();
    assert_eq!(levels, [0, 1], "the team's clearance ends at 1");
    assert!(!reading.whole && reading.queue.is_none());
    let whole = view.reading(&policy.reader(), &Pattern::parse("a.>").unwrap(), None, None, false).unwrap();
    assert!(whole.whole);
}

#[test]
fn a_pattern_wider_than_granted_names_what_is_granted_inside_it() {
    let policy = Policy::new();
    let view = policy.view(vec![rule("a", "x.a.>", (0, 0), None), rule("b", "x.b", (0, 0), None)]);
    let pattern = Pattern::parse("x.>").unwrap();
    let error = view.reading(&policy.reader(), &pattern, None, None, false).unwrap_err();
    let text = error.to_string();
    assert!(error.kind() == ErrorKind::NotAllowed && text.contains("`x.a.>`, `x.b`"), "{text}");
}

#[test]
fn a_queue_comes_from_the_rule_and_from_nowhere_else() {
    let policy = Policy::new();
    let view = policy.view(vec![rule("q", "q", (0, 0), Some("work")), rule("p", "p", (0, 0), None)]);
    let reading = |pattern, queue| {
        view.reading(&policy.reader(), &Pattern::parse(pattern).unwrap(), None, queue, false)
    };
    let implied = reading("q", None).unwrap();
    assert!(implied.queue.as_deref() == Some("work") && !implied.whole);
    assert_eq!(reading("q", Some("work")).unwrap(), implied);
    assert!(reading("q", Some("other")).is_err() && reading("p", Some("work")).is_err());
}

#[test]
fn no_version_goes_back() {
    let policy = Policy::new();
    let view = View::read(&policy.welcome(vec![], 5, 5), &policy.roots(), None, Millis(2_000)).unwrap();
    let again = |rules, version, status| {
        let welcome = policy.welcome(rules, version, status);
        View::read(&welcome, &policy.roots(), Some(&view), Millis(3_000)).map_err(|refused| refused.reason)
    };
    assert!(again(vec![], 5, 5).is_ok() && again(vec![], 6, 6).is_ok());
    assert_eq!(again(vec![], 4, 5).unwrap_err(), Reason::RolledBack);
    assert_eq!(again(vec![], 5, 4).unwrap_err(), Reason::RolledBack);
    let other = again(vec![rule("a", "a", (0, 0), None)], 5, 5);
    assert_eq!(other.unwrap_err(), Reason::RolledBack, "the same version with another content");
}

#[test]
fn a_guard_that_the_policy_does_not_name_is_none() {
    let policy = Policy::new();
    let mut welcome = policy.welcome(vec![], 1, 1);
    let stranger = SigningKey::from_seed(&[9; 32]);
    let claims = policy.claims("stranger", "guards", Role::Guard, &stranger);
    welcome.guards = vec![Credential::issue(&claims, &policy.issuer).unwrap().as_str().to_owned()];
    let view = View::read(&welcome, &policy.roots(), None, Millis(2_000)).unwrap();
    assert!(view.guard(stranger.public().as_bytes()).is_none());
}

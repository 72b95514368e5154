//! The compiled decisions against a slow model that knows nothing of bits, tries or ids, and against what
//! the clients ask of the same signed records.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use sealbus_envelope::identity::{Claims, Role, Roots, SigningKey};
use sealbus_envelope::label::{Clearance, Compartments, Integrity, Label, LabelRange, Level};
use sealbus_envelope::name::Name;
use sealbus_envelope::policy::{
    Bundle, Faults, MessageKind, Party, Records, Rule, Tables, TaintScope, Team, Who, check_publish,
    check_read,
};
use sealbus_envelope::reason::Reason;
use sealbus_envelope::subject::{Pattern, Subject};
use sealbus_envelope::time::{Millis, Validity};
use sealbus_guard::policy::compile::CompiledPolicy;
use sealbus_guard::policy::explain::{Act, Outcome, Question, Verdict, explain};
use sealbus_guard::policy::trial::Trial;
use sealbus_guard::taint::Floor;

/// Numbers below this are declared; tests also try the next one.
const DECLARED: u8 = 3;

#[derive(Debug, Clone)]
struct PlainLabel {
    level: u8,
    compartments: BTreeSet<u8>,
    rank: u8,
}

#[derive(Debug, Clone)]
struct PlainParty {
    /// `Ok` a team's number, `Err` an agent's.
    who: Result<usize, usize>,
    queue: Option<&'static str>,
}

#[derive(Debug, Clone)]
struct PlainRule {
    pattern: String,
    request: bool,
    publishers: Vec<PlainParty>,
    subscribers: Vec<PlainParty>,
    low: PlainLabel,
    high: PlainLabel,
    max_bytes: u32,
}

#[derive(Debug, Clone)]
struct PlainAgent {
    agent: usize,
    team: usize,
    has: PlainLabel,
}

const TEAMS: usize = 3;
const AGENTS: [&str; 2] = ["ada", "bob"];

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn label(plain: &PlainLabel) -> Label {
    let bits = plain.compartments.iter().map(|n| 1 << n).sum();
    Label::new(
        Level::new(plain.level).unwrap(),
        Compartments::from_bits(bits),
        Integrity::new(plain.rank).unwrap(),
    )
}

fn party(plain: &PlainParty) -> Party {
    let who = match plain.who {
        Ok(team) => Who::Team(name(&format!("team{team}"))),
        Err(agent) => Who::Agent(name(AGENTS[agent])),
    };
    Party { who, queue: plain.queue.map(name) }
}

fn a_label(most: u8) -> impl Strategy<Value = PlainLabel> {
    (0..=most, prop::collection::btree_set(0..=most, 0..3), 0..=most)
        .prop_map(|(level, compartments, rank)| PlainLabel { level, compartments, rank })
}

fn a_pattern() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a.b", "a.*", "a.>", ">", "*.b", "a.*.c", "b"]).prop_map(str::to_owned)
}

fn parties() -> impl Strategy<Value = Vec<PlainParty>> {
    let who = prop_oneof![3 => (0..TEAMS).prop_map(Ok), 1 => (0..AGENTS.len()).prop_map(Err)];
    let queue = prop_oneof![3 => Just(None), 1 => Just(Some("q1")), 1 => Just(Some("q2"))];
    prop::collection::vec((who, queue).prop_map(|(who, queue)| PlainParty { who, queue }), 0..6)
}

fn a_rule() -> impl Strategy<Value = PlainRule> {
    (a_pattern(), any::<bool>(), parties(), parties(), a_label(DECLARED - 1), a_label(DECLARED - 1), 1..4_u32)
        .prop_map(|(pattern, request, publishers, subscribers, a, b, max_bytes)| PlainRule {
            pattern,
            request,
            publishers,
            subscribers,
            // Mostly real ranges; the ranks stay as drawn, so some ranges are empty.
            low: PlainLabel {
                level: a.level.min(b.level),
                compartments: a.compartments.intersection(&b.compartments).copied().collect(),
                rank: a.rank,
            },
            high: PlainLabel {
                level: a.level.max(b.level),
                compartments: a.compartments.union(&b.compartments).copied().collect(),
                rank: b.rank,
            },
            max_bytes,
        })
}

#[derive(Debug, Clone)]
struct World {
    teams: Vec<PlainLabel>,
    rules: Vec<PlainRule>,
}

/// Mostly able, so that many cases get as far as the last check.
fn able(most: u8) -> impl Strategy<Value = PlainLabel> {
    let all = PlainLabel { level: most, compartments: (0..=most).collect(), rank: most };
    prop_oneof![2 => Just(all), 1 => a_label(most)]
}

fn a_world() -> impl Strategy<Value = World> {
    (prop::collection::vec(able(DECLARED - 1), TEAMS), prop::collection::vec(a_rule(), 1..5))
        .prop_map(|(teams, rules)| World { teams, rules })
}

fn an_agent() -> impl Strategy<Value = PlainAgent> {
    (0..AGENTS.len(), 0..TEAMS, able(DECLARED)).prop_map(|(agent, team, has)| PlainAgent { agent, team, has })
}

struct Real {
    bundle: Bundle,
    policy: CompiledPolicy,
    roots: Roots,
}

fn real(world: &World) -> Real {
    let (issuer, key) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
    let roots = Roots {
        name: name("test"),
        issuer: issuer.public().clone(),
        policy_keys: vec![key.public().clone()],
        quorum: 1,
    };
    let names = |what: &str| (0..DECLARED).map(|n| name(&format!("{what}{n}"))).collect::<Vec<_>>();
    let team = |(n, plain): (usize, &PlainLabel)| Team {
        name: name(&format!("team{n}")),
        clearance: Clearance { level: label(plain).level, compartments: label(plain).compartments },
        integrity_ceiling: label(plain).integrity,
        zone: None,
        taint: TaintScope::Agent,
        oversight: None,
        observe: false,
    };
    let tables = Tables {
        bus: roots.bus(),
        levels: names("level"),
        compartments: names("compartment"),
        integrity: names("rank"),
        teams: world.teams.iter().enumerate().map(team).collect(),
        zones: vec![],
        status_key: key.public().clone(),
        guards: vec![],
        freshness_ms: 1,
        max_readers: 1,
        observe: false,
    };
    let rule = |(n, plain): (usize, &PlainRule)| Rule {
        name: name(&format!("rule{n}")),
        pattern: Pattern::parse(&plain.pattern).unwrap(),
        kind: if plain.request { MessageKind::Request { deadline_ms: 5 } } else { MessageKind::Stream },
        publishers: plain.publishers.iter().map(party).collect(),
        subscribers: plain.subscribers.iter().map(party).collect(),
        labels: LabelRange { low: label(&plain.low), high: label(&plain.high) },
        default_label: label(&plain.low),
        max_bytes: plain.max_bytes,
        rate: None,
        fan_in: None,
        hold: None,
        oversight: None,
        observe: false,
    };
    let rules = world.rules.iter().enumerate().map(rule).collect();
    let bundle = Bundle::sign(
        Records { tables, rules, grants: vec![], supervision: None },
        1,
        Millis(1),
        &[&key],
        &roots,
    )
    .unwrap();
    let policy = CompiledPolicy::compile(&bundle).unwrap();
    Real { bundle, policy, roots }
}

fn claims(plain: &PlainAgent, roots: &Roots) -> Claims {
    let has = label(&plain.has);
    Claims {
        bus: roots.bus(),
        identity: SigningKey::from_seed(&[9; 32]).public().clone(),
        name: name(AGENTS[plain.agent]),
        team: name(&format!("team{}", plain.team)),
        role: Role::Agent,
        clearance: Clearance { level: has.level, compartments: has.compartments },
        integrity_ceiling: has.integrity,
        zones: vec![],
        validity: Validity { not_before: Millis(0), not_after: Millis(1000) },
    }
}

// ---- the slow model ----

fn fits(pattern: &[&str], subject: &[&str]) -> bool {
    match (pattern.first(), subject.first()) {
        (None, None) => true,
        (Some(&">"), Some(_)) => true,
        (Some(p), Some(s)) if *p == "*" || p == s => fits(&pattern[1..], &subject[1..]),
        _ => false,
    }
}

fn tokens(text: &str) -> Vec<&str> {
    text.split('.').collect()
}

fn first_naming<'r>(list: &'r [PlainParty], who: &PlainAgent) -> Option<&'r PlainParty> {
    list.iter().find(|party| party.who == Ok(who.team) || party.who == Err(who.agent))
}

fn label_faults(world: &World, who: &PlainAgent, rule: &PlainRule, at: &PlainLabel) -> Vec<Reason> {
    let team = &world.teams[who.team];
    let mut faults = Vec::new();
    if at.level >= DECLARED || at.rank >= DECLARED || at.compartments.iter().any(|n| *n >= DECLARED) {
        faults.push(Reason::LabelUnknown);
    }
    let levels = rule.low.level <= at.level && at.level <= rule.high.level;
    let sets = at.compartments.is_superset(&rule.low.compartments)
        && at.compartments.is_subset(&rule.high.compartments);
    // The low end of a range is its most trusted end.
    let ranks = rule.high.rank <= at.rank && at.rank <= rule.low.rank;
    if !(levels && sets && ranks) {
        faults.push(Reason::LabelOutOfRange);
    }
    let cleared = |has: &PlainLabel| has.level >= at.level && has.compartments.is_superset(&at.compartments);
    if !cleared(team) || !cleared(&who.has) {
        faults.push(Reason::AboveClearance);
    }
    faults
}

fn write_faults(
    world: &World,
    who: &PlainAgent,
    rule: &PlainRule,
    subject: &str,
    at: &PlainLabel,
    size: u32,
) -> Vec<Reason> {
    let mut faults = Vec::new();
    if !fits(&tokens(&rule.pattern), &tokens(subject)) {
        faults.push(Reason::SubjectOutsideRule);
    }
    faults.extend(label_faults(world, who, rule, at));
    if at.rank > who.has.rank || at.rank > world.teams[who.team].rank {
        faults.push(Reason::AboveIntegrity);
    }
    if size > rule.max_bytes {
        faults.push(Reason::TooBigForRule);
    }
    faults
}

fn publish_faults(
    world: &World,
    who: &PlainAgent,
    n: usize,
    subject: &str,
    at: &PlainLabel,
    size: u32,
    answer: bool,
) -> Vec<Reason> {
    let Some(rule) = world.rules.get(n) else { return vec![Reason::UnknownRule] };
    let mut faults = Vec::new();
    if answer && !rule.request {
        faults.push(Reason::WrongPattern);
    }
    if answer && first_naming(&rule.subscribers, who).is_none() {
        faults.push(Reason::NotSubscriber);
    }
    if !answer && first_naming(&rule.publishers, who).is_none() {
        faults.push(Reason::NotPublisher);
    }
    faults.extend(write_faults(world, who, rule, subject, at, size));
    faults
}

/// What is tried on a rule: at random, or made to suit it.
#[derive(Debug, Clone)]
struct Attempt {
    rule: usize,
    subject: String,
    at: PlainLabel,
    size: u32,
    fit: bool,
}

fn an_attempt() -> impl Strategy<Value = Attempt> {
    (0..5_usize, a_subject(), a_label(DECLARED), 0..5_u32, prop::bool::weighted(0.7))
        .prop_map(|(rule, subject, at, size, fit)| Attempt { rule, subject, at, size, fit })
}

impl Attempt {
    fn suit(mut self, world: &World) -> Self {
        if self.fit {
            self.rule %= world.rules.len();
            let rule = &world.rules[self.rule];
            self.subject = rule.pattern.replace('*', "b").replace('>', "b.c");
            // Either end of the range in secrecy, with the rank as drawn.
            let end = if self.at.level.is_multiple_of(2) { &rule.low } else { &rule.high };
            self.at = PlainLabel { rank: self.at.rank, ..end.clone() };
        }
        self
    }
}

fn a_subject() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a.b", "a.c", "a.b.c", "b", "c.b", "a"]).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn publishing_is_decided_as_the_model_decides(
        world in a_world(), who in an_agent(), attempt in an_attempt(), answer: bool,
    ) {
        let Attempt { rule: n, subject, at, size, .. } = attempt.suit(&world);
        let real = real(&world);
        let claims = claims(&who, &real.roots);
        let principal = real.policy.principal(&claims).unwrap();
        let rule = format!("rule{n}");
        let bytes = usize::try_from(size).unwrap();
        let decided = if answer {
            real.policy.may_answer(&principal, &rule, &subject, label(&at), bytes)
        } else {
            real.policy.may_publish(&principal, &rule, &subject, label(&at), bytes)
        };
        let faults = publish_faults(&world, &who, n, &subject, &at, size, answer);
        prop_assert_eq!(decided.map(|allowed| allowed.rule.name.to_string()), faults.first().map_or(Ok(rule), |r| Err(*r)));

        // The clients' check of the same record differs only in what it does not look at.
        let theirs = [Reason::TooBigForRule, Reason::WrongPattern];
        if let Some(record) = real.bundle.rules().get(n) {
            let subject = Subject::parse(&subject).unwrap();
            let asked = check_publish(real.bundle.tables(), record, &claims, &subject, label(&at), answer, &mut Faults::enforced());
            let first = faults.iter().find(|fault| !theirs.contains(fault)).copied();
            prop_assert_eq!(asked.err().map(|refused| refused.reason), first);
        }
    }

    #[test]
    fn receiving_is_decided_as_the_model_decides(
        world in a_world(), who in an_agent(), attempt in an_attempt(),
    ) {
        let Attempt { rule: n, at, .. } = attempt.suit(&world);
        let real = real(&world);
        let claims = claims(&who, &real.roots);
        let principal = real.policy.principal(&claims).unwrap();
        let decided = real.policy.may_receive(&principal, &format!("rule{n}"), label(&at)).map(|_| ());
        let expected = match world.rules.get(n) {
            None => Err(Reason::UnknownRule),
            Some(rule) => {
                let subscribes = first_naming(&rule.subscribers, &who).is_some();
                let asks = rule.request && first_naming(&rule.publishers, &who).is_some();
                let faults = label_faults(&world, &who, rule, &at);
                let unnamed = (!subscribes && !asks).then_some(Reason::NotSubscriber);
                unnamed.or(faults.first().copied()).map_or(Ok(()), Err)
            }
        };
        prop_assert_eq!(decided, expected);
        if let (Some(record), Ok(())) = (real.bundle.rules().get(n), decided) {
            let read = |asked| check_read(real.bundle.tables(), record, &claims, label(&at), asked).is_ok();
            prop_assert!(read(false) || read(true), "a client would not seal to a reader the guard allows");
        }
    }

    #[test]
    fn subscribing_is_decided_as_the_model_decides(
        world in a_world(), who in an_agent(), n in 0..5_usize, pattern in a_pattern(),
        queue in prop::sample::select(vec![None, Some("q1"), Some("q2")]),
    ) {
        let real = real(&world);
        let principal = real.policy.principal(&claims(&who, &real.roots)).unwrap();
        let asked = Pattern::parse(&pattern).unwrap();
        let decided = real.policy.may_subscribe(&principal, &format!("rule{n}"), &asked, queue).map(|_| ());
        let expected = match world.rules.get(n) {
            None => Err(Reason::UnknownRule),
            Some(rule) => {
                let subjects = ["a", "b", "a.b", "a.x", "c.b", "x.y", "a.b.c", "a.x.c", "x.b.c", "a.b.x", "a.b.c.d"];
                let inside = subjects
                    .iter()
                    .all(|s| !fits(&tokens(&pattern), &tokens(s)) || fits(&tokens(&rule.pattern), &tokens(s)));
                let cleared = |has: &PlainLabel| {
                    has.level >= rule.low.level && has.compartments.is_superset(&rule.low.compartments)
                };
                match first_naming(&rule.subscribers, &who) {
                    Some(party) if party.queue == queue => {
                        if !inside {
                            Err(Reason::SubjectOutsideRule)
                        } else if !cleared(&who.has) || !cleared(&world.teams[who.team]) {
                            Err(Reason::AboveClearance)
                        } else {
                            Ok(())
                        }
                    }
                    _ => Err(Reason::NotSubscriber),
                }
            }
        };
        prop_assert_eq!(decided, expected);
    }

    #[test]
    fn the_rules_of_an_agent_are_those_it_may_use(world in a_world(), who in an_agent()) {
        let real = real(&world);
        let principal = real.policy.principal(&claims(&who, &real.roots)).unwrap();
        let found: Vec<_> = real.policy.rules_for(&principal).iter()
            .map(|part| (part.rule.name.to_string(), part.publishes, part.subscribes, part.queue.map(Name::to_string)))
            .collect();
        let cleared = |has: &PlainLabel, low: &PlainLabel| {
            has.level >= low.level && has.compartments.is_superset(&low.compartments)
        };
        let expected: Vec<_> = world.rules.iter().enumerate()
            .filter(|(_, rule)| cleared(&who.has, &rule.low) && cleared(&world.teams[who.team], &rule.low))
            .map(|(n, rule)| {
                let subscriber = first_naming(&rule.subscribers, &who);
                let queue = subscriber.and_then(|party| party.queue).map(str::to_owned);
                (format!("rule{n}"), first_naming(&rule.publishers, &who).is_some(), subscriber.is_some(), queue)
            })
            .filter(|(_, publishes, subscribes, _)| *publishes || *subscribes)
            .collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn an_explanation_says_what_the_guard_decides(
        world in a_world(), who in an_agent(), attempt in an_attempt(), act in prop::sample::select(vec![
            Act::Publish, Act::Answer, Act::Subscribe,
        ]), pattern in a_pattern(),
    ) {
        let real = real(&world);
        let claims = claims(&who, &real.roots);
        let principal = real.policy.principal(&claims).unwrap();
        let Attempt { rule: n, subject, at, size, .. } = attempt.suit(&world);
        let rule = format!("rule{n}");
        let (at, size) = (label(&at), size as usize);
        let decided = match act {
            Act::Publish => real.policy.may_publish(&principal, &rule, &subject, at, size).map(|_| ()),
            Act::Answer => real.policy.may_answer(&principal, &rule, &subject, at, size).map(|_| ()),
            Act::Subscribe => {
                let record = real.bundle.rules().get(n);
                let queue = record.and_then(|rule| rule.subscriber(&claims)?.queue.clone());
                let asked = Pattern::parse(&pattern).unwrap();
                real.policy.may_subscribe(&principal, &rule, &asked, queue.as_ref().map(Name::as_str)).map(|_| ())
            }
        };
        let explained = explain(&Trial::of_bundle(&real.bundle).unwrap(), &Question {
            who: &claims,
            act,
            subject: if act == Act::Subscribe { &pattern } else { &subject },
            rule: Some(&rule),
            label: (act != Act::Subscribe).then_some(at),
            size,
            parents: &[],
            floor: &Floor::default(),
            grant: None,
            now: Millis(0),
        });
        let verdict = match explained.verdict {
            Verdict::Allow { observed } => {
                prop_assert_eq!(observed, None);
                Ok(())
            }
            Verdict::Deny(reason) => Err(reason),
        };
        prop_assert_eq!(verdict, decided);
        let failed: Vec<_> = explained.steps.iter().filter(|step| step.outcome == Outcome::Failed).collect();
        prop_assert_eq!(failed.len(), usize::from(decided.is_err()), "one check denies it, or none");
        let after = explained.steps.iter().skip_while(|step| step.outcome != Outcome::Failed).skip(1);
        prop_assert!(after.into_iter().all(|step| step.outcome == Outcome::NotReached));
    }

    #[test]
    fn a_principal_of_another_policy_is_denied(world in a_world(), who in an_agent(), n in 0..5_usize) {
        let old = real(&world);
        let principal = old.policy.principal(&claims(&who, &old.roots)).unwrap();
        let mut changed = world;
        changed.rules[0].max_bytes += 10;
        let new = real(&changed);
        let at = label(&PlainLabel { level: 0, compartments: BTreeSet::new(), rank: 0 });
        let decided = new.policy.may_publish(&principal, &format!("rule{n}"), "a.b", at, 0);
        prop_assert_eq!(decided.unwrap_err(), Reason::OldPolicy);
        prop_assert!(new.policy.rules_for(&principal).is_empty());
    }
}

#[test]
fn an_unknown_team_is_no_principal() {
    let world =
        World { teams: vec![PlainLabel { level: 2, compartments: BTreeSet::new(), rank: 2 }], rules: vec![] };
    let real = real(&world);
    let has = PlainLabel { level: 2, compartments: BTreeSet::new(), rank: 2 };
    let stranger = claims(&PlainAgent { agent: 0, team: 2, has }, &real.roots);
    assert_eq!(real.policy.principal(&stranger).unwrap_err(), Reason::UnknownTeam);
}

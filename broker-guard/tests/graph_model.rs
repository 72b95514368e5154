//! The trust graph against a search that tries everything.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "graph/brute.rs"]
mod brute;

use std::collections::{BTreeMap, BTreeSet};

use brute::{World, key, label, labels, minima, subjects};
use proptest::prelude::*;
use sealbus_envelope::{
    identity::{Claims, Role, SigningKey},
    label::{Clearance, Integrity, Label, LabelRange},
    name::Name,
    policy::{FlowGrant, MessageKind, Party, Records, Rule, Tables, TaintScope, Team, Who},
    subject::Pattern,
    time::{Millis, Validity},
};
use sealbus_guard::graph::{Access, Allowed, Facts, Holder, TrustGraph, View};

const NOW: Millis = Millis(1_000);
const TEAMS: usize = 3;
const AGENTS: usize = 5;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn team(n: usize) -> Name {
    name(&format!("team{n}"))
}

fn agent(n: usize) -> Name {
    name(&format!("agent{n}"))
}

fn any_label() -> impl Strategy<Value = Label> {
    (0..brute::LEVELS, 0..1u64 << brute::COMPARTMENTS, 0..brute::RANKS).prop_map(|(l, c, i)| label(l, c, i))
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    let texts = vec!["a", "b", "a.a", "a.b", "a.*", "*.a", "a.>", ">", "b.*"];
    prop::sample::select(texts).prop_map(|text| Pattern::parse(text).unwrap())
}

fn any_parties() -> impl Strategy<Value = Vec<Party>> {
    let who = prop_oneof![
        3 => (0..TEAMS).prop_map(|n| Who::Team(team(n))),
        1 => (0..AGENTS).prop_map(|n| Who::Agent(agent(n))),
    ];
    prop::collection::vec(who.prop_map(|who| Party { who, queue: None }), 1..3)
}

fn seldom() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.05)
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let parties = (any_parties(), any_parties());
    (any_pattern(), any::<bool>(), parties, any_label(), any_label(), seldom()).prop_map(
        |(pattern, request, (publishers, subscribers), one, other, observe)| Rule {
            name: name("rule"),
            pattern,
            kind: if request { MessageKind::Request { deadline_ms: 1 } } else { MessageKind::Stream },
            publishers,
            subscribers,
            labels: LabelRange { low: one.meet(other), high: one.join(other) },
            default_label: one,
            max_bytes: 1,
            rate: None,
            fan_in: None,
            hold: None,
            oversight: None,
            observe,
        },
    )
}

fn any_grant() -> impl Strategy<Value = FlowGrant> {
    (0..TEAMS, any_pattern(), any_pattern(), any_label(), any_label(), 0..8u8).prop_map(
        |(of, from, to, from_label, to_label, life)| FlowGrant {
            name: name("grant"),
            team: team(of),
            from,
            to,
            from_label,
            to_label,
            max_bytes: None,
            rate: None,
            expires: Millis(if life == 0 { NOW.0 } else { NOW.0 + 1 }),
            approval: None,
        },
    )
}

/// Clearance and ceiling, generous more often than not.
fn any_rights() -> impl Strategy<Value = (Clearance, Integrity)> {
    let most = label(brute::LEVELS - 1, (1 << brute::COMPARTMENTS) - 1, brute::RANKS - 1);
    let label = prop_oneof![1 => any_label(), 1 => Just(most)];
    label.prop_map(|l| (Clearance { level: l.level, compartments: l.compartments }, l.integrity))
}

fn any_world() -> impl Strategy<Value = World> {
    let agents = prop::collection::vec((0..TEAMS, any_rights()), AGENTS);
    let teams = prop::collection::vec((any_rights(), seldom()), TEAMS);
    let rules = prop::collection::vec(any_rule(), 1..6);
    let grants = prop::collection::vec(any_grant(), 0..5);
    (agents, teams, rules, grants).prop_map(|(agents, teams, rules, grants)| {
        let key = SigningKey::from_seed(&[1; 32]);
        let bus = sealbus_envelope::identity::BusId::new(key.public(), &name("demo"));
        let names = |prefix: &str, n: u8| (0..n).map(|n| name(&format!("{prefix}{n}"))).collect::<Vec<_>>();
        let team =
            |(n, ((clearance, integrity_ceiling), observe)): (usize, ((Clearance, Integrity), bool))| Team {
                name: team(n),
                clearance,
                integrity_ceiling,
                zone: None,
                taint: TaintScope::Agent,
                oversight: None,
                observe,
            };
        let claims =
            |(n, (of, (clearance, integrity_ceiling))): (usize, (usize, (Clearance, Integrity)))| Claims {
                bus,
                identity: key.public().clone(),
                name: agent(n),
                team: self::team(of),
                role: Role::Agent,
                clearance,
                integrity_ceiling,
                zones: vec![],
                validity: Validity { not_before: Millis(0), not_after: Millis(2_000) },
            };
        let mut records = Records {
            supervision: None,
            tables: Tables {
                bus,
                levels: names("l", brute::LEVELS),
                compartments: names("c", brute::COMPARTMENTS),
                integrity: names("i", brute::RANKS),
                teams: teams.into_iter().enumerate().map(team).collect(),
                zones: vec![],
                status_key: key.public().clone(),
                guards: vec![],
                freshness_ms: 1,
                max_readers: 1,
                observe: false,
            },
            rules,
            grants,
        };
        for (n, rule) in records.rules.iter_mut().enumerate() {
            rule.name = name(&format!("rule{n}"));
        }
        for (n, grant) in records.grants.iter_mut().enumerate() {
            grant.name = name(&format!("grant{n}"));
        }
        World::new(records, agents.into_iter().enumerate().map(claims).collect())
    })
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "teams {:?}", self.records.tables.teams)?;
        for agent in &self.agents {
            writeln!(f, "{} {} {:?} {:?}", agent.name, agent.team, agent.clearance, agent.integrity_ceiling)?;
        }
        for rule in &self.records.rules {
            writeln!(f, "{rule:?}")?;
        }
        self.records.grants.iter().try_for_each(|grant| writeln!(f, "{grant:?}"))
    }
}

fn graph(world: &World) -> TrustGraph<'_> {
    let holders = world.agents.iter().map(|claims| Holder::agent(claims, false, NOW)).collect();
    TrustGraph::new(Facts::records(&world.records), holders, View::at(NOW))
}

fn number(name: &Name) -> usize {
    name.as_str().trim_start_matches(|c: char| c.is_ascii_lowercase()).parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whom information reaches, in how many steps, with which labels, on which rules.
    #[test]
    fn reach_is_what_trying_everything_finds(world in any_world(), start in 0..AGENTS) {
        let graph = graph(&world);
        let (states, carried) = world.follow(start, NOW);
        let mut expected: BTreeMap<usize, (usize, BTreeSet<_>)> = BTreeMap::new();
        for (&(who, got), &hops) in states.iter().filter(|((who, _), _)| *who != start) {
            let entry = expected.entry(who).or_insert((hops, BTreeSet::new()));
            entry.0 = entry.0.min(hops);
            entry.1.insert(got.unwrap().1);
        }
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|(who, (hops, labels))| (who, (hops, minima(labels)))).collect();
        let reach = graph.reach(agent(start).as_str(), None).unwrap();
        let mut found = BTreeMap::new();
        for reached in &reach.agents {
            for holder in &reached.holders {
                let labels: BTreeSet<_> = reached.labels.iter().map(|label| key(*label)).collect();
                found.insert(number(holder.name()), (reached.hops, labels));
            }
        }
        prop_assert_eq!(&found, &expected);
        let on: BTreeMap<_, BTreeSet<_>> = reach.subjects.iter()
            .map(|s| (number(s.rule), s.labels.iter().map(|label| key(*label)).collect())).collect();
        let carried: BTreeMap<_, _> = carried.into_iter().map(|(rule, labels)| (rule, minima(labels))).collect();
        prop_assert_eq!(on, carried);
    }

    /// A path exists iff the target is reached; it is shortest, and each of its steps can be taken.
    #[test]
    fn paths_are_shortest_and_every_step_is_possible(world in any_world(), start in 0..AGENTS) {
        let graph = graph(&world);
        let (states, _) = world.follow(start, NOW);
        for end in (0..AGENTS).filter(|end| *end != start) {
            let nearest = states.iter().filter(|((who, _), _)| *who == end).map(|(_, hops)| *hops).min();
            let path = graph.path(agent(start).as_str(), agent(end).as_str()).unwrap();
            prop_assert_eq!(path.as_ref().map(|path| path.steps.len()), nearest);
            let mut got = None;
            for step in path.iter().flat_map(|path| &path.steps) {
                let (from, to, rule) = (number(step.from.name()), number(step.to.name()), number(step.rule));
                let asker = (step.way == sealbus_guard::graph::Way::Answer).then_some(to);
                prop_assert!(world.sent(from, got, NOW).contains(&(rule, asker, key(step.label))), "{:?}", step);
                if let Allowed::ByGrant(grant) = &step.allowed {
                    prop_assert_eq!(&world.records.grants[number(grant)].team, &world.agents[from].team);
                }
                got = Some((rule, key(step.label)));
            }
            if let Some(path) = &path {
                prop_assert_eq!(number(path.steps[0].from.name()), start);
                prop_assert_eq!(number(path.steps.last().unwrap().to.name()), end);
            }
        }
    }

    /// What information of a given label can do is what a member that received it can do, by any rule.
    #[test]
    fn reach_of_a_label_is_bounded_by_the_label(world in any_world(), start in 0..AGENTS, held in any_label()) {
        let graph = graph(&world);
        let own = graph.reach(agent(start).as_str(), None).unwrap();
        let labelled = graph.reach(agent(start).as_str(), Some(held)).unwrap();
        let names = |reach: &sealbus_guard::graph::Reach<'_>| -> BTreeSet<Name> {
            reach.agents.iter().flat_map(|r| &r.holders).map(|h| h.name().clone()).collect()
        };
        prop_assert!(names(&labelled).is_subset(&names(&own)));
        let observed = world.records.rules.iter().any(|rule| rule.observe)
            || world.records.tables.teams.iter().any(|team| team.observe);
        if world.records.grants.is_empty() && !observed {
            let all = labelled.agents.iter().flat_map(|reached| &reached.labels);
            prop_assert!(all.into_iter().all(|label| label.dominates(held)));
        }
    }

    /// Who may write and read a subject, with exactly which labels.
    #[test]
    fn who_can_is_what_trying_every_label_finds(world in any_world(), subject in prop::sample::select(subjects())) {
        let graph = graph(&world);
        for (access, write) in [(Access::Write, true), (Access::Read, false)] {
            let mut found = BTreeSet::new();
            for permit in graph.who_can(access, &Pattern::from(subject.clone())) {
                for holder in &permit.holders {
                    let within = labels().into_iter().filter(|label| permit.labels.contains(*label));
                    found.extend(within.map(|label| (number(holder.name()), number(permit.rule), key(label))));
                }
            }
            let mut expected = BTreeSet::new();
            for who in 0..AGENTS {
                for rule in 0..world.records.rules.len() {
                    let may = labels().into_iter().filter(|label| world.may(write, who, rule, &subject, *label));
                    expected.extend(may.map(|label| (who, rule, key(label))));
                }
            }
            prop_assert_eq!(found, expected);
        }
    }

    /// A reader is reported iff something it is not cleared for can get to it.
    #[test]
    fn leaks_are_what_trying_everything_finds(world in any_world()) {
        let graph = graph(&world);
        let mut expected = BTreeSet::new();
        let from = |origin| world.follow(origin, NOW).0;
        let all: BTreeMap<_, _> = (0..AGENTS).flat_map(from).filter(|((_, got), _)| got.is_some()).collect();
        let given: BTreeSet<_> = (0..AGENTS).flat_map(from).filter(|(_, hops)| *hops == 1).map(|(s, _)| s).collect();
        for (state, readers) in world.leads_to(&all.into_keys().collect(), NOW) {
            let (_, (_, (level, compartments, rank))) = (state.0, state.1.unwrap());
            let secret = label(level, compartments, rank);
            let cleared = |reader: usize| {
                world.records.tables.effective_clearance(&world.agents[reader]).unwrap().covers(secret)
            };
            if given.contains(&state) {
                expected.extend(readers.into_iter().filter(|reader| !cleared(*reader)));
            }
        }
        let leaks = graph.leaks();
        let found: BTreeSet<_> =
            leaks.iter().flat_map(|leak| &leak.readers).map(|holder| number(holder.name())).collect();
        prop_assert_eq!(found, expected);
        for leak in leaks {
            prop_assert_eq!(leak.path.steps[0].label, leak.label);
            let mut got = None;
            for step in &leak.path.steps {
                let (from, to, rule) = (number(step.from.name()), number(step.to.name()), number(step.rule));
                let asker = (step.way == sealbus_guard::graph::Way::Answer).then_some(to);
                prop_assert!(world.sent(from, got, NOW).contains(&(rule, asker, key(step.label))), "{:?}", step);
                got = Some((rule, key(step.label)));
            }
            let exceptions = leak.path.steps.iter().filter(|step| step.allowed != Allowed::ByLabel).count();
            prop_assert_eq!(leak.composed, exceptions > 1);
        }
    }
}

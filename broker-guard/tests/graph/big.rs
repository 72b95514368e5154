//! 10,000 agents in 100 teams under 2,000 rules: each team publishes to the next, in a ring.

#![expect(clippy::unwrap_used, reason = "a measurement and a test may fail by panicking")]

use sealbus_envelope::{
    identity::{BusId, SigningKey},
    label::{Clearance, Compartments, Integrity, Label, LabelRange, Level},
    name::Name,
    policy::{MessageKind, Party, Records, Rule, Tables, TaintScope, Team, Who},
    subject::Pattern,
    time::Millis,
};
use sealbus_guard::graph::{Facts, Holder, Standing, TrustGraph, View};

pub(crate) const AGENTS: usize = 10_000;
pub(crate) const RULES: usize = 2_000;
pub(crate) const TEAMS: usize = 100;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn team(n: usize) -> Name {
    name(&format!("team{:03}", n % TEAMS))
}

pub(crate) fn agent(n: usize) -> Name {
    name(&format!("agent{n}"))
}

pub(crate) fn big() -> (Records, Vec<Holder>) {
    let key = SigningKey::from_seed(&[1; 32]);
    let clearance = Clearance { level: Level::new(3).unwrap(), compartments: Compartments::from_bits(0b11) };
    let rank = Integrity::new(1).unwrap();
    let label = |level: u8, bits, rank| {
        Label::new(Level::new(level).unwrap(), Compartments::from_bits(bits), Integrity::new(rank).unwrap())
    };
    let names = |prefix: &str, n: usize| (0..n).map(|n| name(&format!("{prefix}{n}"))).collect::<Vec<_>>();
    let teams = (0..TEAMS).map(|n| Team {
        name: team(n),
        clearance,
        integrity_ceiling: rank,
        zone: None,
        taint: TaintScope::Agent,
        oversight: None,
        observe: false,
    });
    let party = |who| Party { who, queue: None };
    let rules = (0..RULES).map(|n| Rule {
        name: name(&format!("rule{n}")),
        pattern: Pattern::parse(&format!("area{}.topic{n}.>", n / TEAMS)).unwrap(),
        kind: if n % 10 == 9 { MessageKind::Request { deadline_ms: 1_000 } } else { MessageKind::Stream },
        publishers: if n == 0 {
            vec![party(Who::Team(team(0))), party(Who::Agent(agent(0)))]
        } else {
            vec![party(Who::Team(team(n)))]
        },
        subscribers: vec![party(Who::Team(team(n + 1)))],
        // Ranges overlap, so that labels rise on the way and antichains have something to hold.
        labels: LabelRange {
            low: label(u8::from(n % 7 == 0), u64::from(n % 3 == 0), 1),
            high: label(3, 0b11, 0),
        },
        default_label: label(1, 1, 0),
        max_bytes: 65_536,
        rate: None,
        fan_in: None,
        hold: None,
        oversight: None,
        observe: false,
    });
    let records = Records {
        supervision: None,
        tables: Tables {
            bus: BusId::new(key.public(), &name("big")),
            levels: names("l", 4),
            compartments: names("c", 2),
            integrity: names("i", 2),
            teams: teams.collect(),
            zones: vec![],
            status_key: key.public().clone(),
            guards: vec![],
            freshness_ms: 30_000,
            max_readers: 4_096,
            observe: false,
        },
        rules: rules.collect(),
        grants: vec![],
    };
    let holder = |n| Holder {
        who: Who::Agent(agent(n)),
        team: team(n),
        clearance,
        integrity_ceiling: rank,
        zones: vec![],
        standing: Standing::Valid,
    };
    (records, (0..AGENTS).map(holder).collect())
}

pub(crate) fn graph(records: &Records, holders: Vec<Holder>) -> TrustGraph<'_> {
    TrustGraph::new(Facts::records(records), holders, View::at(Millis(1_000)))
}

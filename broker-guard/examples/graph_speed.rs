//! How long the trust graph takes to answer: 10,000 agents under 2,000 rules, in few kinds and in as many kinds
//! as there can be (each agent with a rule that names it).
//!
//! `cargo run --release -p sealbus-guard --example graph_speed`

#![expect(clippy::unwrap_used, reason = "a measurement may fail by panicking")]

#[path = "../tests/graph/big.rs"]
mod big;

use std::time::Instant;

use big::{AGENTS, RULES, TEAMS, agent, big, graph};
use sealbus_envelope::{
    label::{Compartments, Integrity, Label, Level},
    name::Name,
    policy::{FlowGrant, Party, Records, Who},
    subject::Pattern,
    time::Millis,
};
use sealbus_guard::graph::{Access, Diff, Facts, Holder, View};

fn main() {
    let (mut records, holders) = big();
    println!("{AGENTS} agents in {TEAMS} teams, {RULES} rules");
    ask(&records, &holders);
    records.grants = (0..200).map(|n| grant(&records, n)).collect();
    println!("\nwith 200 flow grants");
    ask(&records, &holders);
    for n in 0..AGENTS {
        let rule = records.rules.get_mut(n % RULES).unwrap();
        rule.subscribers.push(Party { who: Who::Agent(agent(n)), queue: None });
        let rule = records.rules.get_mut((n * 7 + 3) % RULES).unwrap();
        rule.publishers.push(Party { who: Who::Agent(agent(n)), queue: None });
    }
    println!("\nand each agent named by two rules of its own");
    ask(&records, &holders);
}

fn grant(records: &Records, n: usize) -> FlowGrant {
    let rule = |n: usize| records.rules.get(n % RULES).unwrap();
    let label = |level: u8, rank: u8| {
        Label::new(Level::new(level).unwrap(), Compartments::from_bits(0b11), Integrity::new(rank).unwrap())
    };
    let team = records.tables.teams.get((n + 1) % TEAMS).unwrap();
    FlowGrant {
        name: Name::parse(&format!("grant{n}")).unwrap(),
        team: team.name.clone(),
        from: rule(n).pattern.clone(),
        to: Pattern::parse(&format!("area{}.>", n % 20)).unwrap(),
        from_label: label(3, 0),
        to_label: Label { compartments: Compartments::EMPTY, ..label(0, 1) },
        max_bytes: None,
        rate: None,
        expires: Millis(u64::MAX),
        approval: None,
    }
}

fn ask(records: &Records, holders: &[Holder]) {
    let graph = timed("build", || graph(records, holders.to_vec()));
    println!("  {} kinds of agents", graph.kinds());
    let subject = Pattern::parse("area0.topic0.x").unwrap();
    let all = Pattern::parse(">").unwrap();
    timed("who-can read, one subject", || graph.who_can(Access::Read, &subject));
    timed("who-can read, all subjects", || graph.who_can(Access::Read, &all));
    let reach = timed("reach", || graph.reach("agent0", None).unwrap());
    println!("  reaches {}", reach.count());
    let path = timed("path", || graph.path("agent1", "agent0").unwrap().unwrap());
    println!("  {} steps", path.steps.len());
    timed("blast-radius", || graph.blast_radius("agent7").unwrap());
    let leaks = timed("leaks", || graph.leaks());
    println!("  {} leaks", leaks.len());
    let facts = Facts::records(records);
    timed("diff with itself", || Diff::between(facts, facts, &[], View::at(Millis(1_000))));
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{what:<28} {:>9.2} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}

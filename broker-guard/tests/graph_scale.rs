//! The trust graph of 10,000 agents under 2,000 rules, where the answers are known by construction. How long
//! they take is measured by `cargo run --release -p sealbus-guard --example graph_speed`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "graph/big.rs"]
mod big;

use big::{AGENTS, RULES, TEAMS, agent, big, graph};
use sealbus_envelope::subject::Pattern;
use sealbus_guard::graph::{Access, Allowed};

#[test]
fn answers_stay_exact_at_scale() {
    let (records, holders) = big();
    assert_eq!((holders.len(), records.rules.len()), (AGENTS, RULES));
    let graph = graph(&records, holders);
    assert_eq!(graph.kinds(), TEAMS + 1, "a kind for each team, and the one agent that a rule names");

    // Team n publishes to team n + 1, so everybody reaches everybody. Every tenth team asks the next instead,
    // which answers: so team 99 hears of team 0 at once, and team 98 comes last.
    let reach = graph.reach(agent(0).as_str(), None).unwrap();
    assert_eq!(reach.count(), AGENTS - 1);
    assert_eq!(reach.agents.iter().map(|reached| reached.hops).max(), Some(TEAMS - 2));
    assert_eq!(reach.subjects.len(), RULES);

    let path = graph.path(agent(0).as_str(), agent(TEAMS - 2).as_str()).unwrap().unwrap();
    assert_eq!(path.steps.len(), TEAMS - 2);
    assert!(path.steps.iter().all(|step| step.allowed == Allowed::ByLabel));
    let back = graph.path(agent(1).as_str(), agent(0).as_str()).unwrap().unwrap();
    assert_eq!(back.steps.len(), TEAMS - 1);

    let subject = Pattern::parse("area0.topic0.x").unwrap();
    let readers = graph.who_can(Access::Read, &subject);
    let readers: usize = readers.iter().map(|permit| permit.holders.len()).sum();
    assert_eq!(readers, AGENTS / TEAMS);

    let radius = graph.blast_radius(agent(7).as_str()).unwrap();
    assert_eq!(radius.writes.len(), RULES / TEAMS);
    assert_eq!(radius.direct().map(|reached| reached.holders.len()).sum::<usize>(), AGENTS / TEAMS);

    let leaks = graph.leaks();
    assert!(leaks.is_empty(), "nothing goes below its label without a grant: {leaks:?}");
}

//! Parents that could not have been read: what the desk tells the detector of them.

use sealbus_envelope::{hash::Hash, wire::Parent};

use super::world::{Agent, Did, Sending, World, label};

const POLICY: &str = r#"
levels       = ["public", "internal"]
compartments = []
integrity    = ["low"]
freshness    = "30s"

[teams.desk]
clearance = { level = "internal" }

[rules.notes]
pattern     = "notes.>"
publishers  = ["desk"]
subscribers = ["desk"]
labels      = { level = { min = "public", max = "internal" }, integrity = "low" }
default     = { level = "public" }

[anomaly]
warm_up          = "1s"
warm_up_messages = 1
"#;

/// A second after the guard was started, because of sessions that begin with it nobody knows what came before.
fn world() -> World {
    let mut world = World::with(POLICY, 1 << 20, 1_000_000);
    world.pass(2_000);
    world
}

fn joins(world: &mut World, who: &str) -> Agent {
    let agent = world.agent(who, "desk");
    agent.hello(world, &[]);
    agent.subscribe(world, 1, "notes", "notes.>");
    agent
}

/// Publishes an envelope that names these parents.
fn publish(world: &mut World, agent: &Agent, key: &mut Sending, parents: &[Hash]) -> (Did, Hash) {
    let mut say = agent.say(world, key, "notes.a");
    let named = |digest: &Hash| Parent { digest: *digest, label: label(0, 0, 0) };
    say.fields.parents = parents.iter().map(named).collect();
    let (digest, bytes) = agent.seal(key, &say);
    (world.envelope(agent, "notes.a", &bytes), digest)
}

fn score(world: &World, agent: &Agent) -> f32 {
    world.desk.anomaly_score(agent.token().as_str()).map_or(0.0, |(_, signed)| signed)
}

#[test]
fn who_names_what_it_was_never_given_is_told_of_and_who_read_it_is_not() {
    let mut world = world();
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|who| joins(&mut world, who));
    let (mut key, _) = ann.opened(&mut world, "notes", label(0, 0, 0), 0);
    ann.grant(&mut world, &key, &[&bob]);
    let (did, first) = publish(&mut world, &ann, &mut key, &[]);
    assert_eq!(did.forwarded().len(), 1);
    // Everybody is past the warm-up.
    let [mut of_bob, mut of_eve] = [&bob, &eve].map(|agent| {
        let (mut key, _) = agent.opened(&mut world, "notes", label(0, 0, 0), 0);
        publish(&mut world, agent, &mut key, &[]);
        key
    });
    world.pass(2_000);
    publish(&mut world, &bob, &mut of_bob, &[first]);
    publish(&mut world, &ann, &mut key, &[first]);
    publish(&mut world, &eve, &mut of_eve, &[[9; 32]]);
    for honest in [&ann, &bob, &eve] {
        assert!(score(&world, honest) <= 0.0, "{}", honest.token());
    }
    let (did, _) = publish(&mut world, &eve, &mut of_eve, &[[9; 32], first]);
    assert_eq!(did.forwarded().len(), 1, "no check rests on it");
    assert!((score(&world, &eve) - 0.6).abs() < 1e-3, "{}", score(&world, &eve));
    // It is given the key, and may name it from then on.
    ann.grant(&mut world, &key, &[&eve]);
    publish(&mut world, &eve, &mut of_eve, &[first]);
    assert!((score(&world, &eve) - 0.6).abs() < 1e-3, "{}", score(&world, &eve));
}

#[test]
fn nobody_is_told_of_for_what_another_guard_handed_out() {
    let mut world = world();
    let [mut ann, mut bob] = ["ann", "bob"].map(|who| joins(&mut world, who));
    let (mut key, _) = ann.opened(&mut world, "notes", label(0, 0, 0), 0);
    let (mut of_bob, _) = bob.opened(&mut world, "notes", label(0, 0, 0), 0);
    publish(&mut world, &bob, &mut of_bob, &[]);
    ann.grant(&mut world, &key, &[&bob]);
    let (_, before) = publish(&mut world, &ann, &mut key, &[]);
    world.pass(2_000);
    let mut world = world.restarted();
    world.pass(2_000);
    for (agent, key) in [(&mut ann, &key), (&mut bob, &of_bob)] {
        agent.rejoin(&world);
        agent.hello(&mut world, &[key]);
    }
    // The key that was handed over before the restart, and an envelope after it.
    let (did, after) = publish(&mut world, &ann, &mut key, &[]);
    assert_eq!(did.forwarded().len(), 1);
    publish(&mut world, &bob, &mut of_bob, &[]);
    world.pass(2_000);
    let (did, _) = publish(&mut world, &bob, &mut of_bob, &[before, after]);
    assert_eq!(did.forwarded().len(), 1);
    assert!(score(&world, &bob) <= 0.0);
}

//! What waits for people: what senders can make of the room that they have for it.

use sealbus_envelope::{
    approval::{Approval, SignedApproval},
    control::{HeldNotice, VerdictNotice, kind},
    identity::{KeyKind, SigningKey},
    reason::Reason,
    subject::Subject,
};
use sealbus_guard::{audit::entry::Body, oversight::holds::MAX_OVER};

use super::world::{Agent, Did, Sending, World, label};

fn world() -> World {
    world_with("")
}

fn world_with(more: &str) -> World {
    let ann = SigningKey::from_seed(&[1; 32]).public().to_nkey(KeyKind::User);
    let text = format!(
        r#"
levels       = ["public", "internal"]
compartments = []
integrity    = ["low"]
freshness    = "30s"

[teams.desk]
clearance = {{ level = "internal" }}
[teams.bank]
clearance = {{ level = "internal" }}

[approvers.duty]
ann = "{ann}"

[rules.pay]
pattern     = "pay.>"
publishers  = ["desk"]
subscribers = ["bank"]
labels      = {{ level = "public", integrity = "low" }}
hold        = {{ approvals = 1, deadline = "10m", approvers = ["duty"] }}
{more}"#
    );
    World::with(&text, 1 << 20, 1_000_000)
}

/// An agent of the team that pays, with its key.
fn payer(world: &mut World, who: &str) -> (Agent, Sending) {
    let agent = world.agent(who, "desk");
    let key = agent.make_key("pay", label(0, 0, 0), 1, None);
    agent.hello(world, &[]);
    agent.open(world, &[&key]);
    (agent, key)
}

/// Sends so many payments in one batch, each of use to its sender for so long.
fn pay(world: &mut World, agent: &Agent, key: &mut Sending, count: usize, ttl_ms: u32) -> Did {
    let batch: Vec<(String, Vec<u8>)> = (0..count)
        .map(|_| {
            let mut say = agent.say(world, key, "pay.now");
            say.fields.ttl_ms = ttl_ms;
            (world.wire.ingress(agent.token(), "pay.now"), agent.seal(key, &say).1)
        })
        .collect();
    world.batch(&batch)
}

fn ended(world: &World) -> usize {
    world.log().iter().filter(|entry| matches!(entry.body, Body::HoldEnded(_))).count()
}

/// A sender that has everything end in one second takes no more of the guard's time than one tick has.
#[test]
fn what_ends_at_once_ends_in_parts_and_each_is_told() {
    let mut world = world();
    let (one, mut key_of_one) = payer(&mut world, "one");
    let (two, mut key_of_two) = payer(&mut world, "two");
    assert_eq!(
        pay(&mut world, &one, &mut key_of_one, 200, 20_000).told::<HeldNotice>(&one, kind::HELD).len(),
        200
    );
    assert_eq!(
        pay(&mut world, &two, &mut key_of_two, 200, 20_000).told::<HeldNotice>(&two, kind::HELD).len(),
        200
    );
    world.pass(19_000);
    assert_eq!(ended(&world), 0);
    let verdicts = |did: &Did, agent: &Agent| -> usize {
        let told: Vec<VerdictNotice> = did.told(agent, kind::VERDICT);
        assert!(told.iter().all(|verdict| verdict.refused == Some(Reason::Expired)), "{told:?}");
        told.len()
    };
    let first = world.tick();
    assert_eq!(ended(&world), MAX_OVER);
    assert_eq!(verdicts(&first, &one) + verdicts(&first, &two), MAX_OVER);
    let rest = world.tick();
    assert_eq!(ended(&world), 400);
    assert_eq!(verdicts(&first, &one) + verdicts(&rest, &one), 200, "each is told once");
    assert_eq!(verdicts(&first, &two) + verdicts(&rest, &two), 200);
}

#[test]
fn what_is_of_no_use_in_a_moment_does_not_wait() {
    let mut world = world();
    let (agent, mut key) = payer(&mut world, "one");
    let did = pay(&mut world, &agent, &mut key, 1, 4_999);
    assert_eq!(did.denied(&agent), Reason::Expired);
    assert!(did.told::<HeldNotice>(&agent, kind::HELD).is_empty());
    let did = pay(&mut world, &agent, &mut key, 1, 5_000);
    assert_eq!(did.told::<HeldNotice>(&agent, kind::HELD).len(), 1);
}

/// Verdicts are kept for who was away: of each agent so many, and told again only to a session that comes back.
#[test]
fn what_was_decided_is_told_again_to_who_comes_back_and_costs_nobody_else() {
    let mut world = world();
    let (meek, mut key_of_meek) = payer(&mut world, "meek");
    pay(&mut world, &meek, &mut key_of_meek, 1, 10_000);
    world.pass(10_000);
    for n in 0..20 {
        let (greedy, mut key) = payer(&mut world, &format!("greedy{n}"));
        pay(&mut world, &greedy, &mut key, 256, 10_000);
        world.pass(10_000);
        if n == 0 {
            let again: Vec<VerdictNotice> = greedy.hello(&mut world, &[&key]).told(&greedy, kind::VERDICT);
            assert!(again.is_empty(), "it never went: {}", again.len());
            world.desk.gone(greedy.session(), world.now);
            world.did();
            let again: Vec<VerdictNotice> = greedy.hello(&mut world, &[&key]).told(&greedy, kind::VERDICT);
            assert_eq!(again.len(), 64);
        }
    }
    world.desk.gone(meek.session(), world.now);
    world.did();
    let again: Vec<VerdictNotice> = meek.hello(&mut world, &[&key_of_meek]).told(&meek, kind::VERDICT);
    assert_eq!(again.len(), 1, "others had 5,120 decided meanwhile");
}

/// The first message after the warm-up counts against its sender, so when each before it counted shows by that.
#[test]
fn what_waits_is_told_to_the_detector_when_it_comes_and_not_again_when_it_goes() {
    let mut world = world_with("[anomaly]\nwarm_up = \"1s\"\nwarm_up_messages = 3\n");
    let (agent, mut key) = payer(&mut world, "one");
    let held: Vec<HeldNotice> = pay(&mut world, &agent, &mut key, 2, 600_000).told(&agent, kind::HELD);
    world.pass(2_000);
    for notice in &held {
        let (bus, time) = (world.roots.bus(), world.now);
        let said = Approval { bus, envelope: notice.digest, approve: true, time };
        let signed = SignedApproval::sign(&said, &SigningKey::from_seed(&[1; 32]));
        assert_eq!(world.desk.approve(Ok(signed), world.now).state.as_deref(), Some("released"));
        assert_eq!(world.did().forwarded().len(), 1);
    }
    let denied = |world: &mut World, key: &mut Sending| {
        let mut say = agent.say(world, key, "pay.now");
        say.fields.subject = Subject::parse("sale.now").unwrap();
        let did = world.envelope(&agent, "sale.now", &agent.seal(key, &say).1);
        assert_eq!(did.denied(&agent), Reason::SubjectOutsideRule);
        world.desk.anomaly_score(agent.token().as_str()).map_or(0.0, |(score, _)| score)
    };
    assert!(denied(&mut world, &mut key) <= 0.0, "two messages, released or not");
    assert_eq!(pay(&mut world, &agent, &mut key, 1, 600_000).told::<HeldNotice>(&agent, kind::HELD).len(), 1);
    assert!(denied(&mut world, &mut key) > 0.0, "three, though the third still waits");
}

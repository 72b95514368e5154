//! Directed workflows: what pauses them, what does not, and what a pause denies.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sealbus_envelope::reason::Refused;
use sealbus_envelope::{
    control::{PausedNotice, VerdictNotice, kind},
    order::{Order, OrderId, OrderKind, Target, Workflow},
    reason::Reason,
    time::Millis,
    wire::Parent,
};
use sealbus_guard::{
    audit::entry::Body,
    oversight::pause::By,
    quarantine::state::{Cause, State, Trigger},
};

use super::world::{Agent, Did, Sending, World, label, name};

/// `pay` is directed by its rule, all that team `clerk` sends by its team; `note` and team `guest` are free.
const DIRECTED: &str = r#"
levels       = ["public", "internal", "secret"]
compartments = []
integrity    = ["low"]
freshness    = "30s"

[teams.clerk]
clearance = { level = "internal" }
oversight = "directed"
[teams.payer]
clearance = { level = "internal" }
[teams.guest]
clearance = { level = "internal" }
[teams.reader]
clearance = { level = "internal" }

[rules.pay]
pattern     = "pay.>"
publishers  = ["payer", "clerk"]
subscribers = ["reader"]
labels      = { level = { min = "public", max = "internal" }, integrity = "low" }
default     = { level = "public" }
rate        = { per_second = 2, burst = 4 }
max_bytes   = 4096
oversight   = "directed"

[rules.note]
pattern     = "note.>"
publishers  = ["payer", "clerk", "guest"]
subscribers = ["reader"]
labels      = { level = { min = "public", max = "internal" }, integrity = "low" }
default     = { level = "public" }
rate        = { per_second = 1000, burst = 1000 }
max_bytes   = 4096
"#;

fn rule(name_: &str) -> Workflow {
    Workflow::Rule(name(name_))
}

fn team(name_: &str) -> Workflow {
    Workflow::Team(name(name_))
}

fn low() -> sealbus_envelope::label::Label {
    label(0, 0, 0)
}

fn world() -> World {
    World::with(DIRECTED, 1 << 20, 4_000_000)
}

fn member(world: &mut World, who: &str, of: &str, under: &str) -> (Agent, Sending) {
    let agent = world.agent(who, of);
    agent.hello(world, &[]);
    let (sending, _) = agent.opened(world, under, low(), 0);
    (agent, sending)
}

fn paused(world: &World) -> BTreeSet<String> {
    world.desk.workflows().paused().map(|(workflow, _)| workflow.to_string()).collect()
}

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(ToString::to_string).collect()
}

/// Sends something that the signed policy forbids.
fn deviate(world: &mut World, agent: &Agent, sending: &mut Sending, subject: &str) -> (Did, Vec<u8>) {
    let mut say = agent.say(world, sending, subject);
    say.fields.parents = vec![Parent { digest: [1; 32], label: label(1, 0, 0) }];
    let (_, bytes) = agent.seal(sending, &say);
    (world.envelope(agent, subject, &bytes), bytes)
}

fn order(n: u8, kind: OrderKind, workflow: Workflow, now: Millis) -> Order {
    Order {
        bus: sealbus_envelope::identity::BusId::from_bytes([0; 32]),
        id: OrderId::from_bytes([n; 16]),
        kind,
        target: Target::Workflow(workflow),
        reason: "looked into it".to_owned(),
        issued: now,
        valid_until: now.plus(60_000),
    }
}

#[test]
fn one_deviation_pauses_all_of_the_workflow_and_nothing_else() {
    let mut world = world();
    let (one, mut ones) = member(&mut world, "one", "payer", "pay");
    let (two, mut twos) = member(&mut world, "two", "payer", "pay");
    let (clerk, mut clerks) = member(&mut world, "carla", "clerk", "pay");
    let (guest, mut guests) = member(&mut world, "gus", "guest", "note");
    let (note, mut notes) = (&two, two.opened(&mut world, "note", low(), 1).0);
    assert_eq!(two.publish(&mut world, &mut twos, "pay.rent").0.forwarded().len(), 1);

    let (did, _) = deviate(&mut world, &one, &mut ones, "pay.rent");
    assert_eq!(did.denied(&one), Reason::BelowParents);
    assert_eq!(paused(&world), names(&["rule:pay"]));
    for (agent, told) in [(&one, 1), (&two, 1), (&clerk, 1), (&guest, 0)] {
        assert_eq!(did.told::<PausedNotice>(agent, kind::PAUSED).len(), told);
    }

    let (did, _) = two.publish(&mut world, &mut twos, "pay.rent");
    assert_eq!(did.denied(&two), Reason::WorkflowPaused);
    let verdict: Vec<VerdictNotice> = did.told(&two, kind::VERDICT);
    assert_eq!(verdict[0].refused, Some(Reason::WorkflowPaused));
    assert_eq!(clerk.publish(&mut world, &mut clerks, "pay.rent").0.denied(&clerk), Reason::WorkflowPaused);
    assert_eq!(note.publish(&mut world, &mut notes, "note.a").0.forwarded().len(), 1, "another rule goes on");
    assert_eq!(guest.publish(&mut world, &mut guests, "note.a").0.forwarded().len(), 1);

    // Keys are opened still, so that nobody waits for them when it goes on.
    let (_fresh, _readers) = two.opened(&mut world, "pay", label(1, 0, 0), 2);
    let log = world.log();
    let logged: Vec<_> = log
        .iter()
        .filter_map(|entry| match &entry.body {
            Body::Workflow(workflow) => Some(workflow),
            _ => None,
        })
        .collect();
    assert_eq!((logged.len(), &*logged[0].to, &*logged[0].trigger), (1, "paused", "breaker"));
    assert_eq!(logged[0].reason.as_deref(), Some("below_parents"));
    assert!(logged[0].evidence.is_some());
}

#[test]
fn a_directed_team_pauses_in_all_that_it_sends() {
    let mut world = world();
    let (clerk, mut clerks) = member(&mut world, "carla", "clerk", "note");
    let (guest, mut guests) = member(&mut world, "gus", "guest", "note");
    deviate(&mut world, &clerk, &mut clerks, "note.a");
    assert_eq!(paused(&world), names(&["team:clerk"]));
    assert_eq!(clerk.publish(&mut world, &mut clerks, "note.a").0.denied(&clerk), Reason::WorkflowPaused);
    assert_eq!(guest.publish(&mut world, &mut guests, "note.a").0.forwarded().len(), 1);
}

#[test]
fn what_follows_in_the_same_batch_is_denied_already() {
    let mut world = world();
    let (one, mut ones) = member(&mut world, "one", "payer", "pay");
    let (two, mut twos) = member(&mut world, "two", "payer", "pay");
    let mut bad = one.say(&world, &mut ones, "pay.rent");
    bad.fields.parents = vec![Parent { digest: [1; 32], label: label(1, 0, 0) }];
    let good = two.say(&world, &mut twos, "pay.rent");
    let batch = [(&one, one.seal(&ones, &bad).1), (&two, two.seal(&twos, &good).1)];
    let batch = batch.map(|(agent, bytes)| (world.wire.ingress(agent.token(), "pay.rent"), bytes));
    let did = world.batch(&batch);
    assert!(did.forwarded().is_empty());
    assert_eq!(did.denials(&two), [Reason::WorkflowPaused]);
}

#[test]
fn who_does_not_send_in_a_workflow_cannot_pause_it() {
    let mut world = world();
    let (guest, mut guests) = member(&mut world, "gus", "guest", "note");
    let mut say = guest.say(&world, &mut guests, "note.a");
    say.fields.rule = name("pay");
    let (_, bytes) = guest.seal(&guests, &say);
    assert_eq!(world.envelope(&guest, "note.a", &bytes).denied(&guest), Reason::NotPublisher);
    assert!(paused(&world).is_empty());
}

#[test]
fn the_same_deviation_does_not_trip_again_what_was_resumed() {
    let mut world = world();
    let (one, mut ones) = member(&mut world, "one", "payer", "pay");
    let (_, bytes) = deviate(&mut world, &one, &mut ones, "pay.rent");
    world.pass(1_000);
    let now = world.now;
    world.desk.resume_workflow(&order(1, OrderKind::Resume, rule("pay"), now), now).unwrap();
    let did = world.did();
    let told: Vec<PausedNotice> = did.told(&one, kind::PAUSED);
    assert_eq!(told, [PausedNotice::default()]);
    world.envelope(&one, "pay.rent", &bytes);
    assert!(paused(&world).is_empty());
    assert_eq!(one.publish(&mut world, &mut ones, "pay.rent").0.forwarded().len(), 1);
    let (_, _) = deviate(&mut world, &one, &mut ones, "pay.rent");
    assert!(paused(&world).is_empty(), "sealed the moment that it went on");
    world.pass(1_000);
    deviate(&mut world, &one, &mut ones, "pay.rent");
    assert_eq!(paused(&world), names(&["rule:pay"]), "a new one");
    let again = world.desk.resume_workflow(&order(1, OrderKind::Resume, rule("pay"), now), now);
    assert_eq!(again.map_err(|refused| refused.reason), Err(Reason::OrderReplayed));
}

#[test]
fn a_person_pauses_any_workflow_and_whoever_connects_hears_of_it() {
    let mut world = world();
    let now = world.now;
    let unknown = order(9, OrderKind::Pause, rule("none"), now);
    assert_eq!(world.desk.pause_workflow(&unknown, now).map_err(|r| r.reason), Err(Reason::UnknownRule));
    world.desk.pause_workflow(&order(1, OrderKind::Pause, team("guest"), now), now).unwrap();
    world.did();
    let guest = world.agent("gus", "guest");
    let did = guest.hello(&mut world, &[]);
    let told: Vec<PausedNotice> = did.told(&guest, kind::PAUSED);
    assert_eq!(told[0].workflows[0].workflow, "team:guest");
    let other = world.agent("olga", "payer");
    assert!(other.hello(&mut world, &[]).told::<PausedNotice>(&other, kind::PAUSED).is_empty());
    let (mut sending, _) = guest.opened(&mut world, "note", low(), 0);
    assert_eq!(guest.publish(&mut world, &mut sending, "note.a").0.denied(&guest), Reason::WorkflowPaused);
    let again: Vec<PausedNotice> = world.pass(20_000).told(&guest, kind::PAUSED);
    assert!(!again.is_empty(), "a notice may be lost");
    let report = world.desk.workflow_report();
    let of_guest = report.iter().find(|report| report.workflow == "team:guest").unwrap();
    assert!(
        matches!(&of_guest.paused.as_ref().unwrap().by, By::Order { why, .. } if why == "looked into it")
    );
    assert_eq!(report.iter().filter(|report| report.mode.as_deref() == Some("directed")).count(), 2);
}

#[test]
fn a_sender_that_the_guard_takes_off_the_bus_pauses_its_workflows_and_one_that_people_do_does_not() {
    let cause = |trigger| Cause::found(trigger, Refused::new(Reason::WrongSender, "header"), &[[7; 32]]);
    let mut world = world();
    let (one, _) = member(&mut world, "one", "payer", "pay");
    world.desk.member_deviated(one.token(), State::Quarantined, &cause(Trigger::Order), world.now);
    assert!(paused(&world).is_empty());
    world.desk.member_deviated(one.token(), State::Quarantined, &cause(Trigger::Evidence), world.now);
    assert_eq!(paused(&world), names(&["rule:pay"]));
}

#[test]
fn who_signs_more_than_its_rate_trips_and_a_server_that_bunches_does_not() {
    let mut world = world();
    let (one, mut ones) = member(&mut world, "one", "payer", "pay");
    // Half the rate for twenty seconds, all of it held back and delivered at once.
    let mut held = Vec::new();
    for _ in 0..20 {
        world.pass(1_000);
        let say = one.say(&world, &mut ones, "pay.rent");
        held.push((world.wire.ingress(one.token(), "pay.rent"), one.seal(&ones, &say).1));
    }
    let did = world.batch(&held);
    assert!(did.denials(&one).contains(&Reason::RateLimited));
    assert!(paused(&world).is_empty());

    world.pass(30_000);
    let flood: Vec<_> = (0..40)
        .map(|_| {
            let say = one.say(&world, &mut ones, "pay.rent");
            (world.wire.ingress(one.token(), "pay.rent"), one.seal(&ones, &say).1)
        })
        .collect();
    // In parts, as it comes: unread beyond twice the rate, so not all of it counts.
    for part in flood.chunks(2) {
        world.batch(part);
        world.pass(200);
    }
    assert_eq!(paused(&world), names(&["rule:pay"]));
}

#[derive(Debug, Clone)]
enum Trick {
    Junk(Vec<u8>),
    Again(usize),
    Elsewhere(usize),
    OfAnother(usize),
    Later(u64),
    Cut,
}

fn tricks() -> impl Strategy<Value = Vec<Trick>> {
    let trick = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Trick::Junk),
        any::<usize>().prop_map(Trick::Again),
        any::<usize>().prop_map(Trick::Elsewhere),
        any::<usize>().prop_map(Trick::OfAnother),
        (1u64..40_000).prop_map(Trick::Later),
        Just(Trick::Cut),
    ];
    prop::collection::vec(trick, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Honest envelopes, whatever a server does with them.
    #[test]
    fn a_hostile_server_pauses_nothing(tricks in tricks()) {
        let mut world = world();
        let (one, mut ones) = member(&mut world, "one", "payer", "pay");
        let (two, _) = member(&mut world, "two", "payer", "pay");
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for trick in tricks {
            if kept.len() < 8 {
                let say = one.say(&world, &mut ones, "pay.rent");
                kept.push(one.seal(&ones, &say).1);
            }
            let pick = |n: usize| kept[n % kept.len()].clone();
            match trick {
                Trick::Junk(bytes) => { world.envelope(&one, "pay.rent", &bytes); }
                Trick::Again(n) => { let bytes = pick(n); world.envelope(&one, "pay.rent", &bytes); }
                Trick::Elsewhere(n) => { let bytes = pick(n); world.envelope(&one, "pay.other", &bytes); }
                Trick::OfAnother(n) => { let bytes = pick(n); world.envelope(&two, "pay.rent", &bytes); }
                Trick::Later(ms) => { world.pass(ms); }
                Trick::Cut => { world.desk.gone(one.session(), world.now); one.hello(&mut world, &[]); }
            }
            prop_assert!(paused(&world).is_empty());
        }
    }
}

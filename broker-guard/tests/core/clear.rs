//! Orders to clear a floor: it falls when the keys that it stands for are stale, whatever happens on the way.

use sealbus_envelope::{
    control::{self, FloorNotice, Rekey, Welcome, kind, verb},
    identity::SigningKey,
    label::Label,
    order::{Draft, Order, OrderId, OrderKind, SignedOrder, Target},
    reason::Reason,
};
use sealbus_guard::audit::entry::Body;

use super::world::{Agent, Sending, World, label, rng};

const READ: (u8, u64, u8) = (1, 1, 0);

fn order(world: &World, agent: &Agent) -> Order {
    Order {
        bus: world.roots.bus(),
        id: OrderId::generate(&mut rng()),
        kind: OrderKind::ClearTaint,
        target: Target::Agent {
            token: agent.token().clone(),
            identity: agent.credential.claims().identity.clone(),
        },
        reason: "emptied".to_owned(),
        issued: world.now,
        valid_until: world.now.plus(60_000),
    }
}

fn floor(world: &World, agent: &Agent) -> Label {
    world.desk.sessions().floors().of(agent.token(), agent.session()).join()
}

/// A reader that was given the key that the writer seals with.
fn tainted(world: &mut World) -> (Agent, Agent, Sending) {
    let (writer, reader) = (world.agent("wanda", "writer"), world.agent("rita", "reader"));
    writer.hello(world, &[]);
    reader.hello(world, &[]);
    reader.subscribe(world, 1, "news", "news.>");
    let (sending, _) = writer.opened(world, "news", label(READ.0, READ.1, READ.2), 0);
    writer.grant(world, &sending, &[&reader]);
    assert_eq!(floor(world, &reader), label(READ.0, READ.1, READ.2));
    world.pass(5_000);
    (writer, reader, sending)
}

#[test]
fn a_floor_falls_when_the_keys_that_it_stands_for_are_stale() {
    let mut world = World::new();
    let (writer, reader, mut sending) = tainted(&mut world);
    let order = order(&world, &reader);
    world.desk.clear_taint(&order, world.now).unwrap();
    let did = world.did();
    assert_eq!(did.disconnected, [(reader.session(), Reason::SessionEnded)]);
    let again = world.restart(&reader);
    let welcome: Vec<Welcome> = again.hello(&mut world, &[]).told(&again, kind::WELCOME);
    assert_eq!(welcome[0].floor, label(READ.0, READ.1, READ.2), "it may still hold the key");
    let did = world.pass(1_000);
    assert_eq!(did.told::<Rekey>(&writer, kind::REKEY)[0].key, sending.key.id());
    assert_eq!(writer.publish(&mut world, &mut sending, "news.today").0.forwarded().len(), 1);
    assert_eq!(floor(&world, &again), label(READ.0, READ.1, READ.2));

    let did = world.pass(1_000);
    assert_eq!(writer.publish(&mut world, &mut sending, "news.today").0.denied(&writer), Reason::StaleKey);
    assert_eq!(did.told::<FloorNotice>(&again, kind::FLOOR)[0].floor, Label::BOTTOM);
    assert_eq!(floor(&world, &again), Label::BOTTOM);
    assert_eq!(reader.hello(&mut world, &[]).denied(&reader), Reason::SessionEnded);
    let events = did.published.iter().filter(|out| out.subject().ends_with("events.order")).count();
    assert_eq!(events, 1);
}

#[test]
fn an_order_is_carried_out_once() {
    let mut world = World::new();
    let (writer, reader, _) = tainted(&mut world);
    let order = order(&world, &reader);
    world.desk.clear_taint(&order, world.now).unwrap();
    world.pass(3_000);
    let again = world.restart(&reader);
    again.hello(&mut world, &[]);
    again.subscribe(&mut world, 1, "news", "news.>");
    let (sending, _) = writer.opened(&mut world, "news", label(1, 0, 0), 1);
    writer.grant(&mut world, &sending, &[&again]);
    world.did();
    assert_eq!(world.desk.clear_taint(&order, world.now).unwrap_err().reason, Reason::OrderReplayed);
    assert!(world.pass(5_000).disconnected.is_empty());
    assert_eq!(floor(&world, &again), label(1, 0, 0));
}

#[test]
fn an_order_that_was_only_logged_is_taken_again() {
    let mut world = World::new();
    let (_, reader, _) = tainted(&mut world);
    let mut draft = Draft::new(order(&world, &reader), &world.roots).unwrap();
    draft.sign(&SigningKey::from_seed(&[2; 32]), &world.roots).unwrap();
    let signed = SignedOrder::verify(&draft.encode(), &world.roots).unwrap();
    world.desk.record_order(&signed, world.now).unwrap();
    let mut world = world.restarted();
    world.pass(5_000);
    assert_eq!(floor(&world, &reader), label(READ.0, READ.1, READ.2));
    world.desk.record_order(&signed, world.now).unwrap();
    world.desk.clear_taint(signed.order(), world.now).unwrap();
    world.pass(3_000);
    assert_eq!(floor(&world, &reader), Label::BOTTOM);
    let entries = world.log();
    let orders = entries.iter().filter(|entry| matches!(&entry.body, Body::Order(o) if o.accepted)).count();
    assert_eq!(orders, 2);
}

#[test]
fn what_is_read_while_a_floor_is_cleared_stays() {
    let mut world = World::new();
    let (writer, reader, _) = tainted(&mut world);
    let order = order(&world, &reader);
    world.desk.clear_taint(&order, world.now).unwrap();
    let again = world.restart(&reader);
    again.hello(&mut world, &[]);
    again.subscribe(&mut world, 1, "news", "news.>");
    let (sending, _) = writer.opened(&mut world, "news", label(0, 1, 0), 1);
    writer.grant(&mut world, &sending, &[&again]);
    world.pass(3_000);
    assert_eq!(floor(&world, &again), label(0, 1, 0));
}

#[test]
fn a_guard_that_dies_on_the_way_leaves_the_floor_to_the_next() {
    let mut world = World::new();
    let (mut writer, mut reader, mut sending) = tainted(&mut world);
    let order = order(&world, &reader);
    world.desk.clear_taint(&order, world.now).unwrap();
    let mut world = world.restarted();
    assert_eq!(floor(&world, &reader), label(READ.0, READ.1, READ.2));
    writer.rejoin(&world);
    reader.rejoin(&world);
    // The sender has heard of nothing: it comes back with the key that the reader may hold.
    let did = writer.hello(&mut world, &[&sending]);
    assert_eq!(did.told::<Rekey>(&writer, kind::REKEY)[0].key, sending.key.id());
    assert_eq!(writer.publish(&mut world, &mut sending, "news.today").0.denied(&writer), Reason::StaleKey);
    assert_eq!(reader.hello(&mut world, &[]).denied(&reader), Reason::SessionEnded);
    world.pass(3_000);
    assert_eq!(floor(&world, &reader), Label::BOTTOM);
    assert_eq!(world.desk.clear_taint(&order, world.now).unwrap_err().reason, Reason::OrderReplayed);
    let world = world.restarted();
    assert_eq!(floor(&world, &reader), Label::BOTTOM, "and it stays cleared");
}

#[test]
fn a_sender_that_was_away_comes_back_with_a_key_that_is_refused() {
    let mut world = World::new();
    let (writer, reader, mut sending) = tainted(&mut world);
    world.control(&writer, verb::BYE, control::encode(&control::Bye {}).unwrap());
    let order = order(&world, &reader);
    world.desk.clear_taint(&order, world.now).unwrap();
    world.pass(10_000);
    assert_eq!(floor(&world, &reader), Label::BOTTOM);
    writer.hello(&mut world, &[&sending]);
    assert_eq!(writer.publish(&mut world, &mut sending, "news.today").0.denied(&writer), Reason::StaleKey);
    // Who began later brings nothing of then.
    let later = world.restart(&writer);
    later.hello(&mut world, &[]);
    let (mut fresh, _) = later.opened(&mut world, "news", label(READ.0, READ.1, READ.2), 0);
    later.hello(&mut world, &[&fresh]);
    assert_eq!(later.publish(&mut world, &mut fresh, "news.today").0.forwarded().len(), 1);
}

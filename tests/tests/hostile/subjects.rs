//! Attacks on subjects: a valid connection that publishes or listens where it has no business.

use sealbus_envelope::{
    control::verb,
    identity::SessionId,
    reason::Reason,
    subject::{Partition, WireSubjects},
};
use sealbus_tests::hostile::arena::Arena;

/// Publishing where only somebody else may.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_publishes_in_the_place_of_another() {
    let mut arena = Arena::open().await;
    let (mut mallory, mut key) = arena.publisher().await;
    let (victim, wire) = (arena.attacker().await, WireSubjects::default());
    let envelope = mallory.envelope(&mut key, "tips.a", b"as somebody else");
    let (me, other) = (mallory.token(), victim.token());
    let ingress = wire.ingress(&other, "tips.a");
    let own = wire.ingress(&me, "tips.a");
    let slot = Partition::of(&me).number();
    let elsewhere = own.replacen(&format!(".{slot}."), &format!(".{}.", (slot + 1) % 64), 1);
    for (attack, subject) in [
        ("publish on another agent's ingress", ingress.clone()),
        ("publish on its own ingress in another partition", elsewhere),
        ("publish on another's ingress by a wildcard", "sb.in.*.*.tips.a".to_owned()),
        ("publish on a delivery subject", "sb.out.0.tips.a".to_owned()),
        ("publish on a delivery subject above its level", "sb.out.2.secrets.a".to_owned()),
        ("publish into another's box", wire.session_box(&other, &victim.papers.session(), "welcome")),
        ("publish into its own box", wire.session_box(&me, &mallory.papers.session(), "verdict")),
        ("publish a heartbeat", wire.heartbeat(Partition::of(&me))),
        ("publish an event", wire.event("quarantine")),
        ("publish on another's control subject", wire.control(&other, &victim.papers.session(), verb::BYE)),
        (
            "publish on the control subject of another session of its own",
            wire.control(&me, &SessionId::from_bytes([7; 32]), verb::BYE),
        ),
        ("publish under a rule that does not name it", wire.ingress(&me, "secrets.a")),
        ("purge a stream", "$JS.API.STREAM.PURGE.X".to_owned()),
        ("delete a stream", "$JS.API.STREAM.DELETE.X".to_owned()),
        ("write to a key-value bucket", "$KV.bucket.key".to_owned()),
        ("kick a connection", "$SYS.REQ.SERVER.X.KICK".to_owned()),
        ("answer a callout", "$SYS._INBOX.x".to_owned()),
        ("publish into an inbox", "_INBOX.x.y".to_owned()),
        ("publish into the guard's inbox", "_INBOX_sealbus.x.y".to_owned()),
    ] {
        let outcome = mallory.raw.publish_bytes(&subject, None, "", &envelope).await;
        arena.server_refused(attack, outcome).await;
    }
    // nats-server takes a wildcard in a published subject for text, inside what is granted: the guard does not.
    mallory.raw.publish_bytes(&wire.ingress(&me, "tips.>"), None, "", &envelope).await.unwrap();
    arena.guard_refused("publish on a wildcard inside its own grant", &me, Reason::WrongSubject).await;
    // None of it was held against the agent, for a hostile server could have done it in its name.
    let honest = mallory.publish(&mut key, "tips.a", b"still in good standing").await;
    assert_eq!(arena.delivered().await.pop().unwrap().payload, honest);
    assert!(arena.watch.said("quarantine", &me).is_empty());
    arena.close().await;
}

/// Listening where only somebody else may.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens_in_the_place_of_another() {
    let mut arena = Arena::open().await;
    let mut mallory = arena.attacker().await;
    let (victim, wire) = (arena.attacker().await, WireSubjects::default());
    let (me, other) = (mallory.token(), victim.token());
    let foreign_box = wire.session_box(&other, &victim.papers.session(), ">");
    let mut attacks = vec![
        ("read another's box", foreign_box),
        ("read every box", "sb.box.>".to_owned()),
        ("read the box of another session of its own", format!("sb.box.{me}.>")),
        ("read all boxes of its kind", format!("sb.box.*.{}.grant", mallory.papers.session().token())),
        ("read every ingress", "sb.in.>".to_owned()),
        ("read its own ingress", wire.ingress(&me, ">")),
        ("read control messages", "sb.ctl.>".to_owned()),
        ("read the events", "sb.events.>".to_owned()),
        (
            "read another partition's heartbeat",
            wire.heartbeat(Partition::new((Partition::of(&me).number() + 1) % 64).unwrap()),
        ),
        ("read everything", ">".to_owned()),
        ("read everything of the bus", "sb.>".to_owned()),
        ("read all deliveries", "sb.out.>".to_owned()),
        ("read the stream it publishes on", "sb.out.0.tips.>".to_owned()),
        ("read a secret stream", "sb.out.2.secrets.>".to_owned()),
        ("read the callouts", "$SYS.REQ.USER.AUTH".to_owned()),
        ("read system events", "$SYS.>".to_owned()),
        ("read the JetStream API", "$JS.API.>".to_owned()),
        ("read JetStream acknowledgements", "$JS.ACK.>".to_owned()),
        ("read key-value buckets", "$KV.>".to_owned()),
        ("read the inboxes", "_INBOX.>".to_owned()),
        ("read the guard's inboxes", "_INBOX_sealbus.>".to_owned()),
    ];
    for (attack, subject) in attacks.drain(..) {
        let outcome = mallory.raw.subscribe(&subject, None).await.map(|_| ());
        arena.server_refused(attack, outcome).await;
    }
    arena.close().await;
}

/// A queue group divides work among those in it: whoever joins takes a share away.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_steals_from_a_queue_group() {
    let mut arena = Arena::open().await;
    let (worker, canary) = (arena.bus.agent("worker", "worker"), arena.bus.agent("spy", "canary"));
    let mut thief = sealbus_tests::hostile::hand::Hand::join(&canary).await;
    let mut worker = sealbus_tests::hostile::hand::Hand::join(&worker).await;
    worker.raw.subscribe("sb.out.0.jobs.>", Some("work")).await.unwrap();
    for (attack, subject, queue) in [
        ("join the queue group of a stream it may not read", "sb.out.0.jobs.>", Some("work")),
        ("join a queue group of a stream that it may read", "sb.out.0.tips.>", Some("work")),
        ("make a queue group of its own", "sb.out.0.tips.a", Some("mine")),
    ] {
        let outcome = thief.raw.subscribe(subject, queue).await.map(|_| ());
        arena.server_refused(attack, outcome).await;
    }
    for (attack, queue) in
        [("leave the queue group to hear all of the work", None), ("join another queue group", Some("mine"))]
    {
        let outcome = worker.raw.subscribe("sb.out.0.jobs.>", queue).await.map(|_| ());
        arena.server_refused(attack, outcome).await;
    }
    arena.close().await;
}

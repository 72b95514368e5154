//! Attacks that send again what was good once.

use sealbus_envelope::{
    control::{self, Open, kind, verb},
    reason::Reason,
};
use sealbus_tests::{
    bus::TestBus,
    hostile::{
        arena::{Arena, By, POLICY, label, report},
        hand::Hand,
        papers::Papers,
        watch::Watch,
    },
};

/// The same bytes, by the agent or by anybody who can write in its place.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_admitted_twice() {
    let mut arena = Arena::open().await;
    let (mut mallory, mut key) = arena.publisher().await;
    let me = mallory.token();
    let envelope = mallory.publish(&mut key, "tips.a", b"once").await;
    assert_eq!(arena.delivered().await.len(), 1);

    mallory.send("tips.a", &envelope).await.unwrap();
    arena.guard_refused("send the same bytes again", &me, Reason::Replay).await;

    mallory.send("tips.b", &envelope).await.unwrap();
    arena.guard_refused("send the same bytes on another subject", &me, Reason::WrongSubject).await;
    mallory.send("notes.a", &envelope).await.unwrap();
    arena.guard_refused("send the same bytes under another rule's subject", &me, Reason::WrongSubject).await;

    key.next = 9;
    let (low, high) = {
        let mut fields = mallory.fields(&key, "tips.a");
        let high = mallory.seal(&mut key, &fields, b"ninth");
        fields.sequence = 8;
        (mallory.seal(&mut key, &fields, b"eighth, late"), high)
    };
    mallory.send("tips.a", &high).await.unwrap();
    assert_eq!(arena.delivered().await.len(), 1);
    mallory.send("tips.a", &low).await.unwrap();
    arena.guard_refused("turn the sequence back", &me, Reason::Replay).await;

    // A replay is nothing anybody is to blame for: a server can do it.
    assert!(arena.watch.said("quarantine", &me).is_empty());

    // But two envelopes under one key and number, both signed, no server can make: two hold the session's key.
    let mut fields = mallory.fields(&key, "tips.a");
    fields.sequence = 0;
    let again = mallory.seal(&mut key, &fields, b"a new envelope with an old number");
    mallory.send("tips.a", &again).await.unwrap();
    arena.guard_refused("use a sequence number again", &me, Reason::Replay).await;
    let event = arena.watch.quarantined(&me).await;
    assert!(event.get("what").unwrap().as_str().unwrap().contains("second-holder"), "{event}");
    arena.close().await;
}

/// Saying hello or opening a key again, by the agent or by a server that kept the bytes, must not turn back
/// the sequence under which envelopes were admitted.
#[tokio::test(flavor = "multi_thread")]
async fn no_greeting_turns_the_sequence_back() {
    let mut arena = Arena::open().await;
    let mut mallory = arena.attacker().await;
    let (me, guard) = (mallory.token(), mallory.guard.unwrap());
    let mut key = mallory.make_key("tips", label(0, 0, 0), None);
    let opened = Open { statement: mallory.papers.statement(guard, vec![key.live()]) };
    mallory.say(verb::OPEN, &opened).await.unwrap();
    mallory.told(kind::READERS).await;
    let before = mallory.hello_message(guard, &[&key]);
    let empty = mallory.hello_message(guard, &[]);
    let envelope = mallory.publish(&mut key, "tips.a", b"once").await;
    assert_eq!(arena.delivered().await.len(), 1);

    mallory.say(verb::OPEN, &opened).await.unwrap();
    mallory.told(kind::READERS).await;
    mallory.send("tips.a", &envelope).await.unwrap();
    arena.guard_refused("replay after opening the key again", &me, Reason::Replay).await;

    mallory.say(verb::HELLO, &before).await.unwrap();
    mallory.told(kind::WELCOME).await;
    mallory.told(kind::READERS).await;
    mallory.send("tips.a", &envelope).await.unwrap();
    arena.guard_refused("replay after an old hello", &me, Reason::Replay).await;

    // A hello without the key makes the guard forget it; the statement that opened it brings it back.
    mallory.say(verb::HELLO, &empty).await.unwrap();
    mallory.told(kind::WELCOME).await;
    mallory.say(verb::OPEN, &opened).await.unwrap();
    mallory.told(kind::READERS).await;
    mallory.send("tips.a", &envelope).await.unwrap();
    arena.guard_refused("replay after an empty hello and the old opening", &me, Reason::Replay).await;

    // Three epochs later the first key is forgotten as well.
    for _ in 0..3 {
        mallory.open("tips", label(0, 0, 0)).await;
    }
    mallory.say(verb::OPEN, &opened).await.unwrap();
    mallory.told(kind::READERS).await;
    arena.guard_refused("open a key that was retired", &me, Reason::StaleKey).await;
    mallory.send("tips.a", &envelope).await.unwrap();
    arena.guard_refused("replay under a key that was retired", &me, Reason::UnknownKey).await;

    // Goodbye, and the whole session again.
    mallory.say(verb::BYE, &control::Bye {}).await.unwrap();
    mallory.say(verb::HELLO, &empty).await.unwrap();
    mallory.told(kind::WELCOME).await;
    mallory.say(verb::OPEN, &opened).await.unwrap();
    mallory.told(kind::READERS).await;
    mallory.send("tips.a", &envelope).await.unwrap();
    arena.guard_refused("replay after goodbye and hello", &me, Reason::Replay).await;
    arena.close().await;
}

/// A guard that starts anew remembers no sequence; sessions tell it theirs before anything is admitted.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_admitted_again_after_a_restart_of_the_guard() {
    let mut arena = Arena::open().await;
    let (mut mallory, mut key) = arena.publisher().await;
    let (me, old_guard) = (mallory.token(), mallory.guard.unwrap());
    let old_hello = mallory.hello_message(old_guard, &[&key]);
    let envelope = mallory.publish(&mut key, "tips.a", b"once").await;
    assert_eq!(arena.delivered().await.len(), 1);
    arena.bus.kill_guard().await;
    arena.bus.start_guard().await;

    mallory.send("tips.a", &envelope).await.unwrap();
    arena.watch.denied(&me, Reason::UnknownSession).await;
    report("replay to a guard that knows no session yet", By::Guard, Reason::UnknownSession.code());

    mallory.say(verb::HELLO, &old_hello).await.unwrap();
    arena.watch.denied(&me, Reason::OldEpoch).await;
    report("greet a new guard with the old one's hello", By::Guard, Reason::OldEpoch.code());

    let guard = mallory.heartbeat().await.guard;
    assert_ne!(guard, old_guard);
    let hello = mallory.hello_message(guard, &[&key]);
    mallory.say(verb::HELLO, &hello).await.unwrap();
    mallory.told(kind::WELCOME).await;
    mallory.send("tips.a", &envelope).await.unwrap();
    arena.watch.denied(&me, Reason::Replay).await;
    report("replay after a restart of the guard", By::Guard, Reason::Replay.code());

    arena.greet_again().await;
    arena.came_to_nothing("replays around a restart of the guard").await;
    arena.close_after_outage().await;
}

/// An envelope of one bus is nothing on another, though the same agent's key is on both.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_crosses_from_one_bus_to_another() {
    let mut arena = Arena::open().await;
    let staging = TestBus::start(POLICY).await;
    let _their_events = Watch::start(&staging).await;
    let mut tester = Hand::join(&staging.agent("mob-1", "mob")).await;
    let mut their_key = tester.open("tips", label(0, 0, 0)).await;
    let envelope = tester.envelope(&mut their_key, "tips.a", b"made on staging");

    let mut mallory = arena.attacker().await;
    let me = mallory.token();
    mallory.send("tips.a", &envelope).await.unwrap();
    arena.guard_refused("send an envelope of another bus", &me, Reason::UnknownSession).await;

    let credentials = arena.mobster();
    let mut foreign = Papers::new(&credentials);
    foreign.credential = tester.papers.credential.clone();
    foreign.certificate = tester.papers.certificate.clone();
    let outcome = Hand::connect(foreign, &credentials).await.map(|_| ());
    assert!(outcome.unwrap_err().says("authorization violation"));
    arena.came_to_nothing("connect with papers of another bus").await;
    report("connect with papers of another bus", By::Guard, Reason::BadSignature.code());
    arena.close().await;
}

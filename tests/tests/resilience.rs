//! What honest agents go through when servers and guards go away and come back: nothing confirmed is lost,
//! nothing is delivered twice, and whoever lost its right stays out.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use sealbus_client::{Client, ConnectOptions, ErrorKind, Event, Events, Publish};
use sealbus_envelope::{
    control::{kind, verb},
    reason::Reason,
};
use sealbus_tests::{
    bus::{TestBus, soon},
    hostile::{
        arena::{Arena, POLICY, label},
        hand::Hand,
        honest::Honest,
        watch::{Watch, status},
    },
    server::ServerSpec,
};

/// Waits for an event of a client.
async fn event(events: &mut Events, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
    let come = async {
        loop {
            let event = events.next().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    };
    soon(what, come).await
}

async fn ready(client: &Client) {
    soon("the client to be ready", client.ready(Duration::from_secs(30))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_loses_nothing_but_to_who_is_away() {
    let mut bus = TestBus::start(POLICY).await;
    let mut honest = Honest::start(&bus).await;
    for round in ["once", "twice"] {
        bus.server().restart().await;
        honest.flows(&format!("after the server was restarted {round}")).await;
    }
    // The publisher may be back before the subscriber is.
    honest.stop().await.nothing_lost_but_in_breaks(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_stops_in_order_and_starts_again_loses_nothing() {
    let mut bus = TestBus::start(POLICY).await;
    let mut honest = Honest::start(&bus).await;
    for round in ["once", "twice"] {
        bus.stop_guard().await;
        bus.start_guard().await;
        honest.flows(&format!("after the guard was restarted {round}")).await;
    }
    let outcome = honest.stop().await;
    outcome.nothing_lost();
    for (number, error) in &outcome.sent.failed {
        assert!(error.reason().is_some(), "message {number} failed without a reason: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_is_killed_loses_nothing_that_was_confirmed_and_delivers_nothing_twice() {
    let mut bus = TestBus::start(POLICY).await;
    let mut honest = Honest::start(&bus).await;
    for round in ["once", "twice", "three times"] {
        bus.kill_guard().await;
        bus.start_guard().await;
        honest.flows(&format!("after the guard was killed {round}")).await;
    }
    honest.stop().await.nothing_lost();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_guard_nothing_is_published_and_everybody_knows() {
    let mut bus = TestBus::start(POLICY).await;
    let client = Client::connect(bus.agent("alice", "honest")).await.unwrap();
    let mut events = client.events();
    client.publish_confirmed("honest.a", "with a guard").await.unwrap();
    bus.stop_guard().await;
    event(&mut events, "the guard to be missed", |event| *event == Event::GuardUnavailable).await;
    let error = client.publish("honest.a", "without").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::GuardUnavailable, "{error}");
    // Nobody new comes in either, and is told that it is the guard who is missing.
    let newcomer = Client::connect(bus.agent("late", "honest")).await.unwrap_err();
    assert_eq!(newcomer.kind(), ErrorKind::GuardUnavailable, "{newcomer}");
    bus.start_guard().await;
    event(&mut events, "the guard to be back", |event| *event == Event::GuardBack).await;
    ready(&client).await;
    client.publish_confirmed("honest.a", "with a guard again").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_the_servers_configuration_keeps_agents_connected() {
    let mut bus = TestBus::start(POLICY).await;
    let client = Client::connect(bus.agent("carol", "honest")).await.unwrap();
    let mut honest = Honest::start(&bus).await;
    let mut events = client.events();
    bus.server().reload().await;
    honest.flows("after a reload").await;
    client.publish_confirmed("honest.other", 9u64.to_be_bytes().to_vec()).await.unwrap();
    client.close().await.unwrap();
    // Everything that happened to it, up to its end.
    while let Some(event) = soon("the end of the events", events.next()).await {
        assert!(!matches!(event, Event::Disconnected | Event::GuardUnavailable), "{event}");
    }
    drop(honest.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_comes_straight_back_is_not_taken_for_the_one_that_left() {
    let mut arena = Arena::open().await;
    let credentials = arena.mobster();
    let mut hand = Hand::join(&credentials).await;
    let mut key = hand.open("tips", label(0, 0, 0)).await;
    for round in 0..20u8 {
        let guard = hand.guard;
        let Hand { mut papers, raw, .. } = hand;
        drop(raw);
        hand = loop {
            let again = papers.twin();
            match Hand::connect(papers, &credentials).await {
                Ok(hand) => break hand,
                // The server has not noticed yet that the old connection is gone.
                Err(_in_use) => papers = again,
            }
        };
        hand.listen().await;
        hand.guard = guard;
        let hello = hand.hello_message(guard.unwrap(), &[&key]);
        hand.say(verb::HELLO, &hello).await.unwrap();
        hand.told(kind::WELCOME).await;
        hand.publish(&mut key, "tips.a", &[round]).await;
        assert_eq!(arena.delivered().await.len(), 1, "round {round}");
    }
    arena.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_late_reads_at_once() {
    let bus = TestBus::start(POLICY).await;
    let mut honest = Honest::start(&bus).await;
    // The publisher's key is in use; the newcomer is granted it and reads what is published from then on.
    let late = Client::connect(bus.agent("late", "honest")).await.unwrap();
    let mut messages = late.subscribe("honest.>").await.unwrap();
    let first = soon("the first message", messages.next()).await.unwrap();
    let behind = first.issued_at();
    honest.flows("beside a newcomer").await;
    let number = u64::from_be_bytes(first.payload().try_into().unwrap());
    for expected in number + 1..=number + 10 {
        let message = soon("the next message", messages.next()).await.unwrap();
        assert_eq!(u64::from_be_bytes(message.payload().try_into().unwrap()), expected, "nothing is missing");
        assert!(message.issued_at() >= behind);
    }
    late.close().await.unwrap();
    honest.stop().await.spotless();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_revoked_is_out_at_once_and_keys_rotate_away_from_it() {
    let mut bus = TestBus::start(POLICY).await;
    let mut watch = Watch::start(&bus).await;
    let mut honest = Honest::start(&bus).await;
    let credentials = bus.agent("eve", "honest");
    let eve = TestBus::token(&credentials);
    let revoked = Client::connect(credentials.clone()).await.unwrap();
    let mut messages = revoked.subscribe("honest.>").await.unwrap();
    soon("what it may read still", messages.next()).await.unwrap();
    // A session by hand of the same agent, to see that grants stop coming.
    let mut hand = Hand::join(&credentials).await;
    assert_eq!(hand.declare("honest", "honest.>", false).await, None);
    hand.told(kind::GRANT).await;

    let mut events = revoked.events();
    bus.revoke(&credentials);
    watch
        .event("the new status", |event| {
            event.get("kind") == Some(&"changed".into())
                && event.get("detail").and_then(|d| d.as_str()).is_some_and(|d| d.starts_with("status"))
        })
        .await;
    event(&mut events, "the revoked to be told", |event| *event == Event::Lobby { reason: Reason::Revoked })
        .await;
    soon("its other connection to be cut", hand.raw.closed()).await;
    drop((messages, revoked));
    // One session of an agent at a time is told why in the lobby; others are refused without a word.
    let refused = async {
        loop {
            let error = Client::connect(credentials.clone()).await.unwrap_err();
            match error.kind() {
                ErrorKind::Refused => break error,
                kind => assert_eq!(kind, ErrorKind::Unauthorized, "{error}"),
            }
        }
    };
    assert_eq!(soon("a place in the lobby", refused).await.reason(), Some(Reason::Revoked));
    honest.flows("after a revocation").await;
    let report = status(&bus, "its sessions to be over", |report| {
        !report.sessions.iter().any(|session| session.agent == eve.as_str())
    });
    assert!(report.await.quarantined.is_empty());
    let outcome = honest.stop().await;
    outcome.spotless();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_is_told_how_much_it_lost_and_costs_nobody_else_anything() {
    let bus = TestBus::start(POLICY).await;
    let honest = Honest::start(&bus).await;
    let options = ConnectOptions::new(bus.agent("lazy", "canary")).buffer(1).capacity(64);
    let lazy = options.connect().await.unwrap();
    let mut events = lazy.events();
    let mut messages = lazy.subscribe("tips.>").await.unwrap();
    let sender = Client::connect(bus.agent("mob", "mob")).await.unwrap();
    let all = 300u32;
    for number in 0..all {
        sender.send(Publish::new("tips.a", number.to_be_bytes().to_vec())).await.unwrap();
    }
    sender.publish_confirmed("tips.a", all.to_be_bytes().to_vec()).await.unwrap();
    let dropped =
        event(&mut events, "the loss to be told", |event| matches!(event, Event::Dropped { .. })).await;
    assert!(matches!(dropped, Event::Dropped { count } if count > 0), "{dropped}");
    // What is still there comes in order, and what comes now comes whole.
    let first = soon("what was kept", messages.next()).await.unwrap();
    assert_eq!(first.payload(), 0u32.to_be_bytes());
    honest.stop().await.spotless();
}

#[tokio::test(flavor = "multi_thread")]
async fn past_its_status_statement_a_bus_grants_no_new_keys_and_lets_nobody_new_in() {
    let mut bus = TestBus::prepare(POLICY, ServerSpec::default()).await;
    bus.status_valid_for(Duration::from_secs(6));
    bus.start_guard().await;
    let sender = Client::connect(bus.agent("mob", "mob")).await.unwrap();
    let reader = Client::connect(bus.agent("reader", "canary")).await.unwrap();
    let mut messages = reader.subscribe("tips.>").await.unwrap();
    sender.publish_confirmed("tips.a", "in time").await.unwrap();
    assert_eq!(soon("the message", messages.next()).await.unwrap().payload(), b"in time");
    let hand_credentials = bus.agent("canary", "canary");
    let mut hand = Hand::join(&hand_credentials).await;
    let over = async { while hand.heartbeat().await.time <= bus.status_valid_until() {} };
    soon("the statement to be over", over).await;

    // Whoever is in stays, and reads what it has the keys for.
    sender.publish_confirmed("tips.a", "late").await.unwrap();
    assert_eq!(soon("the message", messages.next()).await.unwrap().payload(), b"late");
    // Nobody new comes in, and nobody new is granted a key.
    let error = Client::connect(bus.agent("late", "mob")).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Refused, Some(Reason::StatusExpired)), "{error}");
    assert_eq!(hand.declare("tips", "tips.>", false).await, None);
    sender.publish_confirmed("tips.a", "later").await.unwrap();
    let heard = hand.heard().await;
    assert!(!heard.iter().any(|message| message.subject.ends_with(".grant")), "{heard:?}");

    // A fresh statement mends it.
    bus.status_valid_for(Duration::from_secs(3_600));
    let mended = async {
        loop {
            match Client::connect(bus.agent("late", "mob")).await {
                Ok(client) => break client,
                Err(error) => assert_eq!(error.reason(), Some(Reason::StatusExpired), "{error}"),
            }
        }
    };
    soon("somebody new to be let in", mended).await;
}

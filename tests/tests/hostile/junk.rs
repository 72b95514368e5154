//! Attacks in numbers: junk, floods, and junk put into the mouth of somebody honest.

use std::time::Duration;

use sealbus_client::{Client, ErrorKind, Event};
use sealbus_envelope::{control::verb, reason::Reason, wire::Decoded};
use sealbus_tests::{
    bus::{TestBus, soon},
    hostile::{
        arena::{Arena, By, label, report},
        forge::Parts,
        hand::Hand,
        server::HostileServer,
    },
};

/// Many publishes in one write: `PUB subject size`, each with the payload that `make` gives.
fn bulk(subject: &str, count: usize, make: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 0..count {
        let payload = make(n);
        bytes.extend_from_slice(format!("PUB {subject} {}\r\n", payload.len()).as_bytes());
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Who floods with junk is disconnected at most: it did not sign it, so it may not have been the agent.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_junk_messages_disconnect_and_no_more() {
    let mut arena = Arena::open().await;
    let credentials = arena.mobster();
    let mut mallory = Hand::join(&credentials).await;
    let me = mallory.token();
    let ingress = mallory.wire().ingress(&me, "tips.a");
    let junk = bulk(&ingress, 10_000, |n| n.to_be_bytes().repeat(1 + n % 64));
    // It may be cut while it is still talking.
    let _cut_or_not = mallory.raw.command_bytes(junk).await;
    soon("the flooder to be cut", mallory.raw.closed()).await;
    arena
        .watch
        .event("the flooder's end", |event| {
            event.get("kind") == Some(&"connection".into())
                && event.get("agent") == Some(&me.as_str().into())
                && event.get("reason") == Some(&Reason::RateLimited.code().into())
        })
        .await;
    arena.came_to_nothing("flood with junk on its own ingress").await;
    assert!(arena.watch.said("quarantine", &me).is_empty());
    report("flood with 10,000 junk messages", By::Guard, "rate_limited: disconnected, not quarantined");

    // Denials are counted rather than repeated: far fewer events than messages.
    let told = arena.watch.said("denied", &me).len();
    assert!(told < 1_000, "{told} events of one flood");

    // It may come back after a while, and is heard.
    let mut again = Hand::join_again(&credentials).await;
    let mut key = again.open("tips", label(0, 0, 0)).await;
    let envelope = again.publish(&mut key, "tips.a", b"sorry").await;
    assert_eq!(arena.delivered().await.pop().unwrap().payload, envelope);

    // The same with control messages.
    let control = again.wire().control(&me, &again.papers.session(), verb::GRANT);
    let _cut_or_not = again.raw.command_bytes(bulk(&control, 10_000, |n| vec![0x92; n % 97])).await;
    soon("the flooder to be cut", again.raw.closed()).await;
    arena.came_to_nothing("flood with junk on its own control subject").await;
    assert!(arena.watch.said("quarantine", &me).is_empty());
    report(
        "flood with 10,000 junk control messages",
        By::Guard,
        "rate_limited: disconnected, not quarantined",
    );
    arena.close().await;
}

/// A hostile server (or leaf) can put anything on an agent's ingress. None of it is held against the agent.
#[tokio::test(flavor = "multi_thread")]
async fn an_honest_agent_framed_with_junk_stays_in_good_standing() {
    let mut arena = Arena::open().await;
    let mut server = HostileServer::enter(&mut arena.bus).await;
    let framed = arena.bus.agent("framed", "mob");
    let me = TestBus::token(&framed);
    let client = Client::connect(framed).await.unwrap();
    client.publish_confirmed("tips.a", "before").await.unwrap();
    let honest = arena.delivered().await.pop().unwrap();
    let wire = arena.canary.wire().clone();
    let (ingress, elsewhere) = (wire.ingress(&me, "tips.a"), wire.ingress(&me, "secrets.a"));

    let accomplice = arena.attacker().await;
    let mut parts = Parts::of(&honest.payload);
    let mut fields = Decoded::decode(&honest.payload).unwrap().claimed().to_fields().unwrap();
    fields.sequence += 1_000;
    parts.header = fields.encode().unwrap();
    let altered = parts.bytes();
    parts.sign(accomplice.papers.session(), &accomplice.papers.key);
    let signed_by_another = parts.bytes();
    for (attack, subject, payload, reason) in [
        ("put junk in an agent's mouth", &ingress, b"junk".to_vec(), Reason::BadEncoding),
        ("put an altered envelope in an agent's mouth", &ingress, altered, Reason::BadSignature),
        (
            "put an envelope that another signed in its mouth",
            &ingress,
            signed_by_another,
            Reason::BadSignature,
        ),
        ("replay an agent's envelope", &ingress, honest.payload.to_vec(), Reason::Replay),
        (
            "move an agent's envelope to another subject",
            &elsewhere,
            honest.payload.to_vec(),
            Reason::WrongSubject,
        ),
    ] {
        server.inject(subject, None, &payload).await.unwrap();
        arena.guard_refused(attack, &me, reason).await;
    }
    // Honest envelopes of a session, delivered under another agent's name.
    let theirs = wire.ingress(&accomplice.token(), "tips.a");
    server.inject(&theirs, None, &honest.payload).await.unwrap();
    arena
        .guard_refused(
            "put an agent's envelope in another's mouth",
            &accomplice.token(),
            Reason::UnknownSession,
        )
        .await;

    let mut events = client.events();
    server.raw.command_bytes(bulk(&ingress, 10_000, |n| vec![0x93; n % 40])).await.unwrap();
    // Its connections may be cut, because whoever floods in its name must be stopped; it comes back by itself.
    let back = async {
        loop {
            if let Some(Event::Reconnected) = events.next().await {
                break;
            }
        }
    };
    soon("the framed agent to be back", back).await;
    // The flood is three times what cuts a connection: what was under way at each cut has no verdict.
    arena.came_to_nothing("frame an honest agent with a flood of junk").await;
    let heard = async {
        loop {
            // It is held back for a moment, and told so.
            if let Err(error) = client.ready(Duration::from_secs(30)).await {
                assert_eq!(error.reason(), Some(Reason::RateLimited));
                tokio::task::yield_now().await;
                continue;
            }
            match client.publish_confirmed("tips.a", "after").await {
                Ok(_) => break,
                Err(error) => {
                    let held_back = error.reason() == Some(Reason::RateLimited);
                    let away = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::GuardUnavailable);
                    assert!(held_back || away, "{error:?}");
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), heard).await.unwrap();
    assert!(!arena.delivered().await.is_empty());
    for agent in [&me, &accomplice.token()] {
        assert!(arena.watch.said("quarantine", agent).is_empty());
    }
    report("frame an honest agent with a flood of junk", By::Guard, "dropped, never held against it");
    arena.close().await;
}

/// Too many good envelopes: a server can hold them back and deliver them at once, so the rate takes them and
/// the connection, and the agent's name stays.
#[tokio::test(flavor = "multi_thread")]
async fn who_floods_with_good_envelopes_is_slowed_and_disconnected() {
    let mut arena = Arena::open().await;
    let mut mallory = arena.attacker().await;
    let me = mallory.token();
    let mut key = mallory.open("flood", label(0, 0, 0)).await;
    // 500 are within the burst.
    let envelopes: Vec<_> = (0..4_000).map(|_| mallory.envelope(&mut key, "flood.a", b"!")).collect();
    let ingress = mallory.wire().ingress(&me, "flood.a");
    let flood = bulk(&ingress, envelopes.len(), |n| envelopes.get(n).unwrap().clone());
    let _cut_or_not = mallory.raw.command_bytes(flood).await;
    arena.watch.denied(&me, Reason::RateLimited).await;
    soon("the flooder to be cut", mallory.raw.closed()).await;
    let mut delivered = 0;
    // What waits at the intake has its share beside each barrier: more than 32.
    for _ in 0..=envelopes.len() / 32 {
        delivered += arena.delivered().await.len();
    }
    assert!((500..1_000).contains(&delivered), "the burst and what the rate lets through: {delivered}");
    arena.came_to_nothing("a flood of good envelopes").await;
    assert!(arena.watch.said("quarantine", &me).is_empty());
    report("flood with 4,000 good envelopes", By::Guard, "rate_limited, then disconnected");
    arena.close().await;
}

/// Too many slips under its own signature are the agent's own.
#[tokio::test(flavor = "multi_thread")]
async fn who_floods_with_signed_misconduct_is_quarantined() {
    let mut arena = Arena::open().await;
    let credentials = arena.mobster();
    let mut mallory = Hand::join(&credentials).await;
    let me = mallory.token();
    let key = mallory.open("notes", label(0, 0, 0)).await;
    let large = vec![7; 3_000];
    let slips: Vec<_> = (0..400)
        .map(|sequence| {
            let mut fields = mallory.fields(&key, "notes.a");
            fields.sequence = sequence;
            let mut parts = Parts::signed(&fields, mallory.papers.session(), &mallory.papers.key);
            parts.ciphertext.clone_from(&large);
            parts.sign(mallory.papers.session(), &mallory.papers.key);
            parts.bytes()
        })
        .collect();
    let ingress = mallory.wire().ingress(&me, "notes.a");
    let flood = bulk(&ingress, slips.len(), |n| slips.get(n).unwrap().clone());
    let _cut_or_not = mallory.raw.command_bytes(flood).await;
    arena.watch.denied(&me, Reason::TooBigForRule).await;
    let event = arena.watch.quarantined(&me).await;
    assert_eq!(event.get("reason"), Some(&Reason::TooBigForRule.code().into()));
    soon("the flooder to be cut", mallory.raw.closed()).await;
    arena.came_to_nothing("a flood of signed misconduct").await;
    report(
        "flood with 400 signed envelopes that are too big",
        By::Guard,
        "too_big_for_rule, then quarantined",
    );

    // Off the bus: it hears why in its lobby, and may say nothing.
    let papers = sealbus_tests::hostile::papers::Papers::new(&credentials);
    let mut lobby = Hand::connect(papers, &credentials).await.unwrap();
    let ctl = lobby.wire().control(&me, &lobby.papers.session(), verb::HELLO);
    let outcome = lobby.raw.publish_bytes(&ctl, None, "", b"let me in").await;
    arena.server_refused("speak from the lobby", outcome).await;
    arena.close().await;
}

/// What is larger than the server takes never reaches the guard.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_server_takes_is_refused_by_it() {
    let mut arena = Arena::open().await;
    let mut mallory = arena.attacker().await;
    let outcome = mallory.send("tips.a", &vec![0; (1 << 20) + 1]).await;
    assert!(outcome.unwrap_err().says("maximum payload"));
    arena.came_to_nothing("a payload above max_payload").await;
    report("send more than max_payload", By::Server, "maximum payload violation");
    let mut mallory = arena.attacker().await;
    let long = format!("SUB {} 1\r\n", "a.".repeat(4_000));
    assert!(mallory.raw.command(&long).await.unwrap_err().says("maximum control line"));
    arena.came_to_nothing("a control line above max_control_line").await;
    report("send a control line above max_control_line", By::Server, "maximum control line exceeded");
    arena.close().await;
}

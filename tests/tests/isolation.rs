//! One agent at full speed: it is cut, stays out for a while, and the others lose nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use sealbus_envelope::{
    control::{self, LobbyNotice, Open, kind, verb},
    reason::Reason,
};
use sealbus_tests::{
    bus::{TestBus, soon},
    hostile::{
        arena::{Arena, label},
        hand::Hand,
        papers::Papers,
        watch::page_that,
    },
    raw::RawClient,
};

/// The first wait of who flooded.
const WAIT: Duration = Duration::from_secs(1);

/// Many publishes in one write.
fn bulk(subject: &str, payloads: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for payload in payloads {
        bytes.extend_from_slice(format!("PUB {subject} {}\r\n", payload.len()).as_bytes());
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Floods until the connection is cut.
async fn flood(raw: &mut RawClient, bytes: &[u8]) {
    let flooding = async { while raw.command_bytes(bytes.to_vec()).await.is_ok() {} };
    soon("the flooder to be cut", flooding).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flooder_is_cut_and_stays_out_for_a_while_and_others_lose_nothing() {
    let mut arena = Arena::open().await;
    let credentials = arena.mobster();
    let mut mallory = Hand::join(&credentials).await;
    let me = mallory.token();
    let ingress = mallory.wire().ingress(&me, "tips.a");
    let junk = bulk(&ingress, (0..20_000).map(|_| vec![7; 16]));
    flood(&mut mallory.raw, &junk).await;
    let cut = Instant::now();
    let flooded = |event: &serde_json::Value| {
        event.get("kind") == Some(&"connection".into())
            && event.get("agent") == Some(&me.as_str().into())
            && event.get("detail").and_then(|detail| detail.as_str()).is_some_and(|d| d.starts_with("kicked"))
    };
    let event = arena.watch.event("the cut", flooded).await;
    assert_eq!(event.get("reason"), Some(&Reason::RateLimited.code().into()));

    // It hears why, once; after that it is refused without a word, and not at once.
    let mut lobby = Hand::connect(Papers::new(&credentials), &credentials).await.unwrap();
    let own = lobby.wire().session_box(&me, &lobby.papers.session(), kind::LOBBY);
    lobby.raw.subscribe(&own, None).await.unwrap();
    let notice: LobbyNotice = control::decode(&lobby.told(kind::LOBBY).await).unwrap();
    assert_eq!(notice.reason, Reason::RateLimited);
    if cut.elapsed() < WAIT / 2 {
        let refused = Hand::connect(Papers::new(&credentials), &credentials).await.err().unwrap();
        assert!(refused.says("authorization"), "{refused:?}");
    }

    // After the wait it is welcome, and what it says is heard.
    let mut back = Hand::join_again(&credentials).await;
    assert!(cut.elapsed() > WAIT * 8 / 10, "it was out for {:?}", cut.elapsed());
    let mut key = back.open("tips", label(0, 0, 0)).await;
    let envelope = back.publish(&mut key, "tips.a", b"sorry").await;
    assert_eq!(arena.delivered().await.pop().unwrap().payload, envelope);

    // A second flood costs it longer.
    flood(&mut back.raw, &junk).await;
    let cut = Instant::now();
    Hand::join_again(&credentials).await;
    assert!(cut.elapsed() > WAIT * 18 / 10, "it was out for {:?}", cut.elapsed());
    // One event a cut; that of the second may be still on its way.
    let cuts = arena.watch.said("connection", &me).iter().filter(|event| flooded(event)).count();
    assert!((1..=2).contains(&cuts), "{cuts}");
    assert!(arena.watch.said("quarantine", &me).is_empty(), "never held against it");
    // Nobody is held back any more, as soon as that is counted.
    let text = page_that(&arena.bus, "/metrics", |_, text| text.contains("sealbus_held_back 0")).await;
    assert!(text.contains("sealbus_intake_dropped_total{"), "{text}");
    arena.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_messages_at_full_speed_starve_nobody() {
    let mut arena = Arena::open().await;
    let credentials = arena.mobster();
    let mut mallory = Hand::join(&credentials).await;
    let me = mallory.token();
    let hello = control::encode(&mallory.hello_message(mallory.guard.unwrap(), &[])).unwrap();
    let subject = mallory.wire().control(&me, &mallory.papers.session(), verb::HELLO);
    let hellos = bulk(&subject, (0..2_000).map(|_| hello.clone()));
    flood(&mut mallory.raw, &hellos).await;
    // Somebody new gets in, says hello, opens a key and is heard, while what is left of it is worked off.
    let (mut other, mut key) = arena.publisher().await;
    other.publish(&mut key, "tips.a", b"heard").await;
    assert_eq!(arena.delivered().await.len(), 1);
    assert!(arena.watch.said("quarantine", &me).is_empty());
    arena.close().await;
}

/// What an agent says before it publishes is heard before, and its envelopes stay in order, while another floods.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_each_sender_is_kept_beside_a_flood() {
    let mut arena = Arena::open().await;
    let mut honest = arena.attacker().await;
    let me = honest.token();
    let credentials = arena.mobster();
    let mut mallory = Hand::join(&credentials).await;
    let ingress = mallory.wire().ingress(&mallory.token(), "tips.a");
    let junk = bulk(&ingress, (0..20_000).map(|_| vec![7; 16]));
    let flooding = tokio::spawn(async move {
        flood(&mut mallory.raw, &junk).await;
    });
    for _ in 0..10 {
        let mut key = honest.make_key("tips", label(0, 0, 0), None);
        let statement = honest.papers.statement(honest.guard.unwrap(), vec![key.live()]);
        let open = control::encode(&Open { statement }).unwrap();
        let control = honest.wire().control(&me, &honest.papers.session(), verb::OPEN);
        let envelopes: Vec<_> =
            (0u32..100).map(|n| honest.envelope(&mut key, "tips.a", &n.to_be_bytes())).collect();
        // In one write: nobody waits for the guard's answer to `open`.
        let mut bytes = bulk(&control, [open]);
        bytes.extend(bulk(&honest.wire().ingress(&me, "tips.a"), envelopes.clone()));
        honest.raw.command_bytes(bytes).await.unwrap();
        let mut delivered = Vec::new();
        while delivered.len() < envelopes.len() {
            let more = arena.delivered().await;
            delivered.extend(more.into_iter().map(|message| message.payload.to_vec()));
        }
        assert!(delivered == envelopes, "all, in order");
    }
    flooding.await.unwrap();
    assert!(arena.watch.said("denied", &me).is_empty());
    arena.close().await;
}

/// Who has left leaves nothing behind at the intake.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_of_who_has_left() {
    let mut bus = TestBus::start(sealbus_tests::hostile::arena::POLICY).await;
    let credentials = bus.agent("mallory", "mob");
    let mut mallory = Hand::join(&credentials).await;
    let ingress = mallory.wire().ingress(&mallory.token(), "tips.a");
    page_that(&bus, "/metrics", |_, text| text.contains("sealbus_intake_held 1")).await;
    flood(&mut mallory.raw, &bulk(&ingress, (0..5_000).map(|_| vec![7; 16]))).await;
    page_that(&bus, "/metrics", |_, text| text.contains("sealbus_intake_held 0")).await;
    bus.stop_guard().await;
}

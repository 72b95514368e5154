//! Where the policy wants it, an agent in quarantine is let in and kept busy apart.

use sealbus_envelope::control::kind;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn who_is_kept_busy_apart_reaches_nobody_and_learns_nothing() {
    let policy = format!("{POLICY}\n[anomaly]\ndivert = true\n");
    let mut scene = Scene::under(&policy, ServerSpec::default()).await;
    let mut tips = scene.tips().await;
    let (mut hand, _) = scene.join().await;
    scene.carry_out(OrderKind::Quarantine, &[0]).await;
    hand.raw.closed().await;

    // It comes back, says hello, opens a key and publishes, and nothing tells it apart from before.
    let mut hand = Hand::join(&scene.mallory).await;
    let mut key = hand.make_key("tips", label(0, 0, 0), None);
    let readers = hand.announce(&key).await;
    assert_eq!((readers.refused, readers.readers.len()), (None, 0));
    for n in 0u8..5 {
        hand.publish(&mut key, "tips.a", &[n]).await;
    }
    scene.report("evidence", |report| report.evidence.waiting == 5).await;
    // It stays though the servers are looked at a second time, and the agent counts as gone all the same.
    scene.confirmed().await;
    hand.publish(&mut key, "tips.a", b"more").await;
    let report = scene.report("evidence", |report| report.evidence.waiting == 6).await;
    assert_eq!((report.state, report.sessions), (State::Quarantined, 0));
    assert!(report.connections.iter().all(|connection| connection.lobby), "{:?}", report.connections);
    let heard = hand.heard().await;
    let told = |kind: &str| heard.iter().any(|message| message.subject.ends_with(kind));
    assert!(!told(kind::DENIED) && !told(kind::VERDICT) && !told(kind::LOBBY) && !told(kind::GRANT));
    let subject = hand.wire().delivery(sealbus_envelope::label::Level::LOWEST, "news.>");
    assert!(hand.raw.subscribe(&subject, None).await.is_err(), "no delivery reaches it");

    // Released, it is let in properly.
    scene.carry_out(OrderKind::Release, &[0, 1]).await;
    hand.raw.closed().await;
    let (mut hand, mut key) = scene.join().await;
    hand.publish(&mut key, "tips.a", b"again").await;
    assert_eq!(soon("a message", tips.next()).await.unwrap().payload(), b"again", "and nothing between");
}

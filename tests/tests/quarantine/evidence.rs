//! What is kept of an agent that is off the bus, and what becomes of it.

use super::*;

async fn replay(spec: ServerSpec) {
    let mut scene = Scene::start(spec).await;
    let mut tips = scene.tips().await;
    let (mut hand, mut key) = scene.join().await;
    hand.publish(&mut key, "tips.a", b"before").await;
    assert_eq!(soon("a message", tips.next()).await.unwrap().payload(), b"before");
    let forged = evidence(&hand, &mut key, &scene.bus.agent("victim", "mob"));
    let one = hand.envelope(&mut key, "tips.a", b"one");
    let two = hand.envelope(&mut key, "tips.a", b"two");
    // The same one twice: whatever is delivered of it is delivered once.
    at_once(&mut hand, &[forged, one.clone(), two, one]).await;
    scene.confirmed().await;
    scene
        .report("the evidence", |report| {
            report.evidence.waiting + u32::try_from(report.evidence.dropped).unwrap() == 4
        })
        .await;

    assert_eq!(
        scene.submit(&scene.signed(OrderKind::ReplayEvidence, &[0, 1])).await,
        Some(Reason::Quarantined),
        "not before it is released"
    );
    scene.carry_out(OrderKind::Release, &[0, 1]).await;
    scene.bus.kill_guard().await;
    scene.bus.start_guard().await;
    let order = scene.signed(OrderKind::ReplayEvidence, &[1, 2]);
    assert_eq!(scene.submit(&order).await, None);
    for text in [&b"one"[..], b"two"] {
        assert_eq!(soon("a message", tips.next()).await.unwrap().payload(), text);
    }
    let report = scene.report("the end of it", |report| !report.evidence.replaying).await;
    let evidence = report.evidence;
    assert_eq!((evidence.waiting, evidence.delivered), (0, 2), "{evidence:?}");
    let refused: Vec<_> = evidence.newest.iter().filter_map(|kept| kept.fate.as_deref()).collect();
    assert!(refused.contains(&"wrong_sender"), "{refused:?}");
    let told = |event: &Value| {
        event["kind"] == "evidence"
            && event["detail"].as_str().is_some_and(|told| told.contains("2 delivered"))
    };
    scene.watch.event("the replay", told).await;
    assert_eq!(scene.submit(&order).await, Some(Reason::OrderReplayed));
    let again = scene.signed(OrderKind::ReplayEvidence, &[0, 2]);
    assert_eq!(scene.submit(&again).await, Some(Reason::NoEvidence));
    // Nothing comes twice.
    let (mut hand, mut key) = scene.join().await;
    hand.publish(&mut key, "tips.a", b"after").await;
    assert_eq!(soon("a message", tips.next()).await.unwrap().payload(), b"after");
}

#[tokio::test(flavor = "multi_thread")]
async fn released_messages_reach_their_readers_once() {
    replay(ServerSpec::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn released_messages_come_back_from_the_stream() {
    replay(ServerSpec { jetstream: true, ..ServerSpec::default() }).await;
}

/// The agent is off the bus, and with the forged envelope that it is off for an honest one was kept; who reads the tips.
async fn with_one_kept() -> (Scene, Subscription) {
    let mut scene = Scene::start(ServerSpec::default()).await;
    let tips = scene.tips().await;
    let (mut hand, mut key) = scene.join().await;
    let forged = evidence(&hand, &mut key, &scene.bus.agent("victim", "mob"));
    let one = hand.envelope(&mut key, "tips.a", b"one");
    at_once(&mut hand, &[forged, one]).await;
    scene.confirmed().await;
    scene.report("the evidence", |report| report.evidence.waiting == 2).await;
    (scene, tips)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_waits_until_its_workflow_goes_on() {
    let (scene, mut tips) = with_one_kept().await;
    scene.carry_out(OrderKind::Release, &[0, 1]).await;
    scene.carry_out(OrderKind::Pause, &[0, 1]).await;
    scene.carry_out(OrderKind::ReplayEvidence, &[0, 1]).await;
    let report = scene.report("it waits", |report| report.evidence.replaying).await;
    assert_eq!((report.evidence.waiting, report.evidence.refused), (2, 0));
    scene.carry_out(OrderKind::Resume, &[0, 1]).await;
    assert_eq!(soon("a message", tips.next()).await.unwrap().payload(), b"one");
    let report = scene.report("the end of it", |report| !report.evidence.replaying).await;
    assert_eq!((report.evidence.waiting, report.evidence.delivered), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_discarded_is_delivered_never() {
    let (scene, mut tips) = with_one_kept().await;
    assert_eq!(
        scene.submit(&scene.signed(OrderKind::DiscardEvidence, &[0])).await,
        Some(Reason::OrderInvalid),
        "a quorum decides"
    );
    scene.carry_out(OrderKind::DiscardEvidence, &[0, 1]).await;
    let report = scene.report("nothing", |report| report.evidence.waiting == 0).await;
    assert_eq!((report.evidence.discarded, report.state), (2, State::Quarantined));
    scene.carry_out(OrderKind::Release, &[0, 1]).await;
    let replay = scene.signed(OrderKind::ReplayEvidence, &[0, 1]);
    assert_eq!(scene.submit(&replay).await, Some(Reason::NoEvidence));
    let (mut hand, mut key) = scene.join().await;
    hand.publish(&mut key, "tips.a", b"after").await;
    assert_eq!(soon("a message", tips.next()).await.unwrap().payload(), b"after");
}

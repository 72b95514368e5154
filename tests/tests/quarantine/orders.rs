//! From hard evidence to release, and orders that change where an agent stands.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn hard_evidence_takes_an_agent_off_and_people_let_it_back() {
    let mut scene = Scene::start(ServerSpec::default()).await;
    let mut tips = scene.tips().await;
    let (mut hand, mut key) = scene.join().await;
    hand.publish(&mut key, "tips.a", b"before").await;
    assert_eq!(soon("a message", tips.next()).await.unwrap().payload(), b"before");

    let forged = evidence(&hand, &mut key, &scene.bus.agent("victim", "mob"));
    let after: Vec<Vec<u8>> =
        [b"one", b"two"].iter().map(|text| hand.envelope(&mut key, "tips.a", *text)).collect();
    at_once(&mut hand, &[&[forged][..], &after].concat()).await;
    let event = scene.watch.quarantined(&TestBus::token(&scene.mallory)).await;
    assert_eq!(event["reason"], "wrong_sender", "{event}");
    hand.raw.closed().await;
    scene.confirmed().await;
    scene.is_kept_out().await;
    let report = scene.report("the evidence", |report| report.evidence.waiting == 3).await;
    assert_eq!((report.state, report.times), (State::Quarantined, 1));
    assert!(report.enforced.unwrap().confirmed);
    let trigger: Vec<_> = report.evidence.newest.iter().filter(|kept| kept.trigger).collect();
    assert_eq!((trigger.len(), trigger[0].reason.as_str()), (1, "wrong_sender"));
    assert_eq!(trigger[0].digest, report.cause.envelopes.first().cloned());

    // Whatever happens to the guard, it stays so.
    scene.bus.kill_guard().await;
    scene.bus.start_guard().await;
    scene.is_kept_out().await;
    let report = scene.report("the same", |report| report.evidence.waiting == 3).await;
    assert_eq!(report.state, State::Quarantined);

    // One person cannot let it back, two can, once.
    assert_eq!(
        scene.submit(&scene.signed(OrderKind::Release, &[1])).await,
        Some(Reason::OrderInvalid),
        "one of three"
    );
    assert_eq!(scene.state().await, State::Quarantined);
    let release = scene.signed(OrderKind::Release, &[1, 2]);
    assert_eq!(scene.submit(&release).await, None);
    assert_eq!(scene.submit(&release).await, Some(Reason::OrderReplayed));
    let second = scene.signed(OrderKind::Release, &[0, 1]);
    assert_eq!(scene.submit(&second).await, Some(Reason::NotQuarantined));
    let report = scene.report("the release", |report| report.state == State::Released).await;
    let order = report.cause.order.unwrap();
    assert_eq!((order.signers.len(), order.why.as_str()), (2, "a test of release"));
    let states: Vec<_> = report.history.iter().map(|step| step.state).collect();
    assert_eq!(states, [State::Quarantined, State::Released]);

    let (mut hand, mut key) = scene.join().await;
    hand.publish(&mut key, "tips.b", b"again").await;
    assert_eq!(soon("a message", tips.next()).await.unwrap().payload(), b"again", "and nothing between");

    // What was signed for the first quarantine is not used up, and ends no other.
    scene.carry_out(OrderKind::Quarantine, &[0]).await;
    assert_eq!(scene.submit(&second).await, Some(Reason::OrderExpired));
    assert_eq!(scene.state().await, State::Quarantined);
    scene.carry_out(OrderKind::Release, &[0, 1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_revoked_stays_out() {
    let mut scene = Scene::start(ServerSpec::default()).await;
    assert_eq!(
        scene.submit(&scene.signed(OrderKind::Release, &[0, 1])).await,
        Some(Reason::NotQuarantined),
        "never quarantined"
    );
    // Two sessions, one that has said hello and one that has not.
    let (mut hand, _) = scene.join().await;
    let mut silent =
        Hand::connect(sealbus_tests::hostile::papers::Papers::new(&scene.mallory), &scene.mallory)
            .await
            .unwrap();
    scene.carry_out(OrderKind::Revoke, &[2]).await;
    hand.raw.closed().await;
    silent.raw.closed().await;
    scene.confirmed().await;
    let report = scene.report("the revocation", |report| report.enforced.is_some()).await;
    assert_eq!((report.state, report.enforced.unwrap().cut), (State::Revoked, 2));
    for again in 0..2 {
        scene.is_kept_out().await;
        assert_eq!(
            scene.submit(&scene.signed(OrderKind::Release, &[0, 1])).await,
            Some(Reason::NotQuarantined),
            "{again}"
        );
        scene.bus.kill_guard().await;
        scene.bus.start_guard().await;
    }
}

/// While logins of the agent are on their way, it is taken off the bus: none of them comes to stay.
#[tokio::test(flavor = "multi_thread")]
async fn who_connects_at_that_very_moment_does_not_stay() {
    let mut scene = Scene::start(ServerSpec::default()).await;
    let mallory = scene.mallory.clone();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let storm = tokio::spawn(async move {
        let mut open = Vec::new();
        while stopped.try_recv().is_err() {
            let papers = sealbus_tests::hostile::papers::Papers::new(&mallory);
            if let Ok(hand) = Hand::connect(papers, &mallory).await {
                open.push(hand);
            }
        }
        open
    });
    scene.report_connections(3).await;
    scene.carry_out(OrderKind::Quarantine, &[0]).await;
    scene.confirmed().await;
    stop.send(()).unwrap();
    for mut hand in storm.await.unwrap() {
        // Cut, or in the lobby, which ends by itself.
        hand.raw.closed().await;
    }
}

impl Scene {
    async fn report_connections(&self, at_least: usize) {
        let counted = async {
            loop {
                let text = self.bus.metrics().render();
                let line =
                    text.lines().find(|line| line.contains(r#"connections_total{outcome="admitted"}"#));
                let count = line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
                if count.is_some_and(|count| count > at_least) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        soon("connections", counted).await;
    }
}

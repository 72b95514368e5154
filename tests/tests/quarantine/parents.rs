//! Sources that an agent makes up, told to the detector while the guard runs.

use std::time::Duration;

use sealbus_client::Publish;
use sealbus_envelope::{name::AgentToken, time::Validity, wire::Parent};
use sealbus_tests::hostile::papers::Papers;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn who_names_what_it_never_had_the_key_to_is_watched_and_who_read_it_is_not() {
    // Of an hour of warm-up a second is left, and two new readers of a key are no news.
    let policy = POLICY.replace("subscribers = [\"desk\", \"mob\"]", "subscribers = [\"desk\"]")
        + "\n[anomaly]\nwarm_up = \"1s\"\nwarm_up_messages = 1\n";
    let mut scene = Scene::under(&policy, ServerSpec::default()).await;
    let mut news = scene.rita.subscribe("news.>").await.unwrap();
    let mut read_by_mallory = scene.tips().await;

    // A source whose session began after the guard did.
    let dora = scene.bus.agent("dora", "desk");
    let papers = Papers::valid(&dora, Validity::starting(now(), 3_600_000));
    let mut dora = Hand::connect(papers, &dora).await.expect("a login");
    dora.listen().await;
    dora.hello(&[]).await;
    let mut key = dora.open("news", label(0, 0, 0)).await;
    let source = dora.publish(&mut key, "news.a", b"what happened").await;
    let item = soon("the news", news.next()).await.unwrap();
    assert_eq!(item.payload(), b"what happened");
    let source = Parent { digest: Parts::of(&source).digest(), label: label(0, 0, 0) };

    let (mut hand, mut of_mallory) = scene.join().await;
    let (honest, liar) = (AgentToken::parse(scene.rita.token()).unwrap(), hand.token());
    let mut told = Vec::new();
    let lying = async {
        while told.is_empty() {
            scene.rita.send(Publish::new("news.b", "as I read").parent(&item)).await.unwrap();
            let mut fields = hand.fields(&of_mallory, "tips.a");
            fields.parents = vec![source];
            let envelope = hand.seal(&mut of_mallory, &fields, b"as I read");
            hand.send("tips.a", &envelope).await.unwrap();
            let delivered = soon("a delivery: no check rests on it", read_by_mallory.next()).await.unwrap();
            assert_eq!(delivered.parents().len(), 1);
            told = scene.watch.said("anomaly", &liar);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    soon("what the detector makes of it", lying).await;
    let text = told[0].to_string();
    assert!(text.contains("watch") && text.contains("untrue-parents"), "{text}");
    assert_eq!(scene.report("watched", |report| report.state == State::Watched).await.agent, liar.as_str());
    let said = scene.watch.said("anomaly", &honest);
    assert!(said.is_empty(), "{said:?}");
}

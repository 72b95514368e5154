//! What it means to everybody else that an agent is taken off: nothing is lost, nobody waits in vain, and what the
//! agent holds is of no use to it.

use std::{collections::HashSet, time::Duration};

use sealbus_client::ErrorKind;
use sealbus_envelope::{identity::Role, keys::KeyId, label::Level, wire::Decoded};
use sealbus_tests::bus::everything;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_its_answer_hears_at_once() {
    let scene = Scene::start(ServerSpec::default()).await;
    let mallory = Client::connect(scene.mallory.clone()).await.unwrap();
    let mut requests = mallory.serve("ask.it").await.unwrap();
    let rita = scene.rita.clone();
    let asked = tokio::spawn(async move { rita.request("ask.it", "well?", Duration::from_secs(50)).await });
    soon("the request", requests.next()).await.unwrap();
    scene.carry_out(OrderKind::Quarantine, &[0]).await;
    let error = tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Denied, Some(Reason::ResponderQuarantined)));
    assert!(error.to_string().contains("not repeated by itself"), "{error}");
}

/// The keys of the envelopes that go to readers of `news`, as anybody on the wire sees them.
async fn keys_of(canary: &mut Hand) -> HashSet<KeyId> {
    let heard = canary.raw.arrived().await.unwrap();
    let news = heard.iter().filter(|message| message.subject.starts_with("sb.out."));
    news.map(|message| Decoded::decode(&message.payload).unwrap().claimed().key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_it_holds_go_stale_and_nothing_is_lost() {
    let mut scene = Scene::start(ServerSpec::default()).await;
    let paul = Client::connect(scene.bus.agent("paul", "desk")).await.unwrap();
    let mut read = scene.rita.subscribe("news.>").await.unwrap();
    let mut canary = Hand::join(&scene.bus.agent_with("canary", "desk", Role::Agent, everything())).await;
    let subject = canary.wire().delivery(Level::LOWEST, "news.>");
    canary.raw.subscribe(&subject, None).await.unwrap();
    // A publisher that will not hear of rekeying, and the agent that reads them all.
    let (mut mallory, _) = scene.join().await;
    assert_eq!(mallory.declare("news", "news.>", false).await, None);
    let mut stubborn = Hand::join(&scene.bus.agent("stubborn", "desk")).await;
    let mut old = stubborn.open("news", label(0, 0, 0)).await;
    stubborn.publish(&mut old, "news.a", b"0").await;
    let publish = |n: u32| {
        let paul = paul.clone();
        async move { paul.publish_confirmed("news.a", n.to_be_bytes()).await.unwrap() }
    };
    for n in 0..20 {
        publish(n).await;
    }
    let before = keys_of(&mut canary).await;

    scene.carry_out(OrderKind::Quarantine, &[0]).await;
    for n in 20..60 {
        publish(n).await;
        // All along the two seconds in which the keys go stale.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    scene.confirmed().await;
    keys_of(&mut canary).await;
    for n in 60..80 {
        publish(n).await;
    }
    let after = keys_of(&mut canary).await;
    assert!(!after.is_empty() && after.is_disjoint(&before), "what it recorded opens nothing new");
    stubborn.publish(&mut old, "news.a", b"1").await;
    scene.watch.denied(&stubborn.token(), Reason::StaleKey).await;

    let mut next = 0u32;
    while next < 80 {
        let message = soon("the news", read.next()).await.unwrap();
        if message.sender() == "paul" {
            assert_eq!(message.payload(), next.to_be_bytes(), "in order, none lost, none twice");
            next += 1;
        }
    }
}

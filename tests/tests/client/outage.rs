//! Guards and servers that go and come.

use std::time::Duration;

use sealbus_client::ErrorKind;

use super::*;

const LONG: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
async fn without_a_guard_publishing_fails_and_recovers_by_itself() {
    let mut bus = bus().await;
    let (ann, bob) = (join(&bus, "ann", "writer").await, join(&bus, "bob", "reader").await);
    let mut news = bob.subscribe("news.>").await.unwrap();
    ann.publish_confirmed("news.a", "before").await.unwrap();
    assert_eq!(next(&mut news).await.payload(), b"before");

    let mut events = ann.events();
    bus.stop_guard().await;
    event(&mut events, "the guard's absence", |event| *event == Event::GuardUnavailable).await;
    let error = ann.publish("news.a", "meanwhile").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::GuardUnavailable);

    bus.start_guard().await;
    event(&mut events, "the guard", |event| *event == Event::GuardBack).await;
    ann.ready(LONG).await.unwrap();
    bob.ready(LONG).await.unwrap();
    ann.publish_confirmed("news.a", "after").await.unwrap();
    assert_eq!(next(&mut news).await.payload(), b"after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_restarts_at_once_goes_on_where_it_was() {
    let mut bus = bus().await;
    let (ann, bob) = (join(&bus, "ann", "writer").await, join(&bus, "bob", "reader").await);
    let mut news = bob.subscribe("news.>").await.unwrap();
    for n in 0u32..6 {
        if n == 3 {
            bus.stop_guard().await;
            bus.start_guard().await;
        }
        // What was under way when the guard stopped is unknown, and the agent decides to send it again.
        while let Err(error) = soon("a verdict", ann.publish_confirmed("news.a", n.to_be_bytes())).await {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        }
        while next(&mut news).await.payload() != n.to_be_bytes() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_is_found_again() {
    let mut bus = bus().await;
    let (ann, bob) = (join(&bus, "ann", "writer").await, join(&bus, "bob", "reader").await);
    let mut news = bob.subscribe("news.>").await.unwrap();
    ann.publish_confirmed("news.a", "before").await.unwrap();
    assert_eq!(next(&mut news).await.payload(), b"before");
    let (mut to_ann, mut to_bob) = (ann.events(), bob.events());
    bus.server().restart().await;
    event(&mut to_ann, "the server", |event| *event == Event::Reconnected).await;
    event(&mut to_bob, "the server", |event| *event == Event::Reconnected).await;
    ann.ready(LONG).await.unwrap();
    bob.ready(LONG).await.unwrap();
    // Readings are declared again a moment after the welcome: what is missed until then is not for bob.
    let heard = async {
        loop {
            ann.publish_confirmed("news.a", "after").await.unwrap();
            if let Ok(Some(message)) = tokio::time::timeout(Duration::from_secs(1), news.next()).await {
                return message;
            }
        }
    };
    assert_eq!(soon("a message", heard).await.payload(), b"after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_policy_is_told_and_followed() {
    let mut bus = bus().await;
    let ann = join(&bus, "ann", "writer").await;
    let mut events = ann.events();
    assert!(ann.publish("later.a", "x").await.is_err());
    let more = r#"
[rules.later]
pattern     = "later.>"
publishers  = ["writer"]
subscribers = ["reader"]
labels      = { level = "public" }
"#;
    bus.write_policy(&format!("{POLICY}{more}"));
    event(&mut events, "the policy", |event| *event == Event::PolicyChanged { version: 2 }).await;
    assert_eq!(ann.policy_version(), Some(2));
    ann.ready(LONG).await.unwrap();
}

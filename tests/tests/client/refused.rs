//! What a client is refused, and how it is told.

use sealbus_client::{ErrorKind, Publish, Subscribe, envelope::reason::Reason};
use sealbus_tests::server::ServerSpec;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_forbids_is_told_before_it_is_sent() {
    let bus = bus().await;
    let (ann, cid) = (join(&bus, "ann", "writer").await, join(&bus, "cid", "guest").await);
    let error = cid.publish("news.a", "x").await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::NotAllowed, Some(Reason::NotPublisher)));
    let error = ann.publish("news.*", "x").await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Usage, Some(Reason::BadSubject)));
    let secret = ann.label("secret/-/untrusted").unwrap();
    let error = ann.send(Publish::new("news.a", "x").label(secret)).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::LabelOutOfRange));
    let error = ann.publish("ask.x", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAllowed);
    let error = ann.publish("findings.a", vec![0; 70_000]).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::TooBigForRule));
    assert!(ann.label("secret/-/unheard-of").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_wider_than_granted_names_what_is_granted() {
    let bus = bus().await;
    let cid = join(&bus, "cid", "guest").await;
    let error = cid.subscribe(">").await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotAllowed && error.to_string().contains("`news.>`"), "{error}");
    let error = cid.subscribe("findings.a").await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NotSubscriber));
    let queue = Subscribe::new("news.>").queue("mine");
    assert_eq!(cid.subscribe_with(queue).await.unwrap_err().reason(), Some(Reason::NotSubscriber));
    assert!(cid.serve("news.>").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_revoked_are_told_so_in_the_lobby() {
    let mut bus = bus().await;
    let credentials = bus.agent("eve", "writer");
    let eve = soon("a welcome", Client::connect(credentials.clone())).await.unwrap();
    let mut events = eve.events();
    bus.revoke(&credentials);
    event(&mut events, "the lobby", |event| matches!(event, Event::Lobby { reason: Reason::Revoked })).await;
    let error = eve.publish("news.a", "x").await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Refused, Some(Reason::Revoked)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_revoked_before_it_comes_is_told_so_too() {
    let mut bus = TestBus::prepare(POLICY, ServerSpec::default()).await;
    let credentials = bus.agent("eve", "writer");
    bus.revoke(&credentials);
    bus.start_guard().await;
    let error = soon("a refusal", Client::connect(credentials)).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Refused, Some(Reason::Revoked)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_at_once_and_an_absent_guard_is_told_apart() {
    let mut one = bus().await;
    let two = bus().await;
    let stranger = two.agent("ann", "writer");
    let text = stranger.render().replace(&two.url(), &one.url());
    let stranger = sealbus_client::Credentials::parse(&text).unwrap();
    let error = soon("a refusal", Client::connect(stranger)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    one.stop_guard().await;
    let error = soon("a refusal", Client::connect(one.agent("ann", "writer"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::GuardUnavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_nothing_can_be_reached() {
    let mut bus = TestBus::prepare(POLICY, ServerSpec::default()).await;
    let ann = bus.agent("ann", "writer");
    bus.server().process().kill().await.unwrap();
    let error = soon("a refusal", Client::connect(ann)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}

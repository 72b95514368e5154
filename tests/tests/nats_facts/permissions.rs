//! What permissions in a callout's answer mean, queue groups above all.

use sealbus_tests::{
    callout::{Answer, Callout, User},
    raw::RawClient,
    server::{ServerSpec, TestServer},
};

use crate::{agent, list, serving};

/// A server whose callout lets an agent do what the token it shows says: `subscribe` and `deny` entries.
async fn subscribing(tokens: Vec<(&'static str, Vec<String>, Vec<String>)>) -> (TestServer, Callout) {
    let server = TestServer::start(ServerSpec::default()).await;
    let callout = Callout::start(&server, move |request| {
        match tokens.iter().find(|(token, ..)| *token == request.token()) {
            Some((_, allow, deny)) => Answer::Admit(User {
                publish: vec![">".to_owned()],
                subscribe: allow.clone(),
                subscribe_deny: deny.clone(),
                ..User::default()
            }),
            None => Answer::Refuse("no such token".to_owned()),
        }
    })
    .await;
    (server, callout)
}

/// Whether the server admits each subscription; a refusal must be a permissions violation.
async fn admits(client: &mut RawClient, tries: &[(&str, Option<&str>, bool)]) {
    for &(subject, queue, expected) in tries {
        match client.subscribe(subject, queue).await {
            Ok(_) => assert!(expected, "admitted {subject} {queue:?}"),
            Err(refusal) => {
                assert!(refusal.says("permissions violation"), "{refusal:?}");
                assert!(!expected, "refused {subject} {queue:?}");
            }
        }
    }
}

/// An agent with nothing to publish must get `deny: [">"]`: an empty allow list is no restriction at all.
#[tokio::test]
async fn an_empty_permission_list_allows_everything() {
    let (server, _callout) = serving(User::new(&[], &[])).await;
    let mut anyone = agent(&server, "t").await;
    anyone.subscribe(">", None).await.unwrap();
    anyone.publish("sb.out.0.forged", "x").await.unwrap();
    anyone.publish("$JS.API.STREAM.DELETE.X", "x").await.unwrap();

    let nothing = User { publish_deny: list(&[">"]), subscribe_deny: list(&[">"]), ..User::default() };
    let (server, _callout) = serving(nothing).await;
    let mut nobody = agent(&server, "t").await;
    assert!(nobody.publish("a", "x").await.unwrap_err().says("permissions violation"));
    assert!(nobody.subscribe("a", None).await.unwrap_err().says("permissions violation"));
}

/// A wildcard subscription wider than its grant is refused whole, not narrowed.
#[tokio::test]
async fn a_subscription_wider_than_its_grant_is_refused() {
    let (server, _callout) = serving(User::new(&["x"], &["sb.out.a.>"])).await;
    let mut client = agent(&server, "t").await;
    admits(&mut client, &[("sb.out.>", None, false), ("sb.out.a.>", None, true), ("sb.out.a.b", None, true)])
        .await;
}

#[tokio::test]
async fn a_queue_grant_admits_that_queue_only() {
    let (server, _callout) = serving(User::new(&["x"], &["a.> workers"])).await;
    let mut client = agent(&server, "t").await;
    admits(
        &mut client,
        &[
            ("a.b", Some("workers"), true),
            ("a.>", Some("workers"), true),
            ("a.b", Some("other"), false),
            ("a.b", Some("workers2"), false),
            ("a.b", None, false),
            ("a.>", None, false),
            ("b", Some("workers"), false),
        ],
    )
    .await;
}

/// So a plain grant alone lets its holder join, and starve, anybody's queue group.
#[tokio::test]
async fn a_plain_grant_admits_any_queue_group() {
    let (server, _callout) = serving(User::new(&["x"], &["a.>"])).await;
    let mut client = agent(&server, "t").await;
    admits(&mut client, &[("a.b", None, true), ("a.b", Some("workers"), true), ("a.>", Some("x.y"), true)])
        .await;
}

/// The form that keeps a plain grant plain: `"a.> >"` in the deny list, on the same subject as the grant.
#[tokio::test]
async fn denying_all_queues_of_a_subject_still_admits_plain_subscriptions() {
    let user = User::new(&["a.>"], &["a.>"]).deny_subscribe(&["a.> >"]);
    let (server, _callout) = serving(user).await;
    let mut client = agent(&server, "t").await;
    admits(
        &mut client,
        &[
            ("a.b", Some("workers"), false),
            ("a.b", Some("dotted.name"), false),
            ("a.>", Some("workers"), false),
            ("a.*", Some("workers"), false),
            ("a.b", None, true),
            ("a.*", None, true),
            ("a.>", None, true),
        ],
    )
    .await;
    // The deny entry must not filter what a wildcard subscription is sent.
    client.publish("a.b", "1").await.unwrap();
    assert_eq!(client.arrived().await.unwrap().len(), 3);
}

/// `"a.> *"` is not enough: a queue name may have dots, and `*` matches one token of it.
#[tokio::test]
async fn denying_single_token_queues_lets_dotted_ones_through() {
    let user = User::new(&["x"], &["a.>"]).deny_subscribe(&["a.> *"]);
    let (server, _callout) = serving(user).await;
    let mut client = agent(&server, "t").await;
    admits(
        &mut client,
        &[("a.b", None, true), ("a.b", Some("workers"), false), ("a.b", Some("dotted.name"), true)],
    )
    .await;
}

/// A denial narrower than the grant does not stop a queue subscription that is wider than the denial.
#[tokio::test]
async fn a_queue_denial_must_be_as_wide_as_the_grant() {
    let user = User::new(&["x"], &["a.>"]).deny_subscribe(&["a.b >"]);
    let (server, _callout) = serving(user).await;
    let mut client = agent(&server, "t").await;
    admits(&mut client, &[("a.b", Some("workers"), false), ("a.*", Some("workers"), true)]).await;
}

/// One entry for all plain grants together, for agents without any queue grant.
#[tokio::test]
async fn one_entry_denies_every_queue_everywhere() {
    let user = User::new(&["x"], &["a.>", "b", "c.*.d"]).deny_subscribe(&["> >"]);
    let (server, _callout) = serving(user).await;
    let mut client = agent(&server, "t").await;
    for subject in ["a.b", "a.>", "b", "c.x.d", "c.*.d"] {
        admits(&mut client, &[(subject, Some("workers"), false), (subject, None, true)]).await;
    }
}

/// Plain and queue-only grants that do not overlap stand beside each other.
#[tokio::test]
async fn disjoint_plain_and_queue_grants_work_together() {
    let user = User::new(&["x"], &["a.>", "b.> workers"]).deny_subscribe(&["a.> >"]);
    let (server, _callout) = serving(user).await;
    let mut client = agent(&server, "t").await;
    admits(
        &mut client,
        &[
            ("a.b", None, true),
            ("a.b", Some("workers"), false),
            ("b.c", Some("workers"), true),
            ("b.c", Some("other"), false),
            ("b.c", None, false),
        ],
    )
    .await;
}

/// Where they overlap, the plain grant's queue denial wins over the queue grant: the worker is locked out.
#[tokio::test]
async fn a_plain_grants_queue_denial_kills_an_overlapping_queue_grant() {
    let user = User::new(&["x"], &["a.>", "a.b workers"]).deny_subscribe(&["a.> >"]);
    let (server, _callout) = serving(user).await;
    let mut client = agent(&server, "t").await;
    admits(&mut client, &[("a.b", None, true), ("a.b", Some("workers"), false)]).await;
}

/// Without the denial, the queue grant guards its own subject only; through the wider plain grant its holder
/// may join any group, and groups are one by name across subjects: it steals the work.
#[tokio::test]
async fn a_wider_plain_grant_without_a_denial_steals_from_a_queue() {
    let (server, _callout) = subscribing(vec![
        ("worker", list(&["a.b workers"]), vec![]),
        ("thief", list(&["a.>", "a.b gang"]), vec![]),
    ])
    .await;
    let (mut worker, mut thief) = (agent(&server, "worker").await, agent(&server, "thief").await);
    worker.subscribe("a.b", Some("workers")).await.unwrap();
    admits(
        &mut thief,
        &[("a.b", Some("gang"), true), ("a.b", Some("workers"), false), ("a.*", Some("workers"), true)],
    )
    .await;
    let sid = thief.subscribe("a.>", Some("workers")).await.unwrap();

    for n in 0..64 {
        worker.publish("a.b", &n.to_string()).await.unwrap();
    }
    let honest = worker.arrived().await.unwrap().len();
    let stolen = thief.arrived().await.unwrap().iter().filter(|message| message.sid >= sid - 1).count();
    assert!(stolen > 0 && honest + stolen == 64, "{honest} honest, {stolen} stolen");
}

/// The form for overlapping grants: no plain grant at all. Who may read everything gets a queue of its own,
/// named for the session, which behaves like a plain subscription; then allow lists alone decide.
#[tokio::test]
async fn a_queue_of_ones_own_replaces_a_plain_grant_and_overlaps_cleanly() {
    let (server, _callout) = subscribing(vec![
        ("both", list(&["a.> session-1", "a.b workers"]), vec![]),
        ("reader", list(&["a.> session-2"]), vec![]),
    ])
    .await;
    let (mut both, mut reader) = (agent(&server, "both").await, agent(&server, "reader").await);
    admits(
        &mut both,
        &[
            ("a.>", None, false),
            ("a.b", None, false),
            ("a.>", Some("workers"), false),
            ("a.*", Some("workers"), false),
            ("a.c", Some("workers"), false),
            ("a.b", Some("other"), false),
            ("a.>", Some("session-2"), false),
            ("a.>", Some("session-1"), true),
            ("a.b", Some("workers"), true),
        ],
    )
    .await;
    reader.subscribe("a.>", Some("session-2")).await.unwrap();
    both.publish("a.b", "x").await.unwrap();
    // Once for the session's own queue, once for the group it alone is in.
    assert_eq!(both.arrived().await.unwrap().len(), 2);
    assert_eq!(reader.arrived().await.unwrap().len(), 1);
}

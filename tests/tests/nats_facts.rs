//! What Sealbus relies on nats-server to do, tried on the real one. If a newer server fails a test here, a
//! promise in the threat model hangs on it: read the test's comment before changing anything.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

use std::time::Duration;

use futures_util::StreamExt;
use nkeys::KeyPair;
use sealbus_guard::natsserver::{Tenant, TenantUser, check_version, parse_version};
use sealbus_tests::{
    callout::{Answer, Callout, Request, User},
    raw::{RawClient, Refusal, nkey, session},
    server::{ServerSpec, TestServer, user_key},
};
use serde_json::{Value, json};

/// A server whose callout makes `user` of everyone.
async fn serving(user: User) -> (TestServer, Callout) {
    let server = TestServer::start(ServerSpec::default()).await;
    let callout = Callout::start(&server, move |_| Answer::Admit(user.clone())).await;
    (server, callout)
}

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

fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|entry| (*entry).to_owned()).collect()
}

async fn agent(server: &TestServer, token: &str) -> RawClient {
    RawClient::connect(&server.address(), session(token, &KeyPair::new_user())).await.unwrap()
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

// --- permissions -------------------------------------------------------------------------------------------

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

// --- logging in --------------------------------------------------------------------------------------------

/// Token, signature and nonce reach the guard together only this way: `auth_token` and `sig`, no `nkey`.
#[tokio::test]
async fn the_callout_sees_token_signature_and_nonce() {
    let (server, mut callout) = serving(User::new(&["x"], &["x"])).await;
    let key = KeyPair::new_user();
    let client = RawClient::connect(&server.address(), session("the token", &key)).await.unwrap();
    let request = callout.request().await;
    assert_eq!(request.token(), "the token");
    assert_eq!(Some(request.nonce()), client.info()["nonce"].as_str());
    assert_eq!(request.nonce().len(), 15);
    let signature = data_encoding::BASE64URL_NOPAD.decode(request.signature().as_bytes()).unwrap();
    key.verify(request.nonce().as_bytes(), &signature).unwrap();
    assert_eq!(request.client_id(), client.id());
    assert_eq!(Some(request.server_id()), client.info()["server_id"].as_str());
    assert_eq!(request.text("/nats/server_id/name"), "sealbus-dev");
    assert_eq!(request.text("/nats/client_info/kind"), "Client");
    assert_eq!(request.text("/nats/client_info/type"), "nats");

    // Without a signature there is no nonce in the request either.
    RawClient::connect(&server.address(), |_| json!({ "auth_token": "bare" })).await.unwrap();
    let request = callout.request().await;
    assert_eq!((request.token(), request.signature(), request.nonce()), ("bare", "", ""));
}

/// The same with async-nats, which is what agents use.
#[tokio::test]
async fn async_nats_sends_token_and_signature() {
    let (server, mut callout) = serving(User::new(&["a"], &["a"])).await;
    let key = std::sync::Arc::new(KeyPair::new_user());
    let signer = std::sync::Arc::clone(&key);
    let client = async_nats::ConnectOptions::with_auth_callback(move |nonce| {
        let signature = signer.sign(&nonce).unwrap();
        async move {
            let mut auth = async_nats::Auth::new();
            (auth.token, auth.signature) = (Some("the token".to_owned()), Some(signature));
            Ok(auth)
        }
    })
    .connect(server.url())
    .await
    .unwrap();
    let request = callout.request().await;
    assert_eq!((request.token(), request.nonce().len()), ("the token", 15));
    let signature = data_encoding::BASE64URL_NOPAD.decode(request.signature().as_bytes()).unwrap();
    key.verify(request.nonce().as_bytes(), &signature).unwrap();
    let mut own = client.subscribe("a").await.unwrap();
    client.publish("a", "x".into()).await.unwrap();
    assert_eq!(own.next().await.unwrap().payload, "x");
}

/// A session outlives a configuration reload: the server asks once more, with the nonce and signature of the
/// start, so the guard must not take a nonce it has seen for a replay on the same connection.
#[tokio::test]
async fn a_session_survives_a_reload() {
    let (mut server, mut callout) = serving(User::new(&["a"], &["a"])).await;
    let mut client = agent(&server, "t").await;
    client.subscribe("a", None).await.unwrap();
    let first = callout.request().await;

    server.process().reload_with(|config| config.limits.max_connections += 1).await.unwrap();
    client.publish("a", "still here").await.unwrap();
    assert_eq!(client.arrived().await.unwrap().len(), 1);

    let again = callout.request().await;
    assert_eq!(
        (again.client_id(), again.nonce(), again.signature()),
        (first.client_id(), first.nonce(), first.signature())
    );
    assert_eq!(again.token(), "t");
    assert_ne!(again.user(), first.user());
    assert!(callout.seen().is_none());
}

/// Two ways to lose every agent at a reload: an answer with a `name`, and an `nkey` in CONNECT.
#[tokio::test]
async fn a_named_answer_and_an_nkey_in_connect_are_dropped_at_a_reload() {
    let mut server = TestServer::start(ServerSpec::default()).await;
    let _callout = Callout::start(&server, |request| {
        let name = (request.token() == "named").then(|| "agent".to_owned());
        Answer::Admit(User { name, ..User::new(&["a"], &["a"]) })
    })
    .await;
    let mut plain = agent(&server, "plain").await;
    let mut named = agent(&server, "named").await;
    let mut keyed = RawClient::connect(&server.address(), nkey(&KeyPair::new_user())).await.unwrap();
    for client in [&mut plain, &mut named, &mut keyed] {
        client.publish("a", "here").await.unwrap();
    }

    server.process().reload_with(|config| config.limits.max_connections += 1).await.unwrap();
    named.closed().await;
    keyed.closed().await;
    plain.publish("a", "still here").await.unwrap();
}

/// What a compromised session can do with its JWT ends with the JWT.
#[tokio::test]
async fn the_expiry_of_the_users_jwt_is_enforced() {
    let user = User { valid: Some(Duration::from_secs(2)), ..User::new(&["a"], &["a"]) };
    let (server, _callout) = serving(user).await;
    let mut client = agent(&server, "t").await;
    client.publish("a", "x").await.unwrap();
    assert!(client.closed().await.says("user authentication expired"));

    let expired = User { valid: Some(Duration::ZERO), ..User::new(&["a"], &["a"]) };
    let (server, _callout) = serving(expired).await;
    let refused = RawClient::connect(&server.address(), session("t", &KeyPair::new_user())).await;
    assert!(refused.err().unwrap().says("user authentication expired"));
}

/// No guard, no connection; those who are in stay; the on-call engineer gets in.
#[tokio::test]
async fn without_a_guard_nobody_new_gets_in_but_break_glass() {
    let (server, callout) = serving(User::new(&["a"], &["a"])).await;
    let mut early = agent(&server, "t").await;
    drop(callout);
    let _deaf = Callout::start(&server, |_| Answer::Silence).await;
    let late = RawClient::connect(&server.address(), session("t", &KeyPair::new_user())).await;
    assert!(late.err().unwrap().says("authorization violation"));
    early.publish("a", "x").await.unwrap();

    let address = server.address();
    let mut engineer = RawClient::connect(&address, nkey(&server.keys().break_glass)).await.unwrap();
    engineer.subscribe("sb.events.>", None).await.unwrap();
    engineer.subscribe("sb.audit.>", None).await.unwrap();
    for subject in ["sb.in.>", "sb.out.>", "sb.box.>", ">", "$SYS.>", "_INBOX.>"] {
        assert!(engineer.subscribe(subject, None).await.is_err(), "{subject}");
    }
    for subject in ["sb.events.x", "sb.out.0.x", "$SYS.REQ.USER.AUTH", "a"] {
        assert!(engineer.publish(subject, "x").await.is_err(), "{subject}");
    }
}

/// Anonymous, password and unknown logins are all put to the guard, never let in by the server itself.
#[tokio::test]
async fn whoever_is_not_in_the_configuration_is_put_to_the_guard() {
    let server = TestServer::start(ServerSpec::default()).await;
    let mut callout = Callout::start(&server, |_| Answer::Refuse("nobody".to_owned())).await;
    let guard = server.keys().guard.public_key();
    let logins = [json!({}), json!({ "user": "a", "pass": "b" }), json!({ "auth_token": "t" })];
    for login in logins {
        let refused = RawClient::connect(&server.address(), |_| login).await;
        assert!(refused.err().unwrap().says("authorization violation"));
        callout.request().await;
    }
    // Naming the guard's login without its key gets nobody in. As an nkey it is refused at once; as a user name
    // it reaches the guard, in a field that looks like the server's own finding and is the client's claim.
    let forged = json!({ "nkey": guard, "sig": "AAAA" });
    let refused = RawClient::connect(&server.address(), |_| forged).await;
    assert!(refused.err().unwrap().says("authorization violation"));
    assert!(callout.seen().is_none());
    let refused = RawClient::connect(&server.address(), |_| json!({ "user": guard })).await;
    assert!(refused.err().unwrap().says("authorization violation"));
    assert_eq!(callout.request().await.text("/nats/client_info/user"), guard);
}

/// Other tenants of the server never meet the guard, and do not see the bus.
#[tokio::test]
async fn a_tenant_logs_in_without_the_guard() {
    let key = KeyPair::new_user();
    let user = TenantUser { key: user_key(&key), publish: list(&["t.>"]), subscribe: vec![] };
    let spec = ServerSpec::with(move |config| {
        config.tenants = vec![Tenant { account: "OTHER".to_owned(), users: vec![user] }];
    });
    let server = TestServer::start(spec).await;
    let mut callout = Callout::start(&server, |_| Answer::Refuse("nobody".to_owned())).await;
    let mut tenant = RawClient::connect(&server.address(), nkey(&key)).await.unwrap();
    tenant.publish("t.x", "x").await.unwrap();
    tenant.publish("sb.in.0.a", "x").await.unwrap_err();
    // Its empty list was rendered as a denial.
    tenant.subscribe("t.x", None).await.unwrap_err();
    assert!(callout.seen().is_none());
}

// --- the guard's logins ------------------------------------------------------------------------------------

#[tokio::test]
async fn the_guard_may_do_its_work_and_no_more() {
    let server = TestServer::start(ServerSpec::default()).await;
    let mut guard = RawClient::connect(&server.address(), nkey(&server.keys().guard)).await.unwrap();
    for subject in ["sb.out.3.a.b", "sb.box.a.s.grant", "sb.all.7", "sb.events.denied", "sb.audit.checkpoint"]
    {
        guard.publish(subject, "x").await.unwrap();
    }
    for subject in ["sb.in.>", "sb.ctl.>", "$SYS.REQ.USER.AUTH"] {
        guard.subscribe(subject, None).await.unwrap();
    }
    // It cannot speak where the server attests an agent, and in this bus there are no streams to manage.
    for subject in ["sb.in.0.agent.x", "sb.ctl.0.agent.s.hello", "$JS.API.INFO", "$SYS.REQ.USER.AUTH", "x"] {
        assert!(guard.publish(subject, "x").await.is_err(), "{subject}");
    }
    assert!(guard.subscribe(">", None).await.is_err());
}

/// Asks in the system account, and returns the answer's `data`, or its `error`.
async fn ask(system: &async_nats::Client, subject: String, body: Value) -> Result<Value, Value> {
    let answer = system.request(subject, body.to_string().into()).await.unwrap();
    let mut answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    if answer["error"].is_null() { Ok(answer["data"].take()) } else { Err(answer["error"].take()) }
}

fn client_ids(connz: &Value) -> Vec<u64> {
    connz["connections"].as_array().unwrap().iter().map(|c| c["cid"].as_u64().unwrap()).collect()
}

/// Quarantine: find the connections, cut one, see that it is gone.
#[tokio::test]
async fn the_system_login_kicks_by_client_id_and_lists_connections() {
    let (server, mut callout) = serving(User::new(&["a"], &["a"])).await;
    let mut doomed = agent(&server, "doomed").await;
    let request: Request = callout.request().await;
    let mut other = agent(&server, "other").await;
    let system = server.system().await;
    let mut left = system.subscribe("$SYS.ACCOUNT.BUS.DISCONNECT").await.unwrap();
    let id = request.server_id();

    // The same list two ways: from one server by id, and from all of them.
    let of_the_bus = json!({ "auth": true, "acc": "BUS", "state": 0, "limit": 65536 });
    let connz = ask(&system, format!("$SYS.REQ.SERVER.{id}.CONNZ"), of_the_bus.clone()).await.unwrap();
    assert_eq!(connz["limit"], 65536);
    let mut ids = client_ids(&connz);
    ids.sort_unstable();
    let guard = ids.iter().find(|cid| ![doomed.id(), other.id()].contains(cid)).copied();
    assert_eq!(ids.len(), 3, "the guard and two agents: {connz}");
    let everywhere = ask(&system, "$SYS.REQ.SERVER.PING.CONNZ".to_owned(), of_the_bus.clone()).await.unwrap();
    assert_eq!(client_ids(&everywhere).len(), 3);
    // Users are redacted: the client id is the only way to tell whose connection it is.
    let shown = connz["connections"].as_array().unwrap().iter().find(|c| c["cid"] == doomed.id()).unwrap();
    assert_eq!((&shown["authorized_user"], &shown["account"]), (&json!("[REDACTED]"), &json!("BUS")));

    // One client by id, and one that is not there: an empty list, not an error.
    let one = |cid: u64| json!({ "cid": cid });
    let connz = ask(&system, format!("$SYS.REQ.SERVER.{id}.CONNZ"), one(doomed.id())).await.unwrap();
    assert_eq!(client_ids(&connz), [doomed.id()]);

    // A page: `limit` and `offset`; `total` counts all.
    let page = json!({ "auth": true, "acc": "BUS", "limit": 1, "offset": 1 });
    let connz = ask(&system, format!("$SYS.REQ.SERVER.{id}.CONNZ"), page).await.unwrap();
    assert_eq!((client_ids(&connz).len(), &connz["total"]), (1, &json!(3)));

    // KICK needs a reply subject, or the server does not act on it.
    let kick = format!("$SYS.REQ.SERVER.{id}.KICK");
    system.publish(kick.clone(), one(doomed.id()).to_string().into()).await.unwrap();
    let connz = ask(&system, format!("$SYS.REQ.SERVER.{id}.CONNZ"), of_the_bus.clone()).await.unwrap();
    assert_eq!(client_ids(&connz).len(), 3);
    doomed.publish("a", "alive").await.unwrap();

    assert_eq!(ask(&system, kick.clone(), one(doomed.id())).await, Ok(Value::Null));
    doomed.closed().await;
    assert!(doomed.publish("a", "x").await.is_err());
    let event: Value = serde_json::from_slice(&left.next().await.unwrap().payload).unwrap();
    assert_eq!((&event["client"]["id"], &event["reason"]), (&json!(doomed.id()), &json!("Kicked")));
    let gone = ask(&system, kick, one(doomed.id())).await.unwrap_err();
    assert_eq!(gone["description"], "no such client or leafnode id");

    let connz = ask(&system, format!("$SYS.REQ.SERVER.{id}.CONNZ"), of_the_bus).await.unwrap();
    let mut ids = client_ids(&connz);
    ids.sort_unstable();
    let mut stayed = vec![guard.unwrap(), other.id()];
    stayed.sort_unstable();
    assert_eq!(ids, stayed);
    let closed = json!({ "auth": true, "acc": "BUS", "state": 1, "limit": 65536 });
    let connz = ask(&system, format!("$SYS.REQ.SERVER.{id}.CONNZ"), closed).await.unwrap();
    assert_eq!(
        (client_ids(&connz), &connz["connections"][0]["reason"]),
        (vec![doomed.id()], &json!("Kicked"))
    );
    other.publish("a", "x").await.unwrap();
}

/// Which servers there are: each answers the ping with its id.
#[tokio::test]
async fn the_system_login_learns_server_ids() {
    let server = TestServer::start(ServerSpec::default()).await;
    let mut probe = RawClient::connect(&server.address(), nkey(&server.keys().system)).await.unwrap();
    let own = probe.info()["server_id"].clone();
    let system = server.system().await;
    for subject in ["$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.STATSZ", "$SYS.REQ.SERVER.PING.IDZ"] {
        let answer = system.request(subject, "".into()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer["server"]["id"] == own || answer["id"] == own, "{subject}: {answer}");
    }
    // And nothing else of the system account.
    for subject in [
        "$SYS.REQ.SERVER.PING.VARZ",
        "$SYS.REQ.SERVER.PING.SUBSZ",
        "$SYS.REQ.SERVER.X.RELOAD",
        "$SYS.REQ.SERVER.X.LDM",
        "$SYS.REQ.ACCOUNT.BUS.CONNZ",
        "$SYS.REQ.CLAIMS.UPDATE",
        "_INBOX_sealbus.x",
    ] {
        assert!(probe.publish(subject, "{}").await.is_err(), "{subject}");
    }
    for subject in [">", "$SYS.>", "$SYS.ACCOUNT.*.CONNECT", "_INBOX.>", "$SYS.SERVER.*.STATSZ"] {
        assert!(probe.subscribe(subject, None).await.is_err(), "{subject}");
    }
    probe.subscribe("$SYS.ACCOUNT.BUS.CONNECT", None).await.unwrap();
}

/// The guard judges the live server by this field before it trusts what it attests.
#[tokio::test]
async fn info_and_callout_carry_the_version() {
    let (server, mut callout) = serving(User::new(&["x"], &["x"])).await;
    let client = agent(&server, "t").await;
    let version = parse_version(client.info()["version"].as_str().unwrap()).unwrap();
    check_version(&version).unwrap();
    let request = callout.request().await;
    assert_eq!(parse_version(request.text("/nats/server_id/version")).unwrap(), version);
    let guard = server.guard().await;
    assert_eq!(parse_version(&guard.server_info().version).unwrap(), version);
}

//! Who gets in, how, and for how long.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use nkeys::KeyPair;
use sealbus_guard::natsserver::{LeafListener, ListenPort, Tenant, TenantUser};
use sealbus_tests::{
    callout::{Answer, Callout, User, round_trip},
    raw::{RawClient, nkey, session},
    server::{ServerSpec, TestServer, user_key},
};
use serde_json::{Value, json};

use crate::{agent, list, serving};

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

/// The callout issuer's key administers the server: an answer may place anyone in the system account. Hence it
/// is kept like a root key, and the guard's answers name the bus's account and no other.
#[tokio::test]
async fn the_callout_issuer_can_mint_system_users() {
    let (server, _callout) = serving(User { account: Some("SYS".to_owned()), ..User::default() }).await;
    let mut anyone = agent(&server, "t").await;
    anyone.subscribe("$SYS.>", None).await.unwrap();
    anyone.publish("$SYS.REQ.SERVER.PING.VARZ", "").await.unwrap();
}

/// Limits inside the user JWT are decoration: what protects the server is its own configuration.
#[tokio::test]
async fn limits_in_the_users_jwt_are_not_enforced_but_the_servers_are() {
    let server = TestServer::start(ServerSpec::with(|config| {
        config.limits.max_payload = 64 * 1024;
        config.limits.max_subscriptions = 3;
    }))
    .await;
    let user = User { limits: Some((1, 10)), ..User::new(&["a"], &["a"]) };
    let _callout = Callout::start(&server, move |_| Answer::Admit(user.clone())).await;
    let mut client = agent(&server, "t").await;
    client.publish("a", "more than ten bytes").await.unwrap();
    for _ in 0..3 {
        client.subscribe("a", None).await.unwrap();
    }
    assert!(client.subscribe("a", None).await.unwrap_err().says("maximum subscriptions exceeded"));
    let too_much = "x".repeat(64 * 1024 + 1);
    assert!(client.publish("a", &too_much).await.unwrap_err().says("maximum payload violation"));
}

/// Credential and certificate travel in CONNECT, which is one protocol line.
#[tokio::test]
async fn connect_must_fit_into_a_control_line() {
    let (server, mut callout) = serving(User::new(&["a"], &["a"])).await;
    let address = server.address();
    let (key, fits, too_long) = (KeyPair::new_user(), "t".repeat(3700), "t".repeat(4096));
    RawClient::connect(&address, session(&fits, &key)).await.unwrap();
    assert_eq!(callout.request().await.token().len(), 3700);
    let refused = RawClient::connect(&address, session(&too_long, &key)).await.err().unwrap();
    assert!(refused.says("maximum control line exceeded"), "{refused:?}");
    assert!(callout.seen().is_none());
}

/// A leaf's login takes events and audit away and brings nothing in, works nowhere else, and nobody else's works
/// at the leaf port.
#[tokio::test]
async fn a_leaf_takes_evidence_away_and_brings_nothing_in() {
    let key = KeyPair::new_user();
    let user = user_key(&key);
    let mut server = TestServer::start(ServerSpec::with(move |config| {
        let host = config.host.clone();
        config.leaf = Some(LeafListener { host, port: ListenPort::Any, users: vec![user] });
    }))
    .await;
    let log = server.process().log_tail();
    let at_leaf = log.lines().find_map(|line| line.split_once("leafnode connections on ")).unwrap().1;
    let mut callout = Callout::start(&server, |_| Answer::Admit(User::new(&["a"], &["a"]))).await;

    // How a leaf node introduces itself; the server tells a client by its `lang`.
    fn as_leaf(key: &KeyPair) -> impl FnOnce(&str) -> Value {
        let signed = nkey(key);
        move |nonce: &str| {
            let mut fields = signed(nonce);
            (fields["lang"], fields["name"], fields["version"]) = (json!(""), json!("leaf"), json!("2.15.1"));
            fields
        }
    }
    let mut leaf = RawClient::connect(at_leaf, as_leaf(&key)).await.unwrap();
    // Wildcards are not checked when subscribed, but what is delivered is.
    for subject in ["sb.events.>", "sb.audit.checkpoint", "sb.>", "$SYS.>"] {
        leaf.command(&format!("LS+ {subject}\r\n")).await.unwrap();
    }
    let guard = server.guard().await;
    let mut evidence = guard.subscribe("sb.events.>").await.unwrap();
    for subject in ["sb.events.a", "sb.audit.checkpoint", "sb.audit.b", "sb.out.0.x", "sb.box.a", "sb.all.0"]
    {
        guard.publish(subject, "x".into()).await.unwrap();
    }
    round_trip(&guard).await;
    leaf.command("").await.unwrap();
    assert_eq!(leaf.subjects(), ["sb.events.a", "sb.audit.checkpoint", "sb.audit.b"]);
    assert_eq!(evidence.next().await.unwrap().subject.as_str(), "sb.events.a");

    for line in ["LS+ sb.in.0.agent.x\r\n", "LS+ $SYS.REQ.USER.AUTH\r\n"] {
        let mut leaf = RawClient::connect(at_leaf, as_leaf(&key)).await.unwrap();
        let refusal = leaf.command(line).await.unwrap_err();
        assert!(refusal.says("permissions violation for subscription"), "{line} {refusal:?}");
    }
    for subject in ["sb.events.forged", "sb.in.0.agent.x", "$SYS.REQ.USER.AUTH"] {
        let mut leaf = RawClient::connect(at_leaf, as_leaf(&key)).await.unwrap();
        let refusal = leaf.command(&format!("LMSG {subject} 1\r\nx\r\n")).await.unwrap_err();
        assert!(refusal.says("permissions violation for publish"), "{subject} {refusal:?}");
    }
    round_trip(&guard).await;
    assert!(evidence.next().now_or_never().is_none());

    assert!(
        RawClient::connect(&server.address(), nkey(&key)).await.is_err(),
        "a leaf's key at the client port"
    );
    assert!(
        RawClient::connect(at_leaf, as_leaf(&server.keys().guard)).await.is_err(),
        "the guard's at the leaf port"
    );
    assert!(callout.seen().is_none());
}

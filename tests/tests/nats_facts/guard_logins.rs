//! What the guard's two logins can do, and what they cannot.

use futures_util::StreamExt;
use sealbus_guard::natsserver::{check_version, parse_version};
use sealbus_tests::{
    callout::{Request, User},
    raw::{RawClient, nkey},
    server::{ServerSpec, TestServer},
};
use serde_json::{Value, json};

use crate::{agent, serving};

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

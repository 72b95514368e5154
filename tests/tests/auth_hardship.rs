//! The authenticator when things go wrong: slow and hostile connections, reloads, restarts of server and guard,
//! quarantine.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{sync::Arc, time::Duration};

use sealbus_envelope::reason::{Reason, Refused};
use sealbus_guard::{
    bus::auth::Outcome,
    quarantine::{
        cut::cut_off,
        enforce::{EnforceError, Enforcer},
        state::{Cause, Change, State},
    },
};
use sealbus_tests::{
    authenticator::{TestAuth, TestBus, now},
    raw::{RawClient, nkey},
    server::{ServerSpec, TestServer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const POLICY: &str = r#"
levels = ["low"]
integrity = ["untrusted"]

[teams.writers]
clearance = { level = "low" }

[rules.news]
pattern = "news.>"
publishers = ["writers"]
subscribers = ["writers"]
labels = { level = "low" }
"#;

const WIDER: &str = r#"
levels = ["low"]
integrity = ["untrusted"]

[teams.writers]
clearance = { level = "low" }
[teams.others]
clearance = { level = "low" }

[rules.news]
pattern = "news.>"
publishers = ["writers"]
subscribers = ["writers"]
labels = { level = "low" }

[rules.talk]
pattern = "talk.>"
publishers = ["others"]
subscribers = ["others"]
labels = { level = "low" }
"#;

async fn start() -> (TestServer, TestBus, TestAuth) {
    let server = TestServer::start(ServerSpec::default()).await;
    let bus = TestBus::fresh();
    let auth = TestAuth::start(&server, &bus, POLICY).await;
    (server, bus, auth)
}

/// Hundreds of connections that send half a CONNECT, nonsense, a token too long, or nothing at all: honest
/// agents get in meanwhile, in their own time.
#[tokio::test]
async fn hostile_connections_do_not_hold_up_honest_ones() {
    let (server, bus, mut auth) = start().await;
    let huge = format!("CONNECT {{\"auth_token\":\"{}\"}}\r\n", "x".repeat(5_000));
    let token = bus.agent("scribe", "writers").auth_token();
    let forged = format!("CONNECT {{\"auth_token\":\"{token}\",\"sig\":\"{}\"}}\r\nPING\r\n", "A".repeat(86));
    let texts: Vec<String> = vec![
        "CONNECT {\"auth_to".into(),
        "\0\u{1}garbage\r\n\r\n".into(),
        huge,
        forged,
        "CONNECT {\"auth_token\":\"x\",\"user\":\"u\",\"pass\":\"p\",\"jwt\":\"j\"}\r\nPING\r\n".into(),
        String::new(),
    ];
    let mut open = Vec::new();
    for n in 0..300 {
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        let text = texts.get(n % texts.len()).unwrap();
        let _ = socket.write_all(text.as_bytes()).await;
        open.push(socket);
    }
    let start = std::time::Instant::now();
    for _ in 0..10 {
        bus.agent("scribe", "writers").connect(&server).await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let mut admitted = 0;
    while admitted < 10 {
        match auth.decision().await.outcome {
            Outcome::Admitted => admitted += 1,
            outcome => assert_eq!(outcome, Outcome::Refused),
        }
    }
    let counts = auth.auth.counts();
    assert_eq!((counts.admitted, counts.bad, counts.dropped), (10, 0, 0));
    // The server itself ends the silent ones after its own time.
    let mut silent = open.pop().unwrap();
    let mut all = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), silent.read_to_end(&mut all)).await.unwrap().unwrap();
}

#[tokio::test]
async fn agents_survive_a_reload_and_are_asked_about_again() {
    let (mut server, bus, mut auth) = start().await;
    let (stays, goes) = (bus.agent("stays", "writers"), bus.agent("goes", "writers"));
    let (mut staying, mut going) =
        (stays.connect(&server).await.unwrap(), goes.connect(&server).await.unwrap());
    auth.decision().await;
    auth.decision().await;
    auth.core.set_status(Some(bus.status(&[goes.identity.public()], 3_600_000)));
    server.process().reload_with(|config| config.limits.max_connections += 1).await.unwrap();
    going.closed().await;
    let subject = bus.wire.ingress(stays.token(), "news.x");
    staying.publish(&subject, "still here").await.unwrap();
    let (first, second) = (auth.decision().await, auth.decision().await);
    assert!(first.again && second.again);
    let mut outcomes = [first, second].map(|decision| (decision.agent.unwrap(), decision.outcome));
    outcomes.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(outcomes.map(|(_, outcome)| outcome), [Outcome::Refused, Outcome::Admitted]);
    assert_eq!(auth.departure().await.agent, *goes.token());
    assert_eq!(auth.auth.live_count(), 1);
}

/// A guard that comes back knows whose connections are whose, cuts those it cannot account for, and keeps the
/// one-connection rule.
#[tokio::test]
async fn a_restarted_guard_knows_its_connections() {
    let (server, bus, mut auth) = start().await;
    let agent = bus.agent("scribe", "writers");
    let mut client = agent.connect(&server).await.unwrap();
    auth.decision().await;
    auth.stop().await;
    // Nobody gets in meanwhile.
    assert!(bus.agent("late", "writers").connect(&server).await.is_err());

    let mut auth = TestAuth::start(&server, &bus, POLICY).await;
    assert_eq!(auth.auth.connection_of(&agent.session_id()).unwrap().id.client, client.id());
    client.publish(&bus.wire.ingress(agent.token(), "news.x"), "never noticed").await.unwrap();
    assert!(agent.connect(&server).await.is_err());
    assert_eq!(auth.decision().await.reason.unwrap().reason, Reason::SessionInUse);
    auth.stop().await;

    // The books are lost: nobody knows whose connection that is, so it is cut, and comes back known.
    std::fs::remove_file(server.dir().join("guard.redb")).unwrap();
    let mut auth = TestAuth::start(&server, &bus, POLICY).await;
    client.closed().await;
    let mut client = agent.connect(&server).await.unwrap();
    assert_eq!(auth.decision().await.outcome, Outcome::Admitted);
    client.publish(&bus.wire.ingress(agent.token(), "news.x"), "back").await.unwrap();
    // The guard's and the engineer's logins are in the server's configuration, and not the guard's to cut.
    let mut engineer = RawClient::connect(&server.address(), nkey(&server.keys().break_glass)).await.unwrap();
    auth.stop().await;
    let auth = TestAuth::start(&server, &bus, POLICY).await;
    engineer.subscribe("sb.events.>", None).await.unwrap();
    assert_eq!(auth.auth.live_count(), 1);
}

/// A restarted server has a new id; the sessions that it had are free to connect again at once.
#[tokio::test]
async fn sessions_come_back_after_a_server_restart() {
    let (mut server, bus, mut auth) = start().await;
    let agent = bus.agent("scribe", "writers");
    let mut client = agent.connect(&server).await.unwrap();
    let before = auth.decision().await.connection.unwrap();
    server.restart().await;
    client.closed().await;
    // The guard's own connections are not back at once; until then nobody gets in.
    let _client = loop {
        if let Ok(client) = agent.connect(&server).await {
            break client;
        }
    };
    let after = auth.auth.connection_of(&agent.session_id()).unwrap().id;
    assert_ne!(before.server, after.server);
    assert_eq!(auth.auth.live_count(), 1);
}

#[tokio::test]
async fn a_policy_change_reaches_those_who_are_in() {
    let (server, bus, mut auth) = start().await;
    let (same, moved) = (bus.agent("same", "writers"), bus.agent("moved", "others"));
    auth.core.set_policy(Some(bus.policy(WIDER, 2)));
    let mut staying = same.connect(&server).await.unwrap();
    let mut leaving = moved.connect(&server).await.unwrap();
    auth.decision().await;
    auth.decision().await;
    assert_eq!(auth.auth.recheck().await, 0);
    // Its team is gone; what the other may do has not changed.
    auth.core.set_policy(Some(bus.policy(POLICY, 3)));
    assert_eq!(auth.auth.recheck().await, 1);
    leaving.closed().await;
    let decision = auth.decision().await;
    assert_eq!((decision.outcome, decision.agent.as_ref()), (Outcome::Kicked, Some(moved.token())));
    assert_eq!(decision.reason.unwrap().reason, Reason::UnknownTeam);
    staying.publish(&bus.wire.ingress(same.token(), "news.x"), "x").await.unwrap();
    // An expired status lets nobody new in, and cuts nobody off.
    auth.core.set_status(Some(bus.status(&[], -1)));
    assert_eq!(auth.auth.recheck().await, 0);
    auth.core.set_status(Some(bus.status(&[same.identity.public()], 3_600_000)));
    assert_eq!(auth.auth.recheck().await, 1);
    staying.closed().await;
}

#[tokio::test]
async fn a_quarantined_agent_is_cut_stays_out_and_comes_back_when_released() {
    let (server, bus, mut auth) = start().await;
    let (bad, good) = (bus.agent("bad", "writers"), bus.agent("good", "writers"));
    let second_session = bad.again();
    let mut first = bad.connect(&server).await.unwrap();
    let mut second = second_session.connect(&server).await.unwrap();
    let mut bystander = good.connect(&server).await.unwrap();
    for _ in 0..3 {
        auth.decision().await;
    }
    let enforcer = Enforcer::new(Arc::clone(&auth.store), Arc::clone(&auth.core.bars));
    let cause = Cause::found(
        sealbus_guard::quarantine::state::Trigger::Evidence,
        Refused::new(Reason::WrongSender, "header.sender"),
        &[[7; 32]],
    );
    let identity = bad.identity.public();
    let change = |change, cause| enforcer.change(identity, bad.token(), change, cause, now());
    let changed = change(Change::Quarantine, cause.clone()).await.unwrap().unwrap();
    assert_eq!((changed.from, changed.record.state), (State::Normal, State::Quarantined));
    assert!(change(Change::Quarantine, cause).await.unwrap().is_none());
    let enforced = cut_off(&auth.auth, identity, Duration::from_millis(300)).await;
    assert_eq!((enforced.cut, enforced.left, enforced.confirmed()), (2, 0, true), "{enforced:?}");
    first.closed().await;
    second.closed().await;
    bystander.publish(&bus.wire.ingress(good.token(), "news.x"), "x").await.unwrap();
    auth.forget();
    bad.again().connect(&server).await.unwrap();
    let decision = auth.decision().await;
    assert_eq!((decision.outcome, decision.reason.unwrap().reason), (Outcome::Lobby, Reason::Quarantined));

    // It outlives the guard.
    drop(enforcer);
    auth.stop().await;
    let mut auth = TestAuth::start(&server, &bus, POLICY).await;
    assert_eq!(auth.core.bars.get(identity).unwrap().cause.reason, Reason::WrongSender);
    let enforcer = Enforcer::new(Arc::clone(&auth.store), Arc::clone(&auth.core.bars));
    let order = Cause::ordered(Reason::Quarantined, "UALICE");
    let change = |change| enforcer.change(identity, bad.token(), change, order.clone(), now());
    change(Change::Release).await.unwrap().unwrap();
    bad.again().connect(&server).await.unwrap();
    assert_eq!(auth.decision().await.outcome, Outcome::Admitted);
    assert!(matches!(change(Change::Release).await, Err(EnforceError::NotAllowed(_))));
}

/// More connections than a server lists on one page.
#[tokio::test]
async fn connections_beyond_the_first_page_are_seen() {
    let (server, bus, auth) = start().await;
    let mut held = Vec::new();
    for _ in 0..1_030 {
        let engineer = RawClient::connect(&server.address(), nkey(&server.keys().break_glass)).await;
        held.push(engineer.unwrap());
    }
    let agent = bus.agent("scribe", "writers");
    let client = agent.connect(&server).await.unwrap();
    let survey = auth.auth.admin().survey().await.unwrap();
    assert!(survey.silent.is_empty() && survey.connections.len() >= 1_031, "{}", survey.connections.len());
    let listed = survey.connections.iter().find(|listed| listed.id.client == client.id()).unwrap();
    assert!(listed.by_callout);
    assert_eq!(survey.connections.iter().filter(|listed| listed.by_callout).count(), 1);
}

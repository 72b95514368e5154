//! Who gets in, and who does not: the guard's authenticator on a real nats-server.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use sealbus_envelope::{
    control::{self, LobbyNotice, kind},
    identity::{Role, SessionCertificate},
    reason::Reason,
    time::{Millis, Validity},
};
use sealbus_guard::bus::auth::{ConnectionDecision, Outcome};
use sealbus_tests::{
    authenticator::{Grant, TestAgent, TestAuth, TestBus, auth_token, fresh_key, now, sign},
    raw::RawClient,
    server::{ServerSpec, TestServer},
};
use serde_json::json;

const POLICY: &str = r#"
levels = ["low", "high"]
integrity = ["untrusted"]

[teams.writers]
clearance = { level = "high" }
[teams.readers]
clearance = { level = "low" }

[rules.news]
pattern = "news.>"
publishers = ["writers"]
subscribers = ["readers"]
labels = { level = { min = "low", max = "high" } }
default = { level = "low" }
"#;

async fn start() -> (TestServer, TestBus, TestAuth) {
    let server = TestServer::start(ServerSpec::default()).await;
    let bus = TestBus::fresh();
    let auth = TestAuth::start(&server, &bus, POLICY).await;
    (server, bus, auth)
}

fn refused_for(decision: &ConnectionDecision, reason: Reason) {
    assert_eq!(decision.outcome, Outcome::Refused, "{decision:?}");
    assert_eq!(decision.reason.map(|refused| refused.reason), Some(reason), "{decision:?}");
}

/// Listens in the lobby and returns the reason it is told.
async fn lobby(client: &mut RawClient, agent: &TestAgent, bus: &TestBus) -> Reason {
    let own_box = bus.wire.session_box(agent.token(), &agent.session_id(), ">");
    client.subscribe(&own_box, None).await.unwrap();
    loop {
        if let Some(message) = client.arrived().await.unwrap().first() {
            let lobby = bus.wire.session_box(agent.token(), &agent.session_id(), kind::LOBBY);
            assert_eq!(message.subject, lobby);
            let notice: LobbyNotice = control::decode(&message.payload).unwrap();
            return notice.reason;
        }
        tokio::task::yield_now().await;
    }
}

/// Is let into the lobby for `reason` and may do nothing there but listen.
async fn only_the_lobby(
    server: &TestServer,
    bus: &TestBus,
    auth: &mut TestAuth,
    agent: &TestAgent,
    reason: Reason,
) {
    let mut client = agent.connect(server).await.unwrap();
    let decision = auth.decision().await;
    assert_eq!((decision.outcome, decision.reason.map(|r| r.reason)), (Outcome::Lobby, Some(reason)));
    assert_eq!(decision.agent.as_ref(), Some(agent.token()));
    assert_eq!(lobby(&mut client, agent, bus).await, reason);
    let control = bus.wire.control(agent.token(), &agent.session_id(), "hello");
    for subject in [control.as_str(), "sb.in.0.x", "news.x", "$JS.API.INFO"] {
        assert!(client.publish(subject, "x").await.is_err(), "{subject}");
    }
    for subject in ["sb.all.0", "sb.out.0.news.>", ">", "sb.box.>"] {
        assert!(client.subscribe(subject, None).await.is_err(), "{subject}");
    }
}

#[tokio::test]
async fn an_agent_gets_in_with_exactly_its_permissions() {
    let (server, bus, mut auth) = start().await;
    let agent = bus.agent("scribe", "writers");
    let mut client = agent.connect(&server).await.unwrap();
    let decision = auth.decision().await;
    assert_eq!((decision.outcome, decision.reason), (Outcome::Admitted, None));
    assert_eq!(decision.agent.as_ref(), Some(agent.token()));
    assert_eq!(decision.session, Some(agent.session_id()));
    let connection = auth.auth.connection_of(&agent.session_id()).unwrap();
    assert_eq!((connection.id.client, &connection.identity), (client.id(), agent.identity.public()));

    client.publish(&bus.wire.ingress(agent.token(), "news.today"), "x").await.unwrap();
    client.publish(&bus.wire.control(agent.token(), &agent.session_id(), "hello"), "x").await.unwrap();
    client.subscribe(&bus.wire.session_box(agent.token(), &agent.session_id(), ">"), None).await.unwrap();
    let other = bus.agent("other", "writers");
    for subject in [
        bus.wire.ingress(agent.token(), "olds.today"),
        bus.wire.ingress(other.token(), "news.today"),
        bus.wire.control(other.token(), &agent.session_id(), "hello"),
        bus.wire.control(agent.token(), &other.session_id(), "hello"),
        "sb.out.0.news.today".to_owned(),
        "$SYS.REQ.USER.AUTH".to_owned(),
    ] {
        assert!(client.publish(&subject, "x").await.is_err(), "{subject}");
    }
    for subject in
        [bus.wire.session_box(other.token(), &other.session_id(), ">"), "sb.out.>".into(), "sb.in.>".into()]
    {
        assert!(client.subscribe(&subject, None).await.is_err(), "{subject}");
    }
    let mut reader = bus.agent("reader", "readers").connect(&server).await.unwrap();
    reader.subscribe("sb.out.0.news.>", None).await.unwrap();
    assert!(reader.subscribe("sb.out.1.news.>", None).await.is_err(), "above its clearance");
    assert!(reader.subscribe("sb.out.0.news.>", Some("gang")).await.is_err(), "in no queue group");
}

#[tokio::test]
async fn an_observer_sees_events_and_nothing_else() {
    let (server, bus, _auth) = start().await;
    let grant = Grant { role: Role::Observer, ..Grant::default() };
    let mut client = bus.agent_with("watch", "anybody", &grant).connect(&server).await.unwrap();
    client.subscribe("sb.events.>", None).await.unwrap();
    assert!(client.subscribe("sb.out.0.news.>", None).await.is_err());
    assert!(client.publish("sb.events.forged", "x").await.is_err());
}

/// A stranger is told nothing, whatever it got hold of: not even that the name it uses exists.
#[tokio::test]
async fn strangers_get_the_bare_refusal() {
    let (server, bus, mut auth) = start().await;
    let agent = bus.agent("scribe", "writers");
    let other = bus.agent("other", "writers");
    let elsewhere = TestBus::fresh().agent("scribe", "writers");
    let credential = agent.credential.as_str();
    let token = agent.auth_token();
    let mut tampered = agent.certificate.as_bytes().to_vec();
    *tampered.last_mut().unwrap() ^= 1;
    let thief = fresh_key();
    let cases = [
        ("no token", json!({}), Reason::Malformed),
        ("junk", json!({ "auth_token": "hello" }), Reason::BadEncoding),
        ("huge", json!({ "auth_token": "A".repeat(3_900) }), Reason::Malformed),
        ("another bus", json!({ "auth_token": elsewhere.auth_token() }), Reason::BadSignature),
        (
            "another's certificate",
            json!({ "auth_token": auth_token(credential, other.certificate.as_bytes()) }),
            Reason::CertificateInvalid,
        ),
        (
            "a tampered certificate",
            json!({ "auth_token": auth_token(credential, &tampered) }),
            Reason::BadSignature,
        ),
        ("no signature", json!({ "auth_token": token }), Reason::BadSignature),
        ("a short signature", json!({ "auth_token": token, "sig": "AAAA" }), Reason::BadSignature),
    ];
    for (what, login, reason) in cases {
        let refusal = RawClient::connect(&server.address(), |_| login).await.err().unwrap();
        assert!(refusal.says("authorization violation"), "{what}: {refusal:?}");
        let decision = auth.decision().await;
        refused_for(&decision, reason);
        assert_eq!((decision.agent, decision.session), (None, None), "{what}");
    }
    // Credential and certificate are no secret from servers; without the session key they are worth nothing.
    let login = |nonce: &str| json!({ "auth_token": token, "sig": sign(&thief, nonce) });
    RawClient::connect(&server.address(), login).await.err().unwrap();
    refused_for(&auth.decision().await, Reason::BadSignature);
    // Nor is a signature over another connection's nonce.
    let stale = sign(&agent.session, "abcdefghijklmno");
    let login = |_: &str| json!({ "auth_token": agent.auth_token(), "sig": stale });
    RawClient::connect(&server.address(), login).await.err().unwrap();
    refused_for(&auth.decision().await, Reason::BadSignature);
    assert_eq!(auth.auth.counts().refused, 10);
}

#[tokio::test]
async fn known_agents_hear_in_the_lobby_why_they_are_refused() {
    let (server, bus, mut auth) = start().await;
    let hour = 3_600_000;
    let second = Millis::from_seconds(now().seconds());

    let guard = bus.agent_with("fake", "writers", &Grant { role: Role::Guard, ..Grant::default() });
    only_the_lobby(&server, &bus, &mut auth, &guard, Reason::WrongRole).await;

    let validity = Validity::starting(second.minus(2 * hour), hour);
    let expired = bus.agent_with("late", "writers", &Grant { validity, ..Grant::default() });
    only_the_lobby(&server, &bus, &mut auth, &expired, Reason::CredentialExpired).await;

    let validity = Validity::starting(second.plus(hour), hour);
    let early = bus.agent_with("early", "writers", &Grant { validity, ..Grant::default() });
    only_the_lobby(&server, &bus, &mut auth, &early, Reason::NotYetValid).await;

    let mut over = bus.agent("over", "writers");
    let validity = Validity::starting(now().minus(2 * hour), hour);
    over.certificate =
        SessionCertificate::issue(bus.roots.bus(), &over.identity, &over.session, validity).unwrap();
    only_the_lobby(&server, &bus, &mut auth, &over, Reason::CertificateExpired).await;

    let stray = bus.agent("stray", "nobody");
    only_the_lobby(&server, &bus, &mut auth, &stray, Reason::UnknownTeam).await;

    let revoked = bus.agent("gone", "writers");
    auth.core.set_status(Some(bus.status(&[revoked.identity.public()], 3_600_000)));
    only_the_lobby(&server, &bus, &mut auth, &revoked, Reason::Revoked).await;

    // Past its valid-until a statement cannot rule revocation out: nobody new, whoever it is.
    auth.core.set_status(Some(bus.status(&[], -1)));
    only_the_lobby(&server, &bus, &mut auth, &bus.agent("one", "writers"), Reason::StatusExpired).await;
    auth.core.set_status(None);
    only_the_lobby(&server, &bus, &mut auth, &bus.agent("two", "writers"), Reason::StatusInvalid).await;
    auth.core.set_status(Some(bus.status(&[], 3_600_000)));
    auth.core.set_policy(None);
    only_the_lobby(&server, &bus, &mut auth, &bus.agent("three", "writers"), Reason::NoPolicy).await;
    assert_eq!(auth.auth.live_count(), 0);
}

#[tokio::test]
async fn the_lobby_closes_after_ten_seconds() {
    let (server, bus, mut auth) = start().await;
    let stray = bus.agent("stray", "nobody");
    let start = std::time::Instant::now();
    let mut client = stray.connect(&server).await.unwrap();
    assert_eq!(lobby(&mut client, &stray, &bus).await, Reason::UnknownTeam);
    // One place an agent: trying again and again gets it no more of them.
    assert!(stray.again().connect(&server).await.is_err());
    let refusal = client.closed().await;
    assert!(refusal.says("expired"), "{refusal:?}");
    assert!(start.elapsed().as_secs() <= 11, "{:?}", start.elapsed());
    assert_eq!(auth.decision().await.outcome, Outcome::Lobby);
    refused_for(&auth.decision().await, Reason::UnknownTeam);
}

#[tokio::test]
async fn a_session_has_one_live_connection() {
    let (server, bus, mut auth) = start().await;
    let agent = bus.agent("scribe", "writers");
    let mut first = agent.connect(&server).await.unwrap();
    assert_eq!(auth.decision().await.outcome, Outcome::Admitted);
    // Not even the lobby: that is the box on which the first listens.
    assert!(agent.connect(&server).await.err().unwrap().says("authorization violation"));
    let decision = auth.decision().await;
    refused_for(&decision, Reason::SessionInUse);
    assert_eq!(
        decision.agent.as_ref(),
        Some(agent.token()),
        "a second holder of the key is worth knowing of"
    );
    first.publish(&bus.wire.ingress(agent.token(), "news.x"), "still in").await.unwrap();
    // Another session of the agent is another matter.
    let _second = agent.again().connect(&server).await.unwrap();
    assert_eq!(auth.decision().await.outcome, Outcome::Admitted);
    assert_eq!(auth.auth.connections_of(agent.identity.public()).len(), 2);
    // When the first is gone its place is free, whether or not the guard heard of it yet.
    drop(first);
    let _again = agent.connect(&server).await.unwrap();
    assert_eq!(auth.decision().await.outcome, Outcome::Admitted);
    assert_eq!(auth.departure().await.session, agent.session_id());
}

/// Whoever is quicker: the books are entered before the answer is given.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_connections_of_one_session_at_once_one_gets_in() {
    let (server, bus, mut auth) = start().await;
    let agent = bus.agent("scribe", "writers");
    let tries = (0..16).map(|_| agent.connect(&server));
    let tried = futures_util::future::join_all(tries).await;
    assert_eq!(tried.iter().filter(|tried| tried.is_ok()).count(), 1);
    for _ in 0..16 {
        auth.decision().await;
    }
    let counts = auth.auth.counts();
    assert_eq!((counts.admitted, counts.refused, auth.auth.live_count()), (1, 15, 1));
}

#[tokio::test]
async fn a_connection_ends_with_the_session_at_the_latest() {
    let (server, bus, _auth) = start().await;
    let mut agent = bus.agent("scribe", "writers");
    let validity = Validity::starting(now().minus(1_000), 3_500);
    agent.certificate =
        SessionCertificate::issue(bus.roots.bus(), &agent.identity, &agent.session, validity).unwrap();
    let mut client = agent.connect(&server).await.unwrap();
    assert!(client.closed().await.says("expired"));
}

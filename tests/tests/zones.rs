//! Where agents may connect from: zones of the signed policy against what real servers say of themselves.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use async_nats::{Auth, ConnectOptions};
use sealbus_envelope::{
    identity::SigningKey,
    label::{Clearance, Compartments, Level},
    name::Name,
    reason::Reason,
};
use sealbus_guard::{bus::auth::Outcome, natsserver::NatsConfig};
use sealbus_tests::{
    authenticator::{Grant, TestAgent, TestAuth, TestBus, sign},
    server::{ServerSpec, TestServer},
};

/// A bus with one team, in a zone that demands this.
fn policy(demands: &str) -> String {
    format!(
        r#"
levels = ["low", "high"]
integrity = ["untrusted"]
[zones.vault]
ceiling = {{ level = "high" }}
{demands}
[zones.yard]
ceiling = {{ level = "low" }}
[teams.keepers]
clearance = {{ level = "high" }}
zone = "vault"
[teams.rangers]
clearance = {{ level = "high" }}
[rules.news]
pattern = "news.>"
publishers = ["keepers"]
subscribers = ["rangers"]
labels = {{ level = {{ min = "low", max = "high" }} }}
default = {{ level = "low" }}
"#
    )
}

/// What the guard says to an agent that connects.
async fn verdict(server: &TestServer, auth: &mut TestAuth, agent: &TestAgent) -> (Outcome, Option<Reason>) {
    // Who is refused in its lobby is connected too; who is not is told by the server.
    let connected = agent.connect(server).await;
    let decision = auth.decision().await;
    drop(connected);
    (decision.outcome, decision.reason.map(|refused| refused.reason))
}

const ADMITTED: (Outcome, Option<Reason>) = (Outcome::Admitted, None);
const OUT_OF_ZONE: (Outcome, Option<Reason>) = (Outcome::Lobby, Some(Reason::WrongZone));

#[tokio::test]
async fn the_servers_name_cluster_and_tags_are_those_of_the_zone() {
    let named = |config: &mut NatsConfig| {
        config.server_name = "vault-1".to_owned();
        config.server_tags = vec!["hsm".to_owned(), "floor-2".to_owned()];
    };
    let server = TestServer::start(ServerSpec::with(named)).await;
    let bus = TestBus::fresh();
    let mut auth = TestAuth::start(&server, &bus, &policy("")).await;
    for (version, (demands, expected)) in (2..).zip([
        (r#"servers = ["vault-1", "vault-2"]"#, ADMITTED),
        (r#"servers = ["vault-2"]"#, OUT_OF_ZONE),
        (r#"tags = ["HSM"]"#, ADMITTED),
        (r#"tags = ["hsm", "floor-3"]"#, OUT_OF_ZONE),
        (r#"cluster = "east""#, OUT_OF_ZONE),
        (r#"tls = "encrypted""#, OUT_OF_ZONE),
        (r#"tls = "verified""#, OUT_OF_ZONE),
    ]) {
        auth.core.set_policy(Some(bus.policy(&policy(demands), version)));
        let keeper = bus.agent("keeper", "keepers");
        assert_eq!(verdict(&server, &mut auth, &keeper).await, expected, "{demands}");
        let ranger = bus.agent("ranger", "rangers");
        assert_eq!(verdict(&server, &mut auth, &ranger).await, ADMITTED, "a team without a zone: {demands}");
    }
}

#[tokio::test]
async fn a_credential_narrows_where_its_agent_runs() {
    let server = TestServer::start(ServerSpec::default()).await;
    let bus = TestBus::fresh();
    let mut auth = TestAuth::start(&server, &bus, &policy("")).await;
    let zones = |zones: &[&str]| Grant {
        zones: zones.iter().map(|zone| Name::parse(zone).unwrap()).collect(),
        ..Grant::default()
    };
    let low = Clearance { level: Level::new(0).unwrap(), compartments: Compartments::EMPTY };
    for (team, grant, expected) in [
        ("keepers", zones(&["vault"]), ADMITTED),
        ("keepers", zones(&["yard"]), OUT_OF_ZONE),
        ("rangers", zones(&["yard"]), (Outcome::Lobby, Some(Reason::AboveCeiling))),
        ("rangers", Grant { clearance: low, ..zones(&["yard"]) }, ADMITTED),
        ("rangers", zones(&["nowhere"]), OUT_OF_ZONE),
    ] {
        let agent = bus.agent_with("someone", team, &grant);
        assert_eq!(verdict(&server, &mut auth, &agent).await, expected, "{team} {grant:?}");
    }
}

#[tokio::test]
async fn who_is_in_is_cut_when_a_new_policy_puts_its_team_elsewhere() {
    let server = TestServer::start(ServerSpec::default()).await;
    let bus = TestBus::fresh();
    let mut auth = TestAuth::start(&server, &bus, &policy("")).await;
    let keeper = bus.agent("keeper", "keepers");
    let mut connection = keeper.connect(&server).await.unwrap();
    assert_eq!(auth.decision().await.outcome, Outcome::Admitted);
    auth.core.set_policy(Some(bus.policy(&policy(r#"servers = ["vault-1"]"#), 2)));
    auth.auth.recheck().await;
    connection.closed().await;
    assert_eq!(auth.departure().await.agent, *keeper.token());
}

/// Nobody is let in on an expired status statement; that keeps nobody in who is to leave.
#[tokio::test]
async fn who_is_in_is_cut_though_the_status_expired() {
    let server = TestServer::start(ServerSpec::default()).await;
    let bus = TestBus::fresh();
    let mut auth = TestAuth::start(&server, &bus, &policy("")).await;
    let (keeper, ranger) = (bus.agent("keeper", "keepers"), bus.agent("ranger", "rangers"));
    let mut connection = keeper.connect(&server).await.unwrap();
    let mut staying = ranger.connect(&server).await.unwrap();
    assert_eq!(auth.decision().await.outcome, Outcome::Admitted);
    assert_eq!(auth.decision().await.outcome, Outcome::Admitted);
    auth.core.set_status(Some(bus.status(&[], -1)));
    auth.core.set_policy(Some(bus.policy(&policy(r#"servers = ["vault-1"]"#), 2)));
    assert_eq!(auth.auth.recheck().await, 1);
    connection.closed().await;
    assert_eq!(auth.departure().await.agent, *keeper.token());
    staying.publish(&bus.wire.control(ranger.token(), &ranger.session_id(), "bye"), "x").await.unwrap();
}

/// Connects by TLS with the client certificate of `authority`.
async fn connect_by_tls(
    server: &TestServer,
    agent: &TestAgent,
    authority: &str,
) -> Option<async_nats::Client> {
    let (token, seed) = (agent.auth_token(), agent.session.to_seed());
    let options = ConnectOptions::with_auth_callback(move |nonce| {
        let (token, key) = (token.clone(), SigningKey::from_seed(&seed));
        async move {
            let mut auth = Auth::new();
            auth.token = Some(token);
            let text = String::from_utf8(nonce).map_err(async_nats::AuthError::new)?;
            auth.signature = data_encoding::BASE64URL_NOPAD.decode(sign(&key, &text).as_bytes()).ok();
            Ok(auth)
        }
    });
    server.certificates().connect(options, authority).connect(server.url()).await.ok()
}

#[tokio::test]
async fn a_zone_may_demand_tls_and_a_client_certificate_of_its_own_authority() {
    let server = TestServer::start(ServerSpec { tls: Some(true), ..ServerSpec::default() }).await;
    let bus = TestBus::fresh();
    let mut auth = TestAuth::start(&server, &bus, &policy("")).await;
    let ca = server.certificates().fingerprint("zone");
    let of_zone = format!("tls = \"verified\"\nca = \"{ca}\"");
    for (version, (demands, authority, expected)) in (2..).zip([
        ("tls = \"encrypted\"", "other", ADMITTED),
        ("tls = \"verified\"", "other", ADMITTED),
        (&of_zone, "zone", ADMITTED),
        (&of_zone, "other", OUT_OF_ZONE),
    ]) {
        auth.core.set_policy(Some(bus.policy(&policy(demands), version)));
        let agent = bus.agent("keeper", "keepers");
        let connected = connect_by_tls(&server, &agent, authority).await;
        let decision = auth.decision().await;
        let found = (decision.outcome, decision.reason.map(|refused| refused.reason));
        assert_eq!(found, expected, "{demands} with a certificate of `{authority}`");
        assert!(connected.is_some(), "in, or in its lobby");
    }
}

#[tokio::test]
async fn tls_without_client_certificates_is_encrypted_and_not_verified() {
    let server = TestServer::start(ServerSpec { tls: Some(false), ..ServerSpec::default() }).await;
    let bus = TestBus::fresh();
    let mut auth = TestAuth::start(&server, &bus, &policy("")).await;
    for (version, (demands, expected)) in
        (2..).zip([(r#"tls = "encrypted""#, ADMITTED), (r#"tls = "verified""#, OUT_OF_ZONE)])
    {
        auth.core.set_policy(Some(bus.policy(&policy(demands), version)));
        let agent = bus.agent("keeper", "keepers");
        let _connected = connect_by_tls(&server, &agent, "zone").await;
        let decision = auth.decision().await;
        assert_eq!((decision.outcome, decision.reason.map(|r| r.reason)), expected, "{demands}");
    }
}

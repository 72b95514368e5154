//! The permission lists that the policy makes, in force on a real nats-server through the auth callout.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use nkeys::KeyPair;
use sealbus_envelope::{
    identity::{Claims, Role, Roots, SessionId, SigningKey},
    label::{Clearance, Compartments, Integrity, Level},
    name::Name,
    subject::{Pattern, WireSubjects},
    time::{Millis, Validity},
};
use sealbus_guard::policy::{
    self,
    bundle::{self, ServiceKeys},
    compile::CompiledPolicy,
    decide::Principal,
    permissions::Permissions,
    source::PolicySource,
};
use sealbus_tests::{
    callout::{Answer, Callout, User},
    raw::{RawClient, session},
    server::{ServerSpec, TestServer},
};

/// Levels 0 to 2; the reader is cleared to 1.
const POLICY: &str = r#"
levels = ["low", "mid", "high"]
integrity = ["untrusted"]

[teams.writer]
clearance = { level = "high" }
[teams.reader]
clearance = { level = "mid" }
[teams.worker]
clearance = { level = "mid" }

[rules.orders]
pattern = "orders.*"
publishers = ["writer"]
subscribers = ["reader"]
labels = { level = { min = "low", max = "high" } }
default = { level = "low" }

[rules.logs]
pattern = "logs.>"
publishers = ["writer"]
subscribers = ["reader", { team = "worker", queue = "work" }]
labels = { level = "mid" }

[rules.jobs]
pattern = "jobs.*"
publishers = ["writer"]
subscribers = [{ team = "reader", queue = "shared" }]
labels = { level = "low" }

[rules.ask]
pattern = "ask.it"
publishers = ["writer"]
subscribers = ["reader"]
kind = "request"
labels = { level = "low" }
"#;

struct Bus {
    policy: CompiledPolicy,
    roots: Roots,
    wire: WireSubjects,
}

fn bus() -> Bus {
    let [issuer, key, status] = [1, 2, 3].map(|n| SigningKey::from_seed(&[n; 32]));
    let roots = Roots {
        name: Name::parse("test").unwrap(),
        issuer: issuer.public().clone(),
        policy_keys: vec![key.public().clone()],
        quorum: 1,
    };
    let checked = policy::check(&PolicySource::new("test.toml", POLICY)).unwrap_or_else(|e| panic!("{e:?}"));
    let service = ServiceKeys { status: status.public().clone(), guards: vec![] };
    let signed = bundle::sign(&checked.policy, &service, 1, Millis(1), &[&key], &roots).unwrap();
    let (_, policy) = bundle::load(&signed.encode(), &roots, 0).unwrap();
    Bus { policy, roots, wire: WireSubjects::default() }
}

impl Bus {
    fn agent(&self, name: &str, team: &str) -> Principal {
        let claims = Claims {
            bus: self.roots.bus(),
            identity: SigningKey::from_seed(&[9; 32]).public().clone(),
            name: Name::parse(name).unwrap(),
            team: Name::parse(team).unwrap(),
            role: Role::Agent,
            clearance: Clearance { level: Level::HIGHEST, compartments: Compartments::ALL },
            integrity_ceiling: Integrity::HIGHEST,
            zones: vec![],
            validity: Validity { not_before: Millis(0), not_after: Millis(1000) },
        };
        self.policy.principal(&claims).unwrap()
    }

    fn permissions(&self, who: &Principal) -> Permissions {
        Permissions::of_session(&self.policy, who, &own_session(), &self.wire).unwrap()
    }
}

fn own_session() -> SessionId {
    SessionId::from_bytes([7; 32])
}

fn user(permissions: &Permissions) -> User {
    User {
        publish: permissions.publish.allow().to_vec(),
        publish_deny: permissions.publish.deny().to_vec(),
        subscribe: permissions.subscribe.allow().to_vec(),
        subscribe_deny: permissions.subscribe.deny().to_vec(),
        ..User::default()
    }
}

/// A server where the token `agent` gets `permissions` and any other token everything.
async fn enforcing(permissions: &Permissions) -> (TestServer, Callout) {
    let server = TestServer::start(ServerSpec::default()).await;
    let agent = user(permissions);
    let callout = Callout::start(&server, move |request| {
        Answer::Admit(if request.token() == "agent" { agent.clone() } else { User::new(&[">"], &[">"]) })
    })
    .await;
    (server, callout)
}

async fn connect(server: &TestServer, token: &str) -> RawClient {
    RawClient::connect(&server.address(), session(token, &KeyPair::new_user())).await.unwrap()
}

#[tokio::test]
async fn a_reader_hears_what_its_rules_allow_and_may_not_even_ask_for_more() {
    let bus = bus();
    let reader = bus.agent("rita", "reader");
    let (server, _callout) = enforcing(&bus.permissions(&reader)).await;
    let (mut agent, mut guard) = (connect(&server, "agent").await, connect(&server, "guard").await);

    let own_box = bus.wire.session_box(reader.token(), &own_session(), ">");
    for (subject, queue) in [
        (own_box.as_str(), None),
        ("sb.out.0.orders.*", None),
        ("sb.out.1.orders.*", None),
        ("sb.out.1.logs.>", None),
        ("sb.out.0.jobs.*", Some("shared")),
    ] {
        agent.subscribe(subject, queue).await.unwrap_or_else(|refused| panic!("{subject}: {refused:?}"));
    }
    let delivered = [
        bus.wire.session_box(reader.token(), &own_session(), "welcome"),
        "sb.out.0.orders.a".to_owned(),
        "sb.out.1.orders.a".to_owned(),
        "sb.out.1.logs.a.b.c".to_owned(),
        "sb.out.0.jobs.a".to_owned(),
    ];
    for subject in &delivered {
        guard.publish(subject, "").await.unwrap();
    }
    agent
        .arrived()
        .await
        .map(|heard| {
            assert_eq!(heard.into_iter().map(|message| message.subject).collect::<Vec<_>>(), delivered);
        })
        .unwrap();

    let foreign = bus.agent("mallory", "reader");
    let other_session = SessionId::from_bytes([8; 32]);
    for (subject, queue) in [
        (bus.wire.session_box(foreign.token(), &own_session(), ">").as_str(), None),
        (bus.wire.session_box(reader.token(), &other_session, ">").as_str(), None),
        ("sb.out.2.orders.*", None),
        ("sb.out.0.logs.>", None),
        ("sb.out.>", None),
        ("sb.out.*.orders.*", None),
        ("sb.out.1.>", None),
        ("sb.>", None),
        (">", None),
        ("sb.in.>", None),
        ("sb.events.>", None),
        ("_INBOX.>", None),
        ("$JS.API.>", None),
        // Another team's queue group, or any other, would take a share of its work.
        ("sb.out.1.logs.>", Some("work")),
        ("sb.out.1.logs.a", Some("other")),
        ("sb.out.0.orders.*", Some("other")),
        // The rule gives the group; alone the agent would hear everything.
        ("sb.out.0.jobs.*", None),
        ("sb.out.0.jobs.*", Some("other")),
        // Requests come to the box only.
        ("sb.out.0.ask.it", None),
    ] {
        assert!(agent.subscribe(subject, queue).await.is_err(), "{subject} {queue:?} was let in");
    }
}

#[tokio::test]
async fn an_agent_publishes_only_as_itself_and_under_its_rules() {
    let bus = bus();
    let writer = bus.agent("wim", "writer");
    let (server, _callout) = enforcing(&bus.permissions(&writer)).await;
    let mut agent = connect(&server, "agent").await;
    let token = writer.token();
    for subject in [
        bus.wire.ingress(token, "orders.a"),
        bus.wire.ingress(token, "logs.a.b"),
        bus.wire.ingress(token, "ask.it"),
        bus.wire.control(token, &own_session(), "hello"),
    ] {
        agent.publish(&subject, "").await.unwrap_or_else(|refused| panic!("{subject}: {refused:?}"));
    }
    let foreign = bus.agent("mallory", "writer");
    for subject in [
        bus.wire.ingress(foreign.token(), "orders.a"),
        bus.wire.ingress(token, "orders.a.b"),
        bus.wire.ingress(token, "other"),
        bus.wire.control(foreign.token(), &own_session(), "hello"),
        bus.wire.control(token, &SessionId::from_bytes([8; 32]), "hello"),
        "sb.out.0.orders.a".to_owned(),
        bus.wire.session_box(token, &own_session(), "welcome"),
        "sb.all.1".to_owned(),
        "sb.events.x".to_owned(),
        "$JS.API.STREAM.DELETE.X".to_owned(),
        "_INBOX.x".to_owned(),
    ] {
        assert!(agent.publish(&subject, "").await.is_err(), "{subject} was let through");
    }
    // A responder answers on the rule's subject.
    let reader = bus.agent("rita", "reader");
    let allowed = bus.permissions(&reader);
    assert!(allowed.publish.allow().contains(&bus.wire.ingress(reader.token(), "ask.it")));
    assert_eq!(allowed.publish.allow().len(), 2, "its control subjects and that: {allowed:?}");
}

#[tokio::test]
async fn no_subscription_that_is_let_in_hears_more_than_the_rules_say() {
    let bus = bus();
    let (mut let_in, mut heard) = (0, 0);
    for (name, team) in [("rita", "reader"), ("walt", "worker"), ("wim", "writer")] {
        let who = bus.agent(name, team);
        let (server, _callout) = enforcing(&bus.permissions(&who)).await;
        let (mut agent, mut guard) = (connect(&server, "agent").await, connect(&server, "guard").await);
        for (asked, queue) in attempts() {
            let Ok(sid) = agent.subscribe(&asked, queue).await else { continue };
            let_in += 1;
            for subject in ["orders.a", "orders.a.b", "logs.a", "logs.a.b", "jobs.a", "jobs.a.b", "ask.it"] {
                for level in 0..3 {
                    guard.publish(&format!("sb.out.{level}.{subject}"), "").await.unwrap();
                }
            }
            for message in agent.arrived().await.unwrap() {
                heard += 1;
                assert!(
                    may_hear(&bus, &who, &message.subject, queue),
                    "{asked} {queue:?}: {}",
                    message.subject
                );
            }
            agent.command(&format!("UNSUB {sid}\r\n")).await.unwrap();
        }
    }
    assert!(let_in > 20 && heard > 20, "{let_in} let in, {heard} heard: the test tried too little");
}

/// Every way to ask for deliveries, the wildcards that nats-server takes as text among them.
fn attempts() -> Vec<(String, Option<&'static str>)> {
    let mut all = Vec::new();
    for level in ["0", "1", "2", "*"] {
        for topic in ["orders", "logs", "jobs", "ask", "*"] {
            for tail in ["", ".a", ".*", ".>", ".a.b", ".*.>", ".*.*", ".a.>", ".it"] {
                for queue in [None, Some("work"), Some("shared"), Some("other")] {
                    all.push((format!("sb.out.{level}.{topic}{tail}"), queue));
                }
            }
        }
    }
    all
}

/// From the decisions, not from the permission lists: some rule lets `who` hear this, in this queue group.
fn may_hear(bus: &Bus, who: &Principal, subject: &str, queue: Option<&str>) -> bool {
    let Some((level, logical)) = bus.wire.read_delivery(subject) else { return false };
    let Ok(pattern) = Pattern::parse(logical) else { return false };
    bus.policy.rules().iter().any(|rule| {
        level <= who.clearance().level
            && (rule.labels.low.level..=rule.labels.high.level).contains(&level)
            && !rule.is_request()
            && bus.policy.may_subscribe(who, rule.name.as_str(), &pattern, queue).is_ok()
    })
}

#[tokio::test]
async fn the_lobby_hears_its_box_and_says_nothing() {
    let bus = bus();
    let who = bus.agent("rita", "reader");
    let lobby = Permissions::lobby(who.token(), &own_session(), &bus.wire);
    let (server, _callout) = enforcing(&lobby).await;
    let mut agent = connect(&server, "agent").await;
    assert!(agent.subscribe(&bus.wire.session_box(who.token(), &own_session(), ">"), None).await.is_ok());
    assert!(agent.subscribe("sb.out.0.orders.a", None).await.is_err());
    assert!(agent.publish(&bus.wire.control(who.token(), &own_session(), "hello"), "").await.is_err());
    assert!(agent.publish("anything", "").await.is_err());
}

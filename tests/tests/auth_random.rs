//! Random policies and agents: whatever the authenticator's answer says, the real server enforces exactly what
//! the policy decides, and nothing that was tampered with gets in.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::fmt::Write as _;

use sealbus_envelope::{
    identity::Role,
    label::{Clearance, Compartments, Level},
    subject::{Pattern, Subject},
};
use sealbus_guard::{
    bus::auth::Outcome,
    policy::{
        self, compile::CompiledPolicy, decide::Principal, permissions::Permissions, source::PolicySource,
    },
};
use sealbus_tests::{
    authenticator::{Grant, TestAgent, TestAuth, TestBus, sign},
    random::Random,
    raw::RawClient,
    server::{ServerSpec, TestServer},
};
use serde_json::json;

const LEVELS: [&str; 3] = ["low", "mid", "high"];
const TEAMS: [&str; 3] = ["ants", "bees", "crows"];

fn some_teams(random: &mut Random) -> Vec<&'static str> {
    let mut teams: Vec<_> = TEAMS.into_iter().filter(|_| random.below(2) == 0).collect();
    if teams.is_empty() {
        teams.push(*random.pick(&TEAMS));
    }
    teams
}

/// A policy file, not always a good one.
fn policy_text(random: &mut Random) -> String {
    let mut text = "levels = [\"low\", \"mid\", \"high\"]\nintegrity = [\"untrusted\"]\n".to_owned();
    for team in TEAMS {
        writeln!(text, "[teams.{team}]\nclearance = {{ level = \"{}\" }}", random.pick(&LEVELS)).unwrap();
    }
    for n in 0..1 + random.below(4) {
        let mut pattern: Vec<&str> = (0..random.below(3)).map(|_| *random.pick(&["a", "b", "*"])).collect();
        pattern.push(*random.pick(&["a", "b", "*", ">"]));
        writeln!(text, "[rules.rule-{n}]\npattern = \"{}\"", pattern.join(".")).unwrap();
        writeln!(text, "publishers = {:?}", some_teams(random)).unwrap();
        let request = random.below(4) == 0;
        let subscribers: Vec<_> = some_teams(random)
            .into_iter()
            .map(|team| match random.below(3) {
                0 if !request => format!("{{ team = \"{team}\", queue = \"work\" }}"),
                _ => format!("\"{team}\""),
            })
            .collect();
        writeln!(text, "subscribers = [{}]", subscribers.join(", ")).unwrap();
        if request {
            text.push_str("kind = \"request\"\n");
        }
        let (low, high) = (random.below(2), random.below(3));
        let (low, high) = (low.min(high), low.max(high));
        writeln!(
            text,
            "labels = {{ level = {{ min = \"{}\", max = \"{}\" }} }}\ndefault = {{ level = \"{}\" }}",
            LEVELS[low], LEVELS[high], LEVELS[low]
        )
        .unwrap();
    }
    text
}

fn subjects() -> Vec<String> {
    let tokens = ["a", "b", "c"];
    let mut all: Vec<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
    for depth in 0..2 {
        let longer: Vec<_> = all
            .iter()
            .filter(|subject| subject.matches('.').count() == depth)
            .flat_map(|subject| tokens.map(|token| format!("{subject}.{token}")))
            .collect();
        all.extend(longer);
    }
    all
}

/// From the rules, not from the permission lists.
fn may_send(policy: &CompiledPolicy, who: &Principal, subject: &str) -> bool {
    let subject = Subject::parse(subject).unwrap();
    policy.rules_for(who).iter().any(|part| {
        (part.publishes || part.rule.is_request() && part.subscribes) && part.rule.pattern.matches(&subject)
    })
}

fn may_hear(policy: &CompiledPolicy, who: &Principal, level: u8, subject: &str, queue: Option<&str>) -> bool {
    let (level, pattern) = (Level::new(level).unwrap(), Pattern::parse(subject).unwrap());
    policy.rules().iter().any(|rule| {
        level <= who.clearance().level
            && (rule.labels.low.level..=rule.labels.high.level).contains(&level)
            && !rule.is_request()
            && policy.may_subscribe(who, rule.name.as_str(), &pattern, queue).is_ok()
    })
}

async fn server_agrees(
    bus: &TestBus,
    policy: &CompiledPolicy,
    agent: &TestAgent,
    client: &mut RawClient,
) -> [usize; 2] {
    let who = policy.principal(agent.credential.claims()).unwrap();
    let other = bus.agent("other", TEAMS[0]);
    let (mut sent, mut heard) = (0, 0);
    for subject in subjects() {
        let own = bus.wire.ingress(agent.token(), &subject);
        let done = client.publish(&own, "").await;
        assert_eq!(done.is_ok(), may_send(policy, &who, &subject), "{own}: {done:?}");
        sent += usize::from(done.is_ok());
        assert!(client.publish(&bus.wire.ingress(other.token(), &subject), "").await.is_err());
        for level in 0..3 {
            for queue in [None, Some("work"), Some("gang")] {
                let delivery = format!("sb.out.{level}.{subject}");
                assert!(client.publish(&delivery, "").await.is_err());
                let done = client.subscribe(&delivery, queue).await;
                let expected = may_hear(policy, &who, level, &subject, queue);
                assert_eq!(done.is_ok(), expected, "{delivery} {queue:?}: {done:?}");
                heard += usize::from(done.is_ok());
            }
        }
    }
    let everybodys = bus.wire.session_box(other.token(), &agent.session_id(), ">");
    for subject in [">", "*", "sb.>", "sb.in.>", "sb.ctl.>", "sb.box.>", "sb.events.>", "$SYS.>", &everybodys]
    {
        assert!(client.subscribe(subject, None).await.is_err(), "{subject}");
    }
    for subject in ["x", "$JS.API.INFO", "$SYS.REQ.USER.AUTH", "sb.all.0", "sb.events.x", "_INBOX.x"] {
        assert!(client.publish(subject, "").await.is_err(), "{subject}");
    }
    [sent, heard]
}

#[tokio::test]
async fn the_server_enforces_what_the_policy_decides() {
    let mut random = Random::new();
    let server = TestServer::start(ServerSpec::default()).await;
    let bus = TestBus::fresh();
    let mut auth = TestAuth::start(&server, &bus, policy::DEFAULT_POLICY).await;
    let (mut version, mut allowed) = (1, [0, 0]);
    while version < 12 {
        let text = policy_text(&mut random);
        if policy::check(&PolicySource::new("random.toml", &text)).is_err() {
            continue;
        }
        version += 1;
        let policy = bus.policy(&text, version);
        auth.core.set_policy(Some(std::sync::Arc::clone(&policy)));
        for team in TEAMS {
            let level = Level::new(u8::try_from(random.below(3)).unwrap()).unwrap();
            let clearance = Clearance { level, compartments: Compartments::ALL };
            let agent = bus.agent_with("someone", team, &Grant { clearance, ..Grant::default() });
            let who = policy.principal(agent.credential.claims()).unwrap();
            let lists = Permissions::of_session(&policy, &who, &agent.session_id(), &bus.wire).unwrap();
            for side in [&lists.publish, &lists.subscribe] {
                assert!(
                    !(side.allow().is_empty() && side.deny().is_empty()),
                    "an empty list allows everything"
                );
            }
            let mut client = agent.connect(&server).await.unwrap();
            assert_eq!(auth.decision().await.outcome, Outcome::Admitted, "{text}");
            let [sent, heard] = server_agrees(&bus, &policy, &agent, &mut client).await;
            allowed = [allowed[0] + sent, allowed[1] + heard];
        }
    }
    assert!(allowed[0] > 50 && allowed[1] > 50, "the test tried too little: {allowed:?}");
}

/// One byte changed anywhere in what an agent shows: never in, never known.
#[tokio::test]
async fn nothing_tampered_with_gets_in() {
    let mut random = Random::new();
    let server = TestServer::start(ServerSpec::default()).await;
    let bus = TestBus::fresh();
    let mut auth = TestAuth::start(&server, &bus, policy::DEFAULT_POLICY).await;
    let grant = Grant { role: Role::Agent, ..Grant::default() };
    let agent = bus.agent_with("scribe", "collector", &grant);
    let token = agent.auth_token().into_bytes();
    for _ in 0..200 {
        let (mut changed, place) = (token.clone(), random.below(token.len()));
        let with = *random.pick(b"ABCDabcd0123-_. {\"");
        if changed[place] == with {
            continue;
        }
        match random.below(3) {
            0 => changed[place] = with,
            1 => changed.insert(place, with),
            _ => drop(changed.remove(place)),
        }
        let changed = String::from_utf8(changed).unwrap();
        let session = sealbus_envelope::identity::SigningKey::from_seed(&agent.session.to_seed());
        let login = |nonce: &str| json!({ "auth_token": changed, "sig": sign(&session, nonce) });
        let refusal = RawClient::connect(&server.address(), login).await.err().unwrap();
        assert!(refusal.says("authorization violation"), "{refusal:?}");
        let decision = auth.decision().await;
        assert_eq!((decision.outcome, decision.agent), (Outcome::Refused, None), "{changed}");
    }
    agent.connect(&server).await.unwrap();
    assert_eq!(auth.decision().await.outcome, Outcome::Admitted);
}

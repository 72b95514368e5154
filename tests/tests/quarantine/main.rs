//! Agents that are taken off the bus, on real servers: by themselves or by order, and what becomes of them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod divert;
mod evidence;
mod orders;
mod others;
mod parents;

use sealbus_client::{Client, Subscription, credentials::Credentials};
use sealbus_envelope::{
    order::{Draft, Order, OrderId, OrderKind, Target, Workflow},
    reason::Reason,
};
use sealbus_guard::{
    clock::now,
    http::ask::OrderAnswer,
    quarantine::{report::AgentReport, state::State},
};
use sealbus_tests::{
    bus::{TestBus, soon},
    hostile::{
        arena::label,
        forge::Parts,
        hand::Hand,
        papers::Key,
        watch::{Watch, page},
    },
    server::ServerSpec,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const POLICY: &str = r#"
levels       = ["low", "mid"]
compartments = []
integrity    = ["untrusted", "checked"]

[teams.mob]
clearance = { level = "low" }
[teams.desk]
clearance = { level = "mid" }

[rules.tips]
pattern     = "tips.>"
publishers  = ["mob"]
subscribers = ["desk"]
labels      = { level = { min = "low", max = "mid" } }
default     = { level = "low" }

[rules.news]
pattern     = "news.>"
publishers  = ["desk"]
subscribers = ["desk", "mob"]
labels      = { level = "low" }
rate        = { per_second = 10000, burst = 20000 }

[rules.ask]
pattern     = "ask.it"
publishers  = ["desk"]
subscribers = ["mob"]
kind        = "request"
deadline    = "60s"
labels      = { level = "low" }
"#;

/// A bus where two of three must sign, an honest reader, and an agent that will misbehave.
struct Scene {
    bus: TestBus,
    watch: Watch,
    rita: Client,
    mallory: Credentials,
}

impl Scene {
    async fn start(spec: ServerSpec) -> Self {
        Self::under(POLICY, spec).await
    }

    async fn under(policy: &str, spec: ServerSpec) -> Self {
        let mut bus = TestBus::prepare_quorum(policy, spec, 3, 2).await;
        bus.start_guard().await;
        let watch = Watch::start(&bus).await;
        let rita = Client::connect(bus.agent("rita", "desk")).await.unwrap();
        let mallory = bus.agent("mallory", "mob");
        Self { bus, watch, rita, mallory }
    }

    async fn tips(&self) -> Subscription {
        self.rita.subscribe("tips.>").await.unwrap()
    }

    /// A session of the misbehaving agent, with a key open that the reader holds.
    async fn join(&self) -> (Hand, Key) {
        let mut hand = Hand::join(&self.mallory).await;
        let key = hand.open("tips", label(0, 0, 0)).await;
        (hand, key)
    }

    fn order(&self, kind: OrderKind) -> Order {
        let target = match kind {
            OrderKind::Pause | OrderKind::Resume => Target::Workflow(Workflow::parse("rule:tips").unwrap()),
            _ => Target::Agent {
                token: TestBus::token(&self.mallory),
                identity: self.mallory.credential().claims().identity.clone(),
            },
        };
        Order {
            bus: self.bus.roots().bus(),
            id: OrderId::generate(&mut rand_core::UnwrapErr(getrandom::SysRng)),
            kind,
            target,
            reason: format!("a test of {kind}"),
            issued: now(),
            valid_until: now().plus(600_000),
        }
    }

    fn signed(&self, kind: OrderKind, by: &[usize]) -> Vec<u8> {
        let roots = self.bus.roots();
        let mut draft = Draft::new(self.order(kind), roots).unwrap();
        for n in by {
            draft.sign(&self.bus.policy_keys()[*n], roots).unwrap();
        }
        draft.encode()
    }

    /// Hands an order in: why it is refused, if it is.
    async fn submit(&self, order: &[u8]) -> Option<Reason> {
        let mut stream = TcpStream::connect(self.bus.http()).await.unwrap();
        let head =
            format!("POST /orders HTTP/1.0\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", order.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(order).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let answer: OrderAnswer = serde_json::from_str(body).expect(body);
        assert_eq!(answer.accepted, answer.reason.is_none());
        answer.reason
    }

    async fn carry_out(&self, kind: OrderKind, by: &[usize]) {
        assert_eq!(self.submit(&self.signed(kind, by)).await, None, "{kind}");
    }

    /// What the guard's page says of the agent, once it is as `wanted`.
    async fn report(&self, what: &str, wanted: impl Fn(&AgentReport) -> bool) -> AgentReport {
        let token = TestBus::token(&self.mallory);
        let come = async {
            loop {
                let (code, body) = page(&self.bus, "/quarantine").await;
                assert_eq!(code, 200, "{body}");
                let all: Vec<AgentReport> = serde_json::from_str(&body).unwrap();
                match all.into_iter().find(|agent| agent.agent == token.as_str()) {
                    Some(report) if wanted(&report) => return report,
                    // A page says how things are and not when they change.
                    _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                }
            }
        };
        soon(what, come).await
    }

    /// Waits until every server has confirmed that the agent is gone.
    async fn confirmed(&mut self) {
        let confirmed = |event: &Value| {
            event["kind"] == "quarantine"
                && event["detail"].as_str().is_some_and(|detail| detail.starts_with("confirmed"))
        };
        self.watch.event("the confirmation", confirmed).await;
    }

    async fn is_kept_out(&self) {
        let error = Client::connect(self.mallory.clone()).await.expect_err("it is off the bus");
        assert_eq!(error.reason(), Some(Reason::Quarantined), "{error}");
    }

    async fn state(&self) -> State {
        self.report("a report", |_| true).await.state
    }
}

/// An envelope that its own session signed and that names another agent as its sender: hard evidence.
fn evidence(hand: &Hand, key: &mut Key, other: &Credentials) -> Vec<u8> {
    let mut fields = hand.fields(key, "tips.a");
    // What is signed uses its number up, whatever becomes of it.
    key.next += 1;
    fields.sender = TestBus::token(other);
    Parts::signed(&fields, hand.papers.session(), &hand.papers.key).bytes()
}

/// Puts envelopes on the wire together, so that the guard finds them in its queue together.
async fn at_once(hand: &mut Hand, envelopes: &[Vec<u8>]) {
    let subject = hand.wire().ingress(&hand.token(), "tips.a");
    let mut bytes = Vec::new();
    for envelope in envelopes {
        bytes.extend(format!("PUB {subject} {}\r\n", envelope.len()).into_bytes());
        bytes.extend(envelope);
        bytes.extend(b"\r\n");
    }
    // That the connection is cut meanwhile is what is to happen.
    let _ = hand.raw.command_bytes(bytes).await;
}

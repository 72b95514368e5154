//! Taint floors and the orders that clear them, on a real bus with three policy keys of which two must sign.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::time::Duration;

use sealbus_client::{Client, Publish, credentials::Credentials};
use sealbus_envelope::{
    identity::{KeyKind, SigningKey},
    label::{Compartments, Integrity, Label, Level},
    order::{Draft, MAX_ORDER, Order, OrderId, OrderKind, SignedOrder, Target},
    reason::Reason,
    time::Millis,
};
use sealbus_guard::{
    audit::{
        entry::{self, Body},
        search::{Filter, search},
    },
    clock::now,
    http::ask::OrderAnswer,
    taint::report::{FloorReport, Scope},
};
use sealbus_tests::{
    bus::{TestBus, name, soon},
    hostile::watch::{Watch, page},
    server::ServerSpec,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const POLICY: &str = r#"
levels       = ["public", "internal", "secret"]
compartments = []
integrity    = ["untrusted", "checked"]

[teams.desk]
clearance = { level = "secret" }
[teams.press]
clearance = { level = "secret" }

[rules.files]
pattern     = "files.>"
publishers  = ["desk"]
subscribers = ["press"]
labels      = { level = { min = "internal", max = "secret" }, integrity = "untrusted" }
default     = { level = "secret" }

[rules.news]
pattern     = "news.>"
publishers  = ["press"]
subscribers = ["desk"]
labels      = { level = { min = "public", max = "internal" }, integrity = "untrusted" }
default     = { level = "public" }
"#;

const MINUTE: u64 = 60_000;

fn secret() -> Label {
    Label::new(Level::new(2).unwrap(), Compartments::EMPTY, Integrity::LOWEST)
}

fn public() -> Label {
    Label::new(Level::LOWEST, Compartments::EMPTY, Integrity::LOWEST)
}

struct Scene {
    bus: TestBus,
    watch: Watch,
    desk: Client,
    paul: Credentials,
}

/// What the guard holds against agents, and what it has logged of orders.
type State = (Vec<FloorReport>, usize);

impl Scene {
    async fn start() -> Self {
        let mut bus = TestBus::prepare_quorum(POLICY, ServerSpec::default(), 3, 2).await;
        bus.start_guard().await;
        let watch = Watch::start(&bus).await;
        let desk = Client::connect(bus.agent("dora", "desk")).await.unwrap();
        let paul = bus.agent("paul", "press");
        Self { bus, watch, desk, paul }
    }

    async fn paul(&self) -> Client {
        Client::connect(self.paul.clone()).await.unwrap()
    }

    async fn reads_files(&self, press: &Client) {
        let mut files = press.subscribe("files.>").await.unwrap();
        self.desk.publish_confirmed("files.merger", "they will merge").await.unwrap();
        let read = soon("a message", files.next()).await.unwrap();
        assert_eq!(read.payload(), b"they will merge");
        assert_eq!(press.floor(), secret());
    }

    fn order(&self) -> Order {
        Order {
            bus: self.bus.roots().bus(),
            id: OrderId::generate(&mut rand_core::UnwrapErr(getrandom::SysRng)),
            kind: OrderKind::ClearTaint,
            target: Target::Agent {
                token: TestBus::token(&self.paul),
                identity: self.paul.credential().claims().identity.clone(),
            },
            reason: "started again with an empty memory".to_owned(),
            issued: now(),
            valid_until: now().plus(10 * MINUTE),
        }
    }

    fn signed(&self, order: Order, by: &[usize]) -> Vec<u8> {
        let roots = self.bus.roots();
        let mut draft = Draft::new(order, roots).unwrap();
        for n in by {
            draft.sign(&self.bus.policy_keys()[*n], roots).unwrap();
        }
        draft.encode()
    }

    /// Hands in what may be an order: the HTTP code, and the answer if it is one.
    async fn submit(&self, body: &[u8]) -> (u16, Option<OrderAnswer>) {
        let mut stream = TcpStream::connect(self.bus.http()).await.unwrap();
        let length = body.len();
        let head = format!("POST /orders HTTP/1.0\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // Who sends too much is answered before all of it was read.
        let _ = stream.write_all(body).await;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).ok())
    }

    async fn refused(&self, body: &[u8]) -> Option<Reason> {
        let (code, answer) = self.submit(body).await;
        let answer = answer.unwrap();
        assert!(code == 403 && !answer.accepted, "{code} {answer:?}");
        answer.reason
    }

    async fn floors(&self) -> Vec<FloorReport> {
        let (code, body) = page(&self.bus, "/floors").await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    fn logged(&self) -> Vec<entry::Order<'static>> {
        let entries = search(&self.bus.config().audit_dir, Filter::default()).unwrap();
        let orders = entries.filter_map(|found| match found.unwrap().entry.body {
            Body::Order(order) => Some(order),
            _ => None,
        });
        orders.collect()
    }

    async fn state(&self) -> State {
        (self.floors().await, self.logged().iter().filter(|order| order.accepted).count())
    }

    async fn order_event(&mut self, what: &str) -> Value {
        let has = |event: &Value| {
            event.get("kind") == Some(&"order".into())
                && event.get("detail").and_then(Value::as_str).is_some_and(|detail| detail.contains(what))
        };
        self.watch.event(what, has).await
    }
}

async fn tells_low(press: &Client) -> Result<(), Option<Reason>> {
    let low = Publish::new("news.weather", "they will merge").label(public());
    press.send_confirmed(low).await.map(|_| ()).map_err(|error| error.reason())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_clears_a_floor_and_nothing_else_does() {
    let mut scene = Scene::start().await;
    let press = scene.paul().await;
    tells_low(&press).await.unwrap();
    scene.reads_files(&press).await;
    assert_eq!(tells_low(&press).await, Err(Some(Reason::BelowFloor)));

    // It outlives the session and the guard, however that ends.
    press.close().await.unwrap();
    scene.bus.stop_guard().await;
    scene.bus.start_guard().await;
    scene.bus.kill_guard().await;
    scene.bus.start_guard().await;
    let press = scene.paul().await;
    assert_eq!(tells_low(&press).await, Err(Some(Reason::BelowFloor)));
    let floors = scene.floors().await;
    assert_eq!(
        (floors.len(), &floors[0].scope, floors[0].rules[0].rule.as_str()),
        (1, &Scope::Agent, "files")
    );
    assert!(floors[0].floor.contains("secret"), "{floors:?}");

    let good = scene.signed(scene.order(), &[2, 0]);
    let (code, answer) = scene.submit(&good).await;
    assert!(code == 200 && answer.unwrap().accepted);
    let ended = async { while press.ready(Duration::from_secs(10)).await.is_ok() {} };
    soon("the session to end", ended).await;
    let event = scene.order_event("started again").await;
    assert_eq!(event.get("agent"), Some(&TestBus::token(&scene.paul).as_str().into()));
    scene.order_event("the floor is cleared").await;
    assert!(scene.floors().await.is_empty());
    let ended = press.ready(Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(ended.reason(), Some(Reason::SessionEnded), "{ended}");

    let again = scene.paul().await;
    assert_eq!(again.floor(), Label::BOTTOM);
    tells_low(&again).await.unwrap();
    assert_eq!(scene.refused(&good).await, Some(Reason::OrderReplayed));
    // The desk seals with another key by now, and who is given it is tainted anew.
    scene.reads_files(&again).await;
    assert_eq!(scene.refused(&good).await, Some(Reason::OrderReplayed), "and it stays so");
    assert_eq!(tells_low(&again).await, Err(Some(Reason::BelowFloor)));

    let logged = scene.logged();
    let order = SignedOrder::verify(&good, scene.bus.roots()).unwrap();
    assert_eq!(logged.iter().map(|order| order.accepted).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(logged[0].signers, [2, 0].map(|n: usize| nkey(&scene.bus.policy_keys()[n])));
    assert_eq!(logged[0].why.as_deref(), Some("started again with an empty memory"));
    assert_eq!((logged[0].digest.0, logged[1].digest.0), (order.digest(), order.digest()));
    assert_eq!(logged[1].reason.as_deref(), Some("order_replayed"));
    assert!(scene.bus.metrics().render().contains(r#"sealbus_orders_total{outcome="accepted"} 1"#));
}

fn nkey(key: &SigningKey) -> String {
    key.public().to_nkey(KeyKind::User)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_order_is_refused_and_changes_nothing() {
    let mut scene = Scene::start().await;
    let press = scene.paul().await;
    scene.reads_files(&press).await;
    let before = scene.state().await;
    let changed = |change: &dyn Fn(&mut Order)| {
        let mut order = scene.order();
        change(&mut order);
        scene.signed(order, &[0, 1])
    };
    let (good, one, none) = (
        scene.signed(scene.order(), &[0, 1]),
        scene.signed(scene.order(), &[1]),
        scene.signed(scene.order(), &[]),
    );
    // The one signature twice: its bytes, and the count of two.
    let signature = &one[one.len() - 102..];
    let twice = [&one[..one.len() - 103], &[0x92], signature, signature].concat();
    let stranger = {
        let mut roots = scene.bus.roots().clone();
        let key = SigningKey::from_seed(&[7; 32]);
        roots.policy_keys.push(key.public().clone());
        let mut draft = Draft::decode(&one, &roots).unwrap();
        draft.sign(&key, &roots).unwrap();
        draft.encode()
    };
    let other_bus = {
        let mut roots = scene.bus.roots().clone();
        roots.name = name("other");
        let mut draft = Draft::new(Order { bus: roots.bus(), ..scene.order() }, &roots).unwrap();
        for key in scene.bus.quorum() {
            draft.sign(key, &roots).unwrap();
        }
        draft.encode()
    };
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let hostile: [(&str, Vec<u8>, Reason); 10] = [
        ("nothing", vec![], Reason::Truncated),
        ("unsigned", none, Reason::OrderInvalid),
        ("one signature short", one, Reason::OrderInvalid),
        ("two signatures by one key", twice, Reason::OrderInvalid),
        ("a key that is no policy key", stranger, Reason::OrderInvalid),
        ("a signature that is not good", forged, Reason::OrderInvalid),
        ("another bus", other_bus, Reason::WrongBus),
        ("bytes that follow", [&good[..], &[0]].concat(), Reason::TrailingBytes),
        (
            "over",
            changed(&|order| (order.issued, order.valid_until) = (Millis(1), Millis(MINUTE))),
            Reason::OrderExpired,
        ),
        (
            "from the future",
            changed(&|order| {
                (order.issued, order.valid_until) = (now().plus(5 * MINUTE), now().plus(6 * MINUTE));
            }),
            Reason::NotYetValid,
        ),
    ];
    for (what, bytes, reason) in &hostile {
        assert_eq!(scene.refused(bytes).await, Some(*reason), "{what}");
        assert_eq!(scene.state().await, before, "{what}");
        let told = |event: &Value| event.get("reason") == Some(&reason.code().into());
        scene.watch.event(what, told).await;
    }
    assert_eq!(scene.submit(&[0; MAX_ORDER + 1]).await.0, 413);
    assert_eq!(scene.logged().len(), hostile.len(), "each is in the log");
    // Nor does a flood of such keep a good one out.
    for _ in 0..100 {
        scene.refused(&hostile[1].1).await;
    }
    assert!(scene.logged().len() < hostile.len() + 20, "a flood is not logged one by one");
    assert_eq!(scene.state().await, before);
    assert_eq!(tells_low(&press).await, Err(Some(Reason::BelowFloor)));
    assert_eq!(scene.submit(&good).await.0, 200);
    scene.order_event("the floor is cleared").await;
    assert!(scene.floors().await.is_empty());
}

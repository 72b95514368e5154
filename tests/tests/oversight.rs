//! Directed workflows on a real bus with three policy keys: what trips the breaker, what a pause does to those who
//! send, and who ends it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::{collections::BTreeSet, time::Duration};

use sealbus_client::{Client, ErrorKind, Event, Publish, WhenPaused, credentials::Credentials};
use sealbus_envelope::{
    label::{Compartments, Integrity, Label, Level},
    order::{Draft, Order, OrderId, OrderKind, Target, Workflow},
    reason::Reason,
};
use sealbus_guard::{
    audit::{
        entry::{self, Body},
        search::{Filter, search},
    },
    clock::now,
    http::ask::OrderAnswer,
    oversight::pause::{By, WorkflowReport},
};
use sealbus_tests::{
    bus::{TestBus, name, soon},
    hostile::{
        hand::Hand,
        watch::{Watch, page},
    },
    server::ServerSpec,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const POLICY: &str = r#"
levels       = ["public"]
compartments = []
integrity    = ["low"]

[teams.payer]
clearance = { level = "public" }
[teams.desk]
clearance = { level = "public" }

[rules.pay]
pattern     = "pay.>"
publishers  = ["payer"]
subscribers = ["desk"]
labels      = { level = "public", integrity = "low" }
rate        = { per_second = 50, burst = 100 }
max_bytes   = 4096
oversight   = "directed"

[rules.chat]
pattern     = "chat.>"
publishers  = ["payer"]
subscribers = ["desk"]
labels      = { level = "public", integrity = "low" }
"#;

const MINUTE: u64 = 60_000;

fn pay() -> Workflow {
    Workflow::Rule(name("pay"))
}

struct Scene {
    bus: TestBus,
    watch: Watch,
    desk: Client,
    payer: Client,
    mallory: Credentials,
}

impl Scene {
    async fn start(policy: &str) -> Self {
        let mut bus = TestBus::prepare_quorum(policy, ServerSpec::default(), 3, 2).await;
        bus.start_guard().await;
        let watch = Watch::start(&bus).await;
        let desk = Client::connect(bus.agent("dora", "desk")).await.unwrap();
        let payer = Client::connect(bus.agent("paul", "payer")).await.unwrap();
        let mallory = bus.agent("mallory", "payer");
        Self { bus, watch, desk, payer, mallory }
    }

    /// A member of the workflow names a flow grant that is not: no honest client would. It stays connected while
    /// what it gives back lives: of who is gone already nothing is looked at.
    async fn deviate(&self) -> Hand {
        let mut hand = Hand::join(&self.mallory).await;
        let mut key =
            hand.open("pay", Label::new(Level::LOWEST, Compartments::EMPTY, Integrity::LOWEST)).await;
        let mut fields = hand.fields(&key, "pay.rent");
        fields.flow_grant = Some(name("none"));
        let bytes = hand.seal(&mut key, &fields, b"to me");
        hand.send("pay.rent", &bytes).await.unwrap();
        hand
    }

    fn signed(&self, kind: OrderKind, by: &[usize]) -> Vec<u8> {
        let roots = self.bus.roots();
        let order = Order {
            bus: roots.bus(),
            id: OrderId::generate(&mut rand_core::UnwrapErr(getrandom::SysRng)),
            kind,
            target: Target::Workflow(pay()),
            reason: "looked into it".to_owned(),
            issued: now(),
            valid_until: now().plus(10 * MINUTE),
        };
        let mut draft = Draft::new(order, roots).unwrap();
        for n in by {
            draft.sign(&self.bus.policy_keys()[*n], roots).unwrap();
        }
        draft.encode()
    }

    async fn submit(&self, order: &[u8]) -> OrderAnswer {
        let mut stream = TcpStream::connect(self.bus.http()).await.unwrap();
        let length = order.len();
        let head = format!(
            "POST /orders HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(order).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    async fn reports(&self) -> Vec<WorkflowReport> {
        serde_json::from_str(&page(&self.bus, "/workflows").await.1).unwrap()
    }

    async fn is_paused(&self) -> bool {
        self.reports().await.iter().any(|report| report.workflow == "rule:pay" && report.paused.is_some())
    }

    fn logged(&self) -> Vec<entry::Workflow<'static>> {
        let found = search(&self.bus.config().audit_dir, Filter::default()).unwrap();
        let entries = found.map(|found| found.unwrap().entry.body);
        let of = |body| match body {
            Body::Workflow(workflow) => Some(workflow),
            _ => None,
        };
        entries.filter_map(of).collect()
    }
}

async fn hears(client: &Client, what: &str, wanted: impl Fn(&Event) -> bool) {
    let mut events = client.events();
    soon(what, async { while events.next().await.is_some_and(|event| !wanted(&event)) {} }).await;
}

fn is_pause(event: &Event) -> bool {
    matches!(event, Event::WorkflowPaused { workflow, .. } if *workflow == pay())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deviation_pauses_all_who_send_until_a_person_resumes_it() {
    let mut scene = Scene::start(POLICY).await;
    let mut reading = scene.desk.subscribe("pay.>").await.unwrap();
    let mut chat = scene.desk.subscribe("chat.>").await.unwrap();
    scene.payer.publish_confirmed("pay.rent", "0").await.unwrap();
    soon("a payment", reading.next()).await.unwrap();
    let of_before = scene.signed(OrderKind::Resume, &[1]);

    let paused = hears(&scene.payer, "the pause", is_pause);
    let ((), _mallory) = tokio::join!(paused, scene.deviate());
    let event =
        scene.watch.event("the pause", |event| event.to_string().contains("rule:pay is paused")).await;
    assert!(event.to_string().contains("mallory"), "{event}");

    // Who is to fail fails at once, and is told what is paused.
    let failed = scene.payer.publish_confirmed("pay.rent", "lost").await.unwrap_err();
    assert_eq!((failed.kind(), failed.reason()), (ErrorKind::WorkflowPaused, Some(Reason::WorkflowPaused)));
    assert_eq!(failed.workflow(), Some(&pay()));
    let plain = scene.payer.publish("pay.rent", "lost too").await.unwrap_err();
    assert_eq!(plain.kind(), ErrorKind::WorkflowPaused);
    // Other rules go on, and who connects later hears of it.
    scene.payer.publish_confirmed("chat.a", "hello").await.unwrap();
    soon("a chat", chat.next()).await.unwrap();
    let late = Client::connect(scene.bus.agent("lara", "payer")).await.unwrap();
    let refused = late.publish_confirmed("pay.rent", "late").await.unwrap_err();
    assert_eq!(refused.workflow(), Some(&pay()));

    // It outlives the guard, however that ends.
    scene.bus.kill_guard().await;
    scene.bus.start_guard().await;
    assert!(scene.is_paused().await);
    scene.payer.ready(Duration::from_secs(30)).await.unwrap();

    // Who waits goes through once.
    let waiting: Vec<_> = (1..=20)
        .map(|n: u8| {
            let payer = scene.payer.clone();
            let publish = Publish::new("pay.rent", vec![n]).when_paused(WhenPaused::Wait);
            tokio::spawn(async move { payer.send_confirmed(publish).await })
        })
        .collect();
    let plain = {
        let payer = scene.payer.clone();
        let publish = Publish::new("pay.rent", vec![21]).when_paused(WhenPaused::Wait);
        tokio::spawn(async move { payer.send(publish).await })
    };
    let mut short = Publish::new("pay.rent", vec![22]).when_paused(WhenPaused::Wait);
    short = short.ttl(Duration::from_millis(50));
    let over = scene.payer.send_confirmed(short).await.unwrap_err();
    assert_eq!(over.kind(), ErrorKind::WorkflowPaused, "it waits for its time-to-live at most");

    let outdated = scene.submit(&of_before).await.reason;
    assert_eq!(outdated, Some(Reason::OrderExpired), "who signed it knew nothing of this pause");
    let resume = scene.signed(OrderKind::Resume, &[1]);
    assert!(scene.submit(&resume).await.accepted, "one person may resume it");
    for sent in waiting {
        soon("a payment that waited", sent).await.unwrap().unwrap();
    }
    soon("a plain payment that waited", plain).await.unwrap().unwrap();
    let mut got = BTreeSet::new();
    while got.len() < 21 {
        let message = soon("a payment", reading.next()).await.unwrap();
        assert!(got.insert(message.payload()[0]), "{:?} came twice", message.payload());
    }
    assert_eq!(got, (1..=21).collect());
    scene.payer.publish_confirmed("pay.rent", "99").await.unwrap();
    assert_eq!(soon("a payment", reading.next()).await.unwrap().payload(), b"99", "and nothing else came");
    assert_eq!(scene.submit(&resume).await.reason, Some(Reason::OrderReplayed));
    let logged = scene.logged();
    assert_eq!(logged.iter().map(|entry| &*entry.to).collect::<Vec<_>>(), ["paused", "resumed"]);
    assert_eq!(logged[0].reason.as_deref(), Some("flow_grant_unknown"));
    assert!(scene.bus.metrics().render().contains("sealbus_workflows_paused 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_makes_up_pauses_nothing_and_orders_are_counted() {
    let policy = format!("{POLICY}\n[orders]\nresume = 2\n");
    let scene = Scene::start(&policy).await;
    let mut hand = Hand::join(&scene.mallory).await;
    let label = Label::new(Level::LOWEST, Compartments::EMPTY, Integrity::LOWEST);
    let mut key = hand.open("pay", label).await;
    let honest = hand.publish(&mut key, "pay.rent", b"1").await;
    // Junk in its name, the same again and again, elsewhere, and all at once.
    let mut torn = honest.clone();
    torn.truncate(honest.len() / 2);
    let mut forged = honest.clone();
    *forged.last_mut().unwrap() ^= 1;
    for bytes in [&honest, &torn, &forged, &b"junk".to_vec()] {
        for subject in ["pay.rent", "pay.other"] {
            hand.send(subject, bytes).await.unwrap();
        }
    }
    for _ in 0..150 {
        hand.publish(&mut key, "pay.rent", b"2").await;
    }
    scene.payer.publish_confirmed("pay.rent", "3").await.unwrap();
    assert!(!scene.is_paused().await);

    assert_eq!(scene.submit(&scene.signed(OrderKind::Pause, &[])).await.reason, Some(Reason::OrderInvalid));
    assert!(!scene.is_paused().await);
    assert!(scene.submit(&scene.signed(OrderKind::Pause, &[2])).await.accepted);
    let reports = scene.reports().await;
    let report = reports.iter().find(|report| report.workflow == "rule:pay").unwrap();
    assert!(matches!(&report.paused.as_ref().unwrap().by, By::Order { why, .. } if why == "looked into it"));
    let short = scene.submit(&scene.signed(OrderKind::Resume, &[0])).await;
    assert_eq!(short.reason, Some(Reason::OrderInvalid), "the policy wants two");
    assert!(scene.is_paused().await);
    assert!(scene.submit(&scene.signed(OrderKind::Resume, &[0, 2])).await.accepted);
    assert!(!scene.is_paused().await);
}

//! From the first hard evidence to no more deliveries, at an honest reader, with everything real in between.
//!
//! In each round a new agent publishes honestly, then one envelope that proves it lies, then goes on as if nothing
//! had happened until the server hangs up. Beside it honest agents publish; nothing of theirs may be missing.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use sealbus_client::Client;
use sealbus_envelope::identity::BusId;
use sealbus_guard::events::ocsf::unmapped;
use sealbus_tests::{
    bus::{TestBus, soon},
    hostile::{arena::label, forge::Parts, hand::Hand},
};

use crate::{
    environment::Environment,
    progress,
    report::{Report, Row},
    rig::Rig,
    samples::Samples,
};

/// The fewest rounds, and about how long one takes.
const ROUNDS: u32 = 30;
const ROUND: Duration = Duration::from_millis(400);
/// Between two envelopes of whoever misbehaves.
const EVERY: Duration = Duration::from_millis(2);
/// Honest ones before it does, and as many at most after.
const HONEST: u32 = 20;
const AFTER: u32 = 500;
/// Of the honest agents.
const BESIDE: Duration = Duration::from_millis(2);
/// The server's second look comes 2.5 seconds after the first.
const CONFIRMED: Duration = Duration::from_secs(20);

const POLICY: &str = r#"
levels = ["public"]
integrity = ["untrusted"]

[teams.mob]
clearance = { level = "public" }
[teams.desk]
clearance = { level = "public" }

[rules.tips]
pattern = "tips.>"
publishers = ["mob"]
subscribers = ["desk"]
labels = { level = "public" }
rate = { per_second = 10000, burst = 20000 }

[rules.news]
pattern = "news.>"
publishers = ["desk"]
subscribers = ["desk", "mob"]
labels = { level = "public" }
rate = { per_second = 10000, burst = 20000 }
"#;

/// What was delivered of an agent last, and how many were sent after the evidence.
type Heard = Arc<Mutex<HashMap<String, (Instant, u32)>>>;
/// When the guard said something of an agent.
type Told = Arc<Mutex<HashMap<String, Instant>>>;

struct Round {
    agent: String,
    evidence: Instant,
    cut: Duration,
}

pub(crate) fn run(budget: Duration) -> Report {
    let environment = Environment::take();
    let rig = Rig::start_with(POLICY);
    let report = Report::new("quarantine", rig.environment(environment));
    rig.load().block_on(measure(rig.bus(), budget, report))
}

async fn measure(bus: &TestBus, budget: Duration, mut report: Report) -> Report {
    let reader = Client::connect(bus.agent("reader", "desk")).await.expect("the reader's login");
    let writer = Client::connect(bus.agent("writer", "desk")).await.expect("the writer's login");
    let heard = listen(&reader).await;
    let (quarantined, confirmed) = told(bus).await;
    let stop = Arc::new(AtomicBool::new(false));
    let beside = tokio::spawn(publish_beside(reader.clone(), writer, Arc::clone(&stop)));

    let rounds = u32::try_from(budget.as_millis() / ROUND.as_millis()).unwrap_or(ROUNDS).max(ROUNDS);
    let mut done = Vec::new();
    for n in 0..rounds {
        if n % 10 == 0 {
            progress::say(&format!("round {} of {rounds}", n + 1));
        }
        done.push(round(bus, n).await);
    }
    let all = async {
        while count(&confirmed) < done.len() {
            // The events are counted by another task.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let all_confirmed = tokio::time::timeout(CONFIRMED, all).await.is_ok();
    stop.store(true, Ordering::Relaxed);
    let (sent, received) = beside.await.expect("the honest flow");

    let (mut last, mut event, mut cut, mut sure) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    let mut late = 0;
    for round in &done {
        let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, after)) = heard.get(&round.agent) {
            last.push(at.saturating_duration_since(round.evidence));
            late += after;
        }
        for (told, samples) in [(&quarantined, &mut event), (&confirmed, &mut sure)] {
            let told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = told.get(&round.agent) {
                samples.push(at.saturating_duration_since(round.evidence));
            }
        }
        cut.push(round.cut);
    }
    let row = |what: &str, samples: &Samples| {
        Row::new(what)
            .measured("p50_ms", samples.p50_us() / 1e3)
            .measured("p99_ms", samples.p99_us() / 1e3)
            .with("rounds", samples.len())
    };
    report.push(row("evidence to the last delivery", &last).with("delivered_after_evidence", late));
    report.push(row("evidence to the event", &event));
    report.push(row("evidence to the connection cut", &cut));
    report.push(row("evidence to confirmed by every server", &sure).with("all_confirmed", all_confirmed));
    report.push(
        Row::new("honest agents meanwhile")
            .with("messages_sent", sent)
            .with("messages_lost", sent - received),
    );
    report.note(format!(
        "The agent publishes every {} ms before and after the evidence until it is cut. `delivered_after_evidence` \
         counts what it sent after the evidence and a reader was given all the same. The second look at the servers \
         is {} s after the first: no confirmation is quicker.",
        EVERY.as_millis(),
        2.5
    ));
    report
}

fn count(told: &Told) -> usize {
    told.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// One agent's honest life and end.
async fn round(bus: &TestBus, n: u32) -> Round {
    let credentials = bus.agent(&format!("mob-{n}"), "mob");
    let mut hand = Hand::join(&credentials).await;
    let mut key = hand.open("tips", label(0, 0, 0)).await;
    assert_eq!(hand.declare("news", "news.>", false).await, None, "it reads, too");
    for n in 0..HONEST {
        hand.publish(&mut key, "tips.a", &n.to_be_bytes()).await;
        tokio::time::sleep(EVERY).await;
    }
    let mut fields = hand.fields(&key, "tips.a");
    fields.bus = BusId::from_bytes([9; 32]);
    key.next += 1;
    let forged = Parts::signed(&fields, hand.papers.session(), &hand.papers.key).bytes();
    // Sealed before, so that nothing but the wire is between the evidence and what follows.
    let after: Vec<Vec<u8>> =
        (HONEST..HONEST + AFTER).map(|n| hand.envelope(&mut key, "tips.a", &n.to_be_bytes())).collect();
    let evidence = Instant::now();
    let mut sent = hand.send("tips.a", &forged).await;
    for envelope in after {
        if sent.is_err() {
            break;
        }
        tokio::time::sleep(EVERY).await;
        sent = hand.send("tips.a", &envelope).await;
    }
    if sent.is_ok() {
        soon("the connection to be cut", hand.raw.closed()).await;
    }
    Round { agent: hand.token().to_string(), evidence, cut: evidence.elapsed() }
}

/// Notes when the reader was given something of whom.
async fn listen(reader: &Client) -> Heard {
    let heard = Heard::default();
    let mut tips = reader.subscribe("tips.>").await.expect("the reader may read tips");
    let noted = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Some(message) = tips.next().await {
            let n = <[u8; 4]>::try_from(message.payload()).map_or(0, u32::from_be_bytes);
            let mut heard = noted.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = heard.entry(message.sender_token().to_string()).or_insert((Instant::now(), 0));
            entry.0 = Instant::now();
            entry.1 += u32::from(n >= HONEST);
        }
    });
    heard
}

/// Notes when the guard told of a quarantine, and when it confirmed it.
async fn told(bus: &TestBus) -> (Told, Told) {
    let client = bus.on_call().await;
    let mut events = client.subscribe("sb.events.quarantine").await.expect("the engineer hears events");
    client.flush().await.expect("a live connection");
    let (quarantined, confirmed) = (Told::default(), Told::default());
    let (first, second) = (Arc::clone(&quarantined), Arc::clone(&confirmed));
    tokio::spawn(async move {
        let _client = client;
        while let Some(event) = events.next().await {
            let at = Instant::now();
            let Ok(event) = serde_json::from_slice::<serde_json::Value>(&event.payload) else { continue };
            let event = unmapped(&event).unwrap_or(&event);
            let said = |name: &str| event.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
            let (agent, detail) = (said("agent").to_owned(), said("detail"));
            let told = if detail.starts_with("confirmed") { &second } else { &first };
            told.lock().unwrap_or_else(PoisonError::into_inner).entry(agent).or_insert(at);
        }
    });
    (quarantined, confirmed)
}

/// Publishes and reads until told to stop: how many were sent, and how many came.
async fn publish_beside(reader: Client, writer: Client, stop: Arc<AtomicBool>) -> (u32, u32) {
    let mut news = reader.subscribe("news.>").await.expect("the reader may read news");
    let received = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&received);
    let reading = tokio::spawn(async move {
        while news.next().await.is_some() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut sent: u32 = 0;
    while !stop.load(Ordering::Relaxed) {
        writer.publish("news.a", sent.to_be_bytes()).await.expect("an honest publish");
        sent += 1;
        tokio::time::sleep(BESIDE).await;
    }
    // The last of them are under way; what has not come in five seconds is lost.
    for _ in 0..250 {
        if received.load(Ordering::Relaxed) >= sent {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    reading.abort();
    (sent, received.load(Ordering::Relaxed))
}

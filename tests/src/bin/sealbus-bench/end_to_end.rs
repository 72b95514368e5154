//! The whole way with the client that agents use: seal, guard, verify and open.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sealbus_client::{Client, Publish, Subscription};
use tokio::sync::Semaphore;

use crate::{
    environment::Environment,
    pacer::Pace,
    progress,
    report::{Report, Row},
    rig::{LOGICAL, Rig},
    samples::{Samples, median},
};

const PAYLOAD: usize = 1024;
const PER_SECOND: u32 = 1_000;
/// How many messages are under way at most.
const WINDOW: usize = 8_192;
/// The publisher waits for room in turns of this many.
const TURN: usize = 64;
const WARM_UP: usize = 100;
const SILENCE: Duration = Duration::from_secs(3);

pub(crate) fn run(budget: Duration) -> Report {
    let environment = Environment::take();
    let rig = Rig::start();
    let mut report = Report::new("end-to-end", rig.environment(environment));
    let (sender, mut messages) = rig.load().block_on(connect(&rig));
    let third = budget / 3;

    progress::say("as fast as it goes");
    let rounds = rig.load().block_on(throughput(&sender, &mut messages, third));
    let rates: Vec<f64> = rounds.iter().map(|round| round.per_second).collect();
    report.push(
        Row::new("publish, as fast as it goes")
            .measured("messages_per_second", median(&rates))
            .with("messages_sent", rounds.iter().map(|round| round.sent).sum::<usize>())
            .with("messages_lost", rounds.iter().map(|round| round.sent - round.received).sum::<usize>()),
    );

    progress::say(&format!("{PER_SECOND} a second"));
    let paced = paced(&rig, &sender, &mut messages, third);
    report.push(
        Row::new(format!("publish to received, {PER_SECOND}/s"))
            .measured("p50_us", paced.latency.p50_us())
            .measured("p99_us", paced.latency.p99_us())
            .with("messages_sent", paced.sent)
            .with("messages_lost", paced.sent - paced.latency.len()),
    );

    progress::say("confirmed, one after the other");
    let confirmed = rig.load().block_on(confirmed(&sender, third));
    report.push(
        Row::new("confirmed publish, one at a time")
            .measured("p50_us", confirmed.p50_us())
            .measured("p99_us", confirmed.p99_us())
            .with("messages_sent", confirmed.len())
            .with("messages_lost", 0),
    );
    report.note(format!(
        "{PAYLOAD} bytes, one sender, one reader, both with the client library: sealed, signed, admitted, \
         logged, verified, opened. Latency counts from when a message was due (its sender woke \
         {:.0} us late, median). A confirmed publish returns when the log is on disk.",
        paced.late.p50_us(),
    ));
    rig.load().block_on(async {
        sender.close().await.expect("the session ends in order");
    });
    report
}

async fn connect(rig: &Rig) -> (Client, Subscription) {
    let reader = Client::connect(rig.bus().agent("reader", "load")).await.expect("a reader");
    let mut messages = reader.subscribe("load.>").await.expect("a subscription");
    let sender = Client::connect(rig.bus().agent("sender", "load")).await.expect("a sender");
    // The first message brings the reader its key.
    sender.publish(LOGICAL, vec![0; PAYLOAD]).await.expect("a message");
    messages.next().await.expect("the first message");
    (sender, messages)
}

struct Round {
    sent: usize,
    received: usize,
    per_second: f64,
}

async fn throughput(sender: &Client, messages: &mut Subscription, budget: Duration) -> Vec<Round> {
    let sent = usize::try_from(budget.as_millis() * 10).unwrap_or(usize::MAX).clamp(TURN * 8, TURN * 1_024)
        / TURN
        * TURN;
    let (mut rounds, begun) = (Vec::new(), Instant::now());
    while rounds.is_empty() || begun.elapsed() < budget {
        let round = throughput_round(sender, messages, sent).await;
        progress::say(&format!("round {}: {:.1} k/s", rounds.len() + 1, round.per_second / 1_000.0));
        rounds.push(round);
    }
    rounds
}

async fn throughput_round(sender: &Client, messages: &mut Subscription, sent: usize) -> Round {
    let room = Arc::new(Semaphore::new(WINDOW));
    let begun = Instant::now();
    let publisher = tokio::spawn({
        let (sender, room) = (sender.clone(), Arc::clone(&room));
        async move {
            for _ in 0..sent / TURN {
                let turn = u32::try_from(TURN).unwrap_or(u32::MAX);
                room.acquire_many(turn).await.expect("never closed").forget();
                for _ in 0..TURN {
                    sender.publish(LOGICAL, vec![7; PAYLOAD]).await.expect("a message");
                }
            }
        }
    });
    let (mut received, mut last) = (0, begun);
    while received < sent {
        let Ok(Some(_)) = tokio::time::timeout(SILENCE, messages.next()).await else { break };
        received += 1;
        if received % TURN == 0 {
            room.add_permits(TURN);
            last = Instant::now();
        }
    }
    publisher.abort();
    #[expect(clippy::cast_precision_loss, reason = "counts of messages are far below 2^52")]
    let per_second = received as f64 / last.duration_since(begun).as_secs_f64();
    Round { sent, received, per_second }
}

struct Paced {
    sent: usize,
    latency: Samples,
    late: Samples,
}

fn paced(rig: &Rig, sender: &Client, messages: &mut Subscription, budget: Duration) -> Paced {
    let sent =
        usize::try_from(budget.as_millis() * u128::from(PER_SECOND) / 1_000).unwrap_or(usize::MAX).max(50);
    let pace = Pace::starting_soon(PER_SECOND);
    let (client, handle) = (sender.clone(), rig.load().handle().clone());
    let thread = std::thread::spawn(move || {
        pace.run(WARM_UP + sent, |index| {
            let mut payload = vec![7; PAYLOAD];
            if let Some(head) = payload.first_chunk_mut() {
                *head = index.to_be_bytes();
            }
            handle.block_on(client.publish(LOGICAL, payload)).expect("a message");
        })
    });
    let mut latency = Samples::default();
    let last = WARM_UP + sent - 1;
    rig.load().block_on(async {
        while let Ok(Some(message)) = tokio::time::timeout(SILENCE, messages.next()).await {
            let now = Instant::now();
            let Some(head) = message.payload().first_chunk() else { continue };
            let index = usize::from_be_bytes(*head);
            if index >= WARM_UP {
                latency.push(now.saturating_duration_since(pace.due(index)));
            }
            if index == last {
                break;
            }
        }
    });
    Paced { sent, latency, late: thread.join().expect("the sender does not panic") }
}

async fn confirmed(sender: &Client, budget: Duration) -> Samples {
    let mut samples = Samples::default();
    let begun = Instant::now();
    loop {
        let publish = Publish::new(LOGICAL, vec![7; PAYLOAD]);
        let sent = Instant::now();
        sender.send_confirmed(publish).await.expect("a receipt");
        samples.push(sent.elapsed());
        if begun.elapsed() >= budget {
            return samples;
        }
    }
}

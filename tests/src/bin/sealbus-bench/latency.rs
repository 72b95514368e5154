//! Latency at 1 KiB and 5,000 messages a second: direct, through a relay that does nothing, through the guard.
//!
//! At this pace nothing queues, so each envelope is signed and admitted alone: what is measured is the whole
//! cost of one message, no batching hides it.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};

use crate::{
    environment::Environment,
    pacer::Pace,
    progress,
    report::{Report, Row},
    rig::{Path, Rig},
    samples::Samples,
};

const PAYLOAD: usize = 1024;
const PER_SECOND: u32 = 5_000;
/// Turns of each path, so that a busy moment of the machine does not hit one alone.
const TURNS: u32 = 5;
/// Not counted: caches fill, threads start.
const WARM_UP: usize = 250;
const SILENCE: Duration = Duration::from_secs(3);

#[derive(Default)]
struct Track {
    latency: Samples,
    late: Samples,
    sent: usize,
    received: usize,
}

pub(crate) fn run(budget: Duration) -> Report {
    let environment = Environment::take();
    let rig = Rig::start();
    let mut report = Report::new("latency", rig.environment(environment));
    let (guarded, mut sealers) = rig.guarded(1);
    let sealer = sealers.first_mut().expect("one sender");
    let mut paths = [("direct", rig.direct(1)), ("no-op relay", rig.relay(1)), ("guard", guarded)];
    let mut tracks: [Track; 3] = std::array::from_fn(|_| Track::default());
    let count = count(budget / TURNS / 3);
    for turn in 1..=TURNS {
        progress::say(&format!("turn {turn} of {TURNS}"));
        for ((_, path), track) in paths.iter_mut().zip(&mut tracks) {
            let messages = sealer.seal(WARM_UP + count, 1, &[7; PAYLOAD]);
            pace(&rig, path, &messages, track);
        }
    }
    let base = tracks.first().map_or(f64::NAN, |track| track.latency.p50_us());
    for ((what, _), track) in paths.iter().zip(&tracks) {
        report.push(
            Row::new(*what)
                .measured("p50_us", track.latency.p50_us())
                .measured("p99_us", track.latency.p99_us())
                .measured("p50_ratio_to_direct", track.latency.p50_us() / base)
                .measured("sender_late_p50_us", track.late.p50_us())
                .measured("sender_late_p99_us", track.late.p99_us())
                .with("messages_sent", track.sent)
                .with("messages_lost", track.sent - track.received),
        );
    }
    report.note(format!(
        "{PER_SECOND} messages a second of {PAYLOAD} bytes, each signed alone; counted from when a message was \
         due, so the sender's own lateness is in every figure.",
    ));
    report
}

fn count(budget: Duration) -> usize {
    usize::try_from(budget.as_micros() * u128::from(PER_SECOND) / 1_000_000).unwrap_or(usize::MAX).max(50)
}

/// Sends the messages at the pace; every one that arrives is told by its bytes from one that was lost.
fn pace(rig: &Rig, path: &mut Path, messages: &[Bytes], track: &mut Track) {
    let Path { clients, subscriber } = path;
    let (client, subject) = clients.first().expect("one lane").clone();
    let schedule = Pace::starting_soon(PER_SECOND);
    let own = messages.to_vec();
    let handle = rig.load().handle().clone();
    let sender = std::thread::spawn(move || {
        schedule.run(own.len(), |index| {
            let Some(message) = own.get(index) else { return };
            let publish = client.publish(subject.clone(), message.clone());
            // There is room in the connection's queue but for a system that has fallen far behind.
            let mut publish = std::pin::pin!(publish);
            let done = publish.as_mut().now_or_never().unwrap_or_else(|| handle.block_on(publish));
            done.expect("a connection");
        })
    });
    let mut next = 0;
    rig.load().block_on(async {
        while next < messages.len() {
            let Ok(Some(message)) = tokio::time::timeout(SILENCE, subscriber.next()).await else { break };
            let now = Instant::now();
            let place = messages.iter().skip(next).position(|sent| *sent == message.payload);
            let Some(skipped) = place else { continue };
            let index = next + skipped;
            next = index + 1;
            if index >= WARM_UP {
                track.received += 1;
                track.latency.push(now.saturating_duration_since(schedule.due(index)));
            }
        }
    });
    track.sent += messages.len() - WARM_UP;
    let late = sender.join().expect("the sender does not panic");
    track.late.extend(&late);
}

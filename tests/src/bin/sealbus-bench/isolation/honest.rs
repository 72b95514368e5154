//! Honest flows at a steady rate, and how late each message arrives.

use std::time::{Duration, Instant};

use async_nats::{Client, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};

use super::{PAYLOAD, PER_SECOND, PUBLISHERS};
use crate::{
    agent::{Agent, Sealer},
    pacer::Pace,
    rig::{RULE, Rig},
    samples::Samples,
};

/// Messages that never come are lost after this long without any.
const SILENCE: Duration = Duration::from_secs(3);
/// Not counted: caches fill, threads start.
const WARM_UP: usize = 200;

/// What came of one turn.
pub(super) struct Window {
    pub(super) sent: usize,
    /// Of what arrived.
    pub(super) latency: Samples,
    /// How late the sender was.
    pub(super) late: Samples,
    /// What arrived while it was being sent, and in the second after.
    pub(super) per_second: f64,
}

/// Publishers and their one reader.
pub(super) struct Honest {
    lanes: Vec<(Client, Subject)>,
    sealers: Vec<Sealer>,
    reader: Subscriber,
}

impl Honest {
    /// Agents, through the guard.
    pub(super) fn guarded(rig: &Rig) -> Self {
        rig.load().block_on(async {
            let mut sealers = Vec::new();
            for lane in 0..PUBLISHERS {
                let agent = Agent::connect(rig.bus(), &format!("honest-{lane}"), "load").await;
                sealers.push(agent.open(RULE, &format!("load.{lane}")).await);
            }
            let lanes = sealers.iter().map(|sealer| (sealer.nats().clone(), sealer.subject())).collect();
            let reader = Agent::connect(rig.bus(), "reader", "load").await.deliveries("load.>").await;
            Self { lanes, sealers, reader }
        })
    }

    /// Logins without a guard between them, on the subjects that [`Flood::Plain`](super::Flood::Plain) floods.
    pub(super) fn plain(rig: &Rig) -> Self {
        rig.load().block_on(async {
            let mut lanes = Vec::new();
            for lane in 0..PUBLISHERS {
                let subject = format!("sb.guard.bench.honest.{lane}");
                lanes.push((rig.login().await, Subject::from(subject)));
            }
            let reader = crate::rig::subscribe(&rig.login().await, "sb.guard.bench.>").await;
            Self { lanes, sealers: vec![], reader }
        })
    }

    /// One turn.
    pub(super) fn window(&mut self, rig: &Rig, length: Duration) -> Window {
        let count = WARM_UP + usize::try_from(length.as_millis()).unwrap_or(0) * PER_SECOND as usize / 1_000;
        let each = count.div_ceil(PUBLISHERS);
        let count = each * PUBLISHERS;
        let messages: Vec<Vec<Bytes>> = if self.sealers.is_empty() {
            let plain = |lane: usize, n: usize| {
                let mut bytes = vec![7; PAYLOAD];
                bytes.splice(..16, [lane.to_be_bytes(), n.to_be_bytes()].concat());
                Bytes::from(bytes)
            };
            (0..PUBLISHERS).map(|lane| (0..each).map(|n| plain(lane, n)).collect()).collect()
        } else {
            self.sealers.iter_mut().map(|sealer| sealer.seal(each, 1, &[7; PAYLOAD])).collect()
        };
        let schedule = Pace::starting_soon(PER_SECOND);
        let (lanes, own, handle) = (self.lanes.clone(), messages.clone(), rig.load().handle().clone());
        let sender = std::thread::spawn(move || {
            schedule.run(count, |index| {
                let (lane, n) = (index % PUBLISHERS, index / PUBLISHERS);
                let (Some((client, subject)), Some(messages)) = (lanes.get(lane), own.get(lane)) else {
                    return;
                };
                let Some(message) = messages.get(n) else { return };
                let mut publish = std::pin::pin!(client.publish(subject.clone(), message.clone()));
                let done = publish.as_mut().now_or_never().unwrap_or_else(|| handle.block_on(publish));
                done.expect("a connection");
            })
        });
        let over = schedule.due(count) + Duration::from_secs(1);
        let (mut latency, mut in_time, mut next) = (Samples::default(), 0u32, [0usize; PUBLISHERS]);
        rig.load().block_on(async {
            let mut left = count;
            while left > 0 {
                let Ok(Some(message)) = tokio::time::timeout(SILENCE, self.reader.next()).await else {
                    break;
                };
                let now = Instant::now();
                if now > over + SILENCE * 3 {
                    break;
                }
                let lane = message.subject.rsplit('.').next().and_then(|lane| lane.parse::<usize>().ok());
                let Some(lane) = lane.filter(|_| message.payload.len() >= PAYLOAD) else { continue };
                let (Some(sent), Some(next)) = (messages.get(lane), next.get_mut(lane)) else { continue };
                // What it is not is lost; what is not there is of a turn before.
                let Some(skipped) = sent.iter().skip(*next).position(|sent| *sent == message.payload) else {
                    continue;
                };
                let n = *next + skipped;
                left = left.saturating_sub(skipped + 1);
                *next = n + 1;
                let index = n * PUBLISHERS + lane;
                if index >= WARM_UP {
                    latency.push(now.saturating_duration_since(schedule.due(index)));
                    in_time += u32::from(now <= over);
                }
            }
        });
        let late = sender.join().expect("the sender does not panic");
        let sent = count - WARM_UP;
        let per_second = f64::from(in_time) / length.as_secs_f64();
        Window { sent, latency, late, per_second }
    }
}

//! Brings every event to every sink that wants it, and says which ones did not get through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sealbus_envelope::time::Millis;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Event, Kind,
    ocsf::{self, Severity, Source},
    queue::{Filter, Loss, Queue, Record},
    sink::{Courier, Feed, Sink},
};
use crate::{clock::now, metrics::Metrics};

/// How often losses are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// While a sink stays full, what it lost is told this often.
const TELL_EVERY_MS: u64 = 60_000;

/// One sink as the herald sees it.
#[derive(Debug)]
struct Outlet {
    name: String,
    filter: Filter,
    queue: Arc<Queue>,
}

/// Hands events to sinks. Cheap to clone; handing over never waits.
#[derive(Debug, Clone)]
pub struct Herald {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    source: Source,
    sequence: AtomicU64,
    outlets: Vec<Outlet>,
    metrics: Metrics,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Herald {
    /// Starts the sinks, each a task of its own: none waits for another.
    #[must_use]
    pub fn start(source: Source, sinks: Vec<Sink>, metrics: Metrics) -> Self {
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let mut outlets = Vec::new();
        for Sink { name, filter, bound, courier } in sinks {
            let queue = Arc::new(Queue::new(bound));
            let feed = Feed::new(name.clone(), Arc::clone(&queue), metrics.clone(), stopping.clone());
            match courier {
                Courier::Nats(nats) => tasks.spawn(nats.run(feed)),
                Courier::Jsonl(jsonl) => tasks.spawn(jsonl.run(feed)),
                Courier::Webhook(webhook) => tasks.spawn(webhook.run(feed)),
            };
            outlets.push(Outlet { name, filter, queue });
        }
        let sequence = AtomicU64::new(0);
        let shared = Shared { source, sequence, outlets, metrics, tasks, stopping };
        let herald = Self { shared: Arc::new(shared) };
        // Not one of the tasks that the end waits for.
        tokio::spawn(herald.clone().watch_losses());
        herald
    }

    /// Writes an event and hands it to every sink that wants it.
    pub fn report(&self, event: &Event) {
        self.send(event, |_| true);
    }

    fn send(&self, event: &Event, to: impl Fn(&Outlet) -> bool) {
        let shared = &self.shared;
        let sequence = shared.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let severity = Severity::of(event);
        shared.metrics.event(event.kind);
        let written = ocsf::write(event, &shared.source, sequence);
        let Ok(json) = serde_json::to_vec(&written) else { return };
        let record = Arc::new(Record {
            uid: shared.source.uid(sequence),
            kind: event.kind,
            severity,
            time: event.time,
            json: json.into(),
        });
        for outlet in &shared.outlets {
            // What a sink lost is told to it whatever else it wants.
            let wanted = event.kind == Kind::SinkDropped || outlet.filter.wants(event.kind, severity);
            if wanted && to(outlet) && !outlet.queue.push(&record) {
                shared.metrics.sink_dropped(&outlet.name);
            }
        }
    }

    /// Tells of losses: to the other sinks when they begin and once a minute, to all of them when the sink takes
    /// events again.
    async fn watch_losses(self) {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Vec<Option<Millis>> = vec![None; self.shared.outlets.len()];
        let stopping = self.shared.stopping.clone();
        while stopping.run_until_cancelled(tick.tick()).await.is_some() {
            self.look(&mut told, now());
        }
    }

    fn look(&self, told: &mut [Option<Millis>], now: Millis) {
        for (place, (outlet, told)) in self.shared.outlets.iter().zip(told).enumerate() {
            self.shared.metrics.sink_waiting(&outlet.name, outlet.queue.waiting());
            let Some(loss) = outlet.queue.loss() else { continue };
            if outlet.queue.has_room() {
                if let Some(loss) = outlet.queue.take_loss() {
                    self.send(&lost(outlet, loss, true, now), |_| true);
                }
                *told = None;
            } else if told.is_none_or(|told| now.since(told) >= TELL_EVERY_MS) {
                *told = Some(now);
                let event = lost(outlet, loss, false, now);
                tracing::warn!(sink = outlet.name, count = loss.count, "events do not reach a sink");
                let itself = &self.shared.outlets.get(place).map(|outlet| &outlet.name);
                self.send(&event, |other| Some(&other.name) != *itself);
            }
        }
    }

    /// Takes no more events and waits until the sinks have what they were handed, at most so long.
    pub async fn stop(&self, patience: Duration) {
        let shared = &self.shared;
        for outlet in &shared.outlets {
            outlet.queue.close();
        }
        shared.tasks.close();
        if timeout(patience, shared.tasks.wait()).await.is_err() {
            for outlet in shared.outlets.iter().filter(|outlet| outlet.queue.waiting() > 0) {
                let left = outlet.queue.waiting();
                tracing::error!(sink = outlet.name, left, "stopped before a sink had all events");
            }
        }
        // Ends whatever still tries, and the look for losses.
        shared.stopping.cancel();
    }
}

fn lost(outlet: &Outlet, loss: Loss, again: bool, now: Millis) -> Event {
    let seconds = |time: Millis| i64::try_from(time.seconds()).unwrap_or(i64::MAX);
    let rfc3339 =
        |time| jiff::Timestamp::from_second(seconds(time)).map_or_else(|_| "?".to_owned(), |t| t.to_string());
    let state = if again { "it takes events again" } else { "it still takes none" };
    let mut event = Event::new(Kind::SinkDropped, now).detail(format!(
        "sink {}: {} events lost from {} to {}; {state}",
        outlet.name,
        loss.count,
        rfc3339(loss.since),
        rfc3339(loss.until)
    ));
    event.count = Some(loss.count);
    event.what = Some(outlet.name.clone());
    event
}

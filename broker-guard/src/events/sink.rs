//! Where events go. Each sink is a task of its own behind a bounded queue, so that none slows the guard or
//! another sink; one that is down gets what it missed, up to its bound, when it is back.

pub mod http;
pub mod jsonl;
pub mod nats;
pub mod signature;
pub mod webhook;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::queue::{Bound, Filter, Queue, Record};
use crate::metrics::Metrics;

/// A sink, not started.
#[derive(Debug)]
pub struct Sink {
    /// What it is called in metrics and events.
    pub name: String,
    /// What it wants.
    pub filter: Filter,
    /// How much may wait for it.
    pub bound: Bound,
    /// Who brings it there.
    pub courier: Courier,
}

/// Who brings events to a sink.
#[derive(Debug)]
pub enum Courier {
    /// To the bus.
    Nats(Box<nats::Nats>),
    /// Into a file.
    Jsonl(jsonl::Jsonl),
    /// To a web server.
    Webhook(webhook::Webhook),
}

/// What a courier works with.
#[derive(Debug)]
pub struct Feed {
    name: String,
    queue: Arc<Queue>,
    metrics: Metrics,
    stopping: CancellationToken,
}

impl Feed {
    pub(super) const fn new(
        name: String,
        queue: Arc<Queue>,
        metrics: Metrics,
        stopping: CancellationToken,
    ) -> Self {
        Self { name, queue, metrics, stopping }
    }

    /// See [`Queue::take`].
    pub(super) async fn take(&self, max: usize) -> Option<Vec<Arc<Record>>> {
        self.stopping.run_until_cancelled(self.queue.take(max)).await.flatten()
    }

    /// These are delivered.
    pub(super) fn delivered(&self, records: &[Arc<Record>]) {
        self.metrics.sink_delivered(&self.name, records.len());
        self.metrics.sink_up(&self.name, true);
        self.queue.done(records);
    }

    /// An attempt failed; it is logged when it is the first in a row.
    pub(super) fn failed(&self, attempt: u32, error: &dyn std::fmt::Display) {
        self.metrics.sink_failed(&self.name);
        self.metrics.sink_up(&self.name, false);
        if attempt == 0 {
            tracing::warn!(sink = self.name, %error, "events wait for a sink");
        }
    }

    /// This one is not tried again.
    pub(super) fn give_up(&self, record: &Arc<Record>) {
        self.metrics.sink_dropped(&self.name);
        self.queue.give_up(record);
    }

    /// Waits before attempt number `attempt`, from 0; `false` if the guard will not wait any longer.
    pub(super) async fn pause(&self, wait: Duration) -> bool {
        self.stopping.run_until_cancelled(tokio::time::sleep(wait)).await.is_some()
    }
}

/// Exponential backoff with jitter: `first` doubling up to `most`, a random half of it, so that guards that lost
/// one receiver together do not come back to it together.
#[must_use]
pub fn backoff(attempt: u32, first: Duration, most: Duration) -> Duration {
    let ceiling = most.min(first.saturating_mul(2u32.saturating_pow(attempt.min(20))));
    let random = getrandom::u32().unwrap_or(u32::MAX);
    ceiling / 2 + ceiling / 2 * (random >> 16) / (u32::MAX >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_differ() {
        let (first, most) = (Duration::from_millis(500), Duration::from_secs(60));
        for attempt in 0..200 {
            let wait = backoff(attempt, first, most);
            assert!(wait >= first / 2 && wait <= most, "{attempt}: {wait:?}");
        }
        let waits: std::collections::BTreeSet<_> = (0..20).map(|_| backoff(7, first, most)).collect();
        assert!(waits.len() > 1, "no jitter");
    }
}

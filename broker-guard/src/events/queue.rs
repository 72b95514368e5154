//! What waits for one sink: bounded, so that a sink that is down costs no more than it may.
//!
//! Handing an event over takes a short lock and never waits. When the bound is reached the newest are dropped:
//! what came first tells how it began. The last quarter is kept for events of severity Medium and above, so
//! that a flood of denials cannot push out the quarantine that it ends with.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use sealbus_envelope::time::Millis;
use tokio::sync::Notify;

use super::{Kind, ocsf::Severity};

/// An event as it is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its id, by which a receiver knows what it has already.
    pub uid: String,
    /// What happened.
    pub kind: Kind,
    /// How grave it is.
    pub severity: Severity,
    /// When.
    pub time: Millis,
    /// The event, JSON on one line without its end.
    pub json: Bytes,
}

/// How much may wait, what is being delivered included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Events.
    pub events: usize,
    /// Bytes of JSON.
    pub bytes: usize,
}

impl Default for Bound {
    fn default() -> Self {
        Self { events: 10_000, bytes: 16 << 20 }
    }
}

/// What a sink wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only these kinds; empty: all.
    pub kinds: Vec<Kind>,
    /// Only events that are as grave as this or graver.
    pub min_severity: Option<Severity>,
}

impl Filter {
    /// Whether it wants this event.
    #[must_use]
    pub fn wants(&self, kind: Kind, severity: Severity) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && self.min_severity.is_none_or(|least| severity >= least)
    }
}

/// What a sink did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// How many events.
    pub count: u64,
    /// The time of the first.
    pub since: Millis,
    /// The time of the last.
    pub until: Millis,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Arc<Record>>,
    /// Of all that is not delivered yet.
    events: usize,
    bytes: usize,
    loss: Option<Loss>,
    closed: bool,
}

/// The queue of one sink.
#[derive(Debug)]
pub struct Queue {
    bound: Bound,
    inner: Mutex<Inner>,
    more: Notify,
}

impl Queue {
    /// An empty one.
    #[must_use]
    pub fn new(bound: Bound) -> Self {
        Self { bound, inner: Mutex::default(), more: Notify::new() }
    }

    /// Hands an event over; `false` if there is no room and it is dropped.
    pub fn push(&self, record: &Arc<Record>) -> bool {
        let mut inner = self.lock();
        let room = |bound: usize| if record.severity >= Severity::Medium { bound } else { bound / 4 * 3 };
        let fits = inner.events < room(self.bound.events)
            && inner.bytes.saturating_add(record.json.len()) <= room(self.bound.bytes);
        if !fits || inner.closed {
            lose(&mut inner, record);
            return false;
        }
        inner.events += 1;
        inner.bytes += record.json.len();
        inner.waiting.push_back(Arc::clone(record));
        drop(inner);
        self.more.notify_one();
        true
    }

    /// Up to `max` of what waits, oldest first, as soon as anything does. They count as waiting until they are
    /// [done](Self::done). `None` once the queue is closed and empty.
    pub async fn take(&self, max: usize) -> Option<Vec<Arc<Record>>> {
        loop {
            let more = self.more.notified();
            {
                let mut inner = self.lock();
                if !inner.waiting.is_empty() {
                    let some = inner.waiting.len().min(max);
                    return Some(inner.waiting.drain(..some).collect());
                }
                if inner.closed {
                    return None;
                }
            }
            more.await;
        }
    }

    /// These are delivered: there is room for others.
    pub fn done<'a>(&self, records: impl IntoIterator<Item = &'a Arc<Record>>) {
        let mut inner = self.lock();
        for record in records {
            free(&mut inner, record);
        }
    }

    /// This one will not be delivered.
    pub fn give_up(&self, record: &Arc<Record>) {
        let mut inner = self.lock();
        free(&mut inner, record);
        lose(&mut inner, record);
    }

    /// How many are not delivered yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().events
    }

    /// What was dropped and is not told yet.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        self.lock().loss
    }

    /// Whether there is room again for what is not grave.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let inner = self.lock();
        inner.events <= self.bound.events / 2 && inner.bytes <= self.bound.bytes / 2
    }

    /// What was dropped, which is told now.
    pub fn take_loss(&self) -> Option<Loss> {
        self.lock().loss.take()
    }

    /// Takes no more; what waits is still handed out.
    pub fn close(&self) {
        self.lock().closed = true;
        self.more.notify_waiters();
        self.more.notify_one();
    }

    /// Whether it takes no more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// A panic elsewhere leaves counts that are at most too high.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn free(inner: &mut Inner, record: &Record) {
    inner.events = inner.events.saturating_sub(1);
    inner.bytes = inner.bytes.saturating_sub(record.json.len());
}

fn lose(inner: &mut Inner, record: &Record) {
    let loss = inner.loss.get_or_insert(Loss { count: 0, since: record.time, until: record.time });
    loss.count += 1;
    loss.since = loss.since.min(record.time);
    loss.until = loss.until.max(record.time);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn record(n: u64, severity: Severity, size: usize) -> Arc<Record> {
        let json = Bytes::from(vec![b'x'; size]);
        Arc::new(Record { uid: n.to_string(), kind: Kind::Denied, severity, time: Millis(n), json })
    }

    #[tokio::test]
    async fn a_flood_of_what_is_not_grave_leaves_room_for_what_is() {
        let queue = Queue::new(Bound { events: 8, bytes: 1_000 });
        let taken = (0..20).filter(|n| queue.push(&record(*n, Severity::Low, 1))).count();
        assert_eq!(taken, 6);
        assert_eq!(queue.loss(), Some(Loss { count: 14, since: Millis(6), until: Millis(19) }));
        assert!(queue.push(&record(20, Severity::High, 1)) && queue.push(&record(21, Severity::High, 1)));
        assert!(!queue.push(&record(22, Severity::Critical, 1)), "a bound is a bound");

        // Taken is not delivered.
        let some = queue.take(5).await.unwrap();
        assert_eq!(some.iter().map(|r| r.time.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert!(!queue.push(&record(23, Severity::Critical, 1)) && !queue.has_room());
        queue.done(&some);
        assert!(queue.has_room() && queue.push(&record(24, Severity::Low, 1)));
        assert_eq!(queue.take_loss().unwrap().count, 16);
        assert_eq!(queue.loss(), None);
    }

    #[tokio::test]
    async fn bytes_count_and_a_closed_queue_hands_out_what_waits() {
        let queue = Queue::new(Bound { events: 100, bytes: 1_000 });
        assert!(queue.push(&record(1, Severity::High, 600)) && !queue.push(&record(2, Severity::High, 600)));
        queue.close();
        assert!(!queue.push(&record(3, Severity::High, 1)));
        let some = queue.take(10).await.unwrap();
        queue.give_up(some.first().unwrap());
        assert_eq!((queue.take(1).await, queue.waiting(), queue.loss().unwrap().count), (None, 0, 3));
    }

    #[test]
    fn a_filter_wants_kinds_and_severity() {
        let filter = Filter { kinds: vec![Kind::Held], min_severity: Some(Severity::Medium) };
        assert!(filter.wants(Kind::Held, Severity::High));
        assert!(!filter.wants(Kind::Held, Severity::Low) && !filter.wants(Kind::Order, Severity::High));
        assert!(Filter::default().wants(Kind::Denied, Severity::Informational));
    }
}

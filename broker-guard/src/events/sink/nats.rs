//! Events to the bus: published once on `<prefix>.events.<kind>`, where whoever listens hears them, and where the
//! durable stream takes them up and acknowledges.
//!
//! An event is published as soon as it comes, whatever became of those before it: a stream that is down must not
//! blind those who listen. What was not acknowledged is published again, with the same message id, once the
//! stream answers; the stream stores it once, and a listener may hear it twice. Without a stream a
//! connection that breaks loses what was on its way.

use std::{sync::Arc, time::Duration};

use async_nats::HeaderMap;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use sealbus_envelope::subject::WireSubjects;
use tokio::time::{MissedTickBehavior, interval};

use super::{Feed, Record, backoff};
use crate::bus::{
    link::Link,
    stream::{Stream, StreamError, StreamSpec},
};

/// Events on their way at once.
const UNDER_WAY: usize = 64;
/// How often a bus that is gone is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How long an acknowledgement may take: well below what a stopping guard waits, so that one that was lost is
/// asked for once more.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The bus as a sink. Its connection is its own: acknowledgements on the connection for envelopes would count
/// there as messages that nobody read.
#[derive(Debug)]
pub struct Nats {
    link: Link,
    wire: WireSubjects,
    stream: Option<(Stream, StreamSpec, usize)>,
}

type Sent = BoxFuture<'static, (Arc<Record>, Result<(), String>)>;

impl Nats {
    /// Through `link`; into `stream` if there is one, made from its settings on so many servers if it is ever
    /// found missing.
    #[must_use]
    pub const fn new(link: Link, wire: WireSubjects, stream: Option<(Stream, StreamSpec, usize)>) -> Self {
        Self { link, wire, stream }
    }

    pub(in super::super) async fn run(self, feed: Feed) {
        let mut under_way: FuturesUnordered<Sent> = FuturesUnordered::new();
        let mut owed: Vec<Arc<Record>> = Vec::new();
        let (mut attempt, mut ended) = (0, false);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if ended && under_way.is_empty() && owed.is_empty() {
                break;
            }
            let room = UNDER_WAY.saturating_sub(under_way.len());
            let ready = self.link.is_up() && room > 0 && !ended;
            tokio::select! {
                biased;
                () = feed.stopping.cancelled() => return,
                Some((record, outcome)) = under_way.next(), if !under_way.is_empty() => match outcome {
                    Ok(()) => feed.delivered(&[record]),
                    Err(error) => {
                        feed.failed(u32::from(!owed.is_empty()), &error);
                        owed.push(record);
                    }
                },
                records = feed.take(room), if ready => match records {
                    Some(records) => under_way.extend(records.into_iter().map(|record| self.send(record))),
                    None => ended = true,
                },
                _ = look.tick(), if !ready || !owed.is_empty() => {
                    if !owed.is_empty() && under_way.is_empty() && self.link.is_up() {
                        if self.answers().await {
                            attempt = 0;
                            let some = owed.len().min(UNDER_WAY);
                            under_way.extend(owed.drain(..some).map(|record| self.send(record)));
                        } else {
                            attempt += 1;
                            if !feed.pause(backoff(attempt, FIRST_WAIT, LONGEST_WAIT)).await {
                                return;
                            }
                        }
                    }
                }
            }
        }
        // What is in the connection's buffer is not delivered yet.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.link.client.drain()).await;
    }

    /// Publishes at once; the future waits for the acknowledgement.
    fn send(&self, record: Arc<Record>) -> Sent {
        let subject = self.wire.event(record.kind.token());
        match &self.stream {
            Some((stream, ..)) => {
                let stream = stream.clone();
                async move {
                    let stored = stream.publish(subject, &record.uid, HeaderMap::new(), record.json.clone());
                    let outcome = match tokio::time::timeout(PATIENCE, stored).await {
                        Ok(stored) => stored.map(drop).map_err(|error| error.to_string()),
                        Err(_) => Err("the stream does not acknowledge".to_owned()),
                    };
                    (record, outcome)
                }
                .boxed()
            }
            None => {
                let client = self.link.client.clone();
                async move {
                    let outcome = match client.publish(subject, record.json.clone()).await {
                        Ok(()) => client.flush().await.map_err(|error| error.to_string()),
                        Err(error) => Err(error.to_string()),
                    };
                    (record, outcome)
                }
                .boxed()
            }
        }
    }

    /// Whether the stream is there; one that is gone is made anew.
    async fn answers(&self) -> bool {
        let Some((stream, spec, servers)) = &self.stream else { return true };
        match stream.extent().await {
            Ok(_) => true,
            Err(StreamError::Absent(_)) => {
                Stream::ensure(self.link.client.clone(), spec, *servers).await.is_ok()
            }
            Err(_) => false,
        }
    }
}

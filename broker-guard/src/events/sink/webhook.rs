//! Events to a web server, one POST each, in order, signed.
//!
//! Headers and signature are those of standardwebhooks.com; the body is the event. `webhook-id` is the event's
//! own id: whoever gets one twice, after an answer that was lost, can tell. A receiver that is down, slow or
//! says 5xx, 408, 425 or 429 is tried again with growing waits; any other refusal is tried a few times, since
//! what is refused for good must not hold up what comes after it. A redirect is a refusal. Neither body nor
//! secret is ever logged.

use std::{sync::Arc, time::Duration};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use sealbus_envelope::time::Millis;

use super::{
    Feed, Record, backoff,
    http::{Address, PostError},
    signature::Secrets,
};
use crate::clock::now;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// How often something that is refused for good is offered.
const REFUSALS: u32 = 3;

/// A web server that gets events.
#[derive(Debug)]
pub struct Webhook {
    address: Address,
    secrets: Secrets,
    patience: Duration,
    give_up_after: Duration,
    first_wait: Duration,
}

/// How a delivery failed.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// It may succeed later.
    #[error("{0}")]
    Unreachable(#[from] PostError),
    /// Likewise: the server says so.
    #[error("the receiver is not ready: HTTP status {status}")]
    NotReady {
        /// The HTTP status.
        status: u16,
        /// How long the receiver wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// It will not succeed.
    #[error(
        "the receiver refuses it: HTTP status {0}; a redirect is not followed, name the place it leads to"
    )]
    Refused(u16),
}

impl Webhook {
    /// Posts to `address`. An answer may take `patience`; an event that could not be delivered for
    /// `give_up_after` is dropped.
    #[must_use]
    pub const fn new(
        address: Address,
        secrets: Secrets,
        patience: Duration,
        give_up_after: Duration,
    ) -> Self {
        Self { address, secrets, patience, give_up_after, first_wait: FIRST_WAIT }
    }

    /// The same with another first wait between attempts; each further one is twice as long, up to a minute.
    #[must_use]
    pub const fn first_wait(mut self, wait: Duration) -> Self {
        self.first_wait = wait;
        self
    }

    pub(in super::super) async fn run(self, feed: Feed) {
        while let Some(records) = feed.take(1).await {
            for record in records {
                if !self.bring(&record, &feed).await {
                    return;
                }
            }
        }
    }

    /// `false` if the guard stops meanwhile.
    async fn bring(&self, record: &Arc<Record>, feed: &Feed) -> bool {
        let (begun, mut attempt, mut refusals) = (tokio::time::Instant::now(), 0, 0);
        loop {
            let posting = self.deliver(&record.uid, now(), record.json.clone());
            let Some(outcome) = feed.stopping.run_until_cancelled(posting).await else { return false };
            let error = match outcome {
                Ok(()) => {
                    feed.delivered(std::slice::from_ref(record));
                    return true;
                }
                Err(error) => error,
            };
            feed.failed(attempt, &error);
            let mut wait = backoff(attempt, self.first_wait, LONGEST_WAIT);
            match &error {
                DeliveryError::Refused(_) => refusals += 1,
                DeliveryError::NotReady { retry_after: Some(asked), .. } => wait = wait.max(*asked),
                _ => {}
            }
            if refusals >= REFUSALS || begun.elapsed() + wait > self.give_up_after {
                tracing::error!(sink = feed.name, %error, uid = record.uid, "an event is not delivered");
                feed.give_up(record);
                return true;
            }
            if !feed.pause(wait).await {
                return false;
            }
            attempt += 1;
        }
    }

    /// One attempt.
    ///
    /// # Errors
    /// [`DeliveryError`].
    pub async fn deliver(&self, id: &str, time: Millis, body: bytes::Bytes) -> Result<(), DeliveryError> {
        let mut headers = HeaderMap::new();
        let signature = self.secrets.sign(id, time, &body);
        let seconds = time.seconds().to_string();
        for (name, value) in
            [("webhook-id", id), ("webhook-timestamp", &seconds), ("webhook-signature", &signature)]
        {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let answer = self.address.post(headers, body, self.patience).await?;
        match answer.status {
            200..=299 => Ok(()),
            status @ (408 | 425 | 429 | 500..=599) => {
                Err(DeliveryError::NotReady { status, retry_after: answer.retry_after })
            }
            status => Err(DeliveryError::Refused(status)),
        }
    }
}

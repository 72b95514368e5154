//! Speaking on the control subjects. A queue of its own, so that the driver never waits for a connection
//! that is down, and what it says keeps its order.

use std::sync::Arc;

use sealbus_envelope::{control, keys::KeyId};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::{
    events::{Event, RekeyReason},
    outbox::Signal,
    session::Session,
    shared::Shared,
    sync,
};

/// What is queued.
#[derive(Debug)]
pub(crate) enum Say {
    /// Publish this.
    Publish { subject: String, bytes: Vec<u8> },
    /// What stands before is with the connection: the key's grants are on their way, so it may be used.
    KeyReady(KeyId),
    /// Tell that all before is with the connection.
    Done(oneshot::Sender<()>),
}

/// The driver's end.
#[derive(Debug)]
pub(crate) struct Control {
    session: Arc<Session>,
    queue: mpsc::UnboundedSender<Say>,
}

impl Control {
    pub(crate) const fn new(session: Arc<Session>, queue: mpsc::UnboundedSender<Say>) -> Self {
        Self { session, queue }
    }

    pub(crate) fn say<T: Serialize>(&self, verb: &'static str, message: &T) {
        match control::encode(message) {
            Ok(bytes) => self.push(Say::Publish { subject: self.session.control_subject(verb), bytes }),
            Err(refused) => tracing::error!(verb, %refused, "a control message has no form"),
        }
    }

    pub(crate) fn key_ready(&self, key: KeyId) {
        self.push(Say::KeyReady(key));
    }

    /// Waits until all was handed to the connection, for a second at most: it may be down.
    pub(crate) async fn finish(&self) {
        let (done, finished) = oneshot::channel();
        self.push(Say::Done(done));
        let _down = tokio::time::timeout(std::time::Duration::from_secs(1), finished).await;
    }

    fn push(&self, say: Say) {
        let _closed = self.queue.send(say);
    }
}

/// The other end: hands it to the connection.
pub(crate) async fn write(shared: Arc<Shared>, mut queue: mpsc::UnboundedReceiver<Say>) {
    while let Some(say) = queue.recv().await {
        match say {
            Say::Publish { subject, bytes } => {
                if shared.nats.publish(subject, bytes.into()).await.is_err() {
                    return;
                }
            }
            Say::KeyReady(key) => {
                let opened = sync::lock(&shared.sender_keys).opened(key, std::time::Instant::now());
                if let Some((slot, replaced)) = opened {
                    if replaced {
                        let (rule, label, why) = (slot.rule.clone(), slot.label, RekeyReason::Rotation);
                        shared.events.send(Event::Rekeyed { rule, label, why });
                    }
                    shared.signal(Signal::Ready(slot));
                }
            }
            Say::Done(done) => {
                let _gave_up = done.send(());
            }
        }
    }
}

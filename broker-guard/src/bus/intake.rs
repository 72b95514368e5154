//! The intake: between the guard's subscriptions and its desk, so that one agent at full speed costs the others
//! next to nothing.
//!
//! A task of its own empties the subscriptions as fast as messages come, because what does not fit there is
//! dropped for everybody. It reads only which agent the server attests and how large a message is, charges a
//! [`Bound`] and queues it for its agent; the desk takes [`Turn`]s in which each agent has its
//! share ([`fair`]). What is beyond the bound is dropped and counted, never held against the agent, because a
//! hostile server can bring it about. Who goes on is cut, and let in again only after a while
//! ([`backoff`](super::auth::backoff)).
//!
//! The order of each agent's messages is kept, and its control messages go before its envelopes: a sender grants
//! its key before it seals with it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, Message, RequestErrorKind, SubscribeError, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use sealbus_envelope::{name::AgentToken, subject::WireSubjects};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use self::{
    bound::Bound,
    fair::{Cause, Fair, Lane, Offered, Turn},
};
use super::link::SUBSCRIPTION_CAPACITY;
use crate::{clock::now, metrics::Metrics};

pub mod bound;
pub mod fair;

/// Envelopes read before the control messages that came meanwhile are read.
const READ: usize = 512;
/// Floods that wait for their agents to be cut. An agent is in it once, so it is as many as flood at once.
const FLOODS: usize = 1_024;
/// How long a stopping guard waits for the end of its subscriptions.
const DRAIN: Duration = Duration::from_secs(5);

struct Shared {
    queues: Mutex<Fair<Message>>,
    /// Something waits, or nothing will any more.
    ready: Notify,
    read: AtomicU64,
    /// Nobody reads any more.
    ended: CancellationToken,
    stop: CancellationToken,
}

impl Shared {
    /// The state behind it is whole between any two statements.
    fn queues(&self) -> MutexGuard<'_, Fair<Message>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The desk's end of the intake.
pub struct Intake {
    shared: Arc<Shared>,
    floods: mpsc::Sender<AgentToken>,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("read", &self.read()).finish_non_exhaustive()
    }
}

/// Agents that flood, to be cut.
pub type Floods = mpsc::Receiver<AgentToken>;

impl Intake {
    /// Subscribes what agents send, and begins to read it: the server knows of it when this returns. `client` is
    /// the guard's connection for envelopes, and nothing else may be heard on it, so that what was dropped there
    /// can be counted.
    ///
    /// # Errors
    /// The client library's own: the connection is closed for good.
    pub async fn start(
        client: &Client,
        wire: &WireSubjects,
        metrics: Metrics,
    ) -> Result<(Self, Floods), SubscribeError> {
        let control = client.subscribe(wire.control_all()).await?;
        let envelopes = client.subscribe(wire.ingress_all()).await?;
        // Commands are taken in order, and to a question that nobody hears the server itself answers.
        if let Err(error) = client.request(client.new_inbox(), "".into()).await
            && error.kind() != RequestErrorKind::NoResponders
        {
            tracing::warn!(%error, "the server is slow to take subscriptions");
        }
        let (found, floods) = mpsc::channel(FLOODS);
        let shared = Arc::new(Shared {
            queues: Mutex::default(),
            ready: Notify::new(),
            // That answer came by the same connection.
            read: AtomicU64::new(1),
            ended: CancellationToken::new(),
            stop: CancellationToken::new(),
        });
        let reader = Reader {
            shared: Arc::clone(&shared),
            // Before the slot: `sb.in.` and `sb.ctl.`.
            envelope_prefix: wire.prefix().len() + ".in.".len(),
            control_prefix: wire.prefix().len() + ".ctl.".len(),
            control,
            envelopes,
            floods: found.clone(),
            metrics,
        };
        tokio::spawn(reader.run());
        Ok((Self { shared, floods: found }, floods))
    }

    /// What is to be handled next, as soon as there is anything; none once nothing will come any more.
    pub async fn turn(&self) -> Option<Turn<Message>> {
        loop {
            let ended = self.shared.ended.is_cancelled();
            let turn = self.shared.queues().take();
            if !turn.is_empty() {
                return Some(turn);
            }
            if ended {
                return None;
            }
            // One permit is kept while nobody waits, so nothing that came after the look is missed.
            self.shared.ready.notified().await;
        }
    }

    /// Stops reading: what the server sent until now is still there to be taken.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// How many messages were read from the subscriptions.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.shared.read.load(Ordering::Relaxed)
    }

    /// Sets the bound of an agent.
    pub fn bind(&self, agent: &AgentToken, bound: Bound) {
        self.shared.queues().bind(agent, bound);
    }

    /// Notes junk that was let through: whose, and how many bytes. Who sends much of it is cut.
    pub fn junk(&self, junk: Vec<(AgentToken, usize)>) {
        if junk.is_empty() {
            return;
        }
        let (mut queues, now) = (self.shared.queues(), now());
        for (agent, bytes) in junk {
            if queues.junk(agent.as_str(), bytes, now) {
                // As where other floods are found.
                let _ = self.floods.try_send(agent);
            }
        }
    }

    /// How many messages of each agent were dropped since this was asked last.
    #[must_use]
    pub fn dropped(&self) -> Vec<(Option<AgentToken>, u64)> {
        self.shared.queues().dropped()
    }

    /// Forgets agents that are quiet and not `known`.
    pub fn prune(&self, known: impl Fn(&AgentToken) -> bool) {
        self.shared.queues().prune(known, now());
    }

    /// How many agents and messages are held.
    #[must_use]
    pub fn held(&self) -> usize {
        let queues = self.shared.queues();
        queues.agents() + queues.waiting()
    }
}

struct Reader {
    shared: Arc<Shared>,
    envelope_prefix: usize,
    control_prefix: usize,
    control: Subscriber,
    envelopes: Subscriber,
    floods: mpsc::Sender<AgentToken>,
    metrics: Metrics,
}

impl Reader {
    async fn run(mut self) {
        let stop = self.shared.stop.clone();
        loop {
            let (first, second) = tokio::select! {
                () = stop.cancelled() => break,
                message = self.envelopes.next() => (message, None),
                message = self.control.next() => (None, message),
            };
            if first.is_none() && second.is_none() {
                break;
            }
            self.take_in(first, second).await;
            // Others on this thread have their turn: the task that reads the connection above all.
            tokio::task::yield_now().await;
        }
        let drained = tokio::time::timeout(DRAIN, async {
            // After these the server sends no more, and the streams end behind what is buffered.
            let _ = self.envelopes.drain().await;
            let _ = self.control.drain().await;
            while let Some(message) = self.control.next().await {
                self.take_in(None, Some(message)).await;
            }
            while let Some(message) = self.envelopes.next().await {
                self.take_in(Some(message), None).await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!("stopped before everything received was read: the server does not answer");
        }
        self.shared.ended.cancel();
        self.shared.ready.notify_one();
    }

    /// Queues what came, with whatever else is there.
    async fn take_in(&mut self, envelope: Option<Message>, control: Option<Message>) {
        let mut envelopes = Vec::with_capacity(READ);
        let mut controls = Vec::new();
        envelopes.extend(envelope);
        controls.extend(control);
        // Control messages last, and all: what an agent said before it sent any of these envelopes is among them.
        tokio::task::unconstrained(async {
            while envelopes.len() < READ
                && let Some(Some(message)) = self.envelopes.next().now_or_never()
            {
                envelopes.push(message);
            }
            while controls.len() < SUBSCRIPTION_CAPACITY
                && let Some(Some(message)) = self.control.next().now_or_never()
            {
                controls.push(message);
            }
        })
        .await;
        let count = envelopes.len() + controls.len();
        self.shared.read.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
        let now = now();
        let mut dropped = [(Cause::Rate, 0_u64), (Cause::Room, 0), (Cause::Cut, 0)];
        let mut floods = Vec::new();
        {
            let mut queues = self.shared.queues();
            let controls = controls.into_iter().map(|message| (true, message));
            for (control, message) in controls.chain(envelopes.into_iter().map(|message| (false, message))) {
                let subject = message.subject.clone();
                let (prefix, lane) = if control {
                    (self.control_prefix, Lane::Control(subject.rsplit('.').next().unwrap_or_default()))
                } else {
                    (self.envelope_prefix, Lane::Envelope)
                };
                let agent = agent_in(&subject, prefix);
                let bytes = message.payload.len();
                let cause = match queues.offer(agent, lane, bytes, message, now) {
                    Offered::Queued => continue,
                    Offered::Dropped(cause) => cause,
                    Offered::Flood => {
                        floods.push(agent.to_owned());
                        Cause::Rate
                    }
                };
                if let Some((_, count)) = dropped.iter_mut().find(|(known, _)| *known == cause) {
                    *count += 1;
                }
            }
        }
        self.shared.ready.notify_one();
        for (cause, count) in dropped.into_iter().filter(|(_, count)| *count > 0) {
            self.metrics.intake_dropped(cause.code(), count);
        }
        for agent in floods.iter().filter_map(|agent| AgentToken::parse(agent).ok()) {
            // If so many flood at once that there is no room to say so, it is found out again in half a second.
            let _ = self.floods.try_send(agent);
        }
    }
}

/// The agent in `prefix.<p>.<agent>.…`: the server vouches for it, and the desk reads the rest.
fn agent_in(subject: &str, prefix: usize) -> &str {
    subject.get(prefix..).and_then(|rest| rest.split('.').nth(1)).unwrap_or_default()
}

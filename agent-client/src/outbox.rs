//! The sender task: takes what queued, seals it, signs it as one batch, hands it to the connection.
//!
//! It never waits for a timer: a batch is what queued while the last one was signed. Nothing is flushed
//! per message; the connection writes when it has nothing else to do.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use sealbus_envelope::{
    control::HeldNotice,
    hash::Hash,
    name::Name,
    policy::MessageKind,
    proof::{admission::ADMISSION_RESERVE, batch::MAX_BATCH},
    reason::Reason,
    subject::Subject,
    wire::{self, Content, EnvelopeId, Flags, HeaderFields, Parent, Sealed},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::{
    clock,
    error::{Error, ErrorKind, Result},
    events::Event,
    message::Message,
    publish::Receipt,
    sealing::{Slot, Taken},
    shared::{Command, Link, Shared},
    sync,
};

/// How long a message waits for its key, or for a guard that is being greeted, before it fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many bytes are sealed before they are signed and sent.
const MAX_BATCH_BYTES: usize = 2 << 20;
/// How often a confirmed message is sent that is denied for a reason that passes, such as a stale key.
const MAX_ATTEMPTS: u8 = 3;

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) slot: Slot,
    pub(crate) subject: Subject,
    pub(crate) content: Content,
    pub(crate) ttl_ms: u32,
    pub(crate) parents: Vec<Parent>,
    pub(crate) flow_grant: Option<Name>,
    pub(crate) request: Option<Hash>,
    /// Who waits for the verdict.
    pub(crate) confirm: Option<oneshot::Sender<Result<Receipt>>>,
    /// Who waits to hear whether it waits for people.
    pub(crate) held: Option<oneshot::Sender<HeldNotice>>,
    /// Who waits for the reply.
    pub(crate) reply: Option<oneshot::Sender<Result<Message>>>,
    pub(crate) queued: Instant,
    pub(crate) attempts: u8,
    /// Room in the outbox, given back when this is dropped.
    pub(crate) _permit: OwnedSemaphorePermit,
}

impl Outgoing {
    /// Whether nobody waits for its verdict any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.confirm.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Tells who waits, or everyone, that it was not sent.
    fn fail(self, shared: &Shared, kind: ErrorKind, reason: Reason) {
        let subject = self.subject.as_str().to_owned();
        match self.confirm {
            Some(confirm) => {
                let error = Error::with_reason(kind, reason, format!("`{subject}`: {}", reason.meaning()));
                let _gave_up = confirm.send(Err(error));
            }
            None => shared.events.send(Event::Unsent { reason, subject }),
        }
    }
}

/// What the sender task is told.
#[derive(Debug)]
pub(crate) enum Signal {
    /// The slot has a key.
    Ready(Slot),
    /// The slot gets no key.
    Failed(Slot, Reason),
    /// The guard knows the session again.
    Resume,
    /// Seal this again: it was denied for a reason that passes.
    Again(Box<Outgoing>, Reason),
    /// Answer when all is sent.
    Flush(oneshot::Sender<()>),
    /// The session is over.
    Stop,
}

/// The task.
pub(crate) struct Outbox {
    shared: Arc<Shared>,
    queue: mpsc::UnboundedReceiver<Outgoing>,
    signals: mpsc::UnboundedReceiver<Signal>,
    /// Messages that wait for their slot's key, in order.
    held: HashMap<Slot, VecDeque<Outgoing>>,
    flushing: Vec<oneshot::Sender<()>>,
    batch: Vec<(Sealed, Outgoing)>,
    batch_bytes: usize,
}

impl Outbox {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: mpsc::UnboundedReceiver<Outgoing>,
        signals: mpsc::UnboundedReceiver<Signal>,
    ) -> Self {
        Self {
            shared,
            queue,
            signals,
            held: HashMap::new(),
            flushing: Vec::new(),
            batch: Vec::with_capacity(MAX_BATCH),
            batch_bytes: 0,
        }
    }

    /// Runs until it is told to stop: it holds what it is told through, so nothing else would end it.
    pub(crate) async fn run(mut self) {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(signal) = self.signals.recv() => match signal {
                    Signal::Stop => return,
                    signal => self.on_signal(signal),
                },
                Some(message) = self.queue.recv() => self.accept(message),
                _ = tick.tick() => self.expire(),
                else => return,
            }
            while self.batch.len() < MAX_BATCH && self.batch_bytes < MAX_BATCH_BYTES {
                let Ok(message) = self.queue.try_recv() else { break };
                self.accept(message);
            }
            self.send_batch().await;
            if self.held.is_empty() && self.queue.is_empty() {
                for done in self.flushing.drain(..) {
                    let _gave_up = done.send(());
                }
            }
        }
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Ready(slot) => self.release(&slot),
            Signal::Failed(slot, reason) => {
                for message in self.held.remove(&slot).into_iter().flatten() {
                    message.fail(&self.shared, ErrorKind::Denied, reason);
                }
            }
            Signal::Resume => {
                let slots: Vec<_> = self.held.keys().cloned().collect();
                slots.iter().for_each(|slot| self.release(slot));
            }
            Signal::Again(mut message, reason) => {
                message.attempts += 1;
                if message.attempts >= MAX_ATTEMPTS {
                    message.fail(&self.shared, ErrorKind::Denied, reason);
                } else {
                    self.accept(*message);
                }
            }
            Signal::Flush(done) => self.flushing.push(done),
            Signal::Stop => {}
        }
    }

    /// Sends what waited for this slot, for as long as there is a key.
    fn release(&mut self, slot: &Slot) {
        let Some(waiting) = self.held.remove(slot) else { return };
        for message in waiting {
            self.accept(message);
        }
    }

    /// Seals a message into the batch, or holds it.
    fn accept(&mut self, message: Outgoing) {
        if message.is_abandoned() {
            return;
        }
        let ready = *self.shared.link.borrow() == Link::Ready;
        // Behind those that wait already: messages of one slot stay in order.
        if !ready || self.held.contains_key(&message.slot) {
            return self.hold(message);
        }
        let taken = sync::lock(&self.shared.sender_keys).take(&message.slot, Instant::now());
        match taken {
            Taken::None { ask } => {
                if ask {
                    self.shared.tell(Command::Open(message.slot.clone()));
                }
                self.hold(message);
            }
            Taken::Key { key, sequence, replace } => {
                if replace {
                    self.shared.tell(Command::Open(message.slot.clone()));
                }
                let fields = self.fields(&message, key.id(), sequence);
                match wire::seal(&fields, &message.content, &key) {
                    Ok(sealed) => {
                        self.batch_bytes += message.content.payload.len();
                        self.batch.push((sealed, message));
                    }
                    Err(refused) => message.fail(&self.shared, ErrorKind::Usage, refused.reason),
                }
            }
        }
    }

    fn hold(&mut self, message: Outgoing) {
        self.held.entry(message.slot.clone()).or_default().push_back(message);
    }

    fn fields(&self, message: &Outgoing, key: sealbus_envelope::keys::KeyId, sequence: u64) -> HeaderFields {
        let session = &self.shared.session;
        HeaderFields {
            bus: session.bus(),
            id: EnvelopeId::generate(&mut sync::rng()),
            sender: session.agent().clone(),
            session: session.id(),
            rule: message.slot.rule.clone(),
            subject: message.subject.clone(),
            label: message.slot.label,
            flow_grant: message.flow_grant.clone(),
            key,
            sequence,
            issued_at: clock::now(),
            ttl_ms: message.ttl_ms,
            parents: message.parents.clone(),
            request: message.request,
            flags: if message.confirm.is_some() { Flags::CONFIRM } else { Flags::NONE },
        }
    }

    async fn send_batch(&mut self) {
        self.batch_bytes = 0;
        // A release may have sealed more than one signature takes.
        while !self.batch.is_empty() {
            let count = self.batch.len().min(MAX_BATCH);
            let (sealed, messages): (Vec<_>, Vec<_>) = self.batch.drain(..count).unzip();
            let session = &self.shared.session;
            match wire::sign(&sealed, session.id(), session.key()) {
                Ok(envelopes) => {
                    for ((sealed, message), bytes) in sealed.iter().zip(messages).zip(envelopes) {
                        self.publish(sealed.digest(), message, bytes).await;
                    }
                }
                // One envelope above the format's limit: its neighbours go alone.
                Err(_) => self.publish_singly(sealed, messages).await,
            }
        }
    }

    async fn publish_singly(&self, sealed: Vec<Sealed>, messages: Vec<Outgoing>) {
        let session = &self.shared.session;
        for (sealed, message) in sealed.into_iter().zip(messages) {
            let digest = sealed.digest();
            match wire::sign(&[sealed], session.id(), session.key()).map(|mut envelopes| envelopes.pop()) {
                Ok(Some(bytes)) => self.publish(digest, message, bytes).await,
                _ => message.fail(&self.shared, ErrorKind::Usage, Reason::TooLarge),
            }
        }
    }

    async fn publish(&self, digest: Hash, mut message: Outgoing, bytes: Vec<u8>) {
        let limit = self.limit(&message);
        if bytes.len() > limit {
            return message.fail(&self.shared, ErrorKind::Usage, Reason::TooBigForRule);
        }
        let subject = self.shared.session.ingress_subject(message.subject.as_str());
        // Before it is sent: the answer may be faster than this task.
        if let Some(reply) = message.reply.take() {
            sync::lock(&self.shared.replies).insert(digest, reply);
        }
        // The permit of a message that nobody waits for goes when the connection has taken it.
        let mut _sent = None;
        if message.confirm.is_some() {
            sync::lock(&self.shared.verdicts).insert(digest, message);
        } else {
            _sent = Some(message);
        }
        if self.shared.nats.publish(subject, bytes.into()).await.is_err() {
            let waiting = sync::lock(&self.shared.verdicts).remove(&digest);
            if let Some(message) = waiting.or(_sent) {
                message.fail(&self.shared, ErrorKind::Closed, Reason::GuardUnavailable);
            }
        }
    }

    /// The largest envelope that the rule and the server take.
    fn limit(&self, message: &Outgoing) -> usize {
        let server = self.shared.nats.max_payload();
        let server = if server == 0 { usize::MAX } else { server.saturating_sub(ADMISSION_RESERVE) };
        let rule =
            self.shared.view().ok().and_then(|view| {
                view.rule(message.slot.rule.as_str()).map(|rule| (rule.max_bytes, rule.kind))
            });
        match rule {
            Some((max, MessageKind::Stream | MessageKind::Request { .. })) => {
                server.min(usize::try_from(max).unwrap_or(usize::MAX))
            }
            None => server,
        }
    }

    /// Fails what waited too long.
    fn expire(&mut self) {
        let link = *self.shared.link.borrow();
        let (kind, reason) = match link {
            Link::Ready => (ErrorKind::Timeout, Reason::Timeout),
            Link::Refused(reason) => (ErrorKind::Refused, reason),
            _ => (ErrorKind::GuardUnavailable, Reason::GuardUnavailable),
        };
        let now = Instant::now();
        for waiting in self.held.values_mut() {
            while let Some(message) =
                waiting.pop_front_if(|message| now.saturating_duration_since(message.queued) > PATIENCE)
            {
                message.fail(&self.shared, kind, reason);
            }
        }
        self.held.retain(|_, waiting| !waiting.is_empty());
    }
}

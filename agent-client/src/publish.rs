//! Publishing: what to send, and the calls that send it.

use std::time::{Duration, Instant};

use sealbus_envelope::{
    control::HeldNotice,
    hash::Hash,
    label::Label,
    name::Name,
    proof::admission::Decision,
    reason::Reason,
    subject::Subject,
    wire::{Content, MAX_PARENTS, MAX_PAYLOAD, MAX_TTL_MS, Parent},
};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    Client,
    error::{Error, ErrorKind, Result},
    flow::Flow,
    held::{Held, Sent},
    message::{JSON, MSGPACK, Message},
    outbox::Outgoing,
    pause::WhenPaused,
    sealing::Slot,
};

/// How long a message is of use if its sender says nothing else.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(3600);
/// How long the guard's verdict is waited for.
pub(crate) const VERDICT_TIMEOUT: Duration = Duration::from_secs(15);
/// The media type of bytes that nothing is known of.
const BYTES: &str = "application/octet-stream";

/// A message to publish. Only subject and payload are needed; the rest follows from the policy.
///
/// ```
/// use sealbus_client::Publish;
/// # fn main() -> Result<(), sealbus_client::Error> {
/// let publish = Publish::json("collect.web.raw", &["a finding"])?.rule("raw-pages");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is sent before it is given to `Client::send`"]
pub struct Publish {
    pub(crate) subject: String,
    pub(crate) content: Content,
    pub(crate) label: Option<Label>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) parents: Vec<Parent>,
    pub(crate) rule: Option<String>,
    pub(crate) flow_grant: Option<String>,
    pub(crate) when_paused: WhenPaused,
}

impl Publish {
    /// These bytes on this logical subject.
    pub fn new(subject: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            subject: subject.into(),
            content: Content::new(BYTES, payload),
            label: None,
            ttl: None,
            parents: Vec::new(),
            rule: None,
            flow_grant: None,
            when_paused: WhenPaused::Fail,
        }
    }

    /// `value` as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if it has no JSON form.
    pub fn json<T: Serialize + ?Sized>(subject: impl Into<String>, value: &T) -> Result<Self> {
        let payload = serde_json::to_vec(value)
            .map_err(|error| Error::new(ErrorKind::Usage, format!("no JSON: {error}")).caused(error))?;
        Ok(Self::new(subject, payload).content_type(JSON))
    }

    /// `value` as MessagePack, with field names.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if it has no MessagePack form.
    pub fn msgpack<T: Serialize + ?Sized>(subject: impl Into<String>, value: &T) -> Result<Self> {
        let payload = rmp_serde::to_vec_named(value).map_err(|error| {
            Error::new(ErrorKind::Usage, format!("no MessagePack: {error}")).caused(error)
        })?;
        Ok(Self::new(subject, payload).content_type(MSGPACK))
    }

    /// With this label. By default: the rule's default label, joined with the parents' labels and the
    /// [floor](Client::floor); with a flow grant, joined with what it gives.
    pub const fn label(mut self, label: Label) -> Self {
        self.label = Some(label);
        self
    }

    /// Of use for this long, in whole milliseconds up to 7 days; by default an hour, and where people must approve
    /// it first, as long again as they have. When it is over while they have not answered, it is denied.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Derived from this message: its label flows into this one's.
    pub fn parent(self, message: &Message) -> Self {
        self.parents([message.as_parent()])
    }

    /// Derived from these.
    pub fn parents(mut self, parents: impl IntoIterator<Item = Parent>) -> Self {
        for parent in parents {
            if !self.parents.iter().any(|known| known.digest == parent.digest) {
                self.parents.push(parent);
            }
        }
        self
    }

    /// With this media type, at most 128 bytes.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content.content_type = content_type.into();
        self
    }

    /// With this W3C trace context, at most 64 bytes.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.content.traceparent = Some(traceparent.into());
        self
    }

    /// Under this rule, where several take the subject.
    pub fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// By this flow grant of the policy: what it lifts may flow to a label that does not dominate it.
    pub fn flow_grant(mut self, name: impl Into<String>) -> Self {
        self.flow_grant = Some(name.into());
        self
    }

    /// While its workflow is paused: [fails](WhenPaused::Fail), as by default, or [waits](WhenPaused::Wait). A message
    /// that waits is sealed when the workflow goes on. One that was under way when it was paused is denied; if it was
    /// to be confirmed it is sealed anew and sent when the workflow goes on, for the one before is refused for good.
    /// Not to be confirmed, it is lost, and [`Event::Denied`](crate::Event::Denied) tells.
    pub const fn when_paused(mut self, when: WhenPaused) -> Self {
        self.when_paused = when;
        self
    }
}

/// The guard's signed word that a message was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The envelope's digest.
    pub digest: Hash,
    /// What was decided, when, and where in the audit log it stands.
    pub decision: Decision,
}

impl Client {
    /// Publishes bytes: seals and sends them, and does not wait for the guard's verdict. If it is denied,
    /// [`events`](Self::events) tells. Waits while the outbox is full.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn publish(&self, subject: &str, payload: impl Into<Vec<u8>> + Send) -> Result<()> {
        self.send(Publish::new(subject, payload)).await
    }

    /// Publishes `value` as JSON.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn publish_json<T: Serialize + Sync + ?Sized>(&self, subject: &str, value: &T) -> Result<()> {
        self.send(Publish::json(subject, value)?).await
    }

    /// Publishes `value` as MessagePack.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn publish_msgpack<T: Serialize + Sync + ?Sized>(
        &self,
        subject: &str,
        value: &T,
    ) -> Result<()> {
        self.send(Publish::msgpack(subject, value)?).await
    }

    /// Publishes without waiting for the guard's verdict. Waits while the outbox is full.
    ///
    /// # Errors
    /// Before anything is sent: [`ErrorKind::Usage`], [`ErrorKind::NotAllowed`] with the reason the guard
    /// would give; [`ErrorKind::WorkflowPaused`], unless it is to [wait](Publish::when_paused), and then if it waited for
    /// its time-to-live; [`ErrorKind::GuardUnavailable`], [`ErrorKind::Refused`], [`ErrorKind::Closed`].
    pub async fn send(&self, publish: Publish) -> Result<()> {
        let deadline = Instant::now() + publish.ttl.unwrap_or(DEFAULT_TTL);
        let prepared = self.running(|publish| self.prepare(publish, false), publish, deadline).await?;
        let permit = self.permit().await?;
        self.queue(prepared, permit, None, None)
    }

    /// As [`send`](Self::send), but waits neither for room nor for a paused workflow.
    ///
    /// # Errors
    /// Also [`ErrorKind::Overloaded`] if the outbox is full.
    pub fn try_send(&self, publish: Publish) -> Result<()> {
        let prepared = self.prepare(publish, false)?;
        if let Some(workflow) = self.shared().paused_for(&prepared.slot.rule) {
            return Err(Error::paused(workflow));
        }
        let permit =
            std::sync::Arc::clone(&self.shared().room).try_acquire_owned().map_err(|error| match error {
                tokio::sync::TryAcquireError::Closed => Error::closed(),
                tokio::sync::TryAcquireError::NoPermits => {
                    Error::with_reason(ErrorKind::Overloaded, Reason::Overloaded, "the outbox is full")
                }
            })?;
        self.queue(prepared, permit, None, None)
    }

    /// Publishes and waits for the guard's signed verdict. A key that went stale meanwhile is replaced and
    /// the message sealed and sent again, up to three times. Where people must approve it first, this waits for
    /// them; [`send_or_held`](Self::send_or_held) does not.
    ///
    /// # Errors
    /// As [`send`](Self::send); [`ErrorKind::Denied`] with the reason, such as [`Reason::ApprovalDenied`] or
    /// [`Reason::ApprovalExpired`]; [`ErrorKind::Timeout`] if there is no verdict within 15 seconds (of the people's
    /// deadline, if it is held) or the guard restarts before it answers, and then it is unknown whether it was
    /// admitted.
    pub async fn send_confirmed(&self, publish: Publish) -> Result<Receipt> {
        self.confirmed_running(|publish| self.prepare(publish, false), publish).await
    }

    /// Prepares, sends and waits for the verdict, and again if the workflow was paused before the message came to the
    /// guard and it is to wait: the verdict says that it is refused for good, so nothing is sent twice.
    pub(crate) async fn confirmed_running(
        &self,
        prepare: impl Fn(Publish) -> Result<Prepared>,
        publish: Publish,
    ) -> Result<Receipt> {
        match self.answered_running(prepare, publish).await? {
            Sent::Admitted(receipt) => Ok(receipt),
            Sent::Held(held) => held.decided().await,
        }
    }

    /// The same, but waits for no people.
    pub(crate) async fn answered_running(
        &self,
        prepare: impl Fn(Publish) -> Result<Prepared>,
        publish: Publish,
    ) -> Result<Sent> {
        let deadline = Instant::now() + publish.ttl.unwrap_or(DEFAULT_TTL);
        let kept = (publish.when_paused == WhenPaused::Wait).then(|| publish.clone());
        let mut next = publish;
        loop {
            let prepared = self.running(&prepare, next, deadline).await?;
            match (self.answered(prepared, None).await, &kept) {
                (Err(error), Some(kept)) if error.kind() == ErrorKind::WorkflowPaused => next = kept.clone(),
                (verdict, _) => return verdict,
            }
        }
    }

    /// Publishes bytes and waits for the guard's verdict.
    ///
    /// # Errors
    /// As [`send_confirmed`](Self::send_confirmed).
    pub async fn publish_confirmed(
        &self,
        subject: &str,
        payload: impl Into<Vec<u8>> + Send,
    ) -> Result<Receipt> {
        self.send_confirmed(Publish::new(subject, payload)).await
    }

    /// Queues and waits for the verdict, of people too if it is held.
    pub(crate) async fn confirmed(
        &self,
        prepared: Prepared,
        reply: Option<oneshot::Sender<Result<Message>>>,
    ) -> Result<Receipt> {
        match self.answered(prepared, reply).await? {
            Sent::Admitted(receipt) => Ok(receipt),
            Sent::Held(held) => held.decided().await,
        }
    }

    /// Queues and waits for the guard's answer.
    pub(crate) async fn answered(
        &self,
        prepared: Prepared,
        reply: Option<oneshot::Sender<Result<Message>>>,
    ) -> Result<Sent> {
        let subject = prepared.subject.clone();
        let permit = self.permit().await?;
        let (confirm, mut verdict) = oneshot::channel();
        let (tell, mut held) = oneshot::channel();
        self.queue(prepared, permit, Some((confirm, tell)), reply)?;
        let answer = async {
            tokio::select! {
                biased;
                verdict = &mut verdict => Ok(verdict),
                Ok(notice) = &mut held => Err(notice),
            }
        };
        match tokio::time::timeout(VERDICT_TIMEOUT, answer).await {
            Ok(Ok(Ok(verdict))) => verdict.map(Sent::Admitted),
            Ok(Ok(Err(_))) => Err(Error::closed()),
            Ok(Err(notice)) => Ok(Sent::Held(Held::new(&notice, verdict))),
            Err(_) => Err(Error::with_reason(
                ErrorKind::Timeout,
                Reason::Timeout,
                format!("no verdict on `{subject}`; it may have been admitted"),
            )),
        }
    }

    /// Checks everything that can be checked here, so that what is wrong is told at once.
    pub(crate) fn prepare(&self, publish: Publish, ask: bool) -> Result<Prepared> {
        let shared = self.shared();
        shared.link.borrow().check()?;
        let usage = |refused| Error::refused(ErrorKind::Usage, refused);
        let subject = Subject::parse(&publish.subject).map_err(usage)?;
        let view = shared.view()?;
        let claims = shared.session.me().claims();
        let flow = Flow::of(&publish, shared.floor(), &view)?;
        let wanted = (publish.label, flow.least());
        let (rule, label) = view.choose(claims, &subject, publish.rule.as_deref(), wanted, ask)?;
        flow.check(&view, &rule, claims, &subject, label)?;
        // What waits for people must still be of use when they answer.
        let people = view.held_for(&rule, publish.flow_grant.as_deref());
        let ttl = publish.ttl.unwrap_or(DEFAULT_TTL.saturating_add(people));
        let (slot, max) = (Slot { rule: rule.name.clone(), label, asker: None }, rule.max_bytes);
        Prepared { slot, subject, publish, ttl, request: None }.check(max)
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let room = std::sync::Arc::clone(&self.shared().room);
        room.acquire_owned().await.map_err(|_| Error::closed())
    }

    fn queue(
        &self,
        prepared: Prepared,
        permit: OwnedSemaphorePermit,
        waiting: Option<(oneshot::Sender<Result<Receipt>>, oneshot::Sender<HeldNotice>)>,
        reply: Option<oneshot::Sender<Result<Message>>>,
    ) -> Result<()> {
        let (confirm, held) = waiting.unzip();
        let Prepared { slot, subject, publish, ttl, request } = prepared;
        let ttl_ms = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
        let outgoing = Outgoing {
            slot,
            subject,
            content: publish.content,
            ttl_ms,
            parents: publish.parents,
            flow_grant: publish.flow_grant.and_then(|name| Name::parse(&name).ok()),
            request,
            confirm,
            held,
            reply,
            queued: Instant::now(),
            attempts: 0,
            _permit: permit,
        };
        self.shared().outbox.send(outgoing).map_err(|_| Error::closed())
    }
}

/// A message that may be sent, with the key it will need.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) slot: Slot,
    pub(crate) subject: Subject,
    pub(crate) publish: Publish,
    pub(crate) ttl: Duration,
    pub(crate) request: Option<Hash>,
}

impl Prepared {
    pub(crate) fn check(self, max_bytes: u32) -> Result<Self> {
        let usage = |reason: Reason, detail| Err(Error::with_reason(ErrorKind::Usage, reason, detail));
        let size = self.publish.content.payload.len();
        if size > MAX_PAYLOAD {
            return usage(Reason::TooLarge, format!("a payload of {size} bytes; at most {MAX_PAYLOAD} go"));
        }
        if u64::try_from(size).unwrap_or(u64::MAX) > u64::from(max_bytes) {
            return usage(
                Reason::TooBigForRule,
                format!("a payload of {size} bytes; rule `{}` takes {max_bytes}", self.slot.rule),
            );
        }
        let ttl = self.ttl.as_millis();
        if ttl == 0 || ttl > u128::from(MAX_TTL_MS) {
            return usage(Reason::BadTime, format!("a time-to-live of {ttl} ms; 1 ms to 7 days go"));
        }
        if self.publish.parents.len() > MAX_PARENTS {
            return usage(Reason::TooManyParents, format!("{} parents", self.publish.parents.len()));
        }
        Ok(self)
    }
}

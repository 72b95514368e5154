//! Subscribing: from a pattern to a stream of messages.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, stream::select_all};
use sealbus_envelope::{name::Name, reason::Reason, subject::Pattern};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Client,
    connect::Alive,
    error::{Error, ErrorKind, Result},
    inlet::{Inlet, Raw},
    message::Message,
    policy_view::Reading,
    shared::{Command, Shared},
};

/// How long the guard may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What to subscribe to.
///
/// ```
/// use sealbus_client::Subscribe;
/// let subscribe = Subscribe::new("collect.>").queue("workers");
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is read before it is given to `Client::subscribe_with`"]
pub struct Subscribe {
    pub(crate) pattern: String,
    pub(crate) rule: Option<String>,
    pub(crate) queue: Option<String>,
}

impl Subscribe {
    /// Logical subjects that match `pattern`.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), rule: None, queue: None }
    }

    /// Under this rule only.
    pub fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// Sharing the work with the others of this queue group. A rule that names a queue for this agent's team
    /// implies it; a queue that no rule names is not granted.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }
}

/// Messages as they come: a [`Stream`], or call [`next`](Self::next). What this session published itself is
/// not among them. Ends when the client is closed or the
/// server takes the permission away (an event tells). Dropping it ends the subscription.
///
/// Buffered: as many messages as [`ConnectOptions::buffer`](crate::ConnectOptions::buffer) says. While that
/// is full nothing more is opened and messages wait sealed in the connection's buffer (65,536 a
/// subscription); when that is full too, they are dropped and [`Event::Dropped`](crate::Event::Dropped) says
/// how many.
#[derive(Debug)]
pub struct Subscription {
    messages: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
    ids: Vec<u32>,
    _alive: Arc<Alive>,
}

impl Subscription {
    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.messages.poll_recv(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.tell(Command::Undeclare(std::mem::take(&mut self.ids)));
    }
}

impl Client {
    /// Subscribes to the logical subjects that match `pattern`.
    ///
    /// # Errors
    /// As [`subscribe_with`](Self::subscribe_with).
    pub async fn subscribe(&self, pattern: &str) -> Result<Subscription> {
        self.subscribe_with(Subscribe::new(pattern)).await
    }

    /// Subscribes.
    ///
    /// # Errors
    /// [`ErrorKind::NotAllowed`] if no rule grants the whole pattern, naming what is granted inside it;
    /// [`ErrorKind::Usage`] for a malformed pattern; [`ErrorKind::Denied`] if the guard refuses;
    /// [`ErrorKind::Timeout`], [`ErrorKind::GuardUnavailable`], [`ErrorKind::Closed`].
    pub async fn subscribe_with(&self, subscribe: Subscribe) -> Result<Subscription> {
        let shared = Arc::clone(self.shared());
        let (pattern, reading) = reading(&shared, &subscribe, false)?;
        let subjects = shared.session.subjects();
        let wire: Vec<String> =
            reading.levels.iter().map(|level| subjects.delivery(*level, pattern.as_str())).collect();
        let mut streams = Vec::with_capacity(wire.len());
        for subject in &wire {
            let stream = match &reading.queue {
                Some(queue) => shared.nats.queue_subscribe(subject.clone(), queue.clone()).await,
                None => shared.nats.subscribe(subject.clone()).await,
            };
            streams.push(stream.map_err(|error| Error::new(ErrorKind::Closed, error.to_string()))?);
        }
        // The inlet runs before the guard is asked: messages may follow its answer at once.
        let (sender, messages) = mpsc::channel(shared.buffer);
        tokio::spawn(pump(Arc::clone(&shared), streams, reading.whole, sender));
        let ids = declare(&shared, reading.rules, pattern, false, wire).await?;
        Ok(Subscription { messages, shared, ids, _alive: self.alive() })
    }
}

/// What the policy says of a wanted subscription.
pub(crate) fn reading(shared: &Shared, subscribe: &Subscribe, serve: bool) -> Result<(Pattern, Reading)> {
    shared.link.borrow().check()?;
    let pattern =
        Pattern::parse(&subscribe.pattern).map_err(|refused| Error::refused(ErrorKind::Usage, refused))?;
    let claims = shared.session.me().claims();
    let (rule, queue) = (subscribe.rule.as_deref(), subscribe.queue.as_deref());
    let reading = shared.view()?.reading(claims, &pattern, rule, queue, serve)?;
    Ok((pattern, reading))
}

/// Tells the guard, and waits for its answer.
pub(crate) async fn declare(
    shared: &Shared,
    rules: Vec<Name>,
    pattern: Pattern,
    serve: bool,
    wire: Vec<String>,
) -> Result<Vec<u32>> {
    let rules: Vec<Name> = rules.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let (done, answer) = oneshot::channel();
    let wanted = pattern.to_string();
    shared.tell(Command::Declare { rules, pattern, serve, wire, done });
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Error::closed()),
        Err(_) => Err(Error::with_reason(
            ErrorKind::Timeout,
            Reason::Timeout,
            format!("the guard did not answer the subscription to `{wanted}`"),
        )),
    }
}

/// Moves messages from the connection to the agent.
async fn pump(
    shared: Arc<Shared>,
    streams: Vec<async_nats::Subscriber>,
    whole: bool,
    sender: mpsc::Sender<Message>,
) {
    let mut news = shared.news.subscribe();
    let mut link = shared.link.subscribe();
    let mut incoming = select_all(streams);
    let mut inlet = Inlet::new(Arc::clone(&shared), whole);
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut out = Vec::new();
    loop {
        tokio::select! {
            message = incoming.next() => {
                let Some(message) = message else { return };
                shared.count_taken();
                inlet.arrive(Raw::new(message), &mut out);
            }
            changed = news.changed(), if !inlet.is_idle() => {
                if changed.is_err() { return }
                inlet.retry(&mut out);
            }
            _ = tick.tick() => {
                // A key that came between a look and its wait.
                inlet.retry(&mut out);
                inlet.expire();
            }
            closed = link.wait_for(|link| *link == crate::shared::Link::Closed) => {
                drop(closed);
                return;
            }
            () = sender.closed() => return,
        }
        for message in out.drain(..) {
            if sender.send(message).await.is_err() {
                return;
            }
        }
    }
}

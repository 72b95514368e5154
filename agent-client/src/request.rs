//! Request and reply: asking one responder, and being one.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::Stream;
use sealbus_envelope::{
    policy::{Faults, MessageKind, check_publish},
    reason::Reason,
    subject::{Pattern, Subject},
};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Client,
    connect::Alive,
    error::{Error, ErrorKind, Result},
    events::Event,
    flow::Flow,
    inlet::{Inlet, Raw},
    message::Message,
    pause::WhenPaused,
    publish::{DEFAULT_TTL, Prepared, Publish, Receipt},
    sealing::Slot,
    shared::{Command, Link, Shared},
    subscribe::{self, Subscribe},
    sync,
};

/// A responder in this client.
#[derive(Debug)]
pub(crate) struct Server {
    ids: Vec<u32>,
    pattern: Pattern,
    rules: Vec<sealbus_envelope::name::Name>,
    sender: mpsc::Sender<Message>,
}

impl Client {
    /// Asks on a subject and waits for the answer: seals the request to those who may answer, waits for the
    /// guard's verdict, then for the reply.
    ///
    /// # Errors
    /// As [`send_confirmed`](Self::send_confirmed), with [`Reason::NoResponder`] if nobody is there to
    /// answer; [`Reason::ResponderQuarantined`] as soon as the guard takes the agent off the bus that was to answer:
    /// it may have acted on the request before, so whether it may be asked again is the caller's to know;
    /// [`ErrorKind::Timeout`] if no reply comes within `timeout`.
    pub async fn request(
        &self,
        subject: &str,
        payload: impl Into<Vec<u8>> + Send,
        timeout: Duration,
    ) -> Result<Message> {
        self.send_request(Publish::new(subject, payload), timeout).await
    }

    /// Asks; what to ask is a [`Publish`] on a request rule.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn send_request(&self, publish: Publish, timeout: Duration) -> Result<Message> {
        let subject = publish.subject.clone();
        // A request is of no use once its asker has gone.
        let ttl = publish.ttl.unwrap_or(DEFAULT_TTL).min(timeout.max(Duration::from_millis(1)));
        let deadline = Instant::now() + ttl;
        let asked = async {
            let mut next = publish.ttl(ttl);
            loop {
                let kept = (next.when_paused == WhenPaused::Wait).then(|| next.clone());
                let prepared = self.running(|publish| self.prepare(publish, true), next, deadline).await?;
                match (self.ask(prepared).await, kept) {
                    // Refused for good: it is sealed anew when the workflow goes on.
                    (Err(error), Some(kept)) if error.kind() == ErrorKind::WorkflowPaused => next = kept,
                    (answer, _) => return answer,
                }
            }
        };
        tokio::time::timeout(timeout, asked).await.map_err(|_| {
            Error::with_reason(
                ErrorKind::Timeout,
                Reason::Timeout,
                format!("no reply on `{subject}` in time"),
            )
        })?
    }

    async fn ask(&self, prepared: Prepared) -> Result<Message> {
        let (sender, reply) = oneshot::channel();
        {
            // The reply may overtake the verdict, which follows the guard's disk.
            let confirmed = self.confirmed(prepared, Some(sender));
            tokio::pin!(confirmed);
            tokio::pin!(reply);
            tokio::select! {
                biased;
                reply = &mut reply => match reply {
                    Ok(reply) => reply,
                    // Nobody answers what was not admitted: the verdict says why.
                    Err(_) => confirmed.await.and_then(|_| Err(Error::closed())),
                },
                verdict = &mut confirmed => {
                    verdict?;
                    reply.await.map_err(|_| Error::closed())?
                }
            }
        }
    }

    /// Answers requests on the logical subjects that match `pattern`.
    ///
    /// # Errors
    /// As [`subscribe_with`](Self::subscribe_with).
    pub async fn serve(&self, pattern: &str) -> Result<Requests> {
        self.serve_with(Subscribe::new(pattern)).await
    }

    /// Answers requests.
    ///
    /// # Errors
    /// As [`subscribe_with`](Self::subscribe_with).
    pub async fn serve_with(&self, serve: Subscribe) -> Result<Requests> {
        let shared = Arc::clone(self.shared());
        let (pattern, reading) = subscribe::reading(&shared, &serve, true)?;
        let (sender, messages) = mpsc::channel(shared.buffer);
        let rules = reading.rules;
        let ids = subscribe::declare(&shared, rules.clone(), pattern.clone(), true, Vec::new()).await?;
        sync::lock(&shared.servers).push(Server { ids: ids.clone(), pattern, rules, sender });
        Ok(Requests { messages, client: self.clone(), shared, ids, _alive: self.alive() })
    }
}

/// Requests as they come: a [`Stream`], or call [`next`](Self::next). Dropping it ends the service.
#[derive(Debug)]
pub struct Requests {
    messages: mpsc::Receiver<Message>,
    client: Client,
    shared: Arc<Shared>,
    ids: Vec<u32>,
    _alive: Arc<Alive>,
}

impl Requests {
    /// The next request; `None` at the end.
    pub async fn next(&mut self) -> Option<Request> {
        let message = self.messages.recv().await?;
        Some(Request { message, client: self.client.clone() })
    }

    /// Answers each request with what `handler` makes of it, one after another, until the client is closed.
    /// An answer that the guard denies is told as an event, and the next request is taken.
    pub async fn answer<F>(mut self, mut handler: impl FnMut(Message) -> F + Send)
    where
        F: Future<Output = Vec<u8>> + Send,
    {
        while let Some(request) = self.next().await {
            let answer = handler(request.message.clone()).await;
            if let Err(error) = request.respond(answer).await {
                tracing::warn!(%error, "an answer was not admitted");
            }
        }
    }
}

impl Stream for Requests {
    type Item = Request;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        let client = self.client.clone();
        self.messages.poll_recv(cx).map(|message| message.map(|message| Request { message, client }))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        let ids = std::mem::take(&mut self.ids);
        sync::lock(&self.shared.servers).retain(|server| server.ids != ids);
        self.shared.tell(Command::Undeclare(ids));
    }
}

/// A request to answer, once.
#[derive(Debug)]
pub struct Request {
    message: Message,
    client: Client,
}

impl Request {
    /// What was asked.
    #[must_use]
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// Answers with bytes: sealed to the asker's session alone, derived from the request, and at least as
    /// high a label.
    ///
    /// # Errors
    /// As [`Client::send_confirmed`]; [`Reason::NoRequest`] if the request's deadline is over.
    pub async fn respond(self, payload: impl Into<Vec<u8>> + Send) -> Result<Receipt> {
        let publish = Publish::new(self.message.subject(), payload);
        self.respond_with(publish).await
    }

    /// Answers with JSON.
    ///
    /// # Errors
    /// As [`respond`](Self::respond).
    pub async fn respond_json<T: Serialize + Sync + ?Sized>(self, value: &T) -> Result<Receipt> {
        let publish = Publish::json(self.message.subject(), value)?;
        self.respond_with(publish).await
    }

    /// Answers with the content, label, parents and time-to-live of `publish`; its subject and rule are the
    /// request's.
    ///
    /// # Errors
    /// As [`respond`](Self::respond).
    pub async fn respond_with(self, publish: Publish) -> Result<Receipt> {
        let Self { message, client } = self;
        let publish = publish.parent(&message);
        client.confirmed_running(|publish| prepare_reply(&client, &message, publish), publish).await
    }
}

fn prepare_reply(client: &Client, request: &Message, publish: Publish) -> Result<Prepared> {
    let shared = client.shared();
    shared.link.borrow().check()?;
    let not_allowed = |refused| Error::refused(ErrorKind::NotAllowed, refused);
    let view = shared.view()?;
    let rule = view.rule(request.rule()).ok_or_else(|| {
        Error::with_reason(
            ErrorKind::NotAllowed,
            Reason::UnknownRule,
            format!("rule `{}` is gone", request.rule()),
        )
    })?;
    let MessageKind::Request { deadline_ms } = rule.kind else {
        return Err(Error::with_reason(ErrorKind::NotAllowed, Reason::WrongPattern, "rule"));
    };
    let flow = Flow::of(&publish, shared.floor(), &view)?;
    let label = publish.label.unwrap_or_else(|| rule.default_label.join(flow.least()));
    let subject = Subject::parse(request.subject()).map_err(not_allowed)?;
    let claims = shared.session.me().claims();
    flow.check(&view, rule, claims, &subject, label)?;
    let mut faults = Faults::observing(view.tables.observes(rule, claims));
    check_publish(&view.tables, rule, claims, &subject, label, true, &mut faults).map_err(not_allowed)?;
    let slot = Slot { rule: rule.name.clone(), label, asker: Some(request.session()) };
    let ttl = publish.ttl.unwrap_or(DEFAULT_TTL).min(Duration::from_millis(u64::from(deadline_ms)));
    Prepared { slot, subject, publish, ttl, request: Some(request.digest()) }.check(rule.max_bytes)
}

/// Reads what comes into the box: requests go to who serves them, replies to who asked.
pub(crate) async fn sort(shared: Arc<Shared>, mut incoming: mpsc::Receiver<Raw>) {
    let mut news = shared.news.subscribe();
    let mut inlet = Inlet::new(Arc::clone(&shared), false);
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut out = Vec::new();
    while *shared.link.borrow() != Link::Closed {
        tokio::select! {
            raw = incoming.recv() => {
                let Some(raw) = raw else { return };
                inlet.arrive(raw, &mut out);
            }
            changed = news.changed(), if !inlet.is_idle() => {
                if changed.is_err() { return }
                inlet.retry(&mut out);
            }
            _ = tick.tick() => {
                inlet.retry(&mut out);
                inlet.expire();
            }
        }
        out.drain(..).for_each(|message| deliver(&shared, message));
    }
}

fn deliver(shared: &Shared, message: Message) {
    match message.answers() {
        Some(request) => match sync::lock(&shared.replies).remove(&request) {
            Some(asker) => {
                let _gave_up = asker.send(Ok(message));
            }
            None => shared.events.refused(Reason::NoRequest, message.subject()),
        },
        None => {
            let Ok(subject) = Subject::parse(message.subject()) else { return };
            let servers = sync::lock(&shared.servers);
            let server = servers.iter().find(|server| {
                server.pattern.matches(&subject)
                    && server.rules.iter().any(|rule| rule.as_str() == message.rule())
            });
            match server.map(|server| server.sender.try_send(message).is_ok()) {
                Some(true) => {}
                // A responder that is behind: the asker times out and asks again, another may be free.
                Some(false) => shared.events.send(Event::Dropped { count: 1 }),
                None => shared.events.refused(Reason::NoResponder, subject.as_str()),
            }
        }
    }
}

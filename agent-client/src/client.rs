//! The client: one session on the bus, cheap to clone.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sealbus_envelope::{
    identity::SessionId,
    label::{Compartments, Integrity, Label, Level},
    name::Name,
    policy::Records,
    reason::Reason,
};
use tokio::sync::oneshot;

use crate::{
    connect::{Alive, ConnectOptions},
    credentials::Credentials,
    error::{Error, ErrorKind, Result},
    events::Events,
    outbox::Signal,
    shared::{Command, Link, Shared},
    sync,
};

/// How long closing waits for what is queued.
const DRAIN: Duration = Duration::from_secs(10);

/// One session on the bus. Clones share it; it ends with [`close`](Self::close), or when the last clone,
/// subscription and service is dropped.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    alive: Arc<Alive>,
}

impl Client {
    pub(crate) const fn new(shared: Arc<Shared>, alive: Arc<Alive>) -> Self {
        Self { shared, alive }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn alive(&self) -> Arc<Alive> {
        Arc::clone(&self.alive)
    }

    /// Connects with the defaults of [`ConnectOptions`].
    ///
    /// # Errors
    /// As [`ConnectOptions::connect`].
    pub async fn connect(credentials: Credentials) -> Result<Self> {
        ConnectOptions::new(credentials).connect().await
    }

    /// Waits for the welcome, or for why there is none.
    pub(crate) async fn joined(&self, deadline: tokio::time::Instant) -> Result<()> {
        let mut link = self.shared.link.subscribe();
        let settled = link.wait_for(|link| {
            matches!(
                link,
                Link::Ready | Link::Refused(_) | Link::WrongGuard(_) | Link::GuardAway | Link::Closed
            )
        });
        match tokio::time::timeout_at(deadline, settled).await {
            Ok(Ok(link)) => link.check(),
            Ok(Err(_)) => Err(Error::closed()),
            Err(_) => Err(Error::with_reason(
                ErrorKind::GuardUnavailable,
                Reason::Timeout,
                "the guard was greeted, but did not answer",
            )),
        }
    }

    /// Waits until the guard knows the session, as after an outage.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`], [`ErrorKind::WrongGuard`], [`ErrorKind::Closed`];
    /// [`ErrorKind::GuardUnavailable`] after `timeout`.
    pub async fn ready(&self, timeout: Duration) -> Result<()> {
        let mut link = self.shared.link.subscribe();
        let ready = link.wait_for(|link| {
            matches!(link, Link::Ready | Link::Refused(_) | Link::WrongGuard(_) | Link::Closed)
        });
        match tokio::time::timeout(timeout, ready).await {
            Ok(Ok(link)) => link.check(),
            Ok(Err(_)) => Err(Error::closed()),
            Err(_) => Link::GuardAway.check(),
        }
    }

    /// What happens beside the calls, from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        self.shared.events.listen()
    }

    /// The agent's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.session.me().claims().name.as_str()
    }

    /// The agent as subjects name it.
    #[must_use]
    pub fn token(&self) -> &str {
        self.shared.session.agent().as_str()
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.shared.session.id()
    }

    /// The version of the policy in force, as far as this session knows.
    #[must_use]
    pub fn policy_version(&self) -> Option<u64> {
        sync::get(&self.shared.view).map(|view| view.head.version)
    }

    /// What the signed policy says of this agent: the tables, the rules that it has a part in and the flow grants
    /// of use under them, each proven to be under the quorum's signatures. None before the guard's welcome.
    #[must_use]
    pub fn records(&self) -> Option<Records> {
        sync::get(&self.shared.view).map(|view| view.records())
    }

    /// The taint floor: the join of the labels of all that this agent was given to read. A message without a label
    /// of its own is labelled at least this; one below it is denied, but for a [flow grant](crate::Publish::flow_grant).
    #[must_use]
    pub fn floor(&self) -> Label {
        self.shared().floor()
    }

    /// The label in the policy's words, such as `internal/deps+findings/checked` (`-` for no compartment).
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with [`Reason::LabelUnknown`] if the policy does not declare a word.
    pub fn label(&self, text: &str) -> Result<Label> {
        let view = self.shared.view()?;
        let tables = &view.tables;
        let unknown = |word: &str, names: &[Name]| {
            let names: Vec<_> = names.iter().map(Name::as_str).collect();
            Error::with_reason(
                ErrorKind::Usage,
                Reason::LabelUnknown,
                format!("`{}` is none of: {}", word.escape_debug(), names.join(", ")),
            )
        };
        let place = |names: &[Name], word: &str| {
            names.iter().position(|name| name.as_str() == word).and_then(|place| u8::try_from(place).ok())
        };
        let mut parts = text.split('/');
        let (Some(level), Some(compartments), Some(integrity), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::with_reason(
                ErrorKind::Usage,
                Reason::LabelUnknown,
                "a label is written level/compartment+compartment/integrity, with `-` for no compartment",
            ));
        };
        let named = Level::new(place(&tables.levels, level).ok_or_else(|| unknown(level, &tables.levels))?);
        let mut set = Compartments::EMPTY;
        for word in compartments.split('+').filter(|word| *word != "-") {
            let place =
                place(&tables.compartments, word).ok_or_else(|| unknown(word, &tables.compartments))?;
            set = set.union(Compartments::single(place).map_err(|_| unknown(word, &tables.compartments))?);
        }
        let rank =
            place(&tables.integrity, integrity).ok_or_else(|| unknown(integrity, &tables.integrity))?;
        let rank = Integrity::new(rank).map_err(|_| unknown(integrity, &tables.integrity))?;
        Ok(Label::new(named.map_err(|_| unknown(level, &tables.levels))?, set, rank))
    }

    /// The label in the policy's words.
    #[must_use]
    pub fn show_label(&self, label: Label) -> String {
        sync::get(&self.shared.view).map_or_else(|| format!("{label:?}"), |view| view.tables.show(label))
    }

    /// Messages that came over the connection and were not taken out of its buffers: waiting, or dropped. If
    /// it stays above zero while nothing comes, that many were dropped; the connection's own events of
    /// dropping can be lost when there are many.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let came = self.shared.nats.statistics().in_messages.load(Ordering::Relaxed);
        came.saturating_sub(self.shared.taken.load(Ordering::Relaxed))
    }

    /// Replaces the sender keys of one rule, or all: what is published from when the new key is open cannot
    /// be read with the old one.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if `rule` is no name.
    pub fn rekey(&self, rule: Option<&str>) -> Result<()> {
        let rule =
            rule.map(Name::parse).transpose().map_err(|refused| Error::refused(ErrorKind::Usage, refused))?;
        self.shared.tell(Command::Rekey(rule));
        Ok(())
    }

    /// Waits until all that was queued is with the server.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after ten seconds; [`ErrorKind::Closed`].
    pub async fn flush(&self) -> Result<()> {
        let (done, flushed) = oneshot::channel();
        self.shared.signal(Signal::Flush(done));
        let flush = async {
            flushed.await.map_err(|_| Error::closed())?;
            self.shared
                .nats
                .flush()
                .await
                .map_err(|error| Error::new(ErrorKind::Unreachable, error.to_string()))
        };
        tokio::time::timeout(DRAIN, flush).await.map_err(|_| {
            Error::with_reason(ErrorKind::Timeout, Reason::Timeout, "messages are queued still")
        })?
    }

    /// Ends the session in order: sends what is queued, says goodbye, closes the connection.
    ///
    /// # Errors
    /// As [`flush`](Self::flush): then something queued was not sent. The session ends all the same.
    pub async fn close(self) -> Result<()> {
        if *self.shared.link.borrow() == Link::Closed {
            return Ok(());
        }
        let flushed = self.flush().await;
        let (done, closed) = oneshot::channel();
        self.shared.tell(Command::Close(done));
        let _gone_already = tokio::time::timeout(DRAIN, closed).await;
        flushed
    }
}

//! What the tasks of one client share, and how they speak to each other.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use sealbus_envelope::{
    control::{Handed, Submitted},
    hash::Hash,
    identity::{Roots, SessionId},
    keys::KeyId,
    label::Label,
    name::Name,
    reader::{Context, DEFAULT_SKEW_MS, EpochFloor},
    reason::Reason,
    subject::Pattern,
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::{
    clock,
    error::{Error, ErrorKind, Result},
    events::{Event, EventSender},
    held::Undecided,
    keyring::{Keyring, ReaderKeys},
    message::Message,
    outbox::{Outgoing, Signal},
    pause::Paused,
    policy_view::View,
    request::Server,
    sealing::{SenderKeys, Slot},
    seen::Seen,
    session::Session,
    sync,
};

/// How the session stands with the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Saying hello.
    Joining,
    /// Welcome.
    Ready,
    /// No heartbeat.
    GuardAway,
    /// In the lobby, or hello was denied.
    Refused(Reason),
    /// What speaks as the guard is none.
    WrongGuard(Reason),
    /// Closed by the agent.
    Closed,
}

impl Link {
    /// Why nothing can be published now, if so. While joining, messages wait.
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Self::Joining | Self::Ready => Ok(()),
            Self::GuardAway => {
                Err(Error::with_reason(ErrorKind::GuardUnavailable, Reason::GuardUnavailable, "no heartbeat"))
            }
            Self::Refused(reason) => Err(Error::with_reason(ErrorKind::Refused, reason, reason.meaning())),
            Self::WrongGuard(reason) => {
                Err(Error::with_reason(ErrorKind::WrongGuard, reason, reason.meaning()))
            }
            Self::Closed => Err(Error::closed()),
        }
    }
}

/// What the driver is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Make a sender key.
    Open(Slot),
    /// Replace the sender keys of this rule, or all.
    Rekey(Option<Name>),
    /// Ask for a key that an envelope names.
    Want(SessionId, KeyId),
    /// Declare readings; answers with their numbers.
    Declare {
        rules: Vec<Name>,
        pattern: Pattern,
        serve: bool,
        wire: Vec<String>,
        done: oneshot::Sender<Result<Vec<u32>>>,
    },
    /// End readings.
    Undeclare(Vec<u32>),
    /// Ask the guard what is held, or for one of it.
    AskHeld { digest: Option<Hash>, done: oneshot::Sender<Handed> },
    /// Bring the guard what a person signed.
    Approve { approval: Vec<u8>, digest: Hash, done: oneshot::Sender<Submitted> },
    /// Say bye and stop.
    Close(oneshot::Sender<()>),
}

/// State of one client, shared by its tasks.
pub(crate) struct Shared {
    pub(crate) session: Arc<Session>,
    pub(crate) roots: Roots,
    pub(crate) nats: async_nats::Client,
    pub(crate) events: EventSender,
    pub(crate) link: watch::Sender<Link>,
    /// Counts up when a key or a policy came: what waits looks again.
    pub(crate) news: watch::Sender<u64>,
    pub(crate) view: RwLock<Option<Arc<View>>>,
    pub(crate) epochs: EpochFloor,
    /// The taint floor, as the guard told.
    pub(crate) floor: Mutex<Label>,
    /// The workflows that are paused, as the guard told.
    pub(crate) paused: Mutex<Paused>,
    pub(crate) keyring: Mutex<Keyring>,
    pub(crate) reader_keys: Mutex<ReaderKeys>,
    pub(crate) sender_keys: Mutex<SenderKeys>,
    pub(crate) seen: Seen,
    pub(crate) driver: mpsc::UnboundedSender<Command>,
    pub(crate) outbox: mpsc::UnboundedSender<Outgoing>,
    pub(crate) signals: mpsc::UnboundedSender<Signal>,
    /// Room in the outbox: each message holds a permit until it is sent, or its verdict came.
    pub(crate) room: Arc<Semaphore>,
    /// Confirmed messages that wait for their verdict, by digest.
    pub(crate) verdicts: Mutex<HashMap<Hash, Outgoing>>,
    /// Confirmed messages that people decide about, by digest: a restart of the guard does not end their wait.
    pub(crate) held: Mutex<HashMap<Hash, Undecided>>,
    /// Requests that wait for their reply, by digest.
    pub(crate) replies: Mutex<HashMap<Hash, oneshot::Sender<Result<Message>>>>,
    /// Who answers requests here.
    pub(crate) servers: Mutex<Vec<Server>>,
    /// How many messages a subscription holds for its agent.
    pub(crate) buffer: usize,
    /// Messages taken out of the connection's buffers.
    pub(crate) taken: AtomicU64,
}

impl Shared {
    /// What the checks of a reader know, under this policy.
    pub(crate) fn context<'a>(&'a self, view: &'a View) -> Context<'a> {
        Context {
            me: self.session.me(),
            subjects: self.session.subjects(),
            tables: &view.tables,
            policies: &view.policies,
            epochs: &self.epochs,
            status: &view.status,
            now: clock::now(),
            skew_ms: DEFAULT_SKEW_MS,
        }
    }

    /// The policy in force.
    pub(crate) fn view(&self) -> Result<Arc<View>> {
        sync::get(&self.view).ok_or_else(|| {
            Error::with_reason(ErrorKind::GuardUnavailable, Reason::NoPolicy, "no welcome yet")
        })
    }

    /// The join of the labels of all that the session was given to read.
    pub(crate) fn floor(&self) -> Label {
        *sync::lock(&self.floor)
    }

    /// Takes a floor that the guard told.
    pub(crate) fn set_floor(&self, floor: Label) {
        let before = std::mem::replace(&mut *sync::lock(&self.floor), floor);
        if before != floor {
            self.events.send(Event::FloorChanged { floor });
        }
    }

    pub(crate) fn tell(&self, command: Command) {
        // The driver is gone only when the client is closed, and then there is nobody to care.
        let _closed = self.driver.send(command);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _closed = self.signals.send(signal);
    }

    pub(crate) fn bump(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    pub(crate) fn set_link(&self, link: Link) -> bool {
        self.link.send_if_modified(|old| {
            let changed = *old != link && *old != Link::Closed;
            if changed {
                *old = link;
            }
            changed
        })
    }

    pub(crate) fn count_taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("session", &self.session.id()).finish_non_exhaustive()
    }
}

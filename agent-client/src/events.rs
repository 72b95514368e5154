//! What happens beside the calls an agent makes: denials, refusals, gaps, the guard going and coming.
//!
//! ```no_run
//! # async fn example(client: sealbus_client::Client) {
//! let mut events = client.events();
//! while let Some(event) = events.next().await {
//!     eprintln!("{event}");
//! }
//! # }
//! ```

use std::{fmt, sync::Mutex};

use sealbus_envelope::{
    hash::{Hash, hex},
    keys::KeyId,
    label::Label,
    name::Name,
    order::Workflow,
    reason::Reason,
    time::Millis,
};
use tokio::sync::broadcast;

use crate::sync;

/// How many events wait for a slow listener before the oldest are lost to it.
const CAPACITY: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The guard denied something that this session sent.
    Denied {
        /// Why.
        reason: Reason,
        /// Which part gave the reason.
        what: String,
        /// The logical subject or control verb.
        subject: String,
        /// How many like it this stands for.
        count: u32,
    },
    /// A message that this session sent passed every check and waits for people to approve it.
    Held {
        /// The envelope's digest: what they approve.
        digest: Hash,
        /// The logical subject.
        subject: String,
        /// How many of them must.
        approvals: u8,
        /// When it is denied if they have not, by the guard's clock.
        until: Millis,
    },
    /// A message that was queued could not be sent.
    Unsent {
        /// Why.
        reason: Reason,
        /// Its subject.
        subject: String,
    },
    /// Something received did not pass a check; it was not delivered.
    Refused {
        /// Which check.
        reason: Reason,
        /// The subject it came on.
        subject: String,
    },
    /// This agent was put in quarantine.
    Quarantined,
    /// The servers let the agent in no further than to tell it why not.
    Lobby {
        /// Why.
        reason: Reason,
    },
    /// A sender key was replaced.
    Rekeyed {
        /// The rule.
        rule: Name,
        /// The label.
        label: Label,
        /// Why.
        why: RekeyReason,
    },
    /// What this agent was given to read changed: messages without a label of their own are labelled at least this.
    FloorChanged {
        /// The join of it all.
        floor: Label,
    },
    /// A workflow that this agent sends in is paused: what it publishes there fails or waits.
    WorkflowPaused {
        /// Which.
        workflow: Workflow,
        /// Since when, by the guard's clock.
        since: Millis,
    },
    /// A person let a workflow go on.
    WorkflowResumed {
        /// Which.
        workflow: Workflow,
    },
    /// A newer policy is in force.
    PolicyChanged {
        /// Its version.
        version: u64,
    },
    /// A newer status statement is in force.
    StatusChanged {
        /// Its version.
        version: u64,
    },
    /// Messages of a sender are missing in between: dropped by a server, or denied to their sender.
    GapSeen {
        /// The sender, as subjects name it.
        sender: String,
        /// The key they went under.
        key: KeyId,
        /// How many.
        count: u64,
    },
    /// Messages arrived faster than they were read, and were dropped.
    Dropped {
        /// At least how many.
        count: u64,
    },
    /// The connection broke; it is being made again.
    Disconnected,
    /// The connection is back.
    Reconnected,
    /// No heartbeat from the guard for three seconds: publishing fails until it is back.
    GuardUnavailable,
    /// The guard is back.
    GuardBack,
    /// The servers refused a subscription that the policy said was granted.
    SubscriptionLost {
        /// The wire subject.
        subject: String,
    },
}

/// Why a sender key was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RekeyReason {
    /// It was used for an hour or for 2^20 messages.
    Rotation,
    /// The guard asked for it, for instance because a reader was removed.
    Guard(Reason),
    /// The agent asked for it.
    Asked,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied { reason, what, subject, count } => {
                write!(f, "denied on `{subject}`: {what}: {} [{reason}]", reason.meaning())?;
                if *count > 1 { write!(f, " ({count} times)") } else { Ok(()) }
            }
            Self::Held { digest, subject, approvals, .. } => {
                write!(f, "held on `{subject}`: {} waits for {approvals} to approve it", hex(digest))
            }
            Self::Unsent { reason, subject } => {
                write!(f, "not sent on `{subject}`: {} [{reason}]", reason.meaning())
            }
            Self::Refused { reason, subject } => {
                write!(f, "refused from `{subject}`: {} [{reason}]", reason.meaning())
            }
            Self::Quarantined => f.write_str("this agent is in quarantine"),
            Self::Lobby { reason } => write!(f, "not let in: {} [{reason}]", reason.meaning()),
            Self::Rekeyed { rule, .. } => write!(f, "new sender key for rule `{rule}`"),
            Self::FloorChanged { floor } => {
                let (level, integrity) = (floor.level.number(), floor.integrity.number());
                let compartments: Vec<_> = floor.compartments.iter().collect();
                write!(
                    f,
                    "the taint floor is now level {level}, compartments {compartments:?}, integrity {integrity}"
                )
            }
            Self::WorkflowPaused { workflow, .. } => {
                write!(f, "workflow `{workflow}` is paused until a person resumes it")
            }
            Self::WorkflowResumed { workflow } => write!(f, "workflow `{workflow}` goes on"),
            Self::PolicyChanged { version } => write!(f, "policy version {version} is in force"),
            Self::StatusChanged { version } => write!(f, "status version {version} is in force"),
            Self::GapSeen { sender, count, .. } => write!(f, "{count} messages of `{sender}` are missing"),
            Self::Dropped { count } => {
                write!(f, "{count} messages dropped: they came faster than they were read")
            }
            Self::Disconnected => f.write_str("connection lost"),
            Self::Reconnected => f.write_str("connected again"),
            Self::GuardUnavailable => f.write_str("no heartbeat from the guard"),
            Self::GuardBack => f.write_str("the guard is back"),
            Self::SubscriptionLost { subject } => write!(f, "the server refused subscription `{subject}`"),
        }
    }
}

/// Sends events to whoever listens; nobody listening is fine.
#[derive(Debug)]
pub(crate) struct EventSender(Mutex<Option<broadcast::Sender<Event>>>);

impl EventSender {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Some(broadcast::channel(CAPACITY).0)))
    }

    /// Ends the events of every listener.
    pub(crate) fn close(&self) {
        *sync::lock(&self.0) = None;
    }

    pub(crate) fn send(&self, event: Event) {
        tracing::debug!(%event, "event");
        if let Some(sender) = &*sync::lock(&self.0) {
            let _nobody_listens = sender.send(event);
        }
    }

    pub(crate) fn refused(&self, reason: Reason, subject: &str) {
        self.send(Event::Refused { reason, subject: subject.to_owned() });
    }

    pub(crate) fn listen(&self) -> Events {
        let receiver = match &*sync::lock(&self.0) {
            Some(sender) => sender.subscribe(),
            None => broadcast::channel(1).1,
        };
        Events { receiver, lost: 0 }
    }
}

/// The events of one client from when it was asked for them. A listener that lags behind by 1,024 events
/// loses the oldest, and can tell how many.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    lost: u64,
}

impl Events {
    /// The next event; `None` when the client is closed.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(count)) => self.lost += count,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// How many events this listener lost by lagging behind.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

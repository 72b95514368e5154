//! What the demo tells while it runs; who shows it is not its business.

use std::{fmt, time::Duration};

use serde::Serialize;
use tokio::sync::mpsc;

/// Something to show.
#[derive(Debug)]
#[non_exhaustive]
pub enum Progress {
    /// The next step begins.
    Step(String),
    /// Something went as it should.
    Done(String),
    /// Something did not.
    Failed(String),
    /// An agent's work, beside what else happens.
    Work {
        /// Which agent.
        who: &'static str,
        /// What it did.
        what: String,
    },
    /// An attack, and what became of it.
    Attack(Attack),
}

/// Who stopped an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Guardian {
    /// The NATS server, by its permissions.
    #[serde(rename = "nats-server")]
    NatsServer,
    /// The guard.
    #[serde(rename = "guard")]
    Guard,
    /// The client library of the agent that was to believe it.
    #[serde(rename = "reader")]
    Reader,
}

impl fmt::Display for Guardian {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NatsServer => "nats-server",
            Self::Guard => "guard",
            Self::Reader => "reader",
        })
    }
}

/// One attack as it went.
#[derive(Debug, Clone, Serialize)]
pub struct Attack {
    /// Its stable name.
    pub name: &'static str,
    /// What was tried, for people.
    #[serde(skip)]
    pub title: &'static str,
    /// Who stopped it; nobody if it was not seen to be stopped in time.
    pub stopped_by: Option<Guardian>,
    /// The reason that was given.
    pub reason: Option<String>,
    /// What went wrong, if it was not seen to be stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// From the attempt to the proof that it was stopped.
    #[serde(skip)]
    pub took: Duration,
}

/// `1 finding`, `2 findings`.
pub(super) fn count(number: u64, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {what}{ending}")
}

/// Tells progress; nobody listening is fine.
#[derive(Debug, Clone)]
pub struct Teller(mpsc::UnboundedSender<Progress>);

impl Teller {
    /// A teller, and where what it tells comes out.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Progress>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Tells something.
    pub fn tell(&self, progress: Progress) {
        // Whoever showed it may have gone.
        drop(self.0.send(progress));
    }

    pub(super) fn step(&self, text: impl Into<String>) {
        self.tell(Progress::Step(text.into()));
    }

    pub(super) fn done(&self, text: impl Into<String>) {
        self.tell(Progress::Done(text.into()));
    }

    pub(super) fn failed(&self, text: impl Into<String>) {
        self.tell(Progress::Failed(text.into()));
    }

    pub(super) fn work(&self, who: &'static str, what: impl Into<String>) {
        self.tell(Progress::Work { who, what: what.into() });
    }
}

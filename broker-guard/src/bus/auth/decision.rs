//! What the authenticator decided about one connection: for the audit log, events and metrics.

use std::{borrow::Cow, time::Duration};

use sealbus_envelope::{
    identity::{PublicKey, SessionId},
    name::AgentToken,
    reason::Refused,
    time::Millis,
};

use super::registry::ConnectionId;
use crate::audit::entry::{self, Body, ConnectionResult};

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// In, with its permissions.
    Admitted,
    /// Known, but refused: ten seconds in its own box to hear why.
    Lobby,
    /// Refused without a word.
    Refused,
    /// Was in, and was disconnected by the guard.
    Kicked,
}

impl Outcome {
    /// The stable word for metrics and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Lobby => "lobby",
            Self::Refused => "refused",
            Self::Kicked => "kicked",
        }
    }
}

/// One decision.
#[derive(Debug, Clone)]
pub struct ConnectionDecision {
    /// When, by the guard's clock.
    pub time: Millis,
    /// What was decided.
    pub outcome: Outcome,
    /// Why, unless admitted.
    pub reason: Option<Refused>,
    /// Whose connection it is. Only what was proven: a refused stranger may claim any name.
    pub agent: Option<AgentToken>,
    /// The identity key, if proven.
    pub identity: Option<PublicKey>,
    /// The session, if proven.
    pub session: Option<SessionId>,
    /// Which connection; absent if the question itself was bad.
    pub connection: Option<ConnectionId>,
    /// The name of the server, as its configuration says.
    pub server: String,
    /// Where the connection comes from, as the server says.
    pub host: String,
    /// Whether the server asked again about a connection that is in, as it does at a configuration reload.
    pub again: bool,
    /// How long deciding took.
    pub took: Duration,
}

impl ConnectionDecision {
    /// The audit entry.
    #[must_use]
    pub fn to_audit(&self) -> Body<'static> {
        Body::Connection(entry::Connection {
            agent: self.agent.as_ref().map(|agent| Cow::Owned(agent.to_string())),
            server: Cow::Owned(self.server.clone()),
            result: match self.outcome {
                Outcome::Admitted => ConnectionResult::Accepted,
                Outcome::Lobby => ConnectionResult::Lobby,
                Outcome::Refused => ConnectionResult::Refused,
                Outcome::Kicked => ConnectionResult::Kicked,
            },
            reason: self.reason.map(|refused| Cow::Borrowed(refused.reason.code())),
            session: self.session.map(|session| (*session.as_bytes()).into()),
            host: (!self.host.is_empty()).then(|| Cow::Owned(self.host.clone())),
        })
    }
}

//! Events for the security team: one JSON object each, in the form of OCSF, on `sb.events.<kind>`, in a durable
//! stream, in a file and to webhooks.
//!
//! Who has something to tell makes an [`Event`] and hands it over; [`ocsf`] writes it, one file a class, and
//! [`herald`] brings it to every [`sink`]. What Sealbus knows beyond OCSF's words is in `unmapped.sealbus`,
//! the fields of [`Event`] as they are.

mod api;
pub mod atlas;
mod authentication;
mod detection;
pub mod herald;
mod lifecycle;
pub mod ocsf;
pub mod queue;
pub mod settings;
pub mod sink;
#[cfg(test)]
mod tests;

use sealbus_envelope::{order::OrderKind, reason::Reason, time::Millis};
use serde::Serialize;

use ocsf::Severity;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A guard started.
    Started,
    /// A guard is stopping.
    Stopping,
    /// An envelope or control message was denied.
    Denied,
    /// An envelope was let pass that would be denied, were it not for observe mode.
    Observed,
    /// A connection was admitted, sent to the lobby or refused.
    Connection,
    /// An agent is watched, quarantined, released, revoked, or none of it any more.
    Quarantine,
    /// What an agent does deviates from what it did before, or adds up.
    Anomaly,
    /// An envelope waits for approval.
    Held,
    /// An approval or denial was given, or its time is over.
    Approval,
    /// A workflow was paused or resumed.
    Workflow,
    /// What became of the evidence of a quarantine.
    Evidence,
    /// A sink could not take events and had to drop some.
    SinkDropped,
    /// A signed order was carried out or refused.
    Order,
    /// Another policy or status is in force.
    Changed,
    /// An offered policy or status was refused; the old one stays.
    ChangeRefused,
    /// Messages were lost before the guard could read them.
    Dropped,
    /// The audit log cannot be written: nothing is admitted.
    AuditUnavailable,
    /// The audit log can be written again.
    AuditRecovered,
    /// Nothing: somebody tries whether events arrive.
    Test,
}

impl Kind {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Started,
        Self::Stopping,
        Self::Denied,
        Self::Observed,
        Self::Connection,
        Self::Quarantine,
        Self::Anomaly,
        Self::Held,
        Self::Approval,
        Self::Workflow,
        Self::Evidence,
        Self::SinkDropped,
        Self::Order,
        Self::Changed,
        Self::ChangeRefused,
        Self::Dropped,
        Self::AuditUnavailable,
        Self::AuditRecovered,
        Self::Test,
    ];

    /// The kind that [`Kind::token`] names.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.token() == token)
    }

    /// The last token of the event's subject.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Denied => "denied",
            Self::Observed => "observed",
            Self::Connection => "connection",
            Self::Quarantine => "quarantine",
            Self::Anomaly => "anomaly",
            Self::Held => "held",
            Self::Approval => "approval",
            Self::Workflow => "workflow",
            Self::Evidence => "evidence",
            Self::SinkDropped => "sink_dropped",
            Self::Order => "order",
            Self::Changed => "changed",
            Self::ChangeRefused => "change_refused",
            Self::Dropped => "dropped",
            Self::AuditUnavailable => "audit_unavailable",
            Self::AuditRecovered => "audit_recovered",
            Self::Test => "test",
        }
    }
}

/// Where in the life of a finding an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is new.
    Opened,
    /// More is known.
    Updated,
    /// It is dealt with.
    Closed,
}

/// One event. Fields that do not apply are left out.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// The guard's clock, unix milliseconds.
    #[serde(skip)]
    pub time: Millis,
    /// The agent, as subjects name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The session, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The stable reason code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What the code means, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<&'static str>,
    /// What to do about it, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<&'static str>,
    /// Which part of the input gave the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// The rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The logical subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The label, in the policy's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The envelope's id, in hexadecimal: `sealbus why ID` tells its story.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envelope: Option<String>,
    /// How many like it this event stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Whether a session of the agent verifiably signed what was denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<bool>,
    /// Anything else, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How it came out, where there are several ways: of a connection `admitted`, `lobby`, `refused`, `kicked`; of
    /// an agent's state the new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// Where the connection comes from, as the server says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The nats-server, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// What was asked for, such as an order's kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Who asked for it, if it was not `agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When the incident began that it belongs to: all of a kind about one agent and one incident are one finding.
    #[serde(skip)]
    pub incident: Option<Millis>,
    /// Where in the life of its finding it stands; without one, at its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// How grave it is, if it is not what its kind usually is.
    #[serde(skip)]
    pub severity: Option<Severity>,
}

impl Event {
    /// An event with nothing but its kind and time.
    #[must_use]
    pub const fn new(kind: Kind, time: Millis) -> Self {
        Self {
            kind,
            time,
            agent: None,
            session: None,
            reason: None,
            meaning: None,
            remedy: None,
            what: None,
            rule: None,
            subject: None,
            label: None,
            envelope: None,
            count: None,
            signed: None,
            detail: None,
            outcome: None,
            host: None,
            server: None,
            operation: None,
            by: None,
            incident: None,
            phase: None,
            severity: None,
        }
    }

    /// With a reason, its meaning and its remedy.
    #[must_use]
    pub const fn because(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self.meaning = Some(reason.meaning());
        self.remedy = Some(reason.remedy());
        self
    }

    /// About an agent.
    #[must_use]
    pub fn about(mut self, agent: impl ToString) -> Self {
        self.agent = Some(agent.to_string());
        self
    }

    /// Where in a finding's life it stands.
    #[must_use]
    pub const fn phase(mut self, phase: Phase) -> Self {
        self.phase = Some(phase);
        self
    }

    /// Graver or less grave than its kind usually is.
    #[must_use]
    pub const fn severity(mut self, severity: Severity) -> Self {
        self.severity = Some(severity);
        self
    }

    /// Asked for by somebody.
    #[must_use]
    pub fn asked(mut self, operation: impl Into<String>, by: impl Into<String>) -> Self {
        (self.operation, self.by) = (Some(operation.into()), Some(by.into()));
        self
    }

    /// Asked for by a signed order; keys as nkeys.
    #[must_use]
    pub fn ordered(self, kind: OrderKind, signers: &[String]) -> Self {
        self.asked(format!("order.{kind}"), signers.join(", "))
    }

    /// With a sentence for people.
    #[must_use]
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = Some(text.into());
        self
    }
}

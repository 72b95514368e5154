//! Events for the security team: one JSON object each, on `sb.events.<kind>`.

use sealbus_envelope::{reason::Reason, time::Millis};
use serde::Serialize;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
    /// An agent was quarantined or released.
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
}

impl Kind {
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
        }
    }
}

/// One event. Fields that do not apply are left out.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// The guard's clock, unix milliseconds.
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

    /// With a sentence for people.
    #[must_use]
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = Some(text.into());
        self
    }
}

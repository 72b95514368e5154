//! An event as OCSF writes it (Open Cybersecurity Schema Framework, schema.ocsf.io).
//!
//! What every class has is here; what a class adds is in the file of its name. Which kind is of which class is
//! in [`fn@write`], and told to operators in deploy/EVENTS.md.

use sealbus_envelope::{reason::Reason, time::Millis};
use serde_json::{Map, Value, json};

use super::{Event, Kind, Phase, api, atlas, authentication, detection, lifecycle};

/// The version of the schema that events follow.
pub const VERSION: &str = "1.5.0";
/// The profile by which an event says what was done: `action_id`, `disposition_id`, `attacks`.
const SECURITY_CONTROL: &str = "security_control";
/// The observable's type "User Name".
const USER_NAME: u8 = 4;

/// How grave an event is, OCSF's `severity_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// No action needed.
    Informational = 1,
    /// For who looks.
    Low = 2,
    /// Somebody should look.
    Medium = 3,
    /// Somebody must act soon.
    High = 4,
    /// Somebody must act now: the bus protects less than it should, or stands still.
    Critical = 5,
}

impl Severity {
    /// All of them, rising.
    pub const ALL: &[Self] = &[Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// OCSF's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }

    /// The one that is called so, in whatever case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|severity| severity.name().eq_ignore_ascii_case(word))
    }

    /// What an event is worth, by its kind, its reason and how it came out.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        if let Some(severity) = event.severity {
            return severity;
        }
        match event.kind {
            Kind::Started
            | Kind::Stopping
            | Kind::Observed
            | Kind::Changed
            | Kind::AuditRecovered
            | Kind::Test => Self::Informational,
            Kind::Connection => match event.outcome {
                Some("kicked") => Self::Medium,
                Some("admitted") => Self::Informational,
                _ if event.reason.is_some() => Self::Low,
                _ => Self::Informational,
            },
            // Signed by the agent and in somebody else's name: no fault makes that.
            Kind::Denied if event.signed == Some(true) && event.reason == Some(Reason::WrongSender) => {
                Self::Medium
            }
            Kind::Denied => Self::Low,
            Kind::Order if event.reason.is_none() => Self::Low,
            Kind::Anomaly | Kind::Held | Kind::Approval | Kind::Workflow | Kind::Evidence | Kind::Order => {
                Self::Medium
            }
            Kind::Quarantine if event.phase == Some(Phase::Closed) => Self::Informational,
            Kind::Quarantine | Kind::SinkDropped | Kind::ChangeRefused | Kind::Dropped => Self::High,
            Kind::AuditUnavailable => Self::Critical,
        }
    }
}

/// Who writes the events: one guard, from one start to its end.
#[derive(Debug, Clone)]
pub struct Source {
    /// The bus's name.
    pub bus: String,
    /// The bus's id, in hexadecimal.
    pub bus_id: String,
    /// The guard's public key.
    pub guard: String,
    /// How often the guard was started.
    pub epoch: u64,
}

impl Source {
    /// The id of its event number `sequence`: the same wherever and however often the event is delivered, and no
    /// other event's, because no guard has the same epoch twice.
    #[must_use]
    pub fn uid(&self, sequence: u64) -> String {
        let guard: String = self.guard.chars().take(12).collect();
        format!("{guard}-{}-{sequence}", self.epoch)
    }
}

/// One of OCSF's classes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Class {
    pub(super) uid: u32,
    pub(super) name: &'static str,
    pub(super) category_uid: u32,
    pub(super) category: &'static str,
}

/// What was done about it: action and disposition.
#[derive(Debug, Clone, Copy)]
pub(super) enum Done {
    Allowed,
    Blocked,
    Isolated,
    Delayed,
    Approved,
    Rejected,
    AccessRevoked,
    Logged,
}

impl Done {
    const fn words(self) -> ((u8, &'static str), (u8, &'static str)) {
        let (allowed, denied, observed) = ((1, "Allowed"), (2, "Denied"), (3, "Observed"));
        match self {
            Self::Allowed => (allowed, (1, "Allowed")),
            Self::Blocked => (denied, (2, "Blocked")),
            Self::Isolated => (denied, (4, "Isolated")),
            Self::Delayed => ((4, "Modified"), (14, "Delayed")),
            Self::Approved => (allowed, (8, "Approved")),
            Self::Rejected => (denied, (25, "Rejected")),
            Self::AccessRevoked => (denied, (24, "Access Revoked")),
            Self::Logged => (observed, (17, "Logged")),
        }
    }
}

/// What a class makes of an event.
pub(super) struct Body {
    pub(super) class: Class,
    pub(super) activity: (u32, &'static str),
    pub(super) status: (u32, &'static str),
    pub(super) done: Option<Done>,
    /// The class's own attributes.
    pub(super) fields: Map<String, Value>,
}

pub(super) const SUCCESS: (u32, &str) = (1, "Success");
pub(super) const FAILURE: (u32, &str) = (2, "Failure");

/// The event as OCSF; `sequence` is its number since the guard's start.
#[must_use]
pub fn write(event: &Event, source: &Source, sequence: u64) -> Value {
    let body = match event.kind {
        Kind::Quarantine | Kind::Anomaly | Kind::Evidence => detection::body(event),
        Kind::Connection => authentication::body(event, source),
        Kind::Denied
        | Kind::Observed
        | Kind::Held
        | Kind::Approval
        | Kind::Workflow
        | Kind::Order
        | Kind::Changed
        | Kind::ChangeRefused => api::body(event, source),
        Kind::Started
        | Kind::Stopping
        | Kind::SinkDropped
        | Kind::Dropped
        | Kind::AuditUnavailable
        | Kind::AuditRecovered
        | Kind::Test => lifecycle::body(event, source),
    };
    let Body { class, activity, status, done, fields } = body;
    let severity = Severity::of(event);
    let mut out = fields;
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    put("class_uid", class.uid.into());
    put("class_name", class.name.into());
    put("category_uid", class.category_uid.into());
    put("category_name", class.category.into());
    put("activity_id", activity.0.into());
    put("activity_name", activity.1.into());
    put("type_uid", (class.uid * 100 + activity.0).into());
    put("type_name", format!("{}: {}", class.name, activity.1).into());
    put("time", event.time.0.into());
    put("severity_id", (severity as u8).into());
    put("severity", severity.name().into());
    put("status_id", status.0.into());
    put("status", status.1.into());
    put("message", sentence(event).into());
    if let Some(reason) = event.reason {
        put("status_code", reason.code().into());
        put("status_detail", reason.meaning().into());
    }
    if let Some(count) = event.count {
        put("count", count.into());
    }
    if let Some(agent) = &event.agent {
        let at = if class.uid == authentication::CLASS.uid { "user.name" } else { "actor.user.name" };
        put(
            "observables",
            json!([{ "name": at, "type_id": USER_NAME, "type": "User Name", "value": agent }]),
        );
    }
    let mut metadata = json!({
        "version": VERSION,
        "uid": source.uid(sequence),
        "sequence": sequence,
        "event_code": event.kind.token(),
        "log_name": "sealbus.events",
        "log_provider": "sealbus-guard",
        "tenant_uid": source.bus,
        "product": product(source),
    });
    if let Some(done) = done {
        let ((action_id, action), (disposition_id, disposition)) = done.words();
        put("action_id", action_id.into());
        put("action", action.into());
        put("disposition_id", disposition_id.into());
        put("disposition", disposition.into());
        if class.uid != detection::CLASS.uid
            && let Some(attacks) = atlas::attacks(event)
        {
            put("attacks", attacks);
        }
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("profiles".to_owned(), json!([SECURITY_CONTROL]));
        }
    }
    put("metadata", metadata);
    put("unmapped", json!({ "sealbus": event }));
    Value::Object(out)
}

/// What Sealbus itself says in an event, [`Event`]'s own fields; nothing if it is no event of a guard.
#[must_use]
pub fn unmapped(event: &Value) -> Option<&Value> {
    event.get("unmapped")?.get("sealbus")
}

/// When the event happened.
#[must_use]
pub fn time(event: &Value) -> Option<Millis> {
    event.get("time")?.as_u64().map(Millis)
}

pub(super) fn product(source: &Source) -> Value {
    json!({
        "name": "Sealbus", "vendor_name": "Sealbus", "version": env!("CARGO_PKG_VERSION"),
        "uid": source.guard, "feature": { "name": "guard" },
    })
}

/// The agent as a user: its name on the bus, which is the issuer's and unique.
pub(super) fn user(agent: &str) -> Value {
    json!({ "name": agent, "uid": agent, "type_id": 99, "type": "Agent" })
}

/// An object's fields.
pub(super) fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The event in a sentence.
fn sentence(event: &Event) -> String {
    let of = event.agent.as_ref().map(|agent| format!(" by {agent}")).unwrap_or_default();
    let on = event.subject.as_ref().map(|subject| format!(" on {subject}")).unwrap_or_default();
    let begin = match event.kind {
        Kind::Started => "the guard started".to_owned(),
        Kind::Stopping => "the guard is stopping".to_owned(),
        Kind::Denied => format!("denied: a message{of}{on}"),
        Kind::Observed => format!("let pass under observe mode: a message{of}{on}"),
        Kind::Connection => {
            format!("connection{of}{}", event.outcome.map(|o| format!(" {o}")).unwrap_or_default())
        }
        Kind::Quarantine => format!("quarantine{}", of.replace(" by ", " of ")),
        Kind::Anomaly => format!("unusual behaviour{of}"),
        Kind::Held => format!("held for approval: a message{of}{on}"),
        Kind::Approval => format!("approval of a message{of}{on}"),
        Kind::Workflow if event.reason.is_some() => "a workflow is paused".to_owned(),
        Kind::Workflow => "a workflow goes on".to_owned(),
        Kind::Evidence => format!("evidence{}", of.replace(" by ", " about ")),
        Kind::SinkDropped => "events did not reach a sink".to_owned(),
        Kind::Order => match event.reason {
            None => "order carried out".to_owned(),
            Some(_) => "order refused".to_owned(),
        },
        Kind::Changed => "another policy or status is in force".to_owned(),
        Kind::ChangeRefused => "an offered policy or status was refused".to_owned(),
        Kind::Dropped => "messages were lost before the guard could read them".to_owned(),
        Kind::AuditUnavailable => "the audit log cannot be written: nothing is admitted".to_owned(),
        Kind::AuditRecovered => "the audit log can be written again".to_owned(),
        Kind::Test => "a test: nothing happened".to_owned(),
    };
    let why = event.reason.map(|reason| format!(": {}", reason.meaning())).unwrap_or_default();
    let detail = event.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{begin}{why}{detail}")
}

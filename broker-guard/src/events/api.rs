//! API Activity (6003): what somebody asked of the bus. Messages that were denied, let pass under observe mode
//! or held; approvals, orders, policy changes, workflows paused and resumed.
//!
//! A denial is the failed call of an API, not a finding: most are faults, and what makes a finding of several
//! is the anomaly detector, which writes one.

use serde_json::{Map, Value, json};

use super::{
    Event, Kind,
    ocsf::{Body, Class, Done, FAILURE, SUCCESS, Source, map, user},
};

const CLASS: Class =
    Class { uid: 6003, name: "API Activity", category_uid: 6, category: "Application Activity" };
const CREATE: (u32, &str) = (1, "Create");
const UPDATE: (u32, &str) = (3, "Update");

pub(super) fn body(event: &Event, source: &Source) -> Body {
    let refused = event.reason.is_some();
    let outcome = if refused { FAILURE } else { SUCCESS };
    let publish = if event.subject.is_some() || event.envelope.is_some() { "publish" } else { "control" };
    let (activity, operation, status, done) = match event.kind {
        Kind::Observed => (CREATE, publish, SUCCESS, Done::Logged),
        Kind::Held => (CREATE, "publish", (99, "Held"), Done::Delayed),
        Kind::Approval if refused => (UPDATE, "approve", FAILURE, Done::Rejected),
        Kind::Approval => (UPDATE, "approve", SUCCESS, Done::Approved),
        Kind::Workflow => (UPDATE, "workflow", outcome, Done::Logged),
        Kind::Order if refused => (UPDATE, "order", FAILURE, Done::Rejected),
        Kind::Order => (UPDATE, "order", SUCCESS, Done::Approved),
        Kind::Changed => (UPDATE, "policy.replace", SUCCESS, Done::Approved),
        // Refused, with or without a reason code: an unreadable file has none.
        Kind::ChangeRefused => (UPDATE, "policy.replace", FAILURE, Done::Rejected),
        _ => (CREATE, publish, FAILURE, Done::Blocked),
    };
    let operation = event.operation.as_deref().unwrap_or(operation);
    let mut response = Map::new();
    if let Some(reason) = event.reason {
        response.insert("error".to_owned(), reason.code().into());
        response.insert("error_message".to_owned(), reason.meaning().into());
    }
    let mut fields = map(json!({
        "api": {
            "operation": operation,
            "service": { "name": "sealbus", "uid": source.bus_id },
            "response": response,
        },
        "actor": actor(event),
        "src_endpoint": endpoint(event, source),
    }));
    if let Some(resource) = resource(event) {
        fields.insert("resources".to_owned(), json!([resource]));
    }
    Body { class: CLASS, activity, status, done: Some(done), fields }
}

/// Who asked: who is named, else the agent if it was a message of its, else the guard's own doing.
fn actor(event: &Event) -> Value {
    let mut actor = Map::new();
    let sent = matches!(event.kind, Kind::Denied | Kind::Observed | Kind::Held);
    match (&event.by, &event.agent) {
        (Some(by), _) => {
            actor.insert("user".to_owned(), json!({ "name": by, "type_id": 1, "type": "User" }));
        }
        (None, Some(agent)) if sent => {
            actor.insert("user".to_owned(), user(agent));
        }
        _ => {
            actor.insert("app_name".to_owned(), "sealbus-guard".into());
        }
    }
    if sent && let Some(session) = &event.session {
        actor.insert("session".to_owned(), json!({ "uid": session, "is_remote": true }));
    }
    actor.into()
}

fn endpoint(event: &Event, source: &Source) -> Value {
    match (&event.agent, &event.session) {
        (Some(agent), Some(session)) => json!({ "name": agent, "uid": session }),
        (Some(agent), None) => json!({ "name": agent }),
        _ => json!({ "name": "sealbus-guard", "uid": source.guard }),
    }
}

/// What it was about: the subject and its envelope, or the agent.
fn resource(event: &Event) -> Option<Value> {
    let mut resource = Map::new();
    match (&event.subject, &event.agent) {
        (Some(subject), _) => {
            resource.insert("name".to_owned(), subject.as_str().into());
            resource.insert("type".to_owned(), "subject".into());
        }
        (None, Some(agent)) => {
            resource.insert("name".to_owned(), agent.as_str().into());
            resource.insert("type".to_owned(), "agent".into());
        }
        (None, None) if event.envelope.is_none() => return None,
        (None, None) => {}
    }
    if let Some(envelope) = &event.envelope {
        resource.insert("uid".to_owned(), envelope.as_str().into());
    }
    if let Some(label) = &event.label {
        resource.insert("labels".to_owned(), json!([label]));
    }
    Some(resource.into())
}

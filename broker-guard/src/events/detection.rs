//! Detection Finding (2004): anomaly, quarantine, evidence.

use serde_json::{Map, Value, json};

use super::{
    Event, Kind, Phase, atlas,
    ocsf::{Body, Class, Done, Severity, map, user},
};
use crate::quarantine::state::State;

pub(super) const CLASS: Class =
    Class { uid: 2004, name: "Detection Finding", category_uid: 2, category: "Findings" };

pub(super) fn body(event: &Event) -> Body {
    let (activity, status) = match event.phase.unwrap_or(default_phase(event.kind)) {
        Phase::Opened => ((1, "Create"), (1, "New")),
        Phase::Updated => ((2, "Update"), (2, "In Progress")),
        Phase::Closed => ((3, "Close"), (4, "Resolved")),
    };
    let (title, analytic) = match event.kind {
        Kind::Anomaly => ("An agent deviates from what it did before", (2, "Behavioral")),
        Kind::Evidence => ("Evidence of a quarantine", (1, "Rule")),
        _ if event.outcome == Some(State::Watched.code()) => ("An agent is watched", (2, "Behavioral")),
        _ => ("An agent is quarantined", (1, "Rule")),
    };
    let code = event.reason.map_or(event.kind.token(), sealbus_envelope::reason::Reason::code);
    let mut finding = map(json!({
        "uid": finding_uid(event),
        "title": title,
        "types": [event.kind.token()],
        "data_sources": ["sealbus-guard"],
        "analytic": { "name": code, "uid": code, "type_id": analytic.0, "type": analytic.1 },
    }));
    // The time of creation is that of the finding: later events of it do not know.
    let stamp = if activity.0 == 1 { "created_time" } else { "modified_time" };
    finding.insert(stamp.to_owned(), event.time.0.into());
    let sentences: Vec<&str> = event.meaning.iter().copied().chain(event.detail.as_deref()).collect();
    if !sentences.is_empty() {
        finding.insert("desc".to_owned(), sentences.join("; ").into());
    }
    if let Some(attacks) = atlas::attacks(event) {
        finding.insert("attacks".to_owned(), attacks);
    }
    let mut fields = map(json!({
        "finding_info": finding,
        "is_alert": Severity::of(event) >= Severity::High,
    }));
    if let Some(evidence) = evidence(event) {
        fields.insert("evidences".to_owned(), json!([evidence]));
    }
    if let Some(remedy) = event.remedy {
        fields.insert("remediation".to_owned(), json!({ "desc": remedy }));
    }
    let done = match (event.kind, event.outcome) {
        (Kind::Quarantine, Some(outcome)) if outcome == State::Quarantined.code() => Some(Done::Isolated),
        (Kind::Quarantine, Some(outcome)) if outcome == State::Revoked.code() => Some(Done::AccessRevoked),
        (Kind::Evidence, _) => None,
        _ => Some(Done::Logged),
    };
    Body { class: CLASS, activity, status, done, fields }
}

const fn default_phase(kind: Kind) -> Phase {
    match kind {
        Kind::Evidence => Phase::Updated,
        _ => Phase::Opened,
    }
}

/// What ties events of one finding together.
fn finding_uid(event: &Event) -> String {
    let of = if event.kind == Kind::Evidence { Kind::Quarantine } else { event.kind };
    let agent = event.agent.as_deref().unwrap_or("bus");
    // A second quarantine is another finding: the first is closed, and a SIEM would merge them.
    match event.incident.filter(|began| began.0 > 0) {
        Some(began) => format!("{}-{agent}-{}", of.token(), began.0),
        None => format!("{}-{agent}", of.token()),
    }
}

fn evidence(event: &Event) -> Option<Value> {
    let mut data = Map::new();
    for (key, value) in [
        ("session", &event.session),
        ("rule", &event.rule),
        ("subject", &event.subject),
        ("label", &event.label),
        ("envelope", &event.envelope),
        ("what", &event.what),
    ] {
        if let Some(value) = value {
            data.insert(key.to_owned(), value.as_str().into());
        }
    }
    let mut evidence = Map::new();
    if let Some(agent) = &event.agent {
        evidence.insert("actor".to_owned(), json!({ "user": user(agent) }));
    }
    if !data.is_empty() {
        evidence.insert("data".to_owned(), data.into());
    }
    (!evidence.is_empty()).then(|| evidence.into())
}

//! What else the log says about an envelope: who was given its key, who derived from it, what was held, approved
//! or held against its sender. Also the story of an agent.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{audit::unreadable, busdir::BusDir, failure::Failure};
use crate::audit::{
    entry::{Admitted, Body, Entry},
    search::{Filter, Found, search},
};

/// The most that is told beside the envelope itself.
const MOST: usize = 32;

/// Entries that are about what begins with these digits: the envelope's own, and all that name it.
pub(super) fn about(dir: &BusDir, wanted: &str) -> Result<Vec<Found>, Failure> {
    each(dir, Filter::default(), 2 * MOST, |entry| is_own(entry, wanted) || names(entry, wanted))
}

/// Whether the entry is the envelope's own, or an order's: not one that only names it.
pub(super) fn is_own(entry: &Entry<'_>, wanted: &str) -> bool {
    let starts = |hex: Option<String>| hex.is_some_and(|hex| hex.starts_with(wanted));
    match &entry.body {
        Body::Admitted(a) => starts(Some(a.envelope.to_string())) || starts(Some(a.digest.to_string())),
        Body::Denied(d) => {
            starts(d.envelope.map(|id| id.to_string())) || starts(d.digest.map(|d| d.to_string()))
        }
        Body::Order(o) => starts(o.id.map(|id| id.to_string())) || starts(Some(o.digest.to_string())),
        _ => false,
    }
}

/// Whether any field of the entry, of whatever kind, begins with these digits.
fn names(entry: &Entry<'_>, wanted: &str) -> bool {
    fn any(value: &Value, wanted: &str) -> bool {
        match value {
            // whole fingerprints only: a name may begin with letters that are digits too
            Value::String(text) => {
                text.len() >= 32
                    && text.starts_with(wanted)
                    && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            }
            Value::Array(values) => values.iter().any(|value| any(value, wanted)),
            Value::Object(fields) => fields.values().any(|value| any(value, wanted)),
            _ => false,
        }
    }
    entry
        .to_json()
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .is_some_and(|json| any(&json, wanted))
}

/// For an admitted envelope: who was given a key of its session under its rule and label, what names it, and what
/// became of its sender.
pub(super) fn around(dir: &BusDir, admitted: &Admitted<'_>) -> Result<Vec<Found>, Failure> {
    let mut readers = BTreeSet::new();
    let digest = admitted.digest.to_string();
    each(dir, Filter::default(), MOST, |entry| match &entry.body {
        Body::KeyGranted(k) => {
            k.sender_session == admitted.session
                && k.rule == admitted.rule
                && k.label == admitted.label
                && readers.insert(k.reader.to_string())
        }
        Body::Quarantine(q) => q.agent == admitted.sender,
        _ => names(entry, &digest) && !is_own(entry, &digest),
    })
}

/// What happened to an agent: connections, sessions, denials, orders, quarantine; the newest of it.
pub(super) fn of_agent(dir: &BusDir, agent: &str) -> Result<Vec<Found>, Failure> {
    let filter = Filter { agent: Some(agent.to_owned()), ..Filter::default() };
    let mut all = each(dir, filter, usize::MAX, |entry| {
        !matches!(entry.body, Body::Admitted(_) | Body::KeyGranted(_))
    })?;
    Ok(all.split_off(all.len().saturating_sub(2 * MOST)))
}

fn each(
    dir: &BusDir,
    filter: Filter,
    most: usize,
    mut wanted: impl FnMut(&Entry<'_>) -> bool,
) -> Result<Vec<Found>, Failure> {
    search(&dir.config.audit_dir, filter)
        .map_err(|error| unreadable(dir, error))?
        .filter(|found| found.as_ref().map_or(true, |found| wanted(&found.entry)))
        .take(most)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(dir, error))
}

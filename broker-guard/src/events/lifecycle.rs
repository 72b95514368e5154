//! Application Lifecycle (6002): the guard itself. It starts, stops, cannot write its log, loses messages or
//! events.

use serde_json::json;

use super::{
    Event, Kind,
    ocsf::{Body, Class, FAILURE, SUCCESS, Source, map, product},
};

const CLASS: Class =
    Class { uid: 6002, name: "Application Lifecycle", category_uid: 6, category: "Application Activity" };
/// OCSF has no word for it.
const OTHER: u32 = 99;

pub(super) fn body(event: &Event, source: &Source) -> Body {
    let (activity, status) = match event.kind {
        Kind::Started => ((3, "Start"), SUCCESS),
        Kind::Stopping => ((4, "Stop"), SUCCESS),
        Kind::AuditUnavailable => ((OTHER, "Audit Log Unavailable"), FAILURE),
        Kind::AuditRecovered => ((OTHER, "Audit Log Recovered"), SUCCESS),
        Kind::Test => ((OTHER, "Test"), SUCCESS),
        Kind::SinkDropped => ((OTHER, "Events Lost"), FAILURE),
        _ => ((OTHER, "Messages Lost"), FAILURE),
    };
    let fields = map(json!({ "app": product(source) }));
    Body { class: CLASS, activity, status, done: None, fields }
}

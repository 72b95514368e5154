//! Authentication (3002): connections that were admitted, sent to the lobby, refused or cut.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{
    Event,
    ocsf::{Body, Class, Done, FAILURE, SUCCESS, Source, map, user},
};

pub(super) const CLASS: Class =
    Class { uid: 3002, name: "Authentication", category_uid: 3, category: "Identity & Access Management" };

pub(super) fn body(event: &Event, source: &Source) -> Body {
    let refused = event.reason.is_some();
    let (activity, status, done) = match event.outcome {
        // The connection ended, and that succeeded.
        Some("kicked") => ((2, "Logoff"), SUCCESS, Done::AccessRevoked),
        Some("admitted") => ((1, "Logon"), SUCCESS, Done::Allowed),
        _ if refused => ((1, "Logon"), FAILURE, Done::Blocked),
        _ => ((1, "Logon"), SUCCESS, Done::Allowed),
    };
    let mut fields = map(json!({
        // Only what was proven: a refused stranger may claim any name.
        "user": match &event.agent {
            Some(agent) => user(agent),
            None => json!({ "name": "unknown", "type_id": 0, "type": "Unknown" }),
        },
        "service": { "name": "sealbus", "uid": source.bus_id },
        "auth_protocol_id": 99,
        "auth_protocol": "Sealbus session certificate",
        "logon_type_id": 3,
        "logon_type": "Network",
        "is_remote": true,
        "is_mfa": false,
    }));
    if let Some(server) = &event.server {
        fields.insert("dst_endpoint".to_owned(), json!({ "name": server, "svc_name": "nats-server" }));
    }
    if let Some(host) = &event.host {
        fields.insert("src_endpoint".to_owned(), endpoint(host));
    }
    if let Some(session) = &event.session {
        fields.insert("session".to_owned(), json!({ "uid": session, "is_remote": true }));
    }
    Body { class: CLASS, activity, status, done: Some(done), fields }
}

/// What the server says where it comes from: an address, or whatever else.
fn endpoint(host: &str) -> Value {
    let mut endpoint = Map::new();
    let key = if host.parse::<IpAddr>().is_ok() { "ip" } else { "name" };
    endpoint.insert(key.to_owned(), host.into());
    endpoint.into()
}

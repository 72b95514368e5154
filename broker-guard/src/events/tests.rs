//! Events of every kind against the schema, and sinks that fail in every way.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod file;
mod schema;
mod web;

use sealbus_envelope::{order::OrderKind, reason::Reason, time::Millis};

use super::{
    Event, Kind, Phase,
    herald::Herald,
    ocsf::{self, Severity, Source},
    queue::{Bound, Filter},
    sink::{Courier, Sink},
};
use crate::{metrics::Metrics, quarantine::state::State};

const NOON: Millis = Millis(1_800_000_000_000);

fn source() -> Source {
    Source {
        bus: "demo".to_owned(),
        bus_id: "ab".repeat(32),
        guard: "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4".to_owned(),
        epoch: 7,
    }
}

/// One event of every kind, and of the ways in which some come out.
fn samples() -> Vec<Event> {
    let agent = "mallory-a2b3c4d5e6";
    let new = |kind| Event::new(kind, NOON);
    let message = |kind, reason: Reason| {
        let mut event = new(kind).because(reason).about(agent);
        event.session = Some("cd".repeat(32));
        event.what = Some("header.subject".to_owned());
        event.rule = Some("tips".to_owned());
        event.subject = Some("tips.today".to_owned());
        event.label = Some("high/red/checked".to_owned());
        event.envelope = Some("0f".repeat(16));
        (event.count, event.signed) = (Some(12), Some(true));
        event
    };
    let connection = |outcome, reason: Option<Reason>, agent: Option<&str>| {
        let mut event = new(Kind::Connection);
        if let Some(reason) = reason {
            event = event.because(reason);
        }
        event.agent = agent.map(str::to_owned);
        event.outcome = Some(outcome);
        event.server = Some("demo-1".to_owned());
        event.host = Some("192.0.2.7".to_owned());
        event.detail(format!("{outcome} at demo-1"))
    };
    let came_to = |state: State, event: Event| {
        let mut event = event.about(agent).detail(format!("to {state}"));
        event.outcome = Some(state.code());
        event.incident = Some(NOON);
        event
    };
    let mut kept = new(Kind::Evidence).about(agent).detail("12 messages kept");
    kept.incident = Some(NOON);
    let signers = vec!["UDX…".to_owned(), "UAB…".to_owned()];
    let mut signals = new(Kind::Anomaly).because(Reason::Anomalous).about(agent).detail("score 3.2");
    signals.what = Some("rate, label-down".to_owned());
    let mut lost = new(Kind::SinkDropped).detail("sink pager: 3 events lost");
    (lost.count, lost.what) = (Some(3), Some("pager".to_owned()));
    vec![
        new(Kind::Started),
        new(Kind::Stopping),
        message(Kind::Denied, Reason::WrongSender),
        message(Kind::Denied, Reason::BelowFloor),
        // Of a control message of somebody who is not known.
        new(Kind::Denied).because(Reason::UnknownSession),
        message(Kind::Observed, Reason::NotPublisher),
        connection("admitted", None, Some(agent)),
        connection("lobby", Some(Reason::Quarantined), Some(agent)),
        connection("refused", Some(Reason::CredentialInvalid), None),
        connection("kicked", Some(Reason::RateLimited), Some(agent)),
        came_to(State::Watched, new(Kind::Quarantine).because(Reason::Anomalous)).severity(Severity::Medium),
        came_to(State::Quarantined, new(Kind::Quarantine).because(Reason::WrongSender)),
        came_to(State::Quarantined, new(Kind::Quarantine).because(Reason::WrongSender)).phase(Phase::Updated),
        came_to(State::Released, new(Kind::Quarantine).phase(Phase::Closed))
            .ordered(OrderKind::Release, &signers),
        came_to(State::Revoked, new(Kind::Quarantine).because(Reason::Revoked).phase(Phase::Closed))
            .ordered(OrderKind::Revoke, &signers)
            .severity(Severity::Medium),
        signals,
        message(Kind::Held, Reason::ApprovalMissing),
        new(Kind::Approval).asked("approve", "ann"),
        message(Kind::Approval, Reason::ApprovalExpired),
        new(Kind::Workflow).because(Reason::WorkflowPaused).detail("team analysts is paused"),
        new(Kind::Workflow).asked("resume", "bob").detail("team analysts goes on"),
        kept,
        lost,
        new(Kind::Order).about(agent).ordered(OrderKind::ClearTaint, &signers),
        new(Kind::Order).ordered(OrderKind::Pause, &signers).because(Reason::OrderReplayed),
        // Signed by nobody entitled to it.
        new(Kind::Order).because(Reason::OrderInvalid),
        new(Kind::Changed).detail("bundle version 3 to 4"),
        new(Kind::ChangeRefused).because(Reason::PolicyInvalid).detail("not signed"),
        new(Kind::Dropped).detail("the guard could not keep up"),
        new(Kind::AuditUnavailable).because(Reason::AuditUnavailable),
        new(Kind::AuditRecovered),
        new(Kind::Test),
    ]
}

fn herald(sinks: Vec<(&str, Filter, Bound, Courier)>) -> (Herald, Metrics) {
    let metrics = Metrics::new();
    let sinks = sinks
        .into_iter()
        .map(|(name, filter, bound, courier)| Sink { name: name.to_owned(), filter, bound, courier })
        .collect();
    (Herald::start(source(), sinks, metrics.clone()), metrics)
}

#[test]
fn an_id_is_the_same_for_one_event_and_no_other() {
    let (first, second) = (source(), Source { epoch: 8, ..source() });
    let uid = |source, n| ocsf::write(&Event::new(Kind::Started, NOON), source, n)["metadata"]["uid"].clone();
    assert_eq!(uid(&first, 1), uid(&first, 1));
    assert!(uid(&first, 1) != uid(&first, 2) && uid(&first, 1) != uid(&second, 1));
}

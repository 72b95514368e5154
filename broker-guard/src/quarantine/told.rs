//! What the log and the security team hear of a change of an agent's state, and of what the servers said after it.

use sealbus_envelope::{order::OrderKind, time::Millis};

use super::{
    cut::Enforced,
    enforce::Changed,
    state::{Record, State},
};
use crate::{
    audit::entry::{self, Body, Hex},
    events::{Event, Kind, Phase, ocsf::Severity},
};

impl Changed {
    /// The audit entry of the change itself.
    #[must_use]
    pub fn to_audit(&self) -> Body<'static> {
        Body::Quarantine(audit(self))
    }

    /// The event of the change. Whoever is let back or calmed ends the finding, and so does a revocation, for
    /// nothing is left to decide; yet one that no quarantine went before is as grave as a quarantine, since a
    /// single key can sign it.
    #[must_use]
    pub fn to_event(&self, now: Millis) -> Event {
        let Self { from, record, .. } = self;
        let event = about(self, now);
        let event = match (record.state, from) {
            (State::Watched, _) => event.phase(Phase::Opened).severity(Severity::Medium),
            (State::Quarantined, _) => event.phase(Phase::Opened),
            (State::Revoked, State::Quarantined) => event.phase(Phase::Closed).severity(Severity::Medium),
            (State::Revoked, _) => event.phase(Phase::Closed).severity(Severity::High),
            (State::Normal | State::Released, _) => event.phase(Phase::Closed),
        };
        match (&record.cause.order, ordered(record.state)) {
            (Some(order), Some(kind)) => event
                .ordered(kind, &order.signers)
                .detail(format!("{from} to {}: {}", record.state, order.why)),
            _ => event.detail(format!("{from} to {}", record.state)),
        }
    }
}

impl Enforced {
    /// The audit entry that tells it.
    #[must_use]
    pub fn to_audit(&self, changed: &Changed) -> Body<'static> {
        let mut body = audit(changed);
        body.confirmed = Some(self.confirmed());
        body.detail = Some(if self.confirmed() {
            format!("{} connections cut; no server holds one", self.cut).into()
        } else {
            let silent = self.silent.join(", ");
            format!("{} connections cut, {} left, no answer from: {silent}", self.cut, self.left).into()
        });
        Body::Quarantine(body)
    }

    /// The event of what the servers said after `changed`.
    #[must_use]
    pub fn to_event(&self, changed: &Changed, now: Millis) -> Event {
        let phase = if changed.record.state == State::Revoked { Phase::Closed } else { Phase::Updated };
        let detail = if self.confirmed() {
            format!("confirmed: {} connections cut, no server holds one", self.cut)
        } else {
            let silent = self.silent.join(", ");
            format!("not confirmed: {} connections left, no answer from: {silent}", self.left)
        };
        let event = about(changed, now).phase(phase).detail(detail);
        if self.confirmed() { event } else { event.severity(Severity::High) }
    }
}

fn audit(changed: &Changed) -> entry::Quarantine<'static> {
    let Record { agent, state, cause, .. } = &changed.record;
    entry::Quarantine {
        agent: agent.to_string().into(),
        from: changed.from.code().into(),
        to: state.code().into(),
        reason: cause.reason.code().into(),
        evidence: cause.envelopes.iter().map(|digest| Hex::from(*digest)).collect(),
        confirmed: None,
        detail: Some(cause.what.clone().into()),
    }
}

fn about(changed: &Changed, now: Millis) -> Event {
    let record = &changed.record;
    let mut event = Event::new(Kind::Quarantine, now).about(&record.agent);
    event.incident = Some(record.opened);
    event.outcome = Some(record.state.code());
    event.what = Some(record.cause.what.clone());
    // Why it was suspected is not why it is not any more.
    if matches!(record.state, State::Normal | State::Released) {
        return event;
    }
    event.because(record.cause.reason)
}

const fn ordered(state: State) -> Option<OrderKind> {
    match state {
        State::Quarantined => Some(OrderKind::Quarantine),
        State::Released => Some(OrderKind::Release),
        State::Revoked => Some(OrderKind::Revoke),
        State::Normal | State::Watched => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]
    use sealbus_envelope::{identity::SigningKey, name::AgentToken, reason::Reason};
    use serde_json::Value;

    use super::*;
    use crate::{
        events::ocsf::{self, Source},
        quarantine::state::{Cause, Change, Ordered, apply},
    };

    const NOW: Millis = Millis(7);

    fn change(before: Option<&Record>, change: Change) -> Changed {
        let agent = AgentToken::parse("collector-abcdefghij").unwrap();
        let order =
            Ordered { id: [1; 16], signers: vec!["UANN".into(), "UBOB".into()], why: "mended".into() };
        let cause = match change {
            Change::Watch | Change::Calm => Cause::ordered(Reason::Anomalous, "rate"),
            Change::Quarantine => Cause::ordered(Reason::WrongSender, "header.sender"),
            Change::Release => Cause::of_order(Reason::Quarantined, order),
            Change::Revoke => Cause::of_order(Reason::Revoked, order),
        };
        let record = apply(before, &agent, change, cause, NOW).unwrap().unwrap();
        let from = before.map_or(State::Normal, |before| before.state);
        Changed { identity: SigningKey::from_seed(&[5; 32]).public().clone(), from, record }
    }

    /// Activity, severity, disposition, and who is said to have asked.
    fn told(event: &Event) -> (String, String, String, String) {
        let source = Source { bus: "b".into(), bus_id: "ab".into(), guard: "G".into(), epoch: 1 };
        let event = ocsf::write(event, &source, 1);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let said = ocsf::unmapped(&event).unwrap();
        let by = said.get("by").map(text).unwrap_or_default();
        (text(&event["activity_name"]), text(&event["severity"]), text(&event["disposition"]), by)
    }

    fn is(event: &Event, expected: [&str; 4]) {
        let (activity, severity, disposition, by) = told(event);
        assert_eq!([activity.as_str(), severity.as_str(), disposition.as_str(), by.as_str()], expected);
    }

    #[test]
    fn who_is_watched_is_no_alert_and_whoever_is_let_back_ends_the_finding() {
        let watched = change(None, Change::Watch);
        is(&watched.to_event(NOW), ["Create", "Medium", "Logged", ""]);
        let calmed = change(Some(&watched.record), Change::Calm).to_event(NOW);
        is(&calmed, ["Close", "Informational", "Logged", ""]);
        assert_eq!(calmed.reason, None, "why it was watched is over");

        let quarantined = change(Some(&watched.record), Change::Quarantine);
        is(&quarantined.to_event(NOW), ["Create", "High", "Isolated", ""]);
        let released = change(Some(&quarantined.record), Change::Release).to_event(NOW);
        is(&released, ["Close", "Informational", "Logged", "UANN, UBOB"]);
        assert_eq!(released.operation.as_deref(), Some("order.release"));
        assert_eq!(released.detail.as_deref(), Some("quarantined to released: mended"));
        let revoked = change(Some(&quarantined.record), Change::Revoke).to_event(NOW);
        is(&revoked, ["Close", "Medium", "Access Revoked", "UANN, UBOB"]);
    }

    #[test]
    fn a_revocation_that_no_quarantine_went_before_is_an_alert() {
        let revoked = change(None, Change::Revoke);
        is(&revoked.to_event(NOW), ["Close", "High", "Access Revoked", "UANN, UBOB"]);
    }

    #[test]
    fn every_incident_is_a_finding_of_its_own_from_its_first_event_to_its_last() {
        let uid = |event: &Event| {
            let source = Source { bus: "b".into(), bus_id: "ab".into(), guard: "G".into(), epoch: 1 };
            ocsf::write(event, &source, 1)["finding_info"]["uid"].as_str().unwrap().to_owned()
        };
        let watched = change(None, Change::Watch);
        let quarantined = change(Some(&watched.record), Change::Quarantine);
        let first = uid(&watched.to_event(NOW));
        let seen = Enforced { cut: 1, left: 0, silent: Vec::new() };
        assert_eq!(uid(&quarantined.to_event(NOW)), first);
        assert_eq!(uid(&seen.to_event(&quarantined, NOW)), first);
        // The guard starts again, and reads what it wrote down.
        let read: Record = rmp_serde::from_slice(&rmp_serde::to_vec(&quarantined.record).unwrap()).unwrap();
        let released = change(Some(&read), Change::Release);
        assert_eq!(uid(&released.to_event(NOW)), first, "the one that is closed");
        // The clock stands still: another incident all the same.
        let again = change(Some(&released.record), Change::Quarantine);
        let second = uid(&again.to_event(NOW));
        assert_ne!(second, first);
        assert_eq!(uid(&change(Some(&again.record), Change::Revoke).to_event(NOW)), second);
        assert_ne!(uid(&change(Some(&released.record), Change::Revoke).to_event(NOW)), first);
    }

    #[test]
    fn what_the_servers_say_does_not_open_again_what_is_closed() {
        let quarantined = change(None, Change::Quarantine);
        let seen = Enforced { cut: 1, left: 0, silent: Vec::new() };
        is(&seen.to_event(&quarantined, NOW), ["Update", "High", "Isolated", ""]);
        let revoked = change(Some(&quarantined.record), Change::Revoke);
        is(&seen.to_event(&revoked, NOW), ["Close", "Informational", "Access Revoked", ""]);
        let silent = Enforced { cut: 1, left: 0, silent: vec!["nats-2".into()] };
        is(&silent.to_event(&revoked, NOW), ["Close", "High", "Access Revoked", ""]);
    }
}

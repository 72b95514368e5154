//! What the desk writes down, before it acts: records in the log, floors in the store.

use sealbus_envelope::{
    hash::Hash,
    reason::{Reason, Refused},
    time::Millis,
    wire::Verified,
};

use super::Desk;
use crate::{
    audit::{
        entry::{self, Body, Record},
        store::{AppendError, Appended, AuditLog},
    },
    bus::egress::Outgoing,
    check::{Denial, Permit},
    events::{Event, Kind},
};

/// The most records of one append.
const RECORDS_AT_ONCE: usize = 4_096;

impl Desk {
    /// Puts floors that rose on disk. Rare: once for each agent, rule and label.
    pub(super) fn save_floors(&mut self) -> bool {
        if self.unsaved.is_empty() {
            return true;
        }
        match self.store.raise_floors(&self.unsaved) {
            Ok(()) => {
                self.unsaved.clear();
                true
            }
            Err(error) => {
                tracing::error!(%error, "taint floors cannot be kept: no key is handed over until they can");
                false
            }
        }
    }

    /// Appends in parts that the log takes: one policy change can end every session at once.
    pub(super) fn append_records(&mut self, records: &[Record<'_>], now: Millis) -> bool {
        records.chunks(RECORDS_AT_ONCE).all(|part| self.append_or_note(part, now).is_some())
    }

    /// Writes a record that something else found worth keeping. `false` if the log did not take it.
    pub fn record(&mut self, body: Body<'static>, now: Millis) -> bool {
        self.append_or_note(&[Record { time: now, body }], now).is_some()
    }

    /// Writes what is in force as the guard starts: it may have changed while no guard ran.
    pub fn record_in_force(&mut self, now: Millis) {
        let (policy, status) = (&self.sessions.in_force().policy, &self.sessions.in_force().status);
        let digest = Hash::from(*policy.digest());
        for (what, to) in [("bundle", policy.version()), ("status", status.version)] {
            let digest = digest.into();
            self.effects.record(Body::PolicyChange(entry::PolicyChange {
                what: what.into(),
                from: None,
                to,
                digest,
            }));
        }
        self.carry_out(now);
    }

    pub(super) fn append_or_note(&mut self, records: &[Record<'_>], now: Millis) -> Option<Appended> {
        match append(&mut self.audit, records) {
            Ok(appended) => Some(appended),
            Err(error) => {
                self.audit_refused(&error, now);
                None
            }
        }
    }

    pub(super) fn audit_refused(&mut self, error: &AppendError, now: Millis) {
        tracing::error!(%error, "the audit log took no entry: nothing is admitted until it does");
        if !std::mem::replace(&mut self.audit_failed, true) {
            self.metrics.audit_writable.set(0);
            let event = Event::new(Kind::AuditUnavailable, now)
                .because(Reason::AuditUnavailable)
                .detail(error.to_string());
            self.todo.publish.push(Outgoing::event(&self.wire, &event));
        }
    }
}

pub(super) fn append(audit: &mut AuditLog, records: &[Record<'_>]) -> Result<Appended, AppendError> {
    audit.append_batch(records)
}

pub(super) fn admitted<'p>(permit: &'p Permit<'_>, policy_version: u64, now: Millis) -> Record<'p> {
    admission_of(permit.verified(), permit.observed(), policy_version, now)
}

pub(super) fn admission_of<'p>(
    verified: &'p Verified<'_>,
    observed: Option<Refused>,
    policy_version: u64,
    now: Millis,
) -> Record<'p> {
    let header = verified.header();
    let parents: Vec<_> = header.parents().map(|parent| parent.digest.into()).collect();
    Record {
        time: now,
        body: Body::Admitted(entry::Admitted {
            digest: verified.digest().into(),
            envelope: (*header.id.as_bytes()).into(),
            sender: header.sender.into(),
            session: (*header.session.as_bytes()).into(),
            rule: header.rule.into(),
            subject: header.subject.into(),
            label: header.label,
            flow_grant: header.flow_grant.map(Into::into),
            parents: parents.into(),
            policy_version,
            guard_time: now,
            confirm: header.flags.confirm(),
            observed: observed.map(|refused| refused.reason.code().into()),
        }),
    }
}

pub(super) fn denied(denial: &Denial, count: u64, now: Millis) -> Record<'_> {
    Record {
        time: now,
        body: Body::Denied(entry::Denied {
            reason: denial.refused.reason.code().into(),
            count,
            digest: denial.digest.map(Into::into),
            envelope: denial.envelope.map(|id| (*id.as_bytes()).into()),
            sender: denial.agent.as_ref().map(|agent| agent.as_str().into()),
            session: denial.session.map(|session| (*session.as_bytes()).into()),
            rule: denial.rule.as_deref().map(Into::into),
            subject: denial.subject.as_deref().map(Into::into),
            label: denial.label,
            detail: Some(denial.refused.what.into()),
        }),
    }
}

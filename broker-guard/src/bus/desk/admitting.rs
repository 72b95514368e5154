//! Each batch of envelopes is checked, logged, signed and only then forwarded.

use async_nats::Message;
use bytes::Bytes;
use sealbus_envelope::{
    control::{VerdictNotice, encode, kind},
    hash::Hash,
    identity::SessionId,
    proof::admission::{self, ADMISSION_RESERVE, Admission, Decision, Verdict},
    reason::{Reason, Refused},
    time::Millis,
    wire::MAX_ENVELOPE,
};

use super::{
    Desk, PendingVerdicts,
    denying::unadmitted,
    flood,
    logging::{admitted, append},
};
use crate::{
    audit::entry::Record,
    bus::egress::Outgoing,
    check::{Denial, Permit, Route, View},
};

/// The most that one envelope adds to the count of sequence numbers that never came.
const MAX_GAP_COUNTED: u64 = 1_000_000;

impl Desk {
    /// Checks, logs, signs and forwards a batch of envelopes.
    pub fn envelopes(&mut self, batch: &[Message], now: Millis) {
        let (mut permits, mut denials) = (Vec::with_capacity(batch.len()), Vec::new());
        let mut waiting = Vec::new();
        // With the admission it must still fit, or the server would end the guard's own connection.
        let max_envelope = self.sessions.max_payload().saturating_sub(ADMISSION_RESERVE).min(MAX_ENVELOPE);
        let (in_force, quarantined, roster) = self.sessions.for_checker();
        let freshness_ms = u64::from(in_force.policy.tables().freshness_ms);
        let (mut signed, offenders) = (Vec::new(), self.todo.offenders.len());
        for (place, message) in batch.iter().enumerate() {
            if self.barred.takes(&self.wire, quarantined, message, now, &mut self.todo.custody) {
                continue;
            }
            let workflows = self.overseer.workflows();
            let view = View { policy: &in_force.policy, quarantined, workflows, freshness_ms, max_envelope };
            let checked =
                self.checker.check(view, roster, &self.seen, &message.subject, &message.payload, now);
            // At once: what follows in the batch is of a paused workflow already.
            self.overseer.look(&in_force.policy, roster, &self.accused, self.policy_since, &checked, now);
            match checked {
                Ok(permit) if permit.wanted().is_empty() => permits.push((permit, message.payload.clone())),
                Ok(permit) => waiting.push((permit, message.payload.clone())),
                Err(denial) => {
                    self.barred.suspect(&denial, &self.accused, self.policy_since);
                    signed.extend(denial.digest.filter(|_| denial.signed).map(|digest| (digest, place)));
                    self.todo.junk.extend(flood::junk(&denial, message.payload.len()));
                    denials.push(*denial);
                }
            }
        }
        // Before the denials: who is denied for a pause knows by then what is paused.
        self.tell_trips(now);
        self.metrics.batch.observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
        if !permits.is_empty()
            && let Err(unadmitted) = self.admit(permits, now)
        {
            denials.extend(unadmitted);
        }
        if !waiting.is_empty() {
            denials.extend(self.hold(waiting, now));
        }
        if !denials.is_empty() {
            self.deny(denials, now);
            self.keep_triggers(offenders, batch, &signed, now);
        }
    }

    /// Logs permits, signs them and queues them for forwarding. If the log takes none of them, none is
    /// admitted: what is not logged did not happen.
    pub(super) fn admit(
        &mut self,
        permits: Vec<(Permit<'_>, Bytes)>,
        now: Millis,
    ) -> Result<(), Vec<Denial>> {
        let policy = &self.sessions.in_force().policy;
        let (policy_version, policy_digest) = (policy.version(), *policy.digest());
        let records: Vec<Record<'_>> =
            permits.iter().map(|(permit, _)| admitted(permit, policy_version, now)).collect();
        let appended = match append(&mut self.audit, &records) {
            Ok(appended) => appended,
            Err(error) => {
                self.audit_refused(&error, now);
                permits.iter().rev().for_each(|(permit, _)| self.checker.undo(permit));
                let refused = Refused::new(Reason::AuditUnavailable, "audit log");
                return Err(permits.iter().map(|(permit, _)| unadmitted(permit, refused)).collect());
            }
        };
        let decisions: Vec<(Hash, Decision)> = permits
            .iter()
            .zip(appended.positions.clone())
            .map(|((permit, _), position)| {
                let decision = Decision {
                    verdict: Verdict::Admit,
                    policy_version,
                    policy_digest,
                    partition: permit.partition().number(),
                    epoch: appended.epoch,
                    position,
                    time: now,
                    observed: permit.observed().is_some(),
                };
                (permit.verified().digest(), decision)
            })
            .collect();
        let admissions = admission::sign(&self.guard_key, self.bus, &decisions);
        let mut verdicts = Vec::new();
        for ((permit, payload), admission) in permits.iter().zip(admissions) {
            let header = permit.verified().header();
            self.metrics.admitted.inc();
            self.metrics.admitted_bytes.inc_by(u64::try_from(payload.len()).unwrap_or(0));
            // A sender may leave out any number; one that leaves out nearly all must not turn the count round.
            self.metrics.gaps.inc_by(permit.gap().min(MAX_GAP_COUNTED));
            self.saw_sent(permit, payload.len(), now);
            if header.flags.confirm() {
                let digest = permit.verified().digest();
                verdicts.extend(self.verdict(header.session, digest, &admission, None));
            }
            if let Some(refused) = permit.observed() {
                self.metrics.observed(refused.reason);
                let report = self.observed.note(unadmitted(permit, refused), now);
                self.report_observed(report, now);
            }
            self.holds.passed(header.session, header.key, header.sequence);
            if let Some(outgoing) = self.forward(permit, &admission, payload.clone()) {
                self.todo.publish.push(outgoing);
            }
        }
        if !verdicts.is_empty() {
            self.todo.verdicts.push(PendingVerdicts { upto: appended.leaves.end, notices: verdicts });
        }
        Ok(())
    }

    fn forward(&self, permit: &Permit<'_>, admission: &Admission, payload: Bytes) -> Option<Outgoing> {
        let header = permit.verified().header();
        let (to, kind) = match permit.route() {
            Route::Stream => {
                return Some(Outgoing::delivery(
                    &self.wire,
                    header.label.level,
                    header.subject,
                    admission,
                    payload,
                ));
            }
            Route::Responder(session) => (session, kind::REQUEST),
            Route::Asker(session) => (session, kind::REPLY),
        };
        let agent = self.sessions.roster().get(to)?.agent();
        Some(Outgoing::boxed(&self.wire, agent, to, kind, admission, payload))
    }

    pub(super) fn verdict(
        &self,
        session: SessionId,
        digest: Hash,
        admission: &Admission,
        refused: Option<Reason>,
    ) -> Option<Outgoing> {
        let agent = self.sessions.roster().get(session)?.agent();
        let notice = VerdictNotice { digest, admission: admission.encode(), refused };
        Some(Outgoing::tell(&self.wire, agent, session, kind::VERDICT, encode(&notice).ok()?))
    }
}

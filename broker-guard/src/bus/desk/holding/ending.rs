//! How waiting ends: what was approved goes on, what was not is denied, and its sender is told.

use bytes::Bytes;
use sealbus_envelope::{
    approval,
    control::{VerdictNotice, encode},
    hash::{Hash, hex},
    name::{AgentToken, Name},
    proof::admission::{self, Admission, Decision, Verdict},
    reason::{Reason, Refused},
    subject::Partition,
    time::Millis,
};

use super::{
    super::{
        Desk, PendingVerdicts,
        logging::{admission_of, append},
        told::Told,
    },
    entries::{denial_of, ended_record},
};
use crate::{
    audit::entry::Record,
    bus::egress::Outgoing,
    events::Kind,
    oversight::{
        holds::Held,
        recheck::{Released, recheck},
    },
};

/// The most decisions that one signature covers.
const SIGNED_AT_ONCE: usize = 256;

impl Desk {
    /// Lets go what has its approvals, if everything else allows it still: logged, forgotten on disk, forwarded.
    /// Gives why it was denied instead.
    pub(super) fn release(&mut self, digest: &Hash, now: Millis) -> Option<Reason> {
        let (held, bytes) = (self.holds.get(digest)?.clone(), self.holds.bytes(digest)?.clone());
        // It stays held, and is tried again each second, until the workflow goes on or its deadline is over.
        if self.is_paused(&held) {
            return None;
        }
        let Released { verified, observed } = match self.may_release(&held, &bytes, now) {
            Ok(released) => released,
            Err(refused) => {
                let people = held.approved_by();
                return self.end_hold(digest, refused, &people, now).then_some(refused.reason);
            }
        };
        let policy = &self.sessions.in_force().policy;
        let (policy_version, policy_digest) = (policy.version(), *policy.digest());
        let records = [
            ended_record(&held, None, &held.approved_by(), now),
            admission_of(&verified, observed, policy_version, now),
        ];
        let appended = append(&mut self.audit, &records);
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) => {
                self.audit_refused(&error, now);
                return None;
            }
        };
        if let Err(error) = self.store.end_holds(&[*digest]) {
            tracing::error!(%error, "a held envelope cannot be forgotten, so it stays");
            return None;
        }
        self.holds.remove(digest);
        let decision = Decision {
            verdict: Verdict::Admit,
            policy_version,
            policy_digest,
            partition: Partition::of(&held.agent).number(),
            epoch: appended.epoch,
            // Behind the entry of its release.
            position: appended.positions.start.saturating_add(1),
            time: now,
            observed: observed.is_some(),
        };
        let admission = admission::sign(&self.guard_key, self.bus, &[(*digest, decision)]).pop()?;
        self.metrics.admitted.inc();
        self.metrics.admitted_bytes.inc_by(u64::try_from(bytes.len()).unwrap_or(0));
        self.metrics.hold_ended(None);
        let upto = appended.leaves.end;
        let notices: Vec<Outgoing> =
            self.verdict_on_held(&held, &admission, None, upto, now).into_iter().collect();
        self.todo.verdicts.push(PendingVerdicts { upto, notices });
        self.holds.passed(held.session, held.key, held.sequence);
        let delivery =
            Outgoing::delivery(&self.wire, held.label.level, &held.subject, &admission, bytes.clone());
        self.todo.publish.push(delivery.approved(approval::header(&held.proof())));
        let people: Vec<String> = held.approved_by().iter().map(ToString::to_string).collect();
        let detail = format!("{} released, approved by {}", hex(digest), people.join(", "));
        let event = self.hold_event(Kind::Approval, &held, None, detail, now);
        self.todo.publish.push(Outgoing::event(&self.wire, &event));
        None
    }

    fn may_release<'b>(&self, held: &Held, bytes: &'b [u8], now: Millis) -> Result<Released<'b>, Refused> {
        if self.sessions.quarantined().contains(&held.agent) {
            return Err(Refused::new(Reason::Quarantined, "sender"));
        }
        if self.holds.is_overtaken(&held.digest) {
            return Err(Refused::new(Reason::Replay, "header.sequence"));
        }
        let issuer = &self.sessions.roots().issuer;
        let floor = self.sessions.floors().of(&held.agent, held.session);
        recheck(held, bytes, self.sessions.in_force(), issuer, &floor, &self.seen, now)
    }

    /// Denies what was held: logged, forgotten on disk, told. It stays held, and is tried again, if it cannot be
    /// logged or forgotten.
    pub(super) fn end_hold(&mut self, digest: &Hash, refused: Refused, people: &[Name], now: Millis) -> bool {
        self.end_holds(&[(*digest, refused)], people, now)
    }

    /// Denies several in one append and one transaction: a sender chooses by its time-to-live that hundreds end in
    /// the same second, and if each waited for the disk by itself, everybody else would wait with them.
    pub(super) fn end_holds(&mut self, over: &[(Hash, Refused)], people: &[Name], now: Millis) -> bool {
        let held = over.iter().filter_map(|(digest, refused)| Some((self.holds.get(digest)?, refused)));
        let records: Vec<Record<'static>> =
            held.map(|(held, refused)| ended_record(held, Some(refused.reason), people, now)).collect();
        if records.is_empty() || !self.append_records(&records, now) {
            return false;
        }
        let digests: Vec<Hash> = over.iter().map(|(digest, _)| *digest).collect();
        if let Err(error) = self.store.end_holds(&digests) {
            tracing::error!(%error, "held envelopes cannot be forgotten, so they stay");
            return false;
        }
        let ended: Vec<(Held, Refused)> = over
            .iter()
            .filter_map(|(digest, refused)| Some((self.holds.remove(digest)?.0, *refused)))
            .collect();
        self.holds_denied(&ended, now);
        true
    }

    /// Tells of what is denied and no longer held.
    fn holds_denied(&mut self, ended: &[(Held, Refused)], now: Millis) {
        for (_, refused) in ended {
            self.metrics.hold_ended(Some(refused.reason));
            self.metrics.denied(refused.reason, 1);
        }
        // Not held against its sender: that people said no, or nothing, is no fault of its.
        let report = ended.iter().map(|(held, refused)| (denial_of(held, *refused), 1)).collect();
        self.report(report, &[], now);
        let policy = &self.sessions.in_force().policy;
        let decision = |held: &Held| Decision {
            verdict: Verdict::Deny,
            policy_version: policy.version(),
            policy_digest: *policy.digest(),
            partition: Partition::of(&held.agent).number(),
            epoch: self.sessions.guard().epoch,
            // A denial needs no durable proof, only an answer.
            position: 0,
            time: now,
            observed: false,
        };
        let wanted: Vec<&(Held, Refused)> = ended.iter().filter(|(held, _)| held.confirm).collect();
        let decisions: Vec<(Hash, Decision)> =
            wanted.iter().map(|(held, _)| (held.digest, decision(held))).collect();
        let signed: Vec<Admission> = decisions
            .chunks(SIGNED_AT_ONCE)
            .flat_map(|part| admission::sign(&self.guard_key, self.bus, part))
            .collect();
        let mut notices = Vec::with_capacity(signed.len());
        for ((held, refused), admission) in wanted.into_iter().zip(signed) {
            notices.extend(self.verdict_on_held(held, &admission, Some(refused.reason), 0, now));
        }
        self.todo.verdicts.push(PendingVerdicts { upto: 0, notices });
        self.count_holds(Some(now));
    }

    /// The verdict for who wants it, who is told it now, and again if that session comes back within a while: people
    /// decide when they like, and it may be connecting anew that moment.
    fn verdict_on_held(
        &mut self,
        held: &Held,
        admission: &Admission,
        refused: Option<Reason>,
        upto: u64,
        now: Millis,
    ) -> Option<Outgoing> {
        if !held.confirm {
            return None;
        }
        let verdict = VerdictNotice { digest: held.digest, admission: admission.encode(), refused };
        let told = Told { at: now, session: held.session, upto, payload: encode(&verdict).ok()? };
        let notice = told.notice(&self.wire, &held.agent);
        self.told_verdicts.keep(&held.agent, told);
        Some(notice)
    }

    /// A session that was not on the roster says hello: what was decided while it was away. It pays for each verdict,
    /// or a small hello, said over and over, would have the guard say much.
    pub(in crate::bus::desk) fn tell_decided(&mut self, token: &str, now: Millis) {
        let Some(session) = self.sessions.roster().by_token(token) else { return };
        let (agent, session) = (session.agent().clone(), session.id());
        let Some(told) = self.told_verdicts.of_session(&agent, session, &self.wire) else { return };
        self.sessions.charge(&agent, u64::try_from(told.notices.len()).unwrap_or(u64::MAX), now);
        self.todo.verdicts.push(told);
    }

    /// An agent is taken off the bus: what it has waiting goes to nobody and is handed on as evidence, sealed as it
    /// is. Who is gone for another reason leaves its messages to the people who were asked.
    pub(in crate::bus::desk) fn seize(&mut self, agent: &AgentToken, reason: Reason, now: Millis) {
        if matches!(reason, Reason::Quarantined | Reason::Revoked) {
            let seized = self.take_held_of(agent, reason, now);
            self.todo.seized.extend(seized);
        }
    }

    /// Takes all that an agent has waiting: denied for `reason`, and given to the caller.
    pub fn take_held_of(&mut self, agent: &AgentToken, reason: Reason, now: Millis) -> Vec<(Held, Bytes)> {
        let digests = self.holds.of_agent(agent);
        if digests.is_empty() {
            return Vec::new();
        }
        let records: Vec<Record<'static>> = digests
            .iter()
            .filter_map(|digest| self.holds.get(digest))
            .map(|held| ended_record(held, Some(reason), &[], now))
            .collect();
        // Nobody's loss of a right waits for the log or the disk: what stays there is refused when it is looked at
        // again, because its sender is barred.
        self.append_records(&records, now);
        if let Err(error) = self.store.end_holds(&digests) {
            tracing::error!(%error, %agent, "what it has waiting cannot be forgotten on disk");
        }
        let taken: Vec<(Held, Bytes)> =
            digests.iter().filter_map(|digest| self.holds.remove(digest)).collect();
        let refused = Refused::new(reason, "sender");
        let ended: Vec<(Held, Refused)> = taken.iter().map(|(held, _)| (held.clone(), refused)).collect();
        self.holds_denied(&ended, now);
        taken
    }
}

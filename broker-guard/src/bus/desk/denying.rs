//! What follows from a denial: it is counted and weighed, logged, and told to its sender and the security team.

use sealbus_envelope::{
    control::{DeniedNotice, encode, kind},
    hash::Hash,
    identity::SessionId,
    name::AgentToken,
    proof::admission::{self, Decision, Verdict},
    reason::{Reason, Refused},
    subject::Partition,
    time::Millis,
};

use super::{Desk, logging::denied};
use crate::{
    audit::entry::Record,
    bus::egress::Outgoing,
    check::{Denial, Permit},
    events::{Event, Kind},
    quarantine::evidence::{FloodLimits, Proof, Response},
};

/// How long after a policy came into force an agent may not have heard of it yet.
pub(super) const POLICY_GRACE_MS: u64 = 30_000;
/// The most agents whose denials are weighed at once; only a hostile server can make up more names.
const MAX_TALLIES: usize = 65_536;

impl Desk {
    pub(super) fn deny(&mut self, denials: Vec<Denial>, now: Millis) {
        let mut report = Vec::new();
        let mut confirmed = Vec::new();
        for denial in denials {
            self.metrics.denied(denial.refused.reason, 1);
            self.weigh(&denial, now);
            if denial.confirm && denial.signed {
                confirmed.push(denial.clone());
            }
            report.extend(self.denials.note(denial, now));
        }
        self.report(report, &confirmed, now);
    }

    /// What the denial says about the agent it came from.
    pub(super) fn weigh(&mut self, denial: &Denial, now: Millis) {
        let Some(agent) = &denial.agent else { return };
        // Known already, or the guard's own fault.
        if matches!(
            denial.refused.reason,
            Reason::Quarantined | Reason::AuditUnavailable | Reason::Overloaded | Reason::WorkflowPaused
        ) {
            return;
        }
        let proof = match denial.digest {
            // Whoever repeats an envelope, or holds it back until it is refused, must not make it weigh more.
            Some(envelope) if denial.signed && !self.accused.contains_key(&envelope) => {
                self.accused.insert(envelope, ());
                Proof::Signed { envelope, knew_policy: self.knew_policy(denial.issued_at.unwrap_or(now)) }
            }
            _ => Proof::Attested,
        };
        // What the evidence itself calls for comes first: its cause names the envelope, a score only adds up.
        if self.tallies.len() < MAX_TALLIES || self.tallies.contains_key(agent) {
            let tally = self.tallies.entry(agent.clone()).or_default();
            match tally.note(denial.refused, &proof, now, &FloodLimits::default()) {
                Response::Nothing => {}
                response => self.todo.offenders.push((agent.clone(), response)),
            }
        }
        self.saw_denied(agent, denial, &proof, now);
    }

    /// Whether what was sealed at that time was sealed by somebody who had the time to learn of the policy in
    /// force. By the sender's signed word, because a server decides when it arrives; a liar gains the time that
    /// its clock may be off. Until the policy changes for the first time, every session was told of it before.
    pub(super) const fn knew_policy(&self, sealed: Millis) -> bool {
        self.policy_since.0 == 0 || sealed.since(self.policy_since) > POLICY_GRACE_MS
    }

    /// Logs denials, signs the verdicts of those whose sender wants one, tells sender and security team.
    pub(super) fn report(&mut self, report: Vec<(Denial, u64)>, confirmed: &[Denial], now: Millis) {
        let records: Vec<Record<'_>> =
            report.iter().map(|(denial, count)| denied(denial, *count, now)).collect();
        let appended = if records.is_empty() { None } else { self.append_or_note(&records, now) };
        for (denial, count) in &report {
            self.tell_denied(denial, *count, now);
            let event = self.event_about(Kind::Denied, denial, *count, now);
            self.todo.publish.push(Outgoing::event(&self.wire, &event));
        }
        // A denial needs no durable proof, only an answer; its position is the batch's first entry.
        let policy = &self.sessions.in_force().policy;
        let decisions: Vec<(Hash, Decision)> = confirmed
            .iter()
            .filter_map(|denial| Some((denial, denial.digest?)))
            .map(|(denial, digest)| {
                let decision = Decision {
                    verdict: Verdict::Deny,
                    policy_version: policy.version(),
                    policy_digest: *policy.digest(),
                    partition: denial.agent.as_ref().map_or(0, |agent| Partition::of(agent).number()),
                    epoch: self.sessions.guard().epoch,
                    position: appended.as_ref().map_or(0, |appended| appended.positions.start),
                    time: now,
                    observed: false,
                };
                (digest, decision)
            })
            .collect();
        let admissions = admission::sign(&self.guard_key, self.bus, &decisions);
        for (denial, admission) in confirmed.iter().filter(|denial| denial.digest.is_some()).zip(admissions) {
            if let (Some(session), Some(digest)) = (denial.session, denial.digest) {
                let notice = self.verdict(session, digest, &admission, Some(denial.refused.reason));
                self.todo.publish.extend(notice);
            }
        }
    }

    /// The notice goes to the session that the header claims, else to all sessions of the attested agent:
    /// always to that agent's own boxes, never where the message wanted it.
    pub(super) fn tell_denied(&mut self, denial: &Denial, count: u64, now: Millis) {
        let Some(agent) = &denial.agent else { return };
        let Ok(payload) = encode(&notice(denial, count, now)) else { return };
        let sessions: Vec<SessionId> = match denial.session {
            Some(session) => vec![session],
            None => self.sessions.roster().of_agent(agent.as_str()).map(|session| session.id()).collect(),
        };
        for session in sessions {
            let outgoing = Outgoing::tell(&self.wire, agent, session, kind::DENIED, payload.clone());
            self.todo.publish.push(outgoing);
        }
    }

    /// Tells the security team of what observe mode let pass. The log has it with the admission.
    pub(super) fn report_observed(&mut self, observed: impl IntoIterator<Item = (Denial, u64)>, now: Millis) {
        for (denial, count) in observed {
            let event = self.event_about(Kind::Observed, &denial, count, now);
            self.todo.publish.push(Outgoing::event(&self.wire, &event));
        }
    }

    pub(super) fn event_about(&self, kind: Kind, denial: &Denial, count: u64, now: Millis) -> Event {
        let tables = self.sessions.in_force().policy.tables();
        let mut event = Event::new(kind, now).because(denial.refused.reason);
        event.agent = denial.agent.as_ref().map(ToString::to_string);
        event.session = denial.session.map(|session| session.to_string());
        event.what = Some(denial.refused.what.to_owned());
        event.rule.clone_from(&denial.rule);
        event.subject.clone_from(&denial.subject);
        event.label = denial.label.map(|label| tables.show(label));
        event.envelope = denial.envelope.map(|id| id.to_string());
        event.count = Some(count);
        event.signed = Some(denial.signed);
        event
    }
}

pub(super) fn notice(denial: &Denial, count: u64, now: Millis) -> DeniedNotice {
    DeniedNotice {
        reason: denial.refused.reason,
        what: denial.refused.what.to_owned(),
        id: denial.envelope,
        digest: denial.digest.map(|digest| digest.to_vec().into()),
        subject: denial.subject.clone().unwrap_or_default(),
        time: now,
        count: u32::try_from(count).unwrap_or(u32::MAX),
    }
}

pub(super) fn unadmitted(permit: &Permit<'_>, refused: Refused) -> Denial {
    let header = permit.verified().header();
    let mut denial = Denial::bare(refused).about(header);
    denial.agent = AgentToken::parse(header.sender).ok();
    denial.digest = Some(permit.verified().digest());
    denial.subject = Some(header.subject.to_owned());
    denial.signed = true;
    denial
}

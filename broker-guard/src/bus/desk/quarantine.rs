//! What is done at the desk about agents that are off the bus, or watched.
//!
//! A flood of who is off the bus costs a map lookup a message: nothing of it is read, logged or told one by one.
//! What is kept of it goes to [`custody`], bounded; all of it is counted, and once a
//! second one denial tells how much it was.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_nats::Message;
use bytes::Bytes;
use moka::sync::Cache;
use sealbus_envelope::{
    control::kind,
    hash::Hash,
    identity::{Credential, PublicKey, SessionCertificate, SessionId},
    keys::KeyId,
    name::AgentToken,
    proof::admission::ADMISSION_RESERVE,
    reason::{Reason, Refused},
    subject::WireSubjects,
    time::Millis,
    wire::MAX_ENVELOPE,
};

use super::{
    Desk,
    denying::{POLICY_GRACE_MS, notice},
};
use crate::{
    bus::egress::Outgoing,
    check::{Denial, Papers as Judged, View},
    quarantine::{
        custody::{self, Custody, MAX_KEPT, MAX_KEPT_BYTES, Sealed},
        evidence::{Proof, Response, Weight, weigh},
        state::Ceiling,
    },
};

/// What came of agents that are off the bus.
#[derive(Debug, Default)]
pub(super) struct Barred {
    agents: HashMap<AgentToken, Came>,
    /// Who showed hard evidence in the batch in hand, and is off the bus as soon as that is done.
    caught: HashSet<AgentToken>,
}

#[derive(Debug, Default)]
struct Came {
    kept: u32,
    bytes: u64,
    /// Since it was last told.
    untold: u64,
    dropped: u64,
}

impl Barred {
    /// Whether a message is to be looked at no further, because its sender is off the bus.
    pub(super) fn takes(
        &mut self,
        wire: &WireSubjects,
        quarantined: &HashSet<AgentToken>,
        message: &Message,
        now: Millis,
        custody: &mut Vec<Custody>,
    ) -> bool {
        if quarantined.is_empty() && self.caught.is_empty() {
            return false;
        }
        let Some(ingress) = wire.read_ingress(&message.subject) else { return false };
        let Some(agent) = quarantined.get(ingress.agent).or_else(|| self.caught.get(ingress.agent)) else {
            return false;
        };
        // The clone is of a reference count, and made once for each agent.
        if !self.agents.contains_key(agent.as_str()) {
            self.agents.insert(agent.clone(), Came::default());
        }
        let Some(came) = self.agents.get_mut(agent.as_str()) else { return true };
        came.untold += 1;
        let size = u64::try_from(message.payload.len()).unwrap_or(u64::MAX);
        if came.kept >= MAX_KEPT || came.bytes.saturating_add(size) > MAX_KEPT_BYTES {
            came.dropped += 1;
            return true;
        }
        came.kept += 1;
        came.bytes += size;
        custody.push(Custody::Envelope(Box::new(Sealed {
            agent: agent.clone(),
            subject: ingress.logical.to_owned(),
            // A copy: the payload is a part of a larger buffer of the connection.
            bytes: Bytes::copy_from_slice(&message.payload),
            time: now,
            reason: Reason::Quarantined,
            trigger: false,
        })));
        true
    }

    /// Whether a control message is only to be counted: one a second is answered, so that its sender hears why.
    pub(super) fn hushes(&mut self, quarantined: &HashSet<AgentToken>, agent: &str) -> bool {
        let Some(agent) = quarantined.get(agent) else { return false };
        let came = self.agents.entry(agent.clone()).or_default();
        came.untold += 1;
        came.untold > 1
    }

    /// Looks at a denial: what its sender sends from here on, in this batch, is not admitted if it is hard evidence.
    pub(super) fn suspect(&mut self, denial: &Denial, accused: &Cache<Hash, ()>, policy_since: Millis) {
        let (Some(agent), Some(envelope)) = (&denial.agent, denial.digest) else { return };
        if !denial.signed || accused.contains_key(&envelope) {
            return;
        }
        let sealed = denial.issued_at.unwrap_or_default();
        let knew_policy = policy_since.0 == 0 || sealed.since(policy_since) > POLICY_GRACE_MS;
        if weigh(denial.refused.reason, &Proof::Signed { envelope, knew_policy }) == Weight::Hard {
            self.caught.insert(agent.clone());
        }
    }
}

/// An envelope that was kept and is to be judged again.
#[derive(Debug)]
pub struct Again {
    /// As it is listed.
    pub kept: custody::Kept,
    /// Its bytes, if they could be had and are what was listed.
    pub bytes: Option<Bytes>,
}

/// What is known of the sessions whose envelopes are to be judged again, by session.
pub type PapersOf = HashMap<SessionId, custody::Papers>;

impl Desk {
    /// After a batch: keeps the envelopes that their senders are now quarantined for.
    pub(super) fn keep_triggers(
        &mut self,
        before: usize,
        batch: &[Message],
        denied: &[(Hash, usize)],
        now: Millis,
    ) {
        self.barred.caught.clear();
        let found = self.todo.offenders.iter().skip(before).flat_map(|(agent, response)| {
            let cause = match response {
                Response::Quarantine(cause) => Some(cause),
                _ => None,
            };
            let digests =
                cause.into_iter().flat_map(|cause| cause.envelopes.iter().map(|d| (cause.reason, d)));
            digests.filter_map(move |(reason, digest)| {
                let (_, place) = denied.iter().find(|(denied, _)| denied == digest)?;
                let message = batch.get(*place)?;
                Some((agent, reason, message))
            })
        });
        let kept = found.filter_map(|(agent, reason, message)| {
            let subject = self.wire.read_ingress(&message.subject)?.logical.to_owned();
            let bytes = Bytes::copy_from_slice(&message.payload);
            let agent = agent.clone();
            Some(Custody::Envelope(Box::new(Sealed {
                agent,
                subject,
                bytes,
                time: now,
                reason,
                trigger: true,
            })))
        });
        let kept: Vec<_> = kept.collect();
        self.todo.custody.extend(kept);
    }

    /// Once a second: one denial for all that came of each agent that is off the bus.
    pub(super) fn tell_barred(&mut self, now: Millis) {
        let mut told = Vec::new();
        for (agent, came) in &mut self.barred.agents {
            let (count, dropped) = (std::mem::take(&mut came.untold), std::mem::take(&mut came.dropped));
            if count > 0 {
                self.metrics.denied(Reason::Quarantined, count);
                let mut denial = Denial::bare(Refused::new(Reason::Quarantined, "sender"));
                denial.agent = Some(agent.clone());
                told.push((denial, count));
            }
            if dropped > 0 {
                self.todo.custody.push(Custody::Dropped { agent: agent.clone(), count: dropped });
            }
        }
        if !told.is_empty() {
            self.report(told, &[], now);
        }
    }

    /// An agent is to be off the bus: its sessions end, its keys go stale, its connections are closed, and who
    /// waits for an answer of it hears that none will come.
    pub fn expel(&mut self, agent: &AgentToken, reason: Reason, now: Millis) {
        let sessions: Vec<SessionId> =
            self.sessions.roster().of_agent(agent.as_str()).map(|session| session.id()).collect();
        if matches!(reason, Reason::Quarantined | Reason::Revoked) {
            let live = self.sessions.roster().of_agent(agent.as_str());
            let papers = live.map(|session| Custody::Session(Box::new(custody::Papers::of(session))));
            self.todo.custody.extend(papers);
        }
        self.sessions.expel(agent, reason, now, &mut self.effects);
        self.carry_out(now);
        self.seize(agent, reason, now);
        // What waited for approvals is kept like the rest, but no order of evidence stands in for an approval.
        let seized = std::mem::take(&mut self.todo.seized).into_iter().map(|(held, bytes)| {
            Custody::Envelope(Box::new(Sealed {
                agent: held.agent,
                subject: held.subject,
                bytes,
                time: held.received,
                reason: Reason::ApprovalMissing,
                trigger: false,
            }))
        });
        self.todo.custody.extend(seized);
        self.fail_requests_to(&sessions, now);
    }

    /// Tells who waits for an answer of these sessions, which are over, that none will come.
    pub(super) fn fail_requests_to(&mut self, sessions: &[SessionId], now: Millis) {
        for (digest, open) in self.checker.fail_requests(sessions) {
            let mut denial = Denial::bare(Refused::new(Reason::ResponderQuarantined, "responder"));
            denial.digest = Some(digest);
            denial.subject = Some(open.subject.to_string());
            let Ok(payload) = sealbus_envelope::control::encode(&notice(&denial, 1, now)) else { continue };
            self.todo.publish.push(Outgoing::tell(
                &self.wire,
                &open.agent,
                open.asker,
                kind::DENIED,
                payload,
            ));
        }
    }

    /// An agent may come back.
    pub fn readmit(&mut self, agent: &AgentToken) {
        self.sessions.readmit(agent);
        self.tallies.remove(agent);
        self.watching.anew(agent);
        self.barred.agents.remove(agent.as_str());
    }

    /// What was kept of an agent is discarded: there is room for what it sends from now on.
    pub fn evidence_discarded(&mut self, agent: &AgentToken) {
        if let Some(came) = self.barred.agents.get_mut(agent.as_str()) {
            (came.kept, came.bytes) = (0, 0);
        }
    }

    /// An agent is watched from now on: half of every rate, and no key for more than `ceiling`.
    pub fn watch(&mut self, agent: &AgentToken, ceiling: Option<Ceiling>) {
        self.checker.watch(agent, true);
        self.sessions.watch(agent, Some(ceiling));
    }

    /// An agent is watched no longer.
    pub fn calm(&mut self, agent: &AgentToken) {
        self.checker.watch(agent, false);
        self.sessions.watch(agent, None);
    }

    /// Judges envelopes again that were kept of an agent, and forwards those that pass: logged and signed like any
    /// other, with the time of now. Says of each what it was refused for, if it was. `audit_unavailable` is no
    /// judgement: it is to be tried again. So is what is of a paused workflow: it, and what is
    /// behind it, is not judged, and nothing is said of it.
    ///
    /// What is to be published waits in the list of [`take_todo`](Self::take_todo), so that its decision can be on
    /// disk first.
    pub fn judge_again(
        &mut self,
        identity: &PublicKey,
        again: &[Again],
        papers: &mut PapersOf,
        now: Millis,
    ) -> Vec<Option<Reason>> {
        let verified: HashMap<SessionId, (Credential, SessionCertificate)> = papers
            .values()
            .filter_map(|papers| {
                let credential =
                    Credential::verify(&papers.credential, self.bus, self.sessions.issuer()).ok()?;
                let certificate = SessionCertificate::verify(&papers.certificate, self.bus).ok()?;
                Some((papers.session, (credential, certificate)))
            })
            .collect();
        let max_envelope = self.sessions.max_payload().saturating_sub(ADMISSION_RESERVE).min(MAX_ENVELOPE);
        let in_force = self.sessions.in_force();
        let revoked = in_force.status.is_revoked(identity);
        let view = View {
            policy: &in_force.policy,
            quarantined: self.sessions.quarantined(),
            workflows: self.overseer.workflows(),
            freshness_ms: u64::from(in_force.policy.tables().freshness_ms),
            max_envelope,
        };
        let mut outcomes = Vec::with_capacity(again.len());
        let (mut permits, mut denials, mut admitted) = (Vec::new(), Vec::new(), Vec::new());
        for (place, Again { kept, bytes }) in again.iter().enumerate() {
            let session = kept.claims.as_ref().map(|claims| claims.session);
            let known = session.and_then(|session| {
                // Papers of an earlier quarantine do not know what was delivered since.
                let of_now = papers.get(&session)?.incident >= kept.incident;
                Some((session, verified.get(&session).filter(|_| of_now)?))
            });
            let (Some(bytes), Some((session, (credential, certificate)))) = (bytes, known) else {
                let missing = if bytes.is_none() { Reason::Truncated } else { Reason::UnknownSession };
                let mut denial = Denial::bare(Refused::new(missing, "evidence"));
                denial.agent = Some(kept.agent.clone());
                denial.session = session;
                denial.digest = kept.claims.as_ref().map(|claims| claims.digest);
                denial.subject = Some(kept.subject.clone());
                denials.push((denial, 1));
                outcomes.push(Some(missing));
                continue;
            };
            // What was denied stays denied, whatever the policy says now: its sender was told so and may have sent it
            // again. So does what waited for approvals.
            if kept.trigger || kept.reason == Reason::ApprovalMissing {
                outcomes.push(Some(kept.reason));
                continue;
            }
            let barred = view.quarantined.contains(kept.agent.as_str()).then_some(Reason::Quarantined);
            let floor: Arc<_> = self.sessions.floors().of(&kept.agent, session);
            let judged = Judged {
                credential,
                certificate,
                floor: &floor,
                barred: if revoked { Some(Reason::Revoked) } else { barred },
                came: kept.time,
            };
            let roster = self.sessions.roster();
            let stood = |key: &KeyId| {
                let mut stood = papers.get(&session)?.stood(key)?;
                // The session may be back, and further.
                if let Some(live) = roster.key((session, *key)) {
                    stood.next = stood.next.max(live.next);
                }
                Some(stood)
            };
            match self.checker.check_again(view, &judged, &self.seen, stood, bytes, now) {
                Ok(permit) => {
                    let header = permit.verified().header();
                    let (key, passed) = (header.key, header.sequence.saturating_add(1));
                    if let Some(papers) = papers.get_mut(&session)
                        && let Some((_, next)) = papers.keys.iter_mut().find(|(id, _)| *id == key)
                    {
                        *next = passed;
                    }
                    permits.push((permit, bytes.clone()));
                    admitted.push(place);
                    outcomes.push(None);
                }
                Err(denial) if denial.refused.reason == Reason::WorkflowPaused => break,
                Err(mut denial) => {
                    outcomes.push(Some(denial.refused.reason));
                    denial.subject = Some(kept.subject.clone());
                    denials.push((*denial, 1));
                }
            }
        }
        if !permits.is_empty()
            && let Err(unadmitted) = self.admit(permits, now)
        {
            for (place, denial) in admitted.into_iter().zip(unadmitted) {
                if let Some(outcome) = outcomes.get_mut(place) {
                    *outcome = Some(denial.refused.reason);
                }
            }
        }
        if !denials.is_empty() {
            self.report(denials, &[], now);
        }
        outcomes
    }
}

//! A second judgement of what was kept as evidence, when its sender is released and people want it delivered.
//!
//! It was never admitted. What may have changed since is checked under what is in force now: the sender's standing,
//! the policy, its floor, the lifetime. What made the guard take the sequence then is not asked of the roster, where
//! the session is no more, but of what was written down when it ended.

use sealbus_envelope::{
    identity::{Credential, SessionCertificate},
    keys::KeyId,
    reason::{Reason, Refused},
    subject::Partition,
    time::Millis,
    wire::{Decoded, SeenRoots},
};

use super::{Checker, Denial, Exchange, Permit, Route, View, denial::Known};
use crate::{oversight::holds::wanted, policy::decide::Allowed, quarantine::custody::Stood, taint::Floor};

/// What is known of the session that sealed it.
#[derive(Debug)]
pub struct Papers<'p> {
    /// Its credential.
    pub credential: &'p Credential,
    /// Its certificate.
    pub certificate: &'p SessionCertificate,
    /// What counts against its agent now.
    pub floor: &'p Floor,
    /// Whether its identity is revoked, or off the bus, now.
    pub barred: Option<Reason>,
    /// When the envelope came.
    pub came: Millis,
}

impl Checker {
    /// Judges an envelope that was kept and never admitted. `stood` gives where a key stood when its session ended,
    /// and by what was judged since; nothing if the key was not open then, or to be refused.
    ///
    /// # Errors
    /// The first check that failed. `quarantined` or `revoked` of the sender; the codec's and the signature's
    /// reasons; `certificate_expired`, `credential_expired`; `session_ended` of requests and replies, whose other
    /// end is gone; `workflow_paused`; `approval_missing` where people must approve; `stale`, `from_future` of what
    /// would have been refused for it when it came; `expired`; `unknown_key`, `key_mismatch`,
    /// `replay`; what policy, label and floor refuse.
    pub fn check_again<'s, 'a>(
        &self,
        view: View<'_>,
        papers: &Papers<'_>,
        seen: &impl SeenRoots,
        stood: impl FnOnce(&KeyId) -> Option<Stood<'s>>,
        bytes: &'a [u8],
        now: Millis,
    ) -> Result<Permit<'a>, Box<Denial>> {
        let agent = papers.credential.token();
        let mut known = Known { agent: Some(agent.as_str()), ..Known::default() };
        let checked = self.judge_again(view, papers, seen, stood, bytes, now, &mut known);
        checked.map_err(|refused| Box::new(known.denial(refused)))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the one place where all a second verdict depends on meets"
    )]
    fn judge_again<'s, 'p, 'a>(
        &self,
        view: View<'_>,
        papers: &Papers<'s>,
        seen: &impl SeenRoots,
        stood: impl FnOnce(&KeyId) -> Option<Stood<'p>>,
        bytes: &'a [u8],
        now: Millis,
        known: &mut Known<'s, 'a>,
    ) -> Result<Permit<'a>, Refused> {
        let (credential, certificate) = (papers.credential, papers.certificate);
        if let Some(reason) = papers.barred {
            return Err(Refused::new(reason, "sender"));
        }
        if bytes.len() > view.max_envelope {
            return Err(Refused::new(Reason::TooLarge, "envelope"));
        }
        let decoded = Decoded::decode(bytes)?;
        let header = *decoded.claimed();
        known.header = Some(header);
        if header.bus != self.bus {
            return Err(Refused::new(Reason::WrongBus, "header.bus"));
        }
        if header.sender != credential.token().as_str() {
            return Err(Refused::new(Reason::WrongSender, "header.sender"));
        }
        // Readers judge the sender by the time of the new admission.
        certificate.check_time(now)?;
        credential.check_time(now)?;
        let verified = decoded.verify(certificate, credential, seen)?;
        known.verified(verified.digest());
        // The guard remembers how far a key was used only while what it sealed is fresh. A server that kept copies of
        // what was delivered longer than that could pass them off as sent in the quarantine.
        header.check_arrival(papers.came, view.freshness_ms)?;
        if now.since(header.issued_at) > u64::from(header.ttl_ms) {
            return Err(Refused::new(Reason::Expired, "header.ttl"));
        }
        let stood = stood(&header.key).ok_or(Refused::new(Reason::UnknownKey, "header.key"))?;
        if stood.purpose.is_some_and(|purpose| purpose != (header.rule, header.label)) {
            return Err(Refused::new(Reason::KeyMismatch, "header.key"));
        }
        if header.sequence < stood.next || header.sequence == u64::MAX {
            return Err(Refused::new(Reason::Replay, "header.sequence"));
        }
        let who = view
            .policy
            .principal(credential.claims())
            .map_err(|reason| Refused::new(reason, "credential.team"))?;
        let allowed = if header.request.is_some() {
            view.policy.may_answer(&who, header.rule, header.subject, header.label, bytes.len())
        } else {
            view.policy.may_publish(&who, header.rule, header.subject, header.label, bytes.len())
        };
        let Allowed { rule, mut faults } = allowed.map_err(|reason| Refused::new(reason, "policy"))?;
        view.workflows.check(&who, rule)?;
        if header.request.is_some() || rule.is_request() {
            return Err(Refused::new(Reason::SessionEnded, "header.request"));
        }
        // An order of evidence stands in for no approval: its sender sends it again.
        if !wanted(view.policy, header.rule, header.flow_grant).is_empty() {
            return Err(Refused::new(Reason::ApprovalMissing, "rule"));
        }
        let claims = credential.claims();
        view.policy.check_flow(claims, papers.floor, &header, bytes.len(), now, &mut faults)?;
        Ok(Permit {
            verified,
            route: Route::Stream,
            gap: 0,
            partition: Partition::of(credential.token()),
            exchange: Exchange::None,
            observed: faults.observed(),
            wanted: Vec::new(),
        })
    }
}

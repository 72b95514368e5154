//! What waits for people: held durably before its sender hears of it, and let go once.
//!
//! The order is that of admissions: logged, then on disk, then told or forwarded. A guard that dies after it logged a
//! release and before it forgot the hold releases it anew when it starts; one that dies after it forgot forwards
//! nothing more. So nothing is forwarded twice.

use bytes::Bytes;
use sealbus_envelope::{
    approval::{self, MAX_APPROVAL, SignedApproval},
    control::{
        AskHeld, Handed, HeldList, HeldNotice, HeldReport, MAX_HELD_LISTED, Submitted, VerdictNotice, encode,
        kind,
    },
    hash::{Hash, hex},
    identity::{KeyKind, SessionId},
    name::{AgentToken, Name},
    policy::Rate,
    proof::admission::{self, ADMISSION_RESERVE, Admission, Decision, Verdict},
    reason::{Reason, Refused},
    subject::Partition,
    time::Millis,
};
use serde_bytes::ByteBuf;

use super::{Desk, PendingVerdicts, denying::unadmitted, logging::admission_of, told::Told};
use crate::{
    audit::entry::{self, Body, Record},
    bus::egress::Outgoing,
    check::{Denial, Permit},
    events::{Event, Kind},
    oversight::{
        approvers::Approvers,
        holds::{Asked, Held, Judged, Wanted, strike},
        recheck::{Released, recheck},
    },
};

/// How often an approval that does not count is logged and told.
pub(super) const TOLD: Rate = Rate { per_second: 1, burst: 10 };
/// The most decisions that one signature covers.
const SIGNED_AT_ONCE: usize = 256;
/// What a handed-out envelope takes besides its own bytes.
const HANDED_OVERHEAD: usize = 4_096;

impl Desk {
    /// What waits for people, from the disk: for a guard that has just started.
    pub fn restore_holds(&mut self, held: Vec<(Held, Vec<u8>)>) {
        for (held, bytes) in held {
            self.holds.insert(held, bytes.into());
        }
        self.follow_holds();
        self.count_holds(None);
    }

    /// Goes by the policy and the status in force from now on.
    pub(super) fn follow_holds(&mut self) {
        let in_force = self.sessions.in_force();
        self.holds.follow(&in_force.policy, &in_force.status);
        self.approvers.follow(&in_force.policy, &in_force.status, &self.holds);
    }

    /// Holds what passed every check; gives what cannot be held.
    pub(super) fn hold(&mut self, permits: Vec<(Permit<'_>, Bytes)>, now: Millis) -> Vec<Denial> {
        let mut denials = Vec::new();
        let mut fresh: Vec<(Hash, SessionId)> = Vec::with_capacity(permits.len());
        let mut kept: Vec<(Permit<'_>, usize)> = Vec::with_capacity(permits.len());
        for (permit, bytes) in permits {
            let size = bytes.len();
            match self.try_hold(&permit, bytes, now) {
                Ok(digest) => {
                    fresh.push((digest, permit.verified().header().session));
                    kept.push((permit, size));
                }
                Err(refused) => denials.push(unadmitted(&permit, refused)),
            }
        }
        let records: Vec<Record<'static>> = fresh
            .iter()
            .filter_map(|(digest, _)| self.holds.get(digest))
            .map(|held| held_record(held, self.sessions.in_force().policy.version(), now))
            .collect();
        if !self.append_records(&records, now) {
            denials.extend(self.unhold(&fresh, Reason::AuditUnavailable, now));
            return denials;
        }
        let stored = fresh
            .iter()
            .filter_map(|(digest, _)| Some((self.holds.get(digest)?, self.holds.bytes(digest)?.as_ref())));
        if let Err(error) = self.store.hold(stored) {
            tracing::error!(%error, "nothing can be held: the store cannot be written");
            let ended: Vec<Record<'static>> = fresh
                .iter()
                .filter_map(|(digest, _)| self.holds.get(digest))
                .map(|held| ended_record(held, Some(Reason::StoreUnavailable), &[], now))
                .collect();
            self.append_records(&ended, now);
            denials.extend(self.unhold(&fresh, Reason::StoreUnavailable, now));
            return denials;
        }
        // What its sender did, it did now. When people let it go is their doing, and may be hours later: to the
        // detector a day's approvals given at once would be a flood, and what was approved would be new twice.
        for (permit, size) in &kept {
            self.saw_sent(permit, *size, now);
        }
        for (digest, session) in fresh {
            self.tell_is_held(&digest, session, now);
        }
        self.count_holds(Some(now));
        denials
    }

    fn try_hold(&mut self, permit: &Permit<'_>, bytes: Bytes, now: Millis) -> Result<Hash, Refused> {
        let (header, digest) = (permit.verified().header(), permit.verified().digest());
        let session = self
            .sessions
            .roster()
            .get(header.session)
            .ok_or(Refused::new(Reason::UnknownSession, "sender"))?;
        let agent = session.agent().clone();
        self.holds.check_room(&agent, bytes.len(), permit.wanted())?;
        // With its approvals it must still fit, or the server would end the guard's own connection.
        let reserve = ADMISSION_RESERVE + approvals_size(permit.wanted());
        if bytes.len() > self.sessions.max_payload().saturating_sub(reserve) {
            return Err(Refused::new(Reason::TooLarge, "held envelope"));
        }
        let names = (Name::parse(header.rule)?, header.flow_grant.map(Name::parse).transpose()?);
        let papers = (session.credential.as_str().to_owned(), session.certificate.as_bytes().to_vec());
        let mut wanted = permit.wanted().to_vec();
        strike(&mut wanted, &self.sessions.in_force().status);
        let policy = (*self.sessions.in_force().policy.digest(), wanted);
        let held = Held::new(header, digest, agent, names, papers, policy, now);
        held.check_lifetime(now)?;
        self.holds.insert(held, bytes);
        Ok(digest)
    }

    /// Takes back what could not be logged or stored.
    fn unhold(&mut self, fresh: &[(Hash, SessionId)], reason: Reason, now: Millis) -> Vec<Denial> {
        let removed: Vec<_> = fresh.iter().filter_map(|(digest, _)| self.holds.remove(digest)).collect();
        self.count_holds(Some(now));
        removed.iter().map(|(held, _)| denial_of(held, Refused::new(reason, "hold"))).collect()
    }

    fn tell_is_held(&mut self, digest: &Hash, session: SessionId, now: Millis) {
        let asked = self.holds.ask(digest, now);
        let Some(held) = self.holds.get(digest) else { return };
        let until = held.until().0;
        let notice = HeldNotice {
            digest: held.digest,
            id: held.id,
            subject: held.subject.clone(),
            approvals: held.needed(),
            time: now,
            until,
        };
        // A notice always encodes, so there is no error to lose here.
        if let Ok(payload) = encode(&notice) {
            let told = Outgoing::tell(&self.wire, &held.agent, session, kind::HELD, payload);
            self.todo.publish.push(told);
        }
        let lists: Vec<String> = asked.iter().map(asked_text).collect();
        let asked = if lists.is_empty() { "nobody yet".to_owned() } else { lists.join("; ") };
        let (needed, hash) = (held.needed(), hex(&held.digest));
        let detail = format!("{hash} waits for {needed} to approve, until {}: asked {asked}", until.0);
        self.tell_of_hold(Kind::Held, digest, None, detail, now);
    }

    /// An event about something held.
    fn tell_of_hold(
        &mut self,
        kind: Kind,
        digest: &Hash,
        reason: Option<Reason>,
        detail: String,
        now: Millis,
    ) {
        let Some(held) = self.holds.get(digest) else { return };
        let event = self.hold_event(kind, held, reason, detail, now);
        self.todo.publish.push(Outgoing::event(&self.wire, &event));
    }

    /// The event of what a person decided.
    fn tell_of_decision(
        &mut self,
        (digest, person): (&Hash, &str),
        denied: Option<Reason>,
        detail: String,
        now: Millis,
    ) {
        let Some(held) = self.holds.get(digest) else { return };
        let operation = if denied.is_some() { "deny" } else { "approve" };
        let event = self.hold_event(Kind::Approval, held, denied, detail, now).asked(operation, person);
        self.todo.publish.push(Outgoing::event(&self.wire, &event));
    }

    fn hold_event(
        &self,
        kind: Kind,
        held: &Held,
        reason: Option<Reason>,
        detail: String,
        now: Millis,
    ) -> Event {
        let mut event = Event::new(kind, now).about(&held.agent).detail(detail);
        if let Some(reason) = reason {
            event = event.because(reason);
        }
        event.session = Some(held.session.to_string());
        event.rule = Some(held.rule.to_string());
        event.subject = Some(held.subject.clone());
        event.label = Some(self.sessions.in_force().policy.tables().show(held.label));
        event.envelope = Some(held.id.to_string());
        event
    }

    /// Once a second: who is to be asked next, what is too late, what has its approvals and could not go before.
    pub(super) fn tick_holds(&mut self, now: Millis) {
        self.told_verdicts.expire(now);
        let due = self.holds.tick(now);
        for asked in due.asked {
            let word = if asked.escalated { "nobody answered: asked" } else { "asked" };
            let missing = self.holds.get(&asked.digest).map_or(0, Held::missing);
            let text = asked_text(&asked);
            let detail = format!("{} {word} {text}; {missing} missing", hex(&asked.digest));
            self.tell_of_hold(Kind::Held, &asked.digest, None, detail, now);
        }
        let over: Vec<(Hash, Refused)> =
            due.over.into_iter().map(|(digest, end)| (digest, Refused::new(end.reason(), "hold"))).collect();
        self.end_holds(&over, &[], now);
        for digest in due.complete {
            self.release(&digest, now);
        }
        self.count_holds(Some(now));
    }

    /// Takes what a person signed, whoever brought it.
    pub fn approve(&mut self, signed: Result<SignedApproval, Refused>, now: Millis) -> Submitted {
        let signed = match signed {
            Ok(signed) => signed,
            Err(refused) => return self.refuse_approval(None, refused, now),
        };
        match self.try_approve(&signed, now) {
            Ok(submitted) => {
                self.metrics.approval(None);
                submitted
            }
            Err(refused) => self.refuse_approval(Some(&signed), refused, now),
        }
    }

    /// Counts what does not count as an approval, and now and then logs one and tells of it.
    pub fn refuse_approval(
        &mut self,
        signed: Option<&SignedApproval>,
        refused: Refused,
        now: Millis,
    ) -> Submitted {
        self.metrics.approval(Some(refused.reason));
        if self.approvals_told.admit(now) {
            self.tell_refused_approval(signed, refused, now);
        }
        let envelope = signed.map(|signed| hex(&signed.approval().envelope)).unwrap_or_default();
        Submitted::refused(envelope, refused)
    }

    /// Who may approve anything, kept up to date.
    #[must_use]
    pub fn approvers(&self) -> Approvers {
        self.approvers.clone()
    }

    fn try_approve(&mut self, signed: &SignedApproval, now: Millis) -> Result<Submitted, Refused> {
        let digest = signed.approval().envelope;
        let judged = self.holds.judge(signed)?;
        let held = self.holds.get(&digest).ok_or(Refused::new(Reason::NotHeld, "approval.envelope"))?;
        let (until, end) = held.until();
        if now >= until {
            self.end_hold(&digest, Refused::new(end.reason(), "hold"), &[], now);
            return Err(Refused::new(end.reason(), "hold"));
        }
        let person = held.person(signed.key()).cloned();
        let missing = match judged {
            Judged::Counts { missing } => missing,
            Judged::Again | Judged::Denies => held.missing(),
        };
        let mut submitted = Submitted {
            envelope: hex(&digest),
            refused: None,
            what: None,
            person: person.clone(),
            again: judged == Judged::Again,
            state: Some("waiting".to_owned()),
            denied: None,
            missing,
        };
        if judged == Judged::Again {
            return Ok(submitted);
        }
        let mut with = held.clone();
        let record = approval_record(signed, person.as_ref(), None, missing, now);
        if self.append_or_note(&[record], now).is_none() {
            return Err(Refused::new(Reason::AuditUnavailable, "audit log"));
        }
        let name = person.as_ref().map_or("?", Name::as_str).to_owned();
        if judged == Judged::Denies {
            let detail = format!("{} denied by {name}", hex(&digest));
            self.tell_of_decision((&digest, &name), Some(Reason::ApprovalDenied), detail, now);
            let people: Vec<Name> = person.into_iter().collect();
            if !self.end_hold(&digest, Refused::new(Reason::ApprovalDenied, "hold"), &people, now) {
                return Err(Refused::new(Reason::StoreUnavailable, "store"));
            }
            (submitted.state, submitted.denied) = (Some("denied".to_owned()), Some(Reason::ApprovalDenied));
            return Ok(submitted);
        }
        with.approvals.push(signed.clone());
        let bytes = self.holds.bytes(&digest).cloned().unwrap_or_default();
        if let Err(error) = self.store.hold([(&with, bytes.as_ref())].into_iter()) {
            tracing::error!(%error, "an approval cannot be kept");
            return Err(Refused::new(Reason::StoreUnavailable, "store"));
        }
        self.holds.approve(signed.clone());
        let detail = format!("{} approved by {name}; {missing} missing", hex(&digest));
        self.tell_of_decision((&digest, &name), None, detail, now);
        if missing == 0 {
            submitted.denied = self.release(&digest, now);
            submitted.state = match (submitted.denied, self.holds.get(&digest)) {
                (Some(_), _) => Some("denied".to_owned()),
                (None, None) => Some("released".to_owned()),
                // The log or the store is full: it goes as soon as they take it.
                (None, Some(_)) => Some("waiting".to_owned()),
            };
        }
        self.count_holds(Some(now));
        Ok(submitted)
    }

    fn tell_refused_approval(&mut self, signed: Option<&SignedApproval>, refused: Refused, now: Millis) {
        tracing::warn!(%refused, "an approval does not count");
        if let Some(signed) = signed {
            let held = self.holds.get(&signed.approval().envelope);
            let person = held.and_then(|held| held.person(signed.key())).cloned();
            self.append_or_note(
                &[approval_record(signed, person.as_ref(), Some(refused.reason), 0, now)],
                now,
            );
        }
        let mut event = Event::new(Kind::Approval, now).because(refused.reason);
        event.what = Some(refused.what.to_owned());
        if let Some(signed) = signed {
            let (approval, key) = (signed.approval(), signed.key().to_nkey(KeyKind::User));
            let operation = if approval.approve { "approve" } else { "deny" };
            event = event.asked(operation, key).detail(hex(&approval.envelope));
        }
        self.todo.publish.push(Outgoing::event(&self.wire, &event));
    }

    /// Lets go what has its approvals, if everything else allows it still: logged, forgotten on disk, forwarded.
    /// Gives why it was denied instead.
    fn release(&mut self, digest: &Hash, now: Millis) -> Option<Reason> {
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
        let appended = super::append(&mut self.audit, &records);
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
    fn end_hold(&mut self, digest: &Hash, refused: Refused, people: &[Name], now: Millis) -> bool {
        self.end_holds(&[(*digest, refused)], people, now)
    }

    /// Denies several in one append and one transaction: a sender chooses by its time-to-live that hundreds end in
    /// the same second, and if each waited for the disk by itself, everybody else would wait with them.
    fn end_holds(&mut self, over: &[(Hash, Refused)], people: &[Name], now: Millis) -> bool {
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
    pub(super) fn tell_decided(&mut self, token: &str, now: Millis) {
        let Some(session) = self.sessions.roster().by_token(token) else { return };
        let (agent, session) = (session.agent().clone(), session.id());
        let Some(told) = self.told_verdicts.of_session(&agent, session, &self.wire) else { return };
        self.sessions.charge(&agent, u64::try_from(told.notices.len()).unwrap_or(u64::MAX), now);
        self.todo.verdicts.push(told);
    }

    /// An agent is taken off the bus: what it has waiting goes to nobody and is handed on as evidence, sealed as it
    /// is. Who is gone for another reason leaves its messages to the people who were asked.
    pub(super) fn seize(&mut self, agent: &AgentToken, reason: Reason, now: Millis) {
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

    /// What is held, the oldest first.
    #[must_use]
    pub fn held_reports(&self, now: Millis) -> Vec<HeldReport> {
        self.holds.iter().map(|(held, bytes)| held.report(bytes.len(), now)).collect()
    }

    /// The sealed bytes of something held.
    #[must_use]
    pub fn held_bytes(&self, digest: &Hash) -> Option<Bytes> {
        self.holds.bytes(digest).cloned()
    }

    /// A session brought an approval.
    pub(super) fn approval_brought(
        &mut self,
        agent: &AgentToken,
        session: SessionId,
        approval: &[u8],
        now: Millis,
    ) {
        let submitted = self.approve(SignedApproval::verify(approval, self.bus), now);
        if let Ok(payload) = encode(&submitted) {
            let told = Outgoing::tell(&self.wire, agent, session, kind::APPROVAL, payload);
            self.todo.publish.push(told);
        }
    }

    /// A session asks what is held of what its agent may read.
    pub(super) fn tell_held(&mut self, agent: &AgentToken, session: SessionId, ask: &AskHeld, now: Millis) {
        let handed = self.hand(session, ask, now).unwrap_or_else(|refused| Handed {
            id: ask.id,
            refused: Some(refused.reason),
            list: HeldList::default(),
            envelope: None,
        });
        if let Ok(payload) = encode(&handed) {
            self.todo.publish.push(Outgoing::tell(&self.wire, agent, session, kind::HANDED, payload));
        }
    }

    fn hand(&self, session: SessionId, ask: &AskHeld, now: Millis) -> Result<Handed, Refused> {
        let live =
            self.sessions.roster().get(session).ok_or(Refused::new(Reason::UnknownSession, "session"))?;
        let policy = &self.sessions.in_force().policy;
        let readable =
            |held: &Held| policy.may_receive(&live.principal, held.rule.as_str(), held.label).map(|_| ());
        let Some(digest) = &ask.digest else {
            let mut list = HeldList::default();
            for (held, bytes) in self.holds.iter().filter(|(held, _)| readable(held).is_ok()) {
                if list.held.len() < MAX_HELD_LISTED {
                    list.held.push(held.report(bytes.len(), now));
                } else {
                    list.more = list.more.saturating_add(1);
                }
            }
            return Ok(Handed { id: ask.id, refused: None, list, envelope: None });
        };
        let missing = Refused::new(Reason::NotHeld, "digest");
        let digest = Hash::try_from(digest.as_slice()).map_err(|_| missing)?;
        let held = self.holds.get(&digest).ok_or(missing)?;
        // Who may not read it hears no more than who asks for what is not there.
        readable(held).map_err(|_| missing)?;
        let bytes = self.holds.bytes(&digest).ok_or(missing)?;
        if bytes.len().saturating_add(HANDED_OVERHEAD) > self.sessions.max_payload() {
            return Err(Refused::new(Reason::TooLarge, "held envelope"));
        }
        let list = HeldList { held: vec![held.report(bytes.len(), now)], more: 0 };
        Ok(Handed { id: ask.id, refused: None, list, envelope: Some(ByteBuf::from(bytes.to_vec())) })
    }

    fn count_holds(&self, now: Option<Millis>) {
        self.metrics.held.set(i64::try_from(self.holds.len()).unwrap_or(i64::MAX));
        let waited = now.zip(self.holds.oldest()).map_or(0, |(now, oldest)| now.since(oldest) / 1_000);
        self.metrics.held_oldest.set(i64::try_from(waited).unwrap_or(i64::MAX));
    }
}

/// The most that the header with the approvals takes.
fn approvals_size(wanted: &[Wanted]) -> usize {
    let approvals: usize = wanted.iter().map(|wanted| usize::from(wanted.hold.approvals)).sum();
    (approvals * MAX_APPROVAL).div_ceil(3) * 4 + approval::HEADER_NAME.len() + 16
}

fn asked_text(asked: &Asked) -> String {
    let people: Vec<&str> = asked.people.iter().map(Name::as_str).collect();
    format!("list `{}` ({}) for {}", asked.list, people.join(", "), asked.by.text())
}

fn denial_of(held: &Held, refused: Refused) -> Denial {
    let mut denial = Denial::bare(refused);
    denial.agent = Some(held.agent.clone());
    denial.session = Some(held.session);
    denial.envelope = Some(held.id);
    denial.digest = Some(held.digest);
    denial.rule = Some(held.rule.to_string());
    denial.subject = Some(held.subject.clone());
    denial.label = Some(held.label);
    denial.issued_at = Some(held.sealed);
    denial.confirm = held.confirm;
    denial.signed = true;
    denial
}

fn held_record(held: &Held, policy_version: u64, now: Millis) -> Record<'static> {
    Record {
        time: now,
        body: Body::Held(entry::Held {
            digest: held.digest.into(),
            envelope: (*held.id.as_bytes()).into(),
            sender: held.agent.to_string().into(),
            session: (*held.session.as_bytes()).into(),
            rule: held.rule.to_string().into(),
            subject: held.subject.clone().into(),
            label: held.label,
            flow_grant: held.flow_grant.as_ref().map(|grant| grant.to_string().into()),
            approvals: held.needed(),
            until: held.until().0,
            policy_version,
        }),
    }
}

fn ended_record(held: &Held, refused: Option<Reason>, people: &[Name], now: Millis) -> Record<'static> {
    Record {
        time: now,
        body: Body::HoldEnded(entry::HoldEnded {
            digest: held.digest.into(),
            envelope: (*held.id.as_bytes()).into(),
            sender: held.agent.to_string().into(),
            rule: held.rule.to_string().into(),
            subject: held.subject.clone().into(),
            released: refused.is_none(),
            reason: refused.map(|reason| reason.code().into()),
            people: people.iter().map(|name| name.to_string().into()).collect(),
            waited_ms: now.since(held.received),
        }),
    }
}

fn approval_record(
    signed: &SignedApproval,
    person: Option<&Name>,
    refused: Option<Reason>,
    missing: u8,
    now: Millis,
) -> Record<'static> {
    let said = signed.approval();
    Record {
        time: now,
        body: Body::Approval(entry::Approval {
            digest: said.envelope.into(),
            person: person.map(|name| name.to_string().into()),
            key: signed.key().to_nkey(KeyKind::User).into(),
            approve: said.approve,
            signed: said.time,
            accepted: refused.is_none(),
            reason: refused.map(|reason| reason.code().into()),
            missing,
        }),
    }
}

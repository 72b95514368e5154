//! What waits for people: held durably before its sender hears of it, and let go once.
//!
//! The order is that of admissions: logged, then on disk, then told or forwarded. A guard that dies after it logged a
//! release and before it forgot the hold releases it anew when it starts; one that dies after it forgot forwards
//! nothing more. So nothing is forwarded twice.

mod deciding;
mod ending;
mod entries;
mod handing;

use bytes::Bytes;
use sealbus_envelope::{
    approval::{self, MAX_APPROVAL},
    control::{HeldNotice, encode, kind},
    hash::{Hash, hex},
    identity::SessionId,
    name::Name,
    policy::Rate,
    proof::admission::ADMISSION_RESERVE,
    reason::{Reason, Refused},
    time::Millis,
};

use self::entries::{denial_of, ended_record, held_record};
use super::{Desk, denying::unadmitted};
use crate::{
    audit::entry::Record,
    bus::egress::Outgoing,
    check::{Denial, Permit},
    events::{Event, Kind},
    oversight::holds::{Asked, Held, Wanted, strike},
};

/// How often an approval that does not count is logged and told.
pub(super) const TOLD: Rate = Rate { per_second: 1, burst: 10 };

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

//! What people signed: counted, kept, logged and told of.

use sealbus_envelope::{
    approval::SignedApproval,
    control::Submitted,
    hash::hex,
    identity::KeyKind,
    name::Name,
    reason::{Reason, Refused},
    time::Millis,
};

use super::{Desk, entries::approval_record};
use crate::{
    bus::egress::Outgoing,
    events::{Event, Kind},
    oversight::{approvers::Approvers, holds::Judged},
};

impl Desk {
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
}

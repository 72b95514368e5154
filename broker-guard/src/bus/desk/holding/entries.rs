//! The entries of the log, and the denials, that tell of what waits.

use sealbus_envelope::{
    approval::SignedApproval,
    identity::KeyKind,
    name::Name,
    reason::{Reason, Refused},
    time::Millis,
};

use crate::{
    audit::entry::{self, Body, Record},
    check::Denial,
    oversight::holds::Held,
};

pub(super) fn denial_of(held: &Held, refused: Refused) -> Denial {
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

pub(super) fn held_record(held: &Held, policy_version: u64, now: Millis) -> Record<'static> {
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

pub(super) fn ended_record(
    held: &Held,
    refused: Option<Reason>,
    people: &[Name],
    now: Millis,
) -> Record<'static> {
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

pub(super) fn approval_record(
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

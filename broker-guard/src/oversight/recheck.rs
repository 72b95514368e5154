//! What is looked at again when a held envelope has its approvals: it may have waited for hours.
//!
//! It is judged under the policy and status in force now, at the guard's time now, as its readers will judge it, so
//! that nothing goes on which they would refuse:
//! - its sender is neither revoked nor in quarantine, and credential and session certificate are valid still;
//! - the rule takes it and, if it names a flow grant, the grant does and has not expired;
//! - its labels keep to its parents. To its sender's floor it was held when it came: what the sender was given to
//!   read since is not in it. If the policy changed meanwhile it is held to the floor as it is now, since nobody knows
//!   what the new policy would have let pass then;
//! - as many people approved as the hold in force wants.
//!
//! Not looked at again: rates, freshness, whether its key is open. The sender may be gone, and its key rotated; who
//! holds the key was a reader when it was sealed, and the bytes have been on the wire since.

use sealbus_envelope::{
    identity::{Member, PublicKey},
    policy::{Faults, check_flow},
    reason::{Reason, Refused},
    time::Millis,
    wire::{Decoded, SeenRoots, Verified},
};

use super::holds::Held;
use crate::{sessions::InForce, taint::Floor};

/// An envelope that may go on.
#[derive(Debug)]
pub struct Released<'b> {
    /// The envelope.
    pub verified: Verified<'b>,
    /// What it would be denied for, were it not for observe mode.
    pub observed: Option<Refused>,
}

/// Judges a held envelope again. `floor` is its sender's now.
///
/// # Errors
/// `approval_missing` if it has not all approvals; `expired`, `approval_expired`; `revoked`, `credential_expired`,
/// `certificate_expired`; what the checks of rule, flow grant and labels refuse.
pub fn recheck<'b>(
    held: &Held,
    bytes: &'b [u8],
    in_force: &InForce,
    issuer: &PublicKey,
    floor: &Floor,
    seen: &impl SeenRoots,
    now: Millis,
) -> Result<Released<'b>, Refused> {
    let (until, end) = held.until();
    if now >= until {
        return Err(Refused::new(end.reason(), "hold"));
    }
    if held.missing() > 0 {
        return Err(Refused::new(Reason::ApprovalMissing, "hold"));
    }
    let policy = &in_force.policy;
    let bus = policy.tables().bus;
    let sender = Member::verify(&held.credential, &held.certificate, bus, issuer)?;
    sender.check(&in_force.status, now)?;
    let verified = Decoded::decode(bytes)?.verify(sender.certificate(), sender.credential(), seen)?;
    let header = *verified.header();
    let claims = sender.claims();
    let principal = policy.principal(claims).map_err(|reason| Refused::new(reason, "policy"))?;
    let allowed = policy.may_publish(&principal, header.rule, header.subject, header.label, bytes.len());
    let mut allowed = allowed.map_err(|reason| Refused::new(reason, "policy"))?;
    if allowed.rule.is_request() || header.request.is_some() {
        return Err(Refused::new(Reason::WrongPattern, "header.rule"));
    }
    let faults: &mut Faults = &mut allowed.faults;
    if *policy.digest() == held.policy {
        let grant = header.flow_grant.and_then(|name| policy.grant(name));
        check_flow(&header, grant.map(|grant| &grant.record), claims, bytes.len(), now, faults)?;
    } else {
        policy.check_flow(claims, floor, &header, bytes.len(), now, faults)?;
    }
    let observed = allowed.faults.observed();
    Ok(Released { verified, observed })
}

//! What an approver checks of an envelope that waits: all that a reader checks, but for what only its release brings.

use crate::{
    identity::Member,
    keys::SenderKey,
    policy::{Faults, MessageKind, check_flow, check_publish, check_read},
    reader::{Context, Lookup},
    reason::{Reason, Refused},
    subject::Subject,
    wire::{Decoded, SeenRoots, Unadmitted},
};

/// Opens a held envelope for somebody who is a named reader of its rule. Whether a guard admits it, whether it was
/// approved, whether it is a replay and how old it is are not looked at: that is what is being decided.
///
/// # Errors
/// In this order: what [`Decoded::decode`] refuses; `wrong_bus`; `wrong_session`, `wrong_sender`, `wrong_role`;
/// `revoked`, the sender's times; `bad_proof`, `bad_signature`; `unknown_rule`, `wrong_pattern`, what
/// [`check_publish`], [`check_flow`] and [`check_read`] refuse; what
/// [`Verified::open_unadmitted`](crate::wire::Verified::open_unadmitted) refuses.
pub fn read_held(
    bytes: &[u8],
    sender: &Member,
    key: &SenderKey,
    context: &Context<'_>,
    lookup: &dyn Lookup,
    seen: &impl SeenRoots,
) -> Result<Unadmitted, Refused> {
    let decoded = Decoded::decode(bytes)?;
    let header = *decoded.claimed();
    let me = context.me.claims();
    if header.bus != me.bus {
        return Err(Refused::new(Reason::WrongBus, "header.bus"));
    }
    let (certificate, credential) = (sender.certificate(), sender.credential());
    decoded.check_sender(certificate, credential)?;
    sender.check(context.status, context.now)?;
    let verified = decoded.verify(certificate, credential, seen)?;

    let rule = lookup.rule(header.rule).ok_or(Refused::new(Reason::UnknownRule, "header.rule"))?;
    if rule.kind != MessageKind::Stream || header.request.is_some() {
        return Err(Refused::new(Reason::WrongPattern, "header.rule"));
    }
    let (subject, claims) = (Subject::parse(header.subject)?, sender.claims());
    let mut faults = Faults::observing(context.tables.observes(&rule, claims));
    check_publish(context.tables, &rule, claims, &subject, header.label, false, &mut faults)?;
    let grant = header.flow_grant.and_then(|name| lookup.flow_grant(name));
    check_flow(&header, grant.as_deref(), claims, bytes.len(), context.now, &mut faults)?;
    check_read(context.tables, &rule, me, header.label, false)?;
    verified.open_unadmitted(key)
}

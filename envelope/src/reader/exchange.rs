//! Keys between sessions: whom a sender seals to, and which keys a reader takes.

use crate::{
    control::ReaderRecord,
    hash::Hash,
    identity::{Member, PublicKey, Role},
    keys::{Grant, ReaderKey, ReaderSecret, SenderKey},
    label::Label,
    policy::{Faults, MessageKind, Rule, check_read},
    reader::{Context, Lookup},
    reason::{Reason, Refused},
    time::Millis,
};

/// Decides whether to seal the key of `rule` and `label` to the reader that the guard names: the guard may
/// name anybody, so the sender checks for itself. `asked` if the key is for replies to this reader.
///
/// # Errors
/// In this order: `status_expired` (past it no key is granted on its word); what [`Member::verify`]
/// refuses; `wrong_role`; what [`Member::check`] refuses; what [`ReaderKey::verify`] and
/// [`ReaderKey::check_time`] refuse; what [`check_read`] refuses.
pub fn check_reader(
    record: &ReaderRecord,
    issuer: &PublicKey,
    rule: &Rule,
    label: Label,
    asked: bool,
    context: &Context<'_>,
) -> Result<(Member, ReaderKey), Refused> {
    context.status.check_time(context.now)?;
    let bus = context.me.claims().bus;
    let reader = Member::verify(&record.credential, &record.certificate, bus, issuer)?;
    check_agent(&reader, context)?;
    let key = ReaderKey::verify(&record.reader_key, bus, reader.certificate())?;
    with_skew(context, |at| key.check_time(at))?;
    check_read(context.tables, rule, reader.claims(), label, asked)?;
    Ok((reader, key))
}

/// Takes a key grant from `sender`. `secrets` are the reader's keys, each with the digest of its record:
/// the newest, and the one before it while grants to it may be on their way.
///
/// A key that the reader has already it must keep with its [`ReadingKey`](crate::reader::ReadingKey): grants
/// come twice, and a fresh window would let everything read so far be read again.
///
/// # Errors
/// In this order: `wrong_role`; what [`Member::check`] refuses of the sender; what [`Grant::decode`] and
/// [`Grant::verify`] refuse; `unknown_rule`; `not_publisher` if the rule lets no message pass from this
/// sender to this reader; `label_unknown`, `label_out_of_range`; `above_clearance`; `wrong_reader`, and
/// what [`VerifiedGrant::open`](crate::keys::VerifiedGrant::open) refuses. Where the signed policy observes, a sender
/// that the rule does not name and a label outside its range are no fault; who reads is held to it all the same.
pub fn accept_grant(
    bytes: &[u8],
    sender: &Member,
    secrets: &[(Hash, &ReaderSecret)],
    context: &Context<'_>,
    lookup: &dyn Lookup,
) -> Result<SenderKey, Refused> {
    check_agent(sender, context)?;
    let verified = Grant::decode(bytes)?.verify(sender.certificate())?;
    let scope = verified.grant().scope();
    let unknown = Refused::new(Reason::UnknownRule, "key grant");
    let rule = lookup.rule(scope.rule.as_str()).ok_or(unknown)?;

    let (from, to) = (sender.claims(), context.me.claims());
    let mut faults = Faults::observing(context.tables.observes(&rule, from));
    // Keys for replies go the other way: from one who may answer to one who may ask.
    let answers = matches!(rule.kind, MessageKind::Request { .. })
        && rule.subscriber(from).is_some()
        && rule.names_publisher(to);
    let asks = rule.subscriber(to).is_some() && (rule.names_publisher(from) || !answers);
    if !asks && !answers {
        return Err(Refused::new(Reason::NotPublisher, "key grant"));
    }
    if asks && !rule.names_publisher(from) {
        faults.found(Reason::NotPublisher, "key grant")?;
    }
    if !context.tables.declares(scope.label) {
        return Err(Refused::new(Reason::LabelUnknown, "key grant"));
    }
    if !rule.labels.contains(scope.label) {
        faults.found(Reason::LabelOutOfRange, "key grant")?;
    }
    check_read(context.tables, &rule, to, scope.label, !asks)?;

    let reader = verified.grant().reader();
    let other = Refused::new(Reason::WrongReader, "key grant");
    let (digest, secret) = secrets.iter().find(|(digest, _)| *digest == reader).ok_or(other)?;
    verified.open(secret, *digest)
}

fn check_agent(member: &Member, context: &Context<'_>) -> Result<(), Refused> {
    if member.claims().role != Role::Agent {
        return Err(Refused::new(Reason::WrongRole, "credential"));
    }
    with_skew(context, |at| member.check(context.status, at))
}

/// What another agent made this moment may begin, by this reader's clock, a little in the future.
fn with_skew(context: &Context<'_>, check: impl Fn(Millis) -> Result<(), Refused>) -> Result<(), Refused> {
    match check(context.now) {
        Err(Refused { reason: Reason::NotYetValid, .. }) => check(context.now.plus(context.skew_ms)),
        checked => checked,
    }
}

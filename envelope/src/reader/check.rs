//! The reader's checks of a delivery.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    approval,
    control::kind,
    hash::Hash,
    identity::{Credential, Member, SessionId, Status},
    keys::{KeyId, SenderKey},
    policy::{Faults, FlowGrant, MessageKind, Rule, Tables, check_flow, check_publish, check_read},
    proof::admission::{Admission, Decision},
    reader::{EpochFloor, PolicyHistory, ReplayWindow},
    reason::{Reason, Refused},
    subject::{Partition, Subject, WireSubjects},
    time::Millis,
    wire::{Decoded, Header, Opened, ProvenAdmission, SeenRoots},
};

/// How far a reader's clock and a guard's may be apart: 30 seconds, in milliseconds.
pub const DEFAULT_SKEW_MS: u64 = 30_000;

/// What came from the bus.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The envelope.
    pub bytes: &'a [u8],
    /// The value of the NATS header [`HEADER_NAME`](crate::proof::admission::HEADER_NAME).
    pub admission: Option<&'a str>,
    /// The value of the NATS header [`approval::HEADER_NAME`]: only what was held has it.
    pub approvals: Option<&'a str>,
    /// The subject it came on.
    pub subject: &'a str,
}

/// A sender key that this reader was granted, and which sequence numbers it has read under it.
#[derive(Debug)]
pub struct ReadingKey {
    key: SenderKey,
    window: Mutex<ReplayWindow>,
}

impl ReadingKey {
    /// A key under which nothing was read yet.
    #[must_use]
    pub fn new(key: SenderKey) -> Self {
        Self { key, window: Mutex::default() }
    }

    /// A key under which the sequence numbers of `window` were read.
    #[must_use]
    pub const fn with_window(key: SenderKey, window: ReplayWindow) -> Self {
        Self { key, window: Mutex::new(window) }
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &SenderKey {
        &self.key
    }

    fn check(&self, sequence: u64) -> Result<(), Refused> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner).check(sequence)
    }

    fn insert(&self, sequence: u64) -> Result<(), Refused> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner).insert(sequence)
    }
}

/// What a reader looks up. Everything it finds was verified before.
pub trait Lookup {
    /// The credential whose identity is this guard key.
    fn guard(&self, key: &[u8; 32]) -> Option<Arc<Credential>>;
    /// Who holds a session.
    fn member(&self, session: &SessionId) -> Option<Arc<Member>>;
    /// A rule of the policy in force.
    fn rule(&self, name: &str) -> Option<Arc<Rule>>;
    /// A flow grant of the policy in force.
    fn flow_grant(&self, name: &str) -> Option<Arc<FlowGrant>>;
    /// A sender key that was granted to this reader.
    fn key(&self, id: &KeyId) -> Option<Arc<ReadingKey>>;
    /// Whether this reader waits for the reply to the request with this digest.
    fn asked(&self, request: &Hash) -> bool;
}

/// What a reader knows.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The reader itself; its bus is the bus.
    pub me: &'a Member,
    /// The wire subjects of the bus.
    pub subjects: &'a WireSubjects,
    /// The tables of the policy in force.
    pub tables: &'a Tables,
    /// The policy versions it has verified.
    pub policies: &'a PolicyHistory,
    /// The highest lease epochs it has seen.
    pub epochs: &'a EpochFloor,
    /// The highest status statement it has verified.
    pub status: &'a Status,
    /// Its clock.
    pub now: Millis,
    /// How far its clock and a guard's may be apart, in milliseconds.
    pub skew_ms: u64,
}

/// Takes a delivery to a message, or says why not.
///
/// Three refusals are no fault of anybody's and may pass: `unknown_key` (wait for the grant),
/// `unknown_sender` (the grant brings the sender's credential) and `new_policy` (fetch it). Hold the
/// delivery a little, then read it again: a delivery that was refused has marked nothing as seen.
///
/// # Errors
/// In this order (SPEC.md has the table): what [`Decoded::decode`] refuses; `not_admitted`; what
/// [`Admission::decode`] refuses; `wrong_role`, `revoked`, the guard credential's times, `bad_admission`,
/// `denied`; `old_epoch`, `no_policy`, `new_policy`, `old_policy`; `wrong_bus`, `unknown_sender`,
/// `wrong_session`, `wrong_sender`, `wrong_role`; `revoked`, the sender's times; `bad_proof`,
/// `bad_signature`; `unknown_rule`, `wrong_pattern`, what [`check_publish`],
/// [`check_flow`], [`check_read`] and [`approval::check`] refuse; `wrong_subject`, `no_request`; `replay`; `from_future`, `expired`; `unknown_key`; what
/// [`Admitted::open`](crate::wire::Admitted::open) refuses.
pub fn read(
    delivery: &Delivery<'_>,
    context: &Context<'_>,
    lookup: &dyn Lookup,
    seen: &impl SeenRoots,
) -> Result<Opened, Refused> {
    let decoded = Decoded::decode(delivery.bytes)?;
    let proven = prove(delivery, &decoded, context, lookup, seen)?;

    let (header, digest) = (*decoded.claimed(), decoded.digest());
    if header.bus != context.me.claims().bus {
        return Err(Refused::new(Reason::WrongBus, "header.bus"));
    }
    let unknown = Refused::new(Reason::UnknownSender, "header.session");
    let sender = lookup.member(&header.session).ok_or(unknown)?;
    let (certificate, credential) = (sender.certificate(), sender.credential());
    decoded.check_sender(certificate, credential)?;
    if proven.decision().partition != Partition::of(sender.token()).number() {
        return Err(Refused::new(Reason::BadAdmission, "admission.partition"));
    }
    // Judged at the time of admission, as the guard judged it: a message that was held outlives its
    // sender's session, but never its sender's good name.
    sender.check(context.status, proven.decision().time)?;
    let admitted = decoded.verify(certificate, credential, seen)?.admit_proven(&proven)?;

    check_policy(&header, &digest, &sender, delivery, proven.decision(), context, lookup)?;

    let key = lookup.key(&header.key);
    if let Some(key) = &key {
        key.check(header.sequence)?;
    }
    header.check_age(proven.decision().time, context.now, context.skew_ms)?;
    let key = key.ok_or(Refused::new(Reason::UnknownKey, "header.key"))?;
    let opened = admitted.open(key.key())?;
    // Only now: what was refused marks nothing, and of two readings at once one comes too late.
    key.insert(header.sequence)?;
    Ok(opened)
}

/// The guard's part: it may admit, it did admit exactly this, under a policy and a lease in force.
fn prove(
    delivery: &Delivery<'_>,
    decoded: &Decoded<'_>,
    context: &Context<'_>,
    lookup: &dyn Lookup,
    seen: &impl SeenRoots,
) -> Result<ProvenAdmission, Refused> {
    let text = delivery.admission.ok_or(Refused::new(Reason::NotAdmitted, "admission"))?;
    let admission = Admission::decode(text)?;
    if !context.tables.guards.iter().any(|guard| *guard.as_bytes() == admission.guard) {
        return Err(Refused::new(Reason::WrongRole, "admission.guard"));
    }
    let guard = lookup
        .guard(&admission.guard)
        .filter(|guard| *guard.claims().identity.as_bytes() == admission.guard)
        .ok_or(Refused::new(Reason::BadAdmission, "admission.guard"))?;
    if context.status.is_revoked(&guard.claims().identity) {
        return Err(Refused::new(Reason::Revoked, "admission.guard"));
    }
    let bus = context.me.claims().bus;
    let proven = ProvenAdmission::prove(&admission, bus, &decoded.digest(), &guard, seen)?;
    let decision = proven.decision();
    guard.check_time(decision.time)?;
    context.epochs.check(decision)?;
    context.policies.check(decision.policy_version, &decision.policy_digest, decision.time)?;
    Ok(proven)
}

/// The policy's part: the sender may publish this, the reader may read it, and it came the way it must.
fn check_policy(
    header: &Header<'_>,
    digest: &Hash,
    sender: &Member,
    delivery: &Delivery<'_>,
    decision: &Decision,
    context: &Context<'_>,
    lookup: &dyn Lookup,
) -> Result<(), Refused> {
    let rule = lookup.rule(header.rule).ok_or(Refused::new(Reason::UnknownRule, "header.rule"))?;
    let subject = Subject::parse(header.subject)?;
    let reply = header.request.is_some();
    if reply && rule.kind == MessageKind::Stream {
        return Err(Refused::new(Reason::WrongPattern, "header.request"));
    }
    let claims = sender.claims();
    // Only what the quorum lets be observed: a guard cannot wave through what the signed policy enforces.
    let mut faults = Faults::observing(decision.observed && context.tables.observes(&rule, claims));
    check_publish(context.tables, &rule, claims, &subject, header.label, reply, &mut faults)?;
    let grant = header.flow_grant.and_then(|name| lookup.flow_grant(name));
    check_flow(header, grant.as_deref(), claims, delivery.bytes.len(), decision.time, &mut faults)?;
    check_read(context.tables, &rule, context.me.claims(), header.label, reply)?;
    // What must be approved comes with the approvers' own signatures: the guard's word is not enough.
    for hold in rule.hold.iter().chain(grant.iter().filter_map(|grant| grant.approval.as_ref())) {
        let missing = Refused::new(Reason::ApprovalMissing, "approval");
        approval::check(hold, context.status, digest, delivery.approvals.ok_or(missing)?)?;
    }

    let own_box = |kind| context.subjects.session_box(context.me.token(), &context.me.session(), kind);
    let expected = match (rule.kind, reply) {
        (MessageKind::Stream, _) => context.subjects.delivery(header.label.level, header.subject),
        (MessageKind::Request { .. }, false) => own_box(kind::REQUEST),
        (MessageKind::Request { .. }, true) => own_box(kind::REPLY),
    };
    if delivery.subject != expected {
        return Err(Refused::new(Reason::WrongSubject, "wire subject"));
    }
    if header.request.is_some_and(|request| !lookup.asked(&request)) {
        return Err(Refused::new(Reason::NoRequest, "header.request"));
    }
    Ok(())
}

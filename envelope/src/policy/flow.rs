//! Flow grants: the only way for information to go to a label that does not dominate its own.
//!
//! A grant declassifies (to a lower level or fewer compartments) or endorses (to more integrity), for one
//! team, from what it read on some subjects to what it publishes on others, until a day.

use crate::{
    identity::Claims,
    label::Label,
    name::{MAX_NAME, Name},
    policy::{
        faults::Faults,
        oversight::Hold,
        record::{VERSION, pattern, reader, version},
        rule::Rate,
    },
    reason::{Reason, Refused},
    subject::Pattern,
    time::Millis,
    wire::{
        Header,
        codec::Writer,
        header::{read_label, write_label},
    },
};

/// The most flow grants of a policy.
pub const MAX_GRANTS: usize = 1024;
const ARITY: usize = 11;

/// An explicit, narrow declassification or endorsement.
///
/// ```
/// use sealbus_envelope::label::{Compartments, Integrity, Label, Level};
/// use sealbus_envelope::policy::FlowGrant;
/// use sealbus_envelope::{name::Name, subject::Pattern, time::Millis};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let label = |level, compartments, integrity| {
///     Ok::<_, Box<dyn std::error::Error>>(Label::new(
///         Level::new(level)?, Compartments::from_bits(compartments), Integrity::new(integrity)?,
///     ))
/// };
/// // Level 2 is secret, compartment 0 is findings. Editors may take findings out of it, to level 1, as summaries.
/// let grant = FlowGrant {
///     name: Name::parse("publish-summary")?,
///     team: Name::parse("editors")?,
///     from: Pattern::parse("findings.>")?,
///     to: Pattern::parse("summary.*")?,
///     from_label: label(2, 0b1, 0)?,
///     to_label: label(1, 0, 0)?,
///     max_bytes: Some(4_096),
///     rate: None,
///     expires: Millis(1_800_000_000_000),
///     approval: None,
/// };
/// assert!(grant.lifts(label(2, 0b1, 0)?), "a secret finding");
/// assert!(grant.lifts(label(1, 0, 3)?), "and whatever is below it");
/// assert!(!grant.lifts(label(3, 0b1, 0)?), "nothing above secret");
/// assert!(!grant.lifts(label(2, 0b11, 0)?), "nothing of another compartment");
/// assert_eq!(FlowGrant::decode(&grant.encode())?, grant);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowGrant {
    /// Unique among the policy's grants; envelopes name the grant they use.
    pub name: Name,
    /// Who may use it.
    pub team: Name,
    /// What it lifts was read on these subjects: the patterns of the rules it came under are covered by it. Held to
    /// by guards, which know what came under which rule; readers know parents by digest only.
    pub from: Pattern,
    /// It is used on these subjects.
    pub to: Pattern,
    /// It lifts labels that this one dominates: those of no higher level, no other compartment and no less integrity.
    pub from_label: Label,
    /// Envelopes that use it are labelled at least this: no lower, with all its compartments, and with no more
    /// integrity.
    pub to_label: Label,
    /// The largest envelope that uses it, in bytes.
    pub max_bytes: Option<u32>,
    /// The most envelopes of one sender that use it. Held to by guards.
    pub rate: Option<Rate>,
    /// It is of no use from then on, by the guard's clock.
    pub expires: Millis,
    /// Envelopes that use it wait until people approve them.
    pub approval: Option<Hold>,
}

impl FlowGrant {
    /// Whether it lifts what was labelled `label`.
    #[must_use]
    pub fn lifts(&self, label: Label) -> bool {
        self.from_label.dominates(label)
    }

    /// Whether the holder of `claims` may use it for this envelope of `size` bytes at `now`.
    ///
    /// # Errors
    /// `flow_grant_mismatch` (another team, another subject, a label below its step, too large),
    /// `flow_grant_expired`.
    pub fn check_use(
        &self,
        claims: &Claims,
        subject: &str,
        label: Label,
        size: usize,
        now: Millis,
    ) -> Result<(), Refused> {
        let fits = self.team == claims.team
            && self.to.matches_str(subject)
            && label.dominates(self.to_label)
            && self.max_bytes.is_none_or(|most| u64::from(most) >= size as u64);
        if !fits {
            return Err(Refused::new(Reason::FlowGrantMismatch, "header.flow_grant"));
        }
        if now >= self.expires {
            return Err(Refused::new(Reason::FlowGrantExpired, "header.flow_grant"));
        }
        Ok(())
    }

    /// Writes the record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(256);
        w.array(ARITY).uint(VERSION).str(self.name.as_str()).str(self.team.as_str());
        w.str(self.from.as_str()).str(self.to.as_str());
        write_label(&mut w, self.from_label);
        write_label(&mut w, self.to_label);
        w.option(self.max_bytes, |w, most| {
            w.uint(most);
        });
        w.option(self.rate, |w, rate| rate.write(w));
        w.uint(self.expires.0).option(self.approval.as_ref(), |w, hold| hold.write(w));
        w.into_bytes()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `bad_name`, `bad_subject`, `bad_label`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let mut r = reader(bytes, "flow grant")?;
        r.array(ARITY)?;
        version(&mut r, "flow grant")?;
        let grant = Self {
            name: Name::parse(r.str(MAX_NAME)?)?,
            team: Name::parse(r.str(MAX_NAME)?)?,
            from: pattern(&mut r)?,
            to: pattern(&mut r)?,
            from_label: read_label(&mut r)?,
            to_label: read_label(&mut r)?,
            max_bytes: r.option(|r| r.small())?,
            rate: r.option(Rate::read)?,
            expires: Millis(r.uint()?),
            approval: r.option(Hold::read)?,
        };
        r.finish()?;
        Ok(grant)
    }
}

/// Whether an envelope of `size` bytes keeps to what its sender says of it at `now`: a flow grant that it names is
/// `found` in the policy and may be used for it, and its label dominates those of the parents it names, but for what
/// the grant lifts. Gives the grant, if one may be used.
///
/// Readers ask at the time of the admission, guards at the time of arrival, which is the same. `found` is what the policy has
/// under the name in `header`, and is ignored if the header names none. `size` is that of the whole envelope as it
/// travels.
///
/// ```
/// # use sealbus_envelope::hash::Hash;
/// # use sealbus_envelope::identity::{BusId, Claims, Role, SessionId, SigningKey};
/// # use sealbus_envelope::keys::KeyId;
/// # use sealbus_envelope::label::{Clearance, Compartments, Integrity, Label, Level};
/// # use sealbus_envelope::name::{AgentToken, Name};
/// # use sealbus_envelope::subject::{Pattern, Subject};
/// # use sealbus_envelope::time::{Millis, Validity};
/// # use sealbus_envelope::wire::{EnvelopeId, Flags, Header, HeaderFields, Parent};
/// use sealbus_envelope::policy::{Faults, FlowGrant, check_flow};
/// use sealbus_envelope::reason::Reason;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let secret = Label::new(Level::new(2)?, Compartments::default(), Integrity::LOWEST);
/// # let public = Label::new(Level::new(0)?, Compartments::default(), Integrity::LOWEST);
/// # let editors = Claims {
/// #     bus: BusId::from_bytes([1; 32]), identity: SigningKey::from_seed(&[1; 32]).public().clone(),
/// #     name: Name::parse("editor")?, team: Name::parse("editors")?, role: Role::Agent,
/// #     clearance: Clearance::default(), integrity_ceiling: Integrity::LOWEST, zones: vec![],
/// #     validity: Validity { not_before: Millis(0), not_after: Millis(9) },
/// # };
/// # let grant = FlowGrant {
/// #     name: Name::parse("publish-summary")?, team: Name::parse("editors")?,
/// #     from: Pattern::parse("findings.>")?, to: Pattern::parse("summary.*")?,
/// #     from_label: secret, to_label: public, max_bytes: None, rate: None, expires: Millis(9), approval: None,
/// # };
/// # let fields = |label, flow_grant| HeaderFields {
/// #     bus: BusId::from_bytes([1; 32]), id: EnvelopeId::from_bytes([2; 16]),
/// #     sender: AgentToken::parse("editor-aaaaaaaaaa").unwrap(), session: SessionId::from_bytes([3; 32]),
/// #     rule: Name::parse("summaries").unwrap(), subject: Subject::parse("summary.today").unwrap(), label,
/// #     flow_grant, key: KeyId::from_bytes([4; 32]), sequence: 0, issued_at: Millis(1), ttl_ms: 1,
/// #     parents: vec![Parent { digest: [5; 32], label: secret }], request: None, flags: Flags::NONE,
/// # };
/// // A public summary that derives from a secret finding.
/// let bytes = fields(public, None).encode()?;
/// let refused = check_flow(&Header::decode(&bytes)?, None, &editors, 900, Millis(7), &mut Faults::enforced());
/// assert_eq!(refused.unwrap_err().reason, Reason::BelowParents);
///
/// // The same, naming the flow grant that allows it.
/// let bytes = fields(public, Some(grant.name.clone())).encode()?;
/// let header = Header::decode(&bytes)?;
/// let used = check_flow(&header, Some(&grant), &editors, 900, Millis(7), &mut Faults::enforced())?;
/// assert_eq!(used, Some(&grant));
///
/// // Its time is over; under observation that is recorded, and what only the grant lifted is a second fault.
/// let mut faults = Faults::observing(true);
/// assert_eq!(check_flow(&header, Some(&grant), &editors, 900, grant.expires, &mut faults)?, None);
/// assert_eq!(faults.observed().map(|fault| fault.reason), Some(Reason::FlowGrantExpired));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `flow_grant_unknown`, what [`FlowGrant::check_use`] refuses, `below_parents`; but for what `faults` lets pass.
pub fn check_flow<'g>(
    header: &Header<'_>,
    found: Option<&'g FlowGrant>,
    claims: &Claims,
    size: usize,
    now: Millis,
    faults: &mut Faults,
) -> Result<Option<&'g FlowGrant>, Refused> {
    let usable = match (header.flow_grant, found) {
        (None, _) => None,
        (Some(_), None) => {
            faults.found(Reason::FlowGrantUnknown, "header.flow_grant")?;
            None
        }
        (Some(_), Some(grant)) => match grant.check_use(claims, header.subject, header.label, size, now) {
            Ok(()) => Some(grant),
            Err(misuse) => {
                faults.found(misuse.reason, misuse.what)?;
                None
            }
        },
    };
    // Parent by parent: label and grant together may dominate a join that has parts which neither does.
    let lifted = |label| usable.is_some_and(|grant| grant.lifts(label));
    let kept = header.label.dominates(header.parents_join)
        || header.parents().all(|parent| header.label.dominates(parent.label) || lifted(parent.label));
    if !kept {
        faults.found(Reason::BelowParents, "header.label")?;
    }
    Ok(usable)
}

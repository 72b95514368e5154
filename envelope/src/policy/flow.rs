//! Flow grants: the only way for information to go to a label that does not dominate its own.
//!
//! A grant declassifies (to a lower level or fewer compartments) or endorses (to more integrity), for one
//! team, from what it read on some subjects to what it publishes on others, until a day.

use crate::{
    identity::Claims,
    label::Label,
    name::{MAX_NAME, Name},
    policy::{
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

use super::faults::Faults;

/// The most flow grants of a policy.
pub const MAX_GRANTS: usize = 1024;
const ARITY: usize = 10;

/// An explicit, narrow declassification or endorsement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowGrant {
    /// Unique among the policy's grants; envelopes name the grant they use.
    pub name: Name,
    /// Who may use it.
    pub team: Name,
    /// What it lifts was read on these subjects: the patterns of the rules it came under are covered by it.
    pub from: Pattern,
    /// It is used on these subjects.
    pub to: Pattern,
    /// It lifts labels that this one dominates.
    pub from_label: Label,
    /// Envelopes that use it are labelled at least this.
    pub to_label: Label,
    /// The largest envelope that uses it, in bytes.
    pub max_bytes: Option<u32>,
    /// The most envelopes of one sender that use it.
    pub rate: Option<Rate>,
    /// It is of no use from then on.
    pub expires: Millis,
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
        w.uint(self.expires.0);
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
        };
        r.finish()?;
        Ok(grant)
    }
}

/// Whether an envelope of `size` bytes keeps to what its sender says of it at `now`: a flow grant that it names is
/// `found` in the policy and may be used for it, and its label dominates those of the parents it names, but for what
/// the grant lifts. Gives the grant, if one may be used.
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

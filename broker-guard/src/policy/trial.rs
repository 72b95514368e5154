//! A policy to ask questions of: compiled as the guard compiles it, though perhaps nobody has signed it yet.
//!
//! What is enforced is compiled from a verified bundle. This compiles a file under review too, so that what
//! the commands say of it is what the guard would do.

use sealbus_envelope::{
    hash::Hash,
    identity::{BusId, Claims, PublicKey, Role, SigningKey},
    label::{Clearance, Integrity, Label},
    name::Name,
    policy::{Bundle, Draft, Party, Records, Tables, Who},
    subject::Pattern,
    time::{Millis, Validity},
};

use super::{
    bundle::records_of,
    compile::{CompileError, CompiledPolicy},
    model::Policy,
};
use crate::taint::Floor;

/// A policy's records and the same compiled.
#[derive(Debug, Clone)]
pub struct Trial {
    records: Records,
    compiled: CompiledPolicy,
}

impl Trial {
    /// The policy of a file. Its records are no bus's: keys are nobody's, and it can be signed by nobody.
    ///
    /// # Errors
    /// [`CompileError`]: never for a policy that `check` accepted.
    pub fn of_policy(policy: &Policy) -> Result<Self, CompileError> {
        Self::of_records(records_of(policy, NO_BUS, nobody(), Vec::new()), 0)
    }

    /// The policy of a signed bundle.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn of_bundle(bundle: &Bundle) -> Result<Self, CompileError> {
        Self::of_records(bundle.records().clone(), bundle.head().fields().version)
    }

    /// The policy of a draft, whoever has signed it.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn of_draft(draft: &Draft) -> Result<Self, CompileError> {
        Self::of_records(draft.records().clone(), draft.fields().version)
    }

    fn of_records(records: Records, version: u64) -> Result<Self, CompileError> {
        let root = records.head(version, Millis::default()).root;
        let compiled = CompiledPolicy::of_records(&records, version, root)?;
        Ok(Self { records, compiled })
    }

    /// What it says.
    #[must_use]
    pub const fn records(&self) -> &Records {
        &self.records
    }

    /// Its names, teams and zones.
    #[must_use]
    pub const fn tables(&self) -> &Tables {
        &self.records.tables
    }

    /// The same, compiled. Not for enforcing: nobody may have signed it.
    pub(crate) const fn compiled(&self) -> &CompiledPolicy {
        &self.compiled
    }

    /// Adds to a floor what was read under one of its rules. What came under another counts too; no flow grant
    /// lifts it, so what it covered makes no difference.
    pub fn read_under(&self, floor: &mut Floor, rule: &Name, label: Label) {
        let known = self.compiled.rule(rule.as_str()).map(|known| known.pattern.clone());
        // A name is a subject of one token.
        if let Some(pattern) = known.or_else(|| Pattern::parse(rule.as_str()).ok()) {
            floor.raise(rule, &pattern, label);
        }
    }

    /// The version, 0 if it is not from a bundle.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.compiled.version()
    }

    /// The credential of an agent called `agent` that has all its team has.
    #[must_use]
    pub fn member(&self, agent: &Name, team: &Name) -> Claims {
        Claims {
            bus: self.records.tables.bus,
            identity: nobody(),
            name: agent.clone(),
            team: team.clone(),
            role: Role::Agent,
            clearance: Clearance { level: Label::TOP.level, compartments: Label::TOP.compartments },
            integrity_ceiling: Integrity::HIGHEST,
            zones: Vec::new(),
            validity: Validity { not_before: Millis(0), not_after: Millis(u64::MAX) },
        }
    }

    /// What a party of a rule may read at most. Of an agent named by itself only its credential would tell, so
    /// nothing is excluded.
    #[must_use]
    pub fn clearance_of(&self, party: &Party) -> Clearance {
        let all = Clearance { level: Label::TOP.level, compartments: Label::TOP.compartments };
        match &party.who {
            Who::Team(team) => {
                self.tables().team(team.as_str()).map_or_else(Clearance::default, |t| t.clearance)
            }
            Who::Agent(_) => all,
        }
    }

    /// The most trusted rank that a party of a rule may claim.
    #[must_use]
    pub fn ceiling_of(&self, party: &Party) -> Integrity {
        match &party.who {
            Who::Team(team) => {
                self.tables().team(team.as_str()).map_or(Integrity::LOWEST, |team| team.integrity_ceiling)
            }
            Who::Agent(_) => Integrity::HIGHEST,
        }
    }
}

const NO_BUS: BusId = BusId::from_bytes([0; 32]);
const NO_SEED: Hash = [0; 32];

/// A key for records that name nobody's.
fn nobody() -> PublicKey {
    SigningKey::from_seed(&NO_SEED).public().clone()
}

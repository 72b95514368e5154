//! From a checked policy to the records that the policy keys sign, and back to what a guard enforces.

use sealbus_envelope::identity::{BusId, PublicKey, Roots, SigningKey};
use sealbus_envelope::policy::{Bundle, Excerpt, ExcerptRecord, Leaves, Records, Tables};
use sealbus_envelope::proof::merkle::Tree;
use sealbus_envelope::reason::Refused;
use sealbus_envelope::time::Millis;

use super::compile::{CompileError, CompiledPolicy, CompiledRule};
use super::decide::Principal;
use super::model::Policy;

/// Why a bundle is not put into force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not a bundle of this bus, or not signed by the quorum.
    #[error("the policy bundle is refused: {0}")]
    Refused(#[from] Refused),
    /// Signed, but its records make no policy.
    #[error("the policy bundle is signed but unusable: {0}")]
    Unusable(#[from] CompileError),
    /// Older than what is in force: somebody serves an old policy.
    #[error(
        "the policy bundle has version {offered}, and version {in_force} is in force: sign it again with a higher version"
    )]
    RolledBack {
        /// The version offered.
        offered: u64,
        /// The version in force.
        in_force: u64,
    },
}

/// The keys that a bundle names besides what is in the policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceKeys {
    /// Signs status statements.
    pub status: PublicKey,
    /// Guards that may admit.
    pub guards: Vec<PublicKey>,
}

/// The records of `policy`, as they are signed.
#[must_use]
pub fn records(policy: &Policy, keys: &ServiceKeys, roots: &Roots) -> Records {
    records_of(policy, roots.bus(), keys.status.clone(), keys.guards.clone())
}

/// The records of `policy` on one bus.
pub(super) fn records_of(
    policy: &Policy,
    bus: BusId,
    status_key: PublicKey,
    guards: Vec<PublicKey>,
) -> Records {
    let mut teams: Vec<_> = policy.teams.iter().map(|team| team.record.clone()).collect();
    teams.sort_by(|a, b| a.name.cmp(&b.name));
    let mut zones = policy.zones.clone();
    zones.sort_by(|a, b| a.name.cmp(&b.name));
    let tables = Tables {
        bus,
        levels: policy.levels.clone(),
        compartments: policy.compartments.clone(),
        integrity: policy.integrity.clone(),
        teams,
        zones,
        status_key,
        guards,
        freshness_ms: policy.freshness_ms,
        max_readers: policy.max_readers,
        observe: policy.observe,
    };
    Records {
        tables,
        rules: policy.rules.iter().map(|rule| rule.record.clone()).collect(),
        grants: policy.grants.iter().map(|grant| grant.record.clone()).collect(),
        supervision: policy.supervision.clone(),
    }
}

/// Signs `policy` as `version` with the policy keys at hand, which must make the quorum of `roots`.
///
/// # Errors
/// [`BundleError::Refused`] if the keys are too few or not policy keys, [`BundleError::Unusable`] never for
/// a policy that `check` accepted.
pub fn sign(
    policy: &Policy,
    keys: &ServiceKeys,
    version: u64,
    issued: Millis,
    signers: &[&SigningKey],
    roots: &Roots,
) -> Result<Bundle, BundleError> {
    let bundle = Bundle::sign(records(policy, keys, roots), version, issued, signers, roots)?;
    CompiledPolicy::compile(&bundle)?;
    Ok(bundle)
}

/// Verifies the bytes of a bundle against `roots` and compiles its records. `in_force` is the version in
/// force, 0 if there is none; the same version again is accepted, a lower one never.
///
/// # Errors
/// [`BundleError`].
pub fn load(bytes: &[u8], roots: &Roots, in_force: u64) -> Result<(Bundle, CompiledPolicy), BundleError> {
    let bundle = Bundle::verify(bytes, roots)?;
    let offered = bundle.head().fields().version;
    if offered < in_force {
        return Err(BundleError::RolledBack { offered, in_force });
    }
    let compiled = CompiledPolicy::compile(&bundle)?;
    Ok((bundle, compiled))
}

/// A bundle taken apart once, so that each client's excerpt costs only that client's rules.
#[derive(Debug, Clone)]
pub struct Excerpts {
    head: Vec<u8>,
    leaves: Leaves,
    tree: Tree,
}

impl Excerpts {
    /// Encodes the records and builds the Merkle tree.
    #[must_use]
    pub fn new(bundle: &Bundle) -> Self {
        let leaves = bundle.records().leaves();
        Self { head: bundle.head().as_bytes().to_vec(), tree: leaves.tree(), leaves }
    }

    /// The rules that `who` has a part in and the flow grants of use under them, each with its proof. `policy`
    /// is the same bundle, compiled.
    #[must_use]
    pub fn concerning(&self, policy: &CompiledPolicy, who: &Principal) -> Excerpt {
        let rules = policy.rules_concerning(who);
        let grants = policy.grants().iter().zip(&self.leaves.grants).zip(1 + self.leaves.rules.len()..);
        let of_use =
            grants.filter(|((grant, _), _)| rules.iter().any(|rule| grant.record.to.overlaps(&rule.pattern)));
        Excerpt {
            head: self.head.clone(),
            tables: self.leaves.tables.clone(),
            tables_path: self.tree.path(0).unwrap_or_default(),
            grants: of_use.filter_map(|((_, leaf), place)| self.proven(place, leaf)).collect(),
            rules: rules.iter().filter_map(|rule| self.rule(rule)).collect(),
        }
    }

    fn rule(&self, rule: &CompiledRule) -> Option<ExcerptRecord> {
        let place = usize::from(rule.id.number());
        self.proven(place + 1, self.leaves.rules.get(place)?)
    }

    fn proven(&self, place: usize, leaf: &[u8]) -> Option<ExcerptRecord> {
        Some(ExcerptRecord {
            index: u32::try_from(place).ok()?,
            record: leaf.to_vec(),
            path: self.tree.path(place)?,
        })
    }
}

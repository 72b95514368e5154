//! The validated policy: every name resolved, every number in range, every rule able to work.
//!
//! Only [`super::check`] makes one, so whoever holds a [`Policy`] need not check it again.

use sealbus_envelope::name::Name;
use sealbus_envelope::policy as record;
use sealbus_envelope::policy::{Rate, Supervision, Zone};

/// Most teams in a policy: compiled team sets are 256 bits wide.
pub const MAX_TEAMS: usize = 256;
/// Most lists of approvers in a policy.
pub const MAX_APPROVER_LISTS: usize = 64;
/// Largest limit a rule can set on an envelope, in bytes.
pub const MAX_BYTES: u64 = 1 << 20;
/// A rule's limit on an envelope when it sets none, in bytes.
pub const DEFAULT_MAX_BYTES: u32 = 64 << 10;
/// A rule's rate per publisher when it sets none.
pub const DEFAULT_RATE: Rate = Rate { per_second: 100, burst: 200 };
/// Highest rate a rule can set, a second or at once.
pub const MAX_RATE: u64 = 1_000_000;
/// How far an envelope's issued-at may be from the guard's clock when the policy does not say, in
/// milliseconds.
pub const DEFAULT_FRESHNESS: u32 = 30_000;
/// Most readers of one sender key when the policy does not say.
pub const DEFAULT_MAX_READERS: u32 = 256;
/// Most readers of one sender key a policy can allow.
pub const MAX_READERS: u64 = 4_096;
/// A request rule's deadline when it sets none, in milliseconds.
pub const DEFAULT_DEADLINE: u32 = 30_000;
/// An hour in milliseconds: the longest of most times that a policy sets.
pub const HOUR_MS: u64 = 3_600_000;

/// A whole validated policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Level names, lowest first; the position is the number on the wire.
    pub(crate) levels: Vec<Name>,
    /// Compartment names; the position is the number on the wire.
    pub(crate) compartments: Vec<Name>,
    /// Integrity rank names, least trusted first; the position is the number on the wire.
    pub(crate) integrity: Vec<Name>,
    pub(crate) freshness_ms: u32,
    pub(crate) max_readers: u32,
    pub(crate) zones: Vec<Zone>,
    pub(crate) teams: Vec<Team>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) grants: Vec<FlowGrant>,
    pub(crate) observe: bool,
    pub(crate) supervision: Option<Supervision>,
}

impl Policy {
    /// Level names, lowest first; the position is the number.
    #[must_use]
    pub fn levels(&self) -> &[Name] {
        &self.levels
    }

    /// Compartment names; the position is the number.
    #[must_use]
    pub fn compartments(&self) -> &[Name] {
        &self.compartments
    }

    /// Integrity rank names, least trusted first; the position is the number.
    #[must_use]
    pub fn integrity(&self) -> &[Name] {
        &self.integrity
    }

    /// How far an envelope's issued-at may be from the guard's clock, in milliseconds.
    #[must_use]
    pub const fn freshness_ms(&self) -> u32 {
        self.freshness_ms
    }

    /// The most readers that one sender key is granted to.
    #[must_use]
    pub const fn max_readers(&self) -> u32 {
        self.max_readers
    }

    /// Zones in file order.
    #[must_use]
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// Teams in file order.
    #[must_use]
    pub fn teams(&self) -> &[Team] {
        &self.teams
    }

    /// Rules in file order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether every sender's faults are recorded and let pass.
    #[must_use]
    pub const fn observe(&self) -> bool {
        self.observe
    }

    /// Thresholds, weights and quorums; none if the file leaves all to the defaults.
    #[must_use]
    pub const fn supervision(&self) -> Option<&Supervision> {
        self.supervision.as_ref()
    }

    /// Flow grants in file order.
    #[must_use]
    pub fn grants(&self) -> &[FlowGrant] {
        &self.grants
    }
}

/// A set of agents with the same rights: the signed record, and what the record has no room for yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// What is signed.
    pub record: record::Team,
    /// Policy signatures a credential of the team needs besides the issuer's.
    pub quorum: Option<u8>,
}

/// One flow that is allowed: the signed record, and what the record has no room for yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What is signed.
    pub record: record::Rule,
    /// Kept in a stream until read.
    pub durable: bool,
    /// Team given a copy of every key, to read evidence.
    pub evidence: Option<Name>,
}

/// An explicit declassification or endorsement: the signed record, and what the record has no room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowGrant {
    /// What is signed.
    pub record: record::FlowGrant,
    /// Why, for the people who review and audit.
    pub reason: String,
}

//! The policy file as written: every value with its place, nothing checked but its shape.
//!
//! These types cannot be compiled or signed. The module `validate` turns them into a
//! [`Policy`](super::model::Policy), which can.

use std::ops::Range;

/// A policy file's name and text.
#[derive(Debug, Clone)]
pub struct PolicySource {
    name: String,
    text: String,
}

impl PolicySource {
    /// The text of a policy and the name diagnostics show for it, usually its path.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// The name diagnostics show.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A value and the bytes of the source it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// What was written.
    pub value: T,
    /// Where, as byte offsets.
    pub span: Range<usize>,
}

impl<T> At<T> {
    /// `value`, written at `span`.
    pub const fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }
}

/// A name as written.
pub type Name = At<String>;
/// A list of names as written.
pub type Names = At<Vec<Name>>;

/// A whole policy as written. Order within each list is the order in the file.
#[derive(Debug, Clone, Default)]
pub struct RawPolicy {
    /// Level names, lowest first.
    pub levels: Option<Names>,
    /// Compartment names.
    pub compartments: Option<Names>,
    /// Integrity rank names, least trusted first.
    pub integrity: Option<Names>,
    /// How far an envelope's issued-at may be from the guard's clock.
    pub freshness: Option<Name>,
    /// The most readers that one sender key is granted to.
    pub max_readers: Option<At<u64>>,
    /// Every sender's faults are recorded and let pass.
    pub observe: Option<At<bool>>,
    /// `[zones.NAME]`.
    pub zones: Vec<(Name, RawZone)>,
    /// `[teams.NAME]`.
    pub teams: Vec<(Name, RawTeam)>,
    /// `[rules.NAME]`.
    pub rules: Vec<(Name, RawRule)>,
    /// `[grants.NAME]`.
    pub grants: Vec<(Name, RawGrant)>,
    /// `[approvers.NAME]`: each person's name and key.
    pub approvers: Vec<(Name, RawApprovers)>,
    /// `[orders]`: how many policy keys sign an order, by its kind.
    pub orders: Option<Vec<(Name, At<u64>)>>,
    /// `[anomaly]`.
    pub anomaly: Option<RawAnomaly>,
}

/// People who may approve.
#[derive(Debug, Clone)]
pub struct RawApprovers {
    /// `NAME = "KEY"`, in file order.
    pub people: Vec<(Name, Name)>,
    /// The table's heading.
    pub span: Range<usize>,
}

/// `{ approvals, deadline, approvers }`: what waits for people.
#[derive(Debug, Clone)]
pub struct RawHold {
    /// How many people.
    pub approvals: Option<At<u64>>,
    /// How long they have.
    pub deadline: Option<Name>,
    /// Who.
    pub approvers: Option<At<Vec<RawAsked>>>,
    /// The whole table.
    pub span: Range<usize>,
}

/// A list of approvers, as a hold names it.
#[derive(Debug, Clone)]
pub struct RawAsked {
    /// The list.
    pub list: Name,
    /// After how long it is told.
    pub after: Option<Name>,
}

/// Thresholds and weights of the anomaly detector.
#[derive(Debug, Clone)]
pub struct RawAnomaly {
    /// Score from which on an agent is watched.
    pub watch: Option<At<f64>>,
    /// Score from which on it is quarantined.
    pub quarantine: Option<At<f64>>,
    /// How long until a score is half.
    pub half_life: Option<Name>,
    /// How long only hard evidence counts.
    pub warm_up: Option<Name>,
    /// And for how many messages at least.
    pub warm_up_messages: Option<At<u64>>,
    /// Who is quarantined is kept busy apart instead of refused.
    pub divert: Option<At<bool>>,
    /// What each signal costs.
    pub weights: Vec<(Name, At<f64>)>,
    /// The table's heading.
    pub span: Range<usize>,
}

/// `{ level, compartments }`: what a team may read or a zone may hold.
#[derive(Debug, Clone)]
pub struct RawClearance {
    /// Highest level.
    pub level: Option<Name>,
    /// Compartments held.
    pub compartments: Option<Names>,
    /// The whole table.
    pub span: Range<usize>,
}

/// `{ level, compartments, integrity }`.
#[derive(Debug, Clone)]
pub struct RawLabel {
    /// Level name.
    pub level: Option<Name>,
    /// Compartment names.
    pub compartments: Option<Names>,
    /// Integrity rank name.
    pub integrity: Option<Name>,
    /// The whole table.
    pub span: Range<usize>,
}

/// One name, or `{ min, max }`.
#[derive(Debug, Clone)]
pub struct RawSpan {
    /// Lowest allowed.
    pub min: Option<Name>,
    /// Highest allowed.
    pub max: Option<Name>,
    /// The whole value.
    pub span: Range<usize>,
}

/// The labels a rule accepts.
#[derive(Debug, Clone)]
pub struct RawRange {
    /// Levels accepted.
    pub level: Option<RawSpan>,
    /// Compartments every envelope must carry.
    pub required: Option<Names>,
    /// Compartments an envelope may carry besides.
    pub allowed: Option<Names>,
    /// Integrity ranks accepted.
    pub integrity: Option<RawSpan>,
    /// The whole table.
    pub span: Range<usize>,
}

/// A place agents run in.
#[derive(Debug, Clone)]
pub struct RawZone {
    /// No team of the zone is cleared higher.
    pub ceiling: Option<RawClearance>,
    /// NATS servers (by name) agents of the zone connect to.
    pub servers: Option<Names>,
    /// NATS cluster they connect to.
    pub cluster: Option<Name>,
    /// NATS server tags they need.
    pub tags: Option<Names>,
    /// `any`, `encrypted` or `verified`.
    pub tls: Option<Name>,
    /// SHA-256 of a certificate that the verified chain must hold, in hex.
    pub ca: Option<Name>,
    /// The table's heading.
    pub span: Range<usize>,
}

/// A set of agents with the same rights.
#[derive(Debug, Clone)]
pub struct RawTeam {
    /// What the team may read.
    pub clearance: Option<RawClearance>,
    /// The most trusted rank it may claim.
    pub integrity: Option<Name>,
    /// Where its agents run.
    pub zone: Option<Name>,
    /// `directed` or `open-ended`.
    pub oversight: Option<Name>,
    /// `agent` or `session`.
    pub taint: Option<Name>,
    /// Policy signatures its credentials need.
    pub quorum: Option<At<u64>>,
    /// Its members' faults are recorded and let pass.
    pub observe: Option<At<bool>>,
    /// The table's heading.
    pub span: Range<usize>,
}

/// A team or an agent in a rule's list, with the queue group it must use.
#[derive(Debug, Clone)]
pub struct RawParty {
    /// Its name.
    pub name: Name,
    /// It is one agent, not a team.
    pub agent: bool,
    /// Queue group.
    pub queue: Option<Name>,
}

/// `{ per_second, burst }`.
#[derive(Debug, Clone)]
pub struct RawRate {
    /// Envelopes a second, per agent.
    pub per_second: Option<At<u64>>,
    /// Envelopes at once.
    pub burst: Option<At<u64>>,
    /// The whole table.
    pub span: Range<usize>,
}

/// One flow that is allowed.
#[derive(Debug, Clone)]
pub struct RawRule {
    /// Logical subjects, with NATS wildcards.
    pub pattern: Option<Name>,
    /// Who may publish (ask, in a request rule).
    pub publishers: Option<At<Vec<RawParty>>>,
    /// Who may subscribe (serve, in a request rule).
    pub subscribers: Option<At<Vec<RawParty>>>,
    /// Labels accepted.
    pub labels: Option<RawRange>,
    /// The label of an envelope whose sender names none.
    pub default: Option<RawLabel>,
    /// `stream` or `request`.
    pub kind: Option<Name>,
    /// How long a responder has.
    pub deadline: Option<Name>,
    /// Limit per publisher.
    pub rate: Option<RawRate>,
    /// Largest envelope, in bytes on the wire.
    pub max_bytes: Option<At<u64>>,
    /// Kept in a stream until read.
    pub durable: Option<At<bool>>,
    /// Waits for people's approval.
    pub hold: Option<RawHold>,
    /// `directed` or `open-ended`.
    pub oversight: Option<Name>,
    /// Team given a copy of every key, to read evidence.
    pub evidence: Option<Name>,
    /// At most so many agents publish at once.
    pub fan_in: Option<At<u64>>,
    /// Senders' faults are recorded and let pass.
    pub observe: Option<At<bool>>,
    /// The table's heading.
    pub span: Range<usize>,
}

/// An explicit declassification or endorsement.
#[derive(Debug, Clone)]
pub struct RawGrant {
    /// Team that may use it.
    pub team: Option<Name>,
    /// Subjects that the information was read on.
    pub from: Option<Name>,
    /// Subjects that it may be published on.
    pub to: Option<Name>,
    /// The highest label it lifts.
    pub from_label: Option<RawLabel>,
    /// The lowest label it gives.
    pub to_label: Option<RawLabel>,
    /// Why, for the people who review and audit.
    pub reason: Option<At<String>>,
    /// Its last moment: a date or an RFC 3339 time.
    pub expires: Option<Name>,
    /// Largest envelope that uses it.
    pub max_bytes: Option<At<u64>>,
    /// Limit per publisher on its use.
    pub rate: Option<RawRate>,
    /// People who must approve each use.
    pub approval: Option<RawHold>,
    /// The table's heading.
    pub span: Range<usize>,
}

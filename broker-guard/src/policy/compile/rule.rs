//! What a policy compiles to: teams and rules as small numbers, sets of bits, and what a decision reads side by side.

use std::{mem::offset_of, sync::Arc};

use sealbus_envelope::label::{Clearance, Integrity, Label, LabelRange};
use sealbus_envelope::name::Name;
use sealbus_envelope::policy::{FlowGrant, Hold, MessageKind, Oversight, Rate, TaintScope};
use sealbus_envelope::subject::Pattern;

use crate::policy::decide::Principal;
use crate::policy::index::Place;

/// A team's number in one compiled policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TeamId(pub(super) u8);

impl TeamId {
    /// The number, 0 to 255.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// A rule's number in one compiled policy: its place in the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub(super) u16);

impl RuleId {
    /// The number, 0 to 19,999. Leaf `number + 1` of the bundle is the rule's record.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
pub(in crate::policy) const fn numbered(n: u16) -> RuleId {
    RuleId(n)
}

/// A set of teams: 256 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TeamSet([u64; 4]);

impl TeamSet {
    /// Whether `team` is a member.
    #[must_use]
    pub fn contains(&self, team: TeamId) -> bool {
        let [a, b, c, d] = self.0;
        let word = match team.0 >> 6 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        };
        word >> (team.0 & 63) & 1 == 1
    }

    /// The members, ascending.
    pub fn iter(self) -> impl Iterator<Item = TeamId> {
        (0..=u8::MAX).map(TeamId).filter(move |team| self.contains(*team))
    }

    /// Members of either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a | e, b | f, c | g, d | h])
    }

    pub(super) fn insert(&mut self, team: TeamId) {
        if let Some(word) = self.0.get_mut(usize::from(team.0 >> 6)) {
            *word |= 1 << (team.0 & 63);
        }
    }
}

/// A team, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledTeam {
    /// Its number.
    pub id: TeamId,
    /// Its name.
    pub name: Name,
    /// What it may read, and the highest label it may write.
    pub clearance: Clearance,
    /// The most trusted rank it may claim.
    pub integrity_ceiling: Integrity,
    /// How long what its members read counts against what they write.
    pub taint: TaintScope,
    /// Its members' faults are recorded and let pass.
    pub observe: bool,
    /// How people watch over what its members send.
    pub oversight: Option<Oversight>,
}

/// A flow grant, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledGrant {
    /// What was signed.
    pub record: FlowGrant,
    /// The rules whose patterns its `from` covers, ascending.
    pub(super) from: Box<[RuleId]>,
}

impl CompiledGrant {
    /// Whether it lifts what was labelled `label` and read under `rule` when that covered `pattern`.
    #[must_use]
    pub fn lifts(&self, rule: &CompiledRule, pattern: &Pattern, label: Label) -> bool {
        let covers = || match rule.pattern == *pattern {
            true => self.from.binary_search(&rule.id).is_ok(),
            // The rule was changed since. What counts is where it was read, not where one would read it now.
            false => self.record.from.covers(pattern),
        };
        self.record.lifts(label) && covers()
    }
}

/// One side of a rule: teams as bits, and the few agents named by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Parties {
    pub(super) teams: TeamSet,
    /// Sorted.
    pub(super) agents: Box<[Name]>,
    /// Every party in the record's order: the first that names an agent gives its queue group.
    pub(super) queues: Box<[(CompiledWho, Option<Name>)]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CompiledWho {
    Team(TeamId),
    Agent(Name),
}

impl Parties {
    /// Whether one of them is `who` or the team of `who`.
    #[must_use]
    pub fn names(&self, who: &Principal) -> bool {
        self.teams.contains(who.team()) || self.agents.binary_search(who.agent()).is_ok()
    }

    /// The teams named.
    #[must_use]
    pub const fn teams(&self) -> TeamSet {
        self.teams
    }

    /// The agents named by themselves.
    #[must_use]
    pub const fn agents(&self) -> &[Name] {
        &self.agents
    }

    /// The queue group that `who` must subscribe in.
    #[must_use]
    pub fn queue_of(&self, who: &Principal) -> Option<&Name> {
        let mut parties = self.queues.iter();
        let party = parties.find(|(party, _)| match party {
            CompiledWho::Team(team) => *team == who.team(),
            CompiledWho::Agent(agent) => agent == who.agent(),
        });
        party.and_then(|(_, queue)| queue.as_ref())
    }
}

/// A rule, compiled.
///
/// Its fields are in the order in which an envelope's checks need them: the first two cache lines are all that
/// a decision to publish reads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct CompiledRule {
    /// The labels it accepts.
    pub labels: LabelRange,
    /// Who may publish, or ask.
    pub publishers: Parties,
    /// Largest envelope, in bytes on the wire.
    pub max_bytes: usize,
    pub(super) place: Place,
    /// Its number.
    pub id: RuleId,
    /// Senders' faults are recorded and let pass.
    pub observe: bool,
    pub(super) shape: Shape,
    /// Stream or request.
    pub kind: MessageKind,
    /// Limit per publisher.
    pub rate: Option<Rate>,
    /// Who may subscribe, or serve.
    pub subscribers: Parties,
    /// Its name, which envelopes carry.
    pub name: Name,
    /// The logical subjects it covers.
    pub pattern: Pattern,
    /// The label of an envelope whose sender names none.
    pub default_label: Label,
    /// At most so many agents hold an open key.
    pub fan_in: Option<u32>,
    /// Envelopes wait until people approve them.
    pub hold: Option<Arc<Hold>>,
    /// How people watch over what goes under it.
    pub oversight: Option<Oversight>,
}

const _: () = assert!(offset_of!(CompiledRule, kind) + size_of::<MessageKind>() <= 128, "two cache lines");

/// The forms a pattern takes, by how fast a subject is held against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// No wildcard: equality.
    Literal,
    /// The only wildcard is `>`: the subject begins like the pattern and goes on.
    Prefix,
    /// `*` somewhere: token by token.
    Tokens,
}

impl Shape {
    pub(super) fn of(pattern: &Pattern) -> Self {
        if pattern.is_literal() {
            return Self::Literal;
        }
        if pattern.as_str().contains('*') { Self::Tokens } else { Self::Prefix }
    }
}

impl CompiledRule {
    /// Whether it is a request rule.
    #[must_use]
    pub const fn is_request(&self) -> bool {
        matches!(self.kind, MessageKind::Request { .. })
    }

    /// Whether agents like `who` are given keys under the rule: subscribers, and in a request rule the
    /// asking side too, for the answers.
    #[must_use]
    pub fn reads(&self, who: &Principal) -> bool {
        self.subscribers.names(who) || (self.is_request() && self.publishers.names(who))
    }
}

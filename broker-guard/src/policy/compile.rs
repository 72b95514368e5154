//! The policy as the guard uses it: names resolved to small numbers once, looked up ever after.
//!
//! A [`CompiledPolicy`] never changes; a new version is a new one, exchanged whole.

use std::collections::HashMap;

use sealbus_envelope::label::{Clearance, Compartments, Integrity, Label, LabelRange};
use sealbus_envelope::name::Name;
use sealbus_envelope::subject::Pattern;

use super::model::{Kind, MAX_RULES, MAX_TEAMS, Rate, Rule, Subscriber, Team};
use super::trie::SubjectTrie;

/// A team's number in one compiled policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TeamId(u8);

impl TeamId {
    /// The number, 0 to 255.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// A rule's number in one compiled policy: its place in the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u16);

impl RuleId {
    /// The number, 0 to 16,383.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
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

    fn insert(&mut self, team: TeamId) {
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
    pub integrity: Integrity,
}

/// A rule, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledRule {
    /// Its number.
    pub id: RuleId,
    /// Its name, which envelopes carry.
    pub name: Name,
    /// The logical subjects it covers.
    pub pattern: Pattern,
    /// Teams that may publish, or ask.
    pub publishers: TeamSet,
    /// Teams that may subscribe, or serve.
    pub subscribers: TeamSet,
    /// The labels it accepts.
    pub labels: LabelRange,
    /// The label of an envelope whose sender names none.
    pub default: Label,
    /// Stream or request.
    pub kind: Kind,
    /// Limit per publisher.
    pub rate: Rate,
    /// Largest envelope, in bytes on the wire.
    pub max_bytes: usize,
    queues: Vec<(TeamId, Name)>,
}

impl CompiledRule {
    /// Whether it is a request rule.
    #[must_use]
    pub const fn is_request(&self) -> bool {
        matches!(self.kind, Kind::Request { .. })
    }

    /// The queue group that `team` must subscribe in.
    #[must_use]
    pub fn queue_of(&self, team: TeamId) -> Option<&Name> {
        self.queues.iter().find(|(of, _)| *of == team).map(|(_, queue)| queue)
    }

    /// Teams whose agents are given keys under the rule: subscribers, and in a request rule the asking
    /// side too, for the answers.
    #[must_use]
    pub fn readers(&self) -> TeamSet {
        if self.is_request() { self.subscribers.union(self.publishers) } else { self.subscribers }
    }
}

/// Why a policy could not be compiled. A policy that passed `check` never fails; a signed bundle made by
/// other means may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// More teams than there are numbers.
    #[error("the policy has more than {MAX_TEAMS} teams")]
    TooManyTeams,
    /// More rules than there are numbers.
    #[error("the policy has more than {MAX_RULES} rules")]
    TooManyRules,
    /// A name twice.
    #[error("`{0}` is in the policy twice")]
    Duplicate(Name),
    /// A rule names a team that the policy lacks.
    #[error("rule `{rule}` names the team `{team}`, which the policy does not have")]
    UnknownTeam {
        /// The rule.
        rule: Name,
        /// The team.
        team: Name,
    },
    /// A label number that the policy does not name.
    #[error("`{0}` uses a label that the policy does not declare")]
    UndeclaredLabel(Name),
}

/// What is compiled.
pub(crate) struct Parts<'a> {
    pub(crate) version: u64,
    pub(crate) digest: [u8; 32],
    pub(crate) levels: &'a [Name],
    pub(crate) compartments: &'a [Name],
    pub(crate) integrity: &'a [Name],
    pub(crate) teams: &'a [Team],
    pub(crate) rules: &'a [Rule],
}

/// A policy ready for decisions.
#[derive(Debug, Clone)]
pub struct CompiledPolicy {
    version: u64,
    digest: [u8; 32],
    levels: Vec<Name>,
    compartments: Vec<Name>,
    integrity: Vec<Name>,
    /// Dominates exactly the labels whose every number has a name.
    declared: Option<LabelRange>,
    teams: Vec<CompiledTeam>,
    team_ids: HashMap<Name, TeamId>,
    rules: Vec<CompiledRule>,
    rule_ids: HashMap<Name, RuleId>,
    rules_of_team: Vec<Vec<RuleId>>,
    subjects: SubjectTrie<RuleId>,
}

impl CompiledPolicy {
    pub(crate) fn build(parts: &Parts<'_>) -> Result<Self, CompileError> {
        if parts.teams.len() > MAX_TEAMS {
            return Err(CompileError::TooManyTeams);
        }
        if parts.rules.len() > MAX_RULES {
            return Err(CompileError::TooManyRules);
        }
        let mut policy = Self {
            version: parts.version,
            digest: parts.digest,
            levels: parts.levels.to_vec(),
            compartments: parts.compartments.to_vec(),
            integrity: parts.integrity.to_vec(),
            declared: declared(parts),
            teams: Vec::with_capacity(parts.teams.len()),
            team_ids: HashMap::with_capacity(parts.teams.len()),
            rules: Vec::with_capacity(parts.rules.len()),
            rule_ids: HashMap::with_capacity(parts.rules.len()),
            rules_of_team: vec![Vec::new(); parts.teams.len()],
            subjects: SubjectTrie::new(),
        };
        for (team, n) in parts.teams.iter().zip(0..=u8::MAX) {
            policy.add_team(team, TeamId(n))?;
        }
        for (rule, n) in parts.rules.iter().zip(0..=u16::MAX) {
            policy.add_rule(rule, RuleId(n))?;
        }
        Ok(policy)
    }

    fn add_team(&mut self, team: &Team, id: TeamId) -> Result<(), CompileError> {
        let Team { name, clearance, integrity, .. } = team;
        let highest = Label::new(clearance.level, clearance.compartments, *integrity);
        if !self.declares(highest) {
            return Err(CompileError::UndeclaredLabel(name.clone()));
        }
        if self.team_ids.insert(name.clone(), id).is_some() {
            return Err(CompileError::Duplicate(name.clone()));
        }
        self.teams.push(CompiledTeam {
            id,
            name: name.clone(),
            clearance: *clearance,
            integrity: *integrity,
        });
        Ok(())
    }

    fn add_rule(&mut self, rule: &Rule, id: RuleId) -> Result<(), CompileError> {
        let LabelRange { low, high } = rule.labels;
        if ![low, high, rule.default].into_iter().all(|label| self.declares(label)) {
            return Err(CompileError::UndeclaredLabel(rule.name.clone()));
        }
        if self.rule_ids.insert(rule.name.clone(), id).is_some() {
            return Err(CompileError::Duplicate(rule.name.clone()));
        }
        let (mut publishers, mut subscribers) = (TeamSet::default(), TeamSet::default());
        let mut queues = Vec::new();
        for team in &rule.publishers {
            publishers.insert(self.id_for(rule, team)?);
        }
        for Subscriber { team, queue } in &rule.subscribers {
            let team = self.id_for(rule, team)?;
            subscribers.insert(team);
            queues.extend(queue.clone().map(|queue| (team, queue)));
        }
        for team in publishers.union(subscribers).iter() {
            if let Some(rules) = self.rules_of_team.get_mut(usize::from(team.0)) {
                rules.push(id);
            }
        }
        self.subjects.insert(rule.pattern.as_str(), id);
        self.rules.push(CompiledRule {
            id,
            name: rule.name.clone(),
            pattern: rule.pattern.clone(),
            publishers,
            subscribers,
            labels: rule.labels,
            default: rule.default,
            kind: rule.kind,
            rate: rule.rate,
            max_bytes: usize::try_from(rule.max_bytes).unwrap_or(usize::MAX),
            queues,
        });
        Ok(())
    }

    fn id_for(&self, rule: &Rule, team: &Name) -> Result<TeamId, CompileError> {
        let unknown = || CompileError::UnknownTeam { rule: rule.name.clone(), team: team.clone() };
        self.team_ids.get(team.as_str()).copied().ok_or_else(unknown)
    }

    /// The version, which goes up with each policy.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The bundle's root, which names the policy.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Level names; the position is the number.
    #[must_use]
    pub fn levels(&self) -> &[Name] {
        &self.levels
    }

    /// Compartment names; the position is the number.
    #[must_use]
    pub fn compartments(&self) -> &[Name] {
        &self.compartments
    }

    /// Integrity rank names; the position is the number.
    #[must_use]
    pub fn integrity(&self) -> &[Name] {
        &self.integrity
    }

    /// Every team, in policy order.
    #[must_use]
    pub fn teams(&self) -> &[CompiledTeam] {
        &self.teams
    }

    /// Every rule, in policy order.
    #[must_use]
    pub fn rules(&self) -> &[CompiledRule] {
        &self.rules
    }

    /// The rule called `name`.
    #[must_use]
    pub fn rule(&self, name: &str) -> Option<&CompiledRule> {
        self.rules.get(usize::from(self.rule_ids.get(name)?.0))
    }

    /// The team numbered `id`.
    #[must_use]
    pub fn team(&self, id: TeamId) -> Option<&CompiledTeam> {
        self.teams.get(usize::from(id.0))
    }

    /// The team called `name`.
    #[must_use]
    pub fn team_named(&self, name: &str) -> Option<&CompiledTeam> {
        self.team(*self.team_ids.get(name)?)
    }

    /// The rules that name the team, in policy order.
    pub fn rules_of(&self, team: TeamId) -> impl Iterator<Item = &CompiledRule> {
        let ids = self.rules_of_team.get(usize::from(team.0)).into_iter().flatten();
        ids.filter_map(|id| self.rules.get(usize::from(id.0)))
    }

    /// The rules whose pattern matches the literal `subject`, in policy order.
    #[must_use]
    pub fn rules_matching(&self, subject: &str) -> Vec<&CompiledRule> {
        let mut ids = Vec::new();
        self.subjects.matching(subject, |id| ids.push(*id));
        self.in_order(ids)
    }

    /// The rules whose pattern shares a subject with `pattern`, in policy order.
    #[must_use]
    pub fn rules_overlapping(&self, pattern: &Pattern) -> Vec<&CompiledRule> {
        let mut ids = Vec::new();
        self.subjects.overlapping(pattern.as_str(), |id| ids.push(*id));
        self.in_order(ids)
    }

    fn in_order(&self, mut ids: Vec<RuleId>) -> Vec<&CompiledRule> {
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.rules.get(usize::from(id.0))).collect()
    }

    /// Whether the policy names every number of `label`.
    #[must_use]
    pub fn declares(&self, label: Label) -> bool {
        self.declared.is_some_and(|all| all.contains(label))
    }
}

fn declared(parts: &Parts<'_>) -> Option<LabelRange> {
    let last = |names: &[Name]| u8::try_from(names.len().checked_sub(1)?).ok();
    let level = last(parts.levels)?.try_into().ok()?;
    let integrity = last(parts.integrity)?.try_into().ok()?;
    let compartments = match parts.compartments.len() {
        0 => 0,
        n => u64::MAX >> 64_usize.checked_sub(n)?,
    };
    let low = Label { integrity, ..Label::BOTTOM };
    let high = Label { level, compartments: Compartments::from_bits(compartments), ..Label::TOP };
    Some(LabelRange { low, high })
}

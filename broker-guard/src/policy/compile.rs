//! The policy as the guard uses it: names resolved to small numbers once, looked up ever after.
//!
//! A [`CompiledPolicy`] never changes; a new version is a new one, exchanged whole.

mod rule;

use std::{collections::HashMap, sync::Arc};

use sealbus_envelope::label::{Compartments, Label, LabelRange};
use sealbus_envelope::name::Name;
use sealbus_envelope::policy::{
    Bundle, FlowGrant, MAX_RULES, MessageKind, Party, Records, Rule, Supervision, Tables, Team, Who,
};
use sealbus_envelope::subject::Pattern;

use super::decide::Principal;
use super::index::RuleIndex;
use super::model::MAX_TEAMS;
use super::trie::SubjectTrie;
#[cfg(test)]
pub(super) use rule::numbered;
pub use rule::{CompiledGrant, CompiledRule, CompiledTeam, Parties, RuleId, TeamId, TeamSet};
use rule::{CompiledWho, Shape};

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
    /// A team in a zone that the policy lacks.
    #[error("team `{team}` is in the zone `{zone}`, which the policy does not have")]
    UnknownZone {
        /// The team.
        team: Name,
        /// The zone.
        zone: Name,
    },
    /// What is asked is answered within seconds, so it cannot wait for people.
    #[error("rule `{0}` is a request rule, and what it carries cannot be held for approval")]
    HeldRequest(Name),
    /// A label number that the policy does not name.
    #[error("`{0}` uses a label that the policy does not declare")]
    UndeclaredLabel(Name),
}

/// A policy ready for decisions.
#[derive(Debug, Clone)]
pub struct CompiledPolicy {
    version: u64,
    digest: [u8; 32],
    tables: Tables,
    /// Holds exactly the labels whose every number has a name.
    declared: Option<LabelRange>,
    teams: Vec<CompiledTeam>,
    team_ids: HashMap<Name, TeamId>,
    rules: Vec<CompiledRule>,
    index: RuleIndex,
    rules_of_team: Vec<Vec<RuleId>>,
    rules_of_agent: HashMap<Name, Vec<RuleId>>,
    subjects: SubjectTrie<RuleId>,
    grants: Vec<CompiledGrant>,
    grant_places: HashMap<Name, usize>,
    supervision: Supervision,
    /// The rules under which everybody is observed.
    observed: Vec<RuleId>,
}

impl CompiledPolicy {
    /// Compiles the signed records of a verified bundle.
    ///
    /// # Errors
    /// [`CompileError`]: the bundle may have been signed by other means than `sealbus policy sign`.
    pub fn compile(bundle: &Bundle) -> Result<Self, CompileError> {
        let head = bundle.head().fields();
        Self::of_records(bundle.records(), head.version, head.root)
    }

    /// Compiles records, whoever signed them or nobody: for questions about a policy. What is enforced comes
    /// from [`compile`](Self::compile).
    pub(super) fn of_records(
        records: &Records,
        version: u64,
        digest: [u8; 32],
    ) -> Result<Self, CompileError> {
        let tables = &records.tables;
        if tables.teams.len() > MAX_TEAMS {
            return Err(CompileError::TooManyTeams);
        }
        if records.rules.len() > MAX_RULES {
            return Err(CompileError::TooManyRules);
        }
        let mut policy = Self {
            version,
            digest,
            tables: tables.clone(),
            declared: declared(tables),
            teams: Vec::with_capacity(tables.teams.len()),
            team_ids: HashMap::with_capacity(tables.teams.len()),
            rules: Vec::with_capacity(records.rules.len()),
            index: RuleIndex::with_capacity(records.rules.len()),
            rules_of_team: vec![Vec::new(); tables.teams.len()],
            rules_of_agent: HashMap::new(),
            subjects: SubjectTrie::new(),
            grants: Vec::with_capacity(records.grants.len()),
            grant_places: HashMap::with_capacity(records.grants.len()),
            supervision: records.supervision.clone().unwrap_or_default(),
            observed: Vec::new(),
        };
        for (team, n) in tables.teams.iter().zip(0..=u8::MAX) {
            policy.add_team(team, TeamId(n))?;
        }
        for (rule, n) in records.rules.iter().zip(0..=u16::MAX) {
            policy.add_rule(rule, RuleId(n))?;
        }
        for grant in &records.grants {
            policy.add_grant(grant)?;
        }
        Ok(policy)
    }

    fn add_team(&mut self, team: &Team, id: TeamId) -> Result<(), CompileError> {
        let Team { name, clearance, integrity_ceiling, zone, taint, observe, oversight } = team;
        // Ignored, it would let the team run anywhere.
        if let Some(zone) = zone.as_ref().filter(|zone| self.tables.zone(zone.as_str()).is_none()) {
            return Err(CompileError::UnknownZone { team: name.clone(), zone: zone.clone() });
        }
        if !self.declares(Label::new(clearance.level, clearance.compartments, *integrity_ceiling)) {
            return Err(CompileError::UndeclaredLabel(name.clone()));
        }
        if self.team_ids.insert(name.clone(), id).is_some() {
            return Err(CompileError::Duplicate(name.clone()));
        }
        self.teams.push(CompiledTeam {
            id,
            name: name.clone(),
            clearance: *clearance,
            integrity_ceiling: *integrity_ceiling,
            taint: *taint,
            observe: *observe,
            oversight: *oversight,
        });
        Ok(())
    }

    fn add_grant(&mut self, grant: &FlowGrant) -> Result<(), CompileError> {
        if ![grant.from_label, grant.to_label].into_iter().all(|label| self.declares(label)) {
            return Err(CompileError::UndeclaredLabel(grant.name.clone()));
        }
        let covered = self.rules.iter().filter(|rule| grant.from.covers(&rule.pattern));
        let from = covered.map(|rule| rule.id).collect();
        if self.grant_places.insert(grant.name.clone(), self.grants.len()).is_some() {
            return Err(CompileError::Duplicate(grant.name.clone()));
        }
        self.grants.push(CompiledGrant { record: grant.clone(), from });
        Ok(())
    }

    fn add_rule(&mut self, rule: &Rule, id: RuleId) -> Result<(), CompileError> {
        let LabelRange { low, high } = rule.labels;
        if ![low, high, rule.default_label].into_iter().all(|label| self.declares(label)) {
            return Err(CompileError::UndeclaredLabel(rule.name.clone()));
        }
        if rule.hold.is_some() && rule.kind != MessageKind::Stream {
            return Err(CompileError::HeldRequest(rule.name.clone()));
        }
        let place = self.index.insert(&rule.name, &rule.pattern, id);
        let place = place.ok_or_else(|| CompileError::Duplicate(rule.name.clone()))?;
        let publishers = self.parties(rule, &rule.publishers)?;
        let subscribers = self.parties(rule, &rule.subscribers)?;
        for team in publishers.teams.union(subscribers.teams).iter() {
            if let Some(rules) = self.rules_of_team.get_mut(usize::from(team.0)) {
                rules.push(id);
            }
        }
        for agent in publishers.agents.iter().chain(&subscribers.agents) {
            let rules = self.rules_of_agent.entry(agent.clone()).or_default();
            // An agent on both sides of a rule is one agent with one rule.
            if rules.last() != Some(&id) {
                rules.push(id);
            }
        }
        self.subjects.insert(rule.pattern.as_str(), id);
        if rule.observe {
            self.observed.push(id);
        }
        self.rules.push(CompiledRule {
            id,
            name: rule.name.clone(),
            pattern: rule.pattern.clone(),
            publishers,
            subscribers,
            labels: rule.labels,
            default_label: rule.default_label,
            kind: rule.kind,
            rate: rule.rate,
            max_bytes: usize::try_from(rule.max_bytes).unwrap_or(usize::MAX),
            fan_in: rule.fan_in,
            observe: rule.observe,
            hold: rule.hold.clone().map(Arc::new),
            oversight: rule.oversight,
            place,
            shape: Shape::of(&rule.pattern),
        });
        Ok(())
    }

    fn parties(&self, rule: &Rule, parties: &[Party]) -> Result<Parties, CompileError> {
        let mut teams = TeamSet::default();
        let (mut agents, mut queues) = (Vec::new(), Vec::with_capacity(parties.len()));
        for Party { who, queue } in parties {
            let who = match who {
                Who::Team(name) => {
                    let unknown =
                        || CompileError::UnknownTeam { rule: rule.name.clone(), team: name.clone() };
                    let team = self.team_ids.get(name.as_str()).copied().ok_or_else(unknown)?;
                    teams.insert(team);
                    CompiledWho::Team(team)
                }
                Who::Agent(name) => {
                    agents.push(name.clone());
                    CompiledWho::Agent(name.clone())
                }
            };
            queues.push((who, queue.clone()));
        }
        agents.sort();
        Ok(Parties { teams, agents: agents.into(), queues: queues.into() })
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

    /// The signed tables: names of labels, status key, guards, limits.
    #[must_use]
    pub const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Thresholds, weights and quorums: what only the guard goes by.
    #[must_use]
    pub const fn supervision(&self) -> &Supervision {
        &self.supervision
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
        self.rules.get(usize::from(self.index.find(name)?.0))
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

    /// The rules that name `who` or its team on either side, in policy order.
    #[must_use]
    pub fn rules_naming(&self, who: &Principal) -> Vec<&CompiledRule> {
        let team = self.rules_of_team.get(usize::from(who.team().0));
        let agent = self.rules_of_agent.get(who.agent());
        let mut ids: Vec<RuleId> = team.into_iter().chain(agent).flatten().copied().collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().filter_map(|id| self.rules.get(usize::from(id.0))).collect()
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

    /// Every flow grant, in policy order.
    #[must_use]
    pub fn grants(&self) -> &[CompiledGrant] {
        &self.grants
    }

    /// The flow grant called `name`.
    #[must_use]
    pub fn grant(&self, name: &str) -> Option<&CompiledGrant> {
        self.grants.get(*self.grant_places.get(name)?)
    }

    /// Whether `who` is observed under every rule.
    #[must_use]
    pub fn observes_all_of(&self, who: &Principal) -> bool {
        self.tables.observe || self.team(who.team()).is_some_and(|team| team.observe)
    }

    /// The rules that `who` has a part in, in policy order: those that name it or its team, and those under which
    /// observe mode lets it send.
    #[must_use]
    pub fn rules_concerning(&self, who: &Principal) -> Vec<&CompiledRule> {
        if self.observes_all_of(who) {
            return self.rules.iter().collect();
        }
        let named = self.rules_naming(who);
        let mut ids: Vec<_> = named.iter().map(|rule| rule.id).chain(self.observed.iter().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        self.in_order(ids)
    }

    /// Whether `rule`, one of this policy's, covers `subject`, a literal subject that was checked for form.
    pub(super) fn covers(&self, rule: &CompiledRule, subject: &str) -> bool {
        let (pattern, text) = (self.index.pattern(rule.place), subject.as_bytes());
        match rule.shape {
            Shape::Literal => text == pattern,
            Shape::Prefix => {
                let begin = pattern.strip_suffix(b">").unwrap_or(pattern);
                text.len() > begin.len() && text.starts_with(begin)
            }
            Shape::Tokens => rule.pattern.matches_str(subject),
        }
    }

    /// Whether the policy names every number of `label`.
    #[must_use]
    pub fn declares(&self, label: Label) -> bool {
        self.declared.is_some_and(|all| all.contains(label))
    }
}

/// The range of labels whose every number has a name; none if there are no levels or no ranks.
fn declared(tables: &Tables) -> Option<LabelRange> {
    let last = |names: &[Name]| u8::try_from(names.len().checked_sub(1)?).ok();
    let level = last(&tables.levels)?.try_into().ok()?;
    let integrity = last(&tables.integrity)?.try_into().ok()?;
    let compartments = match tables.compartments.len() {
        0 => 0,
        n => u64::MAX >> 64_usize.checked_sub(n)?,
    };
    let low = Label { integrity, ..Label::BOTTOM };
    let high = Label { level, compartments: Compartments::from_bits(compartments), ..Label::TOP };
    Some(LabelRange { low, high })
}

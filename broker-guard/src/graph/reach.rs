//! Where an agent's information can get to, and the shortest way from one agent to another.

use sealbus_envelope::{label::Label, name::Name, subject::Pattern};

use super::{
    Holder, TrustGraph,
    flow::{Basis, Emission, Held, Way},
    grant_name,
    search::{Found, minimal},
};

/// No agent and no team has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no agent or team is called `{name}`")]
pub struct UnknownHolder {
    /// The name asked for.
    pub name: String,
    /// One that differs little.
    pub near: Option<String>,
}

/// Why a step is possible.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowed {
    /// The label dominates everything the sender holds.
    ByLabel,
    /// The flow grant of this name lets it through.
    ByGrant(Name),
    /// It would be denied, but observe mode lets it pass.
    ByObserveMode,
}

/// Holders with equal rights whom information can reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached<'g> {
    /// Who, without the agent it came from.
    pub holders: Vec<&'g Holder>,
    /// The least number of steps.
    pub hops: usize,
    /// The minimal labels it arrives with.
    pub labels: Vec<Label>,
    /// Whether the shortest way needs a flow grant or observe mode.
    pub exceptional: bool,
}

/// A rule that can carry the information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carriage<'g> {
    /// The rule.
    pub rule: &'g Name,
    /// The subjects it covers.
    pub pattern: &'g Pattern,
    /// The step at which it first carries it.
    pub hops: usize,
    /// The minimal labels it carries it with.
    pub labels: Vec<Label>,
}

/// Where information can get to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach<'g> {
    /// Where it starts.
    pub start: &'g Holder,
    /// The label it has there; none for what the agent knows by itself.
    pub label: Option<Label>,
    /// Whom it can reach, nearest first.
    pub agents: Vec<Reached<'g>>,
    /// The rules that can carry it, nearest first.
    pub subjects: Vec<Carriage<'g>>,
}

impl Reach<'_> {
    /// How many agents (or teams) are reached.
    #[must_use]
    pub fn count(&self) -> usize {
        self.agents.iter().map(|reached| reached.holders.len()).sum()
    }
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<'g> {
    /// Who sends.
    pub from: &'g Holder,
    /// Who receives.
    pub to: &'g Holder,
    /// How many others with equal rights could stand for the receiver.
    pub alike: usize,
    /// Under which rule.
    pub rule: &'g Name,
    /// On which subjects.
    pub pattern: &'g Pattern,
    /// In which part.
    pub way: Way,
    /// With which label, the least possible.
    pub label: Label,
    /// Why it is possible.
    pub allowed: Allowed,
}

/// A way that information can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<'g> {
    /// At least one step.
    pub steps: Vec<Step<'g>>,
}

impl TrustGraph<'_> {
    /// Where the information of the agent called `name` can get to: what it knows by itself, or, with a
    /// `label`, what it holds at that label. Nothing, if it may not connect.
    ///
    /// # Errors
    /// [`UnknownHolder`].
    pub fn reach(&self, name: &str, label: Option<Label>) -> Result<Reach<'_>, UnknownHolder> {
        let (start, holder) = self.locate(name)?;
        let found = self.follow(start, label);
        Ok(Reach {
            start: holder,
            label,
            agents: self.reached(start, &found),
            subjects: self.carried(&found),
        })
    }

    /// The shortest way for information of agent `from` to reach agent `to`, if there is one.
    ///
    /// # Errors
    /// [`UnknownHolder`].
    pub fn path(&self, from: &str, to: &str) -> Result<Option<Path<'_>>, UnknownHolder> {
        self.path_of(from, to, None)
    }

    /// As [`path`](Self::path), for what `from` holds at `label`.
    ///
    /// # Errors
    /// [`UnknownHolder`].
    pub fn path_of(
        &self,
        from: &str,
        to: &str,
        label: Option<Label>,
    ) -> Result<Option<Path<'_>>, UnknownHolder> {
        let ((start, holder), (end, _)) = (self.locate(from)?, self.locate(to)?);
        if start == end && !holder.is_team() {
            return Ok(None);
        }
        let found = self.follow(start, label);
        let visit = self.class_of(end).and_then(|class| found.first.get(class).copied().flatten());
        Ok(visit.map(|visit| self.tell(&found, visit, start, end)))
    }

    /// Searches from one holder.
    pub(super) fn follow(&self, start: usize, label: Option<Label>) -> Found {
        let class = self.class_of(start).and_then(|no| Some((no, self.classes.get(no)?)));
        class.map_or_else(Found::default, |(no, class)| {
            self.search(no, label.map_or(Held::OWN, |label| self.holding(class, label)))
        })
    }

    /// Whom a search from `start` reached.
    pub(super) fn reached(&self, start: usize, found: &Found) -> Vec<Reached<'_>> {
        let is_start = |member: usize, holder: &Holder| member == start && !holder.is_team();
        let mut agents: Vec<Reached<'_>> = Vec::new();
        for (no, class) in self.classes.classes.iter().enumerate() {
            let first = found.first.get(no).copied().flatten();
            let Some((place, first)) = first.and_then(|n| Some((n, found.visits.get(n)?))) else { continue };
            let members =
                class.members.iter().filter_map(|member| Some((*member, self.holders.get(*member)?)));
            let holders: Vec<_> = members
                .filter(|(member, holder)| !is_start(*member, holder))
                .map(|(_, holder)| holder)
                .collect();
            if !holders.is_empty() {
                let (hops, labels) = (first.hops, found.labels(no));
                agents.push(Reached { holders, hops, labels, exceptional: found.is_exceptional(place) });
            }
        }
        agents.sort_by_key(|reached| reached.hops);
        agents
    }

    /// The rules that carried what was searched.
    pub(super) fn carried(&self, found: &Found) -> Vec<Carriage<'_>> {
        let rules = self.facts.rules.iter().zip(&found.carried);
        let mut subjects: Vec<Carriage<'_>> = rules
            .filter_map(|(rule, carried)| {
                Some(Carriage {
                    rule: &rule.name,
                    pattern: &rule.pattern,
                    hops: carried.first()?.hops,
                    labels: minimal(carried.iter().map(|carried| carried.emission.label)),
                })
            })
            .collect();
        subjects.sort_by_key(|carriage| carriage.hops);
        subjects
    }

    /// Puts agents to the classes of a way: different ones where the classes have enough.
    pub(super) fn tell(&self, found: &Found, visit: usize, start: usize, end: usize) -> Path<'_> {
        let way = found.way_to(visit);
        let mut used = vec![start];
        let mut steps = Vec::with_capacity(way.len());
        let mut from = start;
        for (n, (_, emission, to)) in way.iter().enumerate() {
            let members = self.classes.get(to.class).map_or(&[][..], |class| class.members.as_slice());
            let other = members.iter().find(|member| **member != end && !used.contains(member));
            let other = other.or_else(|| members.iter().find(|member| **member != from));
            let next = if n + 1 == way.len() { end } else { other.copied().unwrap_or(end) };
            steps.extend(self.step(from, next, members.len().saturating_sub(1), emission));
            used.push(next);
            from = next;
        }
        Path { steps }
    }

    pub(super) fn step(&self, from: usize, to: usize, alike: usize, emission: &Emission) -> Option<Step<'_>> {
        let rule = self.rule(emission.rule)?;
        Some(Step {
            from: self.holders.get(from)?,
            to: self.holders.get(to)?,
            alike,
            rule: &rule.name,
            pattern: &rule.pattern,
            way: emission.way,
            label: emission.label,
            allowed: match emission.basis {
                Basis::Label => Allowed::ByLabel,
                Basis::Grant(grant) => Allowed::ByGrant(grant_name(self.facts, grant)?),
                Basis::Observed => Allowed::ByObserveMode,
            },
        })
    }
}

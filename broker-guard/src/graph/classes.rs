//! Agents with the same rights are one class: 10,000 agents are seldom more than a few dozen kinds.

use std::collections::HashMap;

use sealbus_envelope::{
    label::{Clearance, Integrity},
    name::Name,
    policy::{MessageKind, Party, Who},
};

use super::{
    View,
    facts::{Facts, Holder, Standing, misplaced, observes},
};

/// A class by number.
pub(super) type ClassNo = usize;
/// A rule by its place in the policy.
pub(super) type RuleNo = usize;

/// Holders that no rule tells apart.
#[derive(Debug, Clone)]
pub(super) struct Class {
    /// The team's place in the tables.
    pub(super) team: usize,
    /// The meet of credential and team.
    pub(super) clearance: Clearance,
    /// The lower of credential and team.
    pub(super) ceiling: Integrity,
    /// Places in the list of holders.
    pub(super) members: Vec<usize>,
    /// Whether it is one agent: what that one sends does not reach it.
    pub(super) alone: bool,
    /// Rules that name it as publisher, or let it publish by observe mode; ascending.
    pub(super) publishes: Vec<RuleNo>,
    /// Rules that name it as subscriber, ascending.
    pub(super) subscribes: Vec<RuleNo>,
}

/// Classes on either side of a rule, ascending.
#[derive(Debug, Clone, Default)]
pub(super) struct Sides {
    pub(super) publishers: Vec<ClassNo>,
    pub(super) subscribers: Vec<ClassNo>,
    pub(super) request: bool,
}

/// Everybody, sorted into classes.
#[derive(Debug, Clone, Default)]
pub(super) struct Classes {
    pub(super) classes: Vec<Class>,
    /// By rule.
    pub(super) sides: Vec<Sides>,
    /// By holder; none for who takes part in no flow.
    pub(super) of: Vec<Option<ClassNo>>,
}

/// Rules that name an agent by itself, as (rule, whether as publisher).
type Named = Vec<(RuleNo, bool)>;

impl Classes {
    pub(super) fn sort(facts: Facts<'_>, holders: &mut [Holder], view: View) -> Self {
        let teams: HashMap<&Name, usize> =
            facts.tables.teams.iter().enumerate().map(|(n, team)| (&team.name, n)).collect();
        let mut named: HashMap<&Name, Named> = HashMap::new();
        for (n, rule) in facts.rules.iter().enumerate() {
            for (parties, publishes) in [(&rule.publishers, true), (&rule.subscribers, false)] {
                for party in parties {
                    if let Who::Agent(name) = &party.who {
                        named.entry(name).or_default().push((n, publishes));
                    }
                }
            }
        }
        let mut all = Self { of: vec![None; holders.len()], ..Self::default() };
        let mut known: HashMap<(usize, Clearance, Integrity, Named), ClassNo> = HashMap::new();
        let mut of_name: HashMap<Name, ClassNo> = HashMap::new();
        for (place, holder) in holders.iter_mut().enumerate() {
            let Some(&team_no) = teams.get(&holder.team) else {
                if holder.standing == Standing::Valid {
                    holder.standing = Standing::UnknownTeam;
                }
                continue;
            };
            let Some(team) = facts.tables.teams.get(team_no) else { continue };
            if holder.standing == Standing::Valid {
                holder.standing = misplaced(facts.tables, team, holder).unwrap_or(Standing::Valid);
            }
            if holder.standing != Standing::Valid {
                continue;
            }
            let own = if holder.is_team() { None } else { named.get(holder.name()) };
            let clearance = holder.clearance.meet(team.clearance);
            let ceiling = holder.integrity_ceiling.min(team.integrity_ceiling);
            let key = (team_no, clearance, ceiling, own.cloned().unwrap_or_default());
            let class = *known.entry(key).or_insert_with(|| {
                all.classes.push(Class {
                    team: team_no,
                    clearance,
                    ceiling,
                    members: Vec::new(),
                    alone: true,
                    publishes: Vec::new(),
                    subscribes: Vec::new(),
                });
                all.classes.len() - 1
            });
            if let Some(class) = all.classes.get_mut(class) {
                class.members.push(place);
                class.alone = class.members.len() < 2 && !holder.is_team();
            }
            if let Some(slot) = all.of.get_mut(place) {
                *slot = Some(class);
            }
            if own.is_some() {
                of_name.insert(holder.name().clone(), class);
            }
        }
        all.connect(facts, &teams, &of_name, view);
        all
    }

    /// Writes each rule's classes, and each class's rules.
    fn connect(
        &mut self,
        facts: Facts<'_>,
        teams: &HashMap<&Name, usize>,
        of_name: &HashMap<Name, ClassNo>,
        view: View,
    ) {
        let mut of_team: Vec<Vec<ClassNo>> = vec![Vec::new(); facts.tables.teams.len()];
        for (n, class) in self.classes.iter().enumerate() {
            if let Some(classes) = of_team.get_mut(class.team) {
                classes.push(n);
            }
        }
        let resolve = |parties: &[Party]| {
            let mut found = Vec::new();
            for party in parties {
                match &party.who {
                    Who::Team(team) => {
                        found.extend(teams.get(team).and_then(|n| of_team.get(*n)).into_iter().flatten());
                    }
                    Who::Agent(agent) => found.extend(of_name.get(agent)),
                }
            }
            found.sort_unstable();
            found.dedup();
            found
        };
        for (n, rule) in facts.rules.iter().enumerate() {
            let sides = Sides {
                publishers: resolve(&rule.publishers),
                subscribers: resolve(&rule.subscribers),
                request: matches!(rule.kind, MessageKind::Request { .. }),
            };
            let watching: Vec<bool> =
                (0..facts.tables.teams.len()).map(|team| view.observe && observes(facts, n, team)).collect();
            for class in &sides.publishers {
                if let Some(class) = self.classes.get_mut(*class) {
                    class.publishes.push(n);
                }
            }
            if watching.contains(&true) {
                for class in &mut self.classes {
                    if watching.get(class.team) == Some(&true) && class.publishes.last() != Some(&n) {
                        class.publishes.push(n);
                    }
                }
            }
            for class in &sides.subscribers {
                if let Some(class) = self.classes.get_mut(*class) {
                    class.subscribes.push(n);
                }
            }
            self.sides.push(sides);
        }
    }

    pub(super) fn get(&self, class: ClassNo) -> Option<&Class> {
        self.classes.get(class)
    }
}

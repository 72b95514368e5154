//! What another policy opens and closes: flows, not lines.

use std::collections::BTreeMap;

use sealbus_envelope::{
    label::{Label, LabelRange},
    name::Name,
    policy::{Party, Who},
    subject::Pattern,
};

use super::{Facts, Holder, TrustGraph, View, Way, classes::Class, members};

/// Somebody on either end of a flow, as policies name them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Any member of the team, with all the team has.
    Team(Name),
    /// The agent.
    Agent(Name),
}

impl From<&Who> for End {
    fn from(who: &Who) -> Self {
        match who {
            Who::Team(name) => Self::Team(name.clone()),
            Who::Agent(name) => Self::Agent(name.clone()),
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Team(name) => write!(f, "team {name}"),
            Self::Agent(name) => write!(f, "agent {name}"),
        }
    }
}

/// A flow that a rule allows by itself, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowChange {
    /// Who sends.
    pub from: End,
    /// Who receives.
    pub to: End,
    /// On which subjects.
    pub pattern: Pattern,
    /// In which part.
    pub way: Way,
    /// With which labels before; empty if not at all.
    pub before: Vec<LabelRange>,
    /// With which labels after; empty if not at all.
    pub after: Vec<LabelRange>,
}

impl FlowChange {
    /// Whether it allows labels that no rule allowed there before.
    #[must_use]
    pub fn opens(&self) -> bool {
        beyond(&self.after, &self.before)
    }

    /// Whether it takes labels away.
    #[must_use]
    pub fn closes(&self) -> bool {
        beyond(&self.before, &self.after)
    }
}

/// Whether some range of `these` is not within one of `those`.
fn beyond(these: &[LabelRange], those: &[LabelRange]) -> bool {
    let within = |a: &LabelRange, b: &LabelRange| a.low.dominates(b.low) && b.high.dominates(a.high);
    these.iter().any(|one| !those.iter().any(|other| within(one, other)))
}

/// Where information gets in any number of steps, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachChange {
    /// Whose.
    pub from: End,
    /// To whom.
    pub to: End,
    /// The minimal labels it arrived with; empty if it did not.
    pub before: Vec<Label>,
    /// The minimal labels it arrives with; empty if it does not.
    pub after: Vec<Label>,
}

impl ReachChange {
    /// Whether it gets there, or with a label below all before.
    #[must_use]
    pub fn opens(&self) -> bool {
        lower(&self.after, &self.before)
    }

    /// Whether it no longer gets there, or not with labels as low.
    #[must_use]
    pub fn closes(&self) -> bool {
        lower(&self.before, &self.after)
    }
}

/// Whether some label of `these` dominates none of `those`.
fn lower(these: &[Label], those: &[Label]) -> bool {
    these.iter().any(|one| !those.iter().any(|other| one.dominates(*other)))
}

/// What changes from one policy to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Flows that single rules allow.
    pub flows: Vec<FlowChange>,
    /// Where information gets in any number of steps.
    pub reach: Vec<ReachChange>,
}

impl Diff {
    /// What changes from `old` to `new`, for any member of each team and for those of `agents` that a rule names by
    /// itself. Whole teams have all their rights here; an agent whose credential has less can do less.
    #[must_use]
    pub fn between(old: Facts<'_>, new: Facts<'_>, agents: &[Holder], view: View) -> Self {
        let graph = |facts: Facts<'_>| {
            let named = |holder: &&Holder| {
                [old, new].iter().flat_map(|facts| facts.rules).any(|rule| {
                    rule.publishers.iter().chain(&rule.subscribers).any(|party| party.who == holder.who)
                })
            };
            let mut holders = members(facts.tables);
            holders.extend(agents.iter().filter(named).cloned());
            holders
        };
        let before = TrustGraph::new(old, graph(old), view);
        let after = TrustGraph::new(new, graph(new), view);
        let flows = changes(before.flows(), after.flows()).into_iter().map(
            |((from, to, pattern, way), (before, after))| FlowChange {
                from,
                to,
                pattern,
                way,
                before,
                after,
            },
        );
        let reach = changes(before.reaches(), after.reaches());
        // What an agent has as a member of its team is told once, of the team.
        let team = |end: &End| match end {
            End::Agent(name) => {
                agents.iter().find(|agent| agent.name() == name).map(|a| End::Team(a.team.clone()))
            }
            End::Team(_) => None,
        };
        let told = |from: &End, to: &End, change: &(Vec<Label>, Vec<Label>)| {
            let (of, at) = (team(from), team(to));
            let same = |from: &End, to: &End| reach.get(&(from.clone(), to.clone())) == Some(change);
            of.as_ref().is_some_and(|of| same(of, to))
                || at.as_ref().is_some_and(|at| same(from, at))
                || of.zip(at).is_some_and(|(of, at)| same(&of, &at))
        };
        let reach = reach.iter().filter(|((from, to), change)| !told(from, to, change)).map(
            |((from, to), (before, after))| ReachChange {
                from: from.clone(),
                to: to.clone(),
                before: before.clone(),
                after: after.clone(),
            },
        );
        Self { flows: flows.collect(), reach: reach.collect() }
    }

    /// Whether anything is possible that was not.
    #[must_use]
    pub fn opens(&self) -> bool {
        self.flows.iter().any(FlowChange::opens) || self.reach.iter().any(ReachChange::opens)
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.reach.is_empty()
    }
}

/// What stands in only one of two maps, or differs.
fn changes<K: Ord, V: PartialEq + Default>(
    before: BTreeMap<K, V>,
    mut after: BTreeMap<K, V>,
) -> BTreeMap<K, (V, V)> {
    let mut all = BTreeMap::new();
    for (key, old) in before {
        let new = after.remove(&key).unwrap_or_default();
        if old != new {
            all.insert(key, (old, new));
        }
    }
    all.extend(after.into_iter().map(|(key, new)| (key, (V::default(), new))));
    all
}

type Flows = BTreeMap<(End, End, Pattern, Way), Vec<LabelRange>>;

impl TrustGraph<'_> {
    /// Every flow that a single rule allows, between the ends it names.
    fn flows(&self) -> Flows {
        let mut flows = Flows::new();
        for (no, rule) in self.facts.rules.iter().enumerate() {
            let Some(sides) = self.classes.sides.get(no) else { continue };
            let mut add = |way: Way, from: &Class, to: &Class| {
                let Some(labels) = self.deliverable(from, no) else { return };
                let clearance = to.clearance;
                let cleared =
                    Label { level: clearance.level, compartments: clearance.compartments, ..Label::TOP };
                let labels = LabelRange { low: labels.low, high: labels.high.meet(cleared) };
                if labels.is_empty() {
                    return;
                }
                let (senders, readers) = match way {
                    Way::Publish | Way::Ask => (&rule.publishers, &rule.subscribers),
                    Way::Answer => (&rule.subscribers, &rule.publishers),
                };
                for from in self.ends(from, senders) {
                    for to in self.ends(to, readers) {
                        let known = flows.entry((from.clone(), to, rule.pattern.clone(), way)).or_default();
                        if !known.contains(&labels) {
                            known.push(labels);
                            known.sort_by_key(|range| order(range.low));
                        }
                    }
                }
            };
            for from in self.senders(no).iter().filter_map(|class| self.classes.get(*class)) {
                for to in sides.subscribers.iter().filter_map(|class| self.classes.get(*class)) {
                    if sides.request {
                        add(Way::Ask, from, to);
                        add(Way::Answer, to, from);
                    } else {
                        add(Way::Publish, from, to);
                    }
                }
            }
        }
        flows
    }

    /// For each holder, whom its information reaches and with which minimal labels.
    fn reaches(&self) -> BTreeMap<(End, End), Vec<Label>> {
        let mut all = BTreeMap::new();
        for (place, holder) in self.holders.iter().enumerate() {
            for reached in self.reached(place, &self.follow(place, None)) {
                for other in &reached.holders {
                    all.insert((End::from(&holder.who), End::from(&other.who)), reached.labels.clone());
                }
            }
        }
        all
    }

    /// The ends that a class stands for on one side of a rule: an agent where the rule names it, else its team.
    fn ends(&self, class: &Class, parties: &[Party]) -> Vec<End> {
        let holders = class.members.iter().filter_map(|member| self.holders.get(*member));
        let named = holders.filter(|h| h.is_team() || parties.iter().any(|party| party.who == h.who));
        named.map(|holder| End::from(&holder.who)).collect()
    }
}

fn order(label: Label) -> (u8, u64, u8) {
    (label.level.number(), label.compartments.bits(), 7 - label.integrity.number().min(7))
}

//! What changes from one policy to another, in flows: who can send which labels to whom on which subjects.
//!
//! Rules that are reworded, split, merged or renamed change nothing if the same can flow; a range that is
//! widened opens the new labels only.

mod limits;
mod oversight;
mod region;
mod zones;

use std::collections::{BTreeMap, HashMap};

use sealbus_envelope::{
    label::LabelRange,
    name::Name,
    policy::{MessageKind, Rule, Who},
    subject::Pattern,
};

use super::{
    flows::{between, is_alone},
    trial::Trial,
};

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Published to every subscriber.
    Stream,
    /// Asked of one of them.
    Request,
    /// Its answer.
    Answer,
}

impl Kind {
    /// The kind in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Request => "request",
            Self::Answer => "answer",
        }
    }
}

/// Something that can flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Who sends.
    pub from: Who,
    /// Who reads.
    pub to: Who,
    /// Which way.
    pub kind: Kind,
    /// On these subjects.
    pub subject: Pattern,
    /// With these labels.
    pub labels: LabelRange,
    /// Under this rule.
    pub rule: Name,
}

/// What a change of a setting means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Something is possible that was not.
    Opens,
    /// Something is no longer possible.
    Closes,
    /// Neither, or nobody can tell.
    Changes,
}

/// A setting that says something else: a limit, a zone, a flow grant, observe mode, taint scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it means.
    pub effect: Effect,
    /// What changed, and from what to what.
    pub what: String,
}

/// The difference between two policies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// What can flow now and could not.
    pub opened: Vec<Flow>,
    /// What could flow and cannot now.
    pub closed: Vec<Flow>,
    /// What else changed, what opens something first.
    pub changes: Vec<Change>,
}

impl Diff {
    /// Whether anything is possible that was not.
    #[must_use]
    pub fn opens(&self) -> bool {
        !self.opened.is_empty() || self.changes.iter().any(|change| change.effect == Effect::Opens)
    }

    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.closed.is_empty() && self.changes.is_empty()
    }
}

/// From `old` to `new`.
#[must_use]
pub fn diff(old: &Trial, new: &Trial) -> Diff {
    let (before, after) = (Flows::of(old), Flows::of(new));
    let mut changes = limits::changes(old, new);
    changes.extend(zones::changes(old, new));
    changes.extend(oversight::changes(old, new));
    changes.sort_by_key(|change| change.effect);
    Diff { opened: after.beyond(&before), closed: before.beyond(&after), changes }
}

/// Every flow of a policy, by who sends, who reads and which way.
struct Flows<'p> {
    groups: BTreeMap<String, Group<'p>>,
}

struct Group<'p> {
    from: &'p Who,
    to: &'p Who,
    kind: Kind,
    flows: Vec<(&'p Rule, LabelRange)>,
}

impl<'p> Flows<'p> {
    fn of(trial: &'p Trial) -> Self {
        let mut flows = Self { groups: BTreeMap::new() };
        for rule in &trial.records().rules {
            for asks in &rule.publishers {
                for serves in rule.subscribers.iter().filter(|serves| !is_alone(asks, serves)) {
                    let there = between(trial, rule, asks, serves);
                    match rule.kind {
                        MessageKind::Stream => flows.add(rule, &asks.who, &serves.who, Kind::Stream, there),
                        MessageKind::Request { .. } => {
                            flows.add(rule, &asks.who, &serves.who, Kind::Request, there);
                            let back = between(trial, rule, serves, asks);
                            flows.add(rule, &serves.who, &asks.who, Kind::Answer, back);
                        }
                    }
                }
            }
        }
        flows
    }

    fn add(&mut self, rule: &'p Rule, from: &'p Who, to: &'p Who, kind: Kind, labels: Option<LabelRange>) {
        let Some(labels) = labels else { return };
        let key = format!("{} {} {}", text(from), text(to), kind.as_str());
        let group = self.groups.entry(key).or_insert_with(|| Group { from, to, kind, flows: Vec::new() });
        group.flows.push((rule, labels));
    }

    /// What can flow here and not there.
    fn beyond(&self, there: &Self) -> Vec<Flow> {
        let mut found: Vec<Flow> = Vec::new();
        for (key, group) in &self.groups {
            let known: Vec<(&Pattern, LabelRange)> = match there.groups.get(key) {
                Some(group) => group.flows.iter().map(|(rule, range)| (&rule.pattern, *range)).collect(),
                None => Vec::new(),
            };
            for (rule, range) in &group.flows {
                for labels in region::beyond(&rule.pattern, *range, &known) {
                    found.push(Flow {
                        from: group.from.clone(),
                        to: group.to.clone(),
                        kind: group.kind,
                        subject: rule.pattern.clone(),
                        labels,
                        rule: rule.name.clone(),
                    });
                }
            }
        }
        // By rule, so that what belongs together stands together.
        found.sort_by(|a, b| (&a.rule, a.kind).cmp(&(&b.rule, b.kind)));
        found
    }
}

/// A party in words: `analyst`, `agent ada`.
#[must_use]
pub fn text(who: &Who) -> String {
    match who {
        Who::Team(team) => team.to_string(),
        Who::Agent(agent) => format!("agent {agent}"),
    }
}

/// Flows that differ only in who sends and who reads, together: senders and readers of one sort.
#[must_use]
pub fn grouped(flows: &[Flow]) -> Vec<(Vec<String>, Vec<String>, &Flow)> {
    type Key<'f> = (&'f str, Kind, LabelRange);
    let mut order: Vec<Key<'_>> = Vec::new();
    let mut readers: HashMap<Key<'_>, (&Flow, BTreeMap<String, Vec<String>>)> = HashMap::new();
    for flow in flows {
        let key = (flow.rule.as_str(), flow.kind, flow.labels);
        let (_, by_sender) = readers.entry(key).or_insert_with(|| {
            order.push(key);
            (flow, BTreeMap::new())
        });
        by_sender.entry(text(&flow.from)).or_default().push(text(&flow.to));
    }
    let mut groups: Vec<(Vec<String>, Vec<String>, &Flow)> = Vec::new();
    for key in order {
        let Some((flow, by_sender)) = readers.remove(&key) else { continue };
        let mut alike: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for (from, mut to) in by_sender {
            to.sort();
            alike.entry(to).or_default().push(from);
        }
        groups.extend(alike.into_iter().map(|(to, from)| (from, to, flow)));
    }
    groups
}

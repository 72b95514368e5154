//! The slow way to every answer of the trust graph: try each agent, rule, subject, label and grant, with
//! what the clients ask of the signed records. Knows nothing of classes, least labels or antichains.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sealbus_envelope::{
    identity::Claims,
    label::{Compartments, Integrity, Label, Level},
    policy::{MessageKind, Rule, Tables, check_publish, check_read},
    subject::{Pattern, Subject},
    time::Millis,
};
use sealbus_guard::graph::FlowGrant;

pub(crate) struct World {
    pub(crate) tables: Tables,
    pub(crate) rules: Vec<Rule>,
    pub(crate) grants: Vec<FlowGrant>,
    pub(crate) agents: Vec<Claims>,
}

/// What an agent last received: the rule's place and the label.
type Got = Option<(usize, (u8, u64, u8))>;
/// How far each state is from the start.
pub(crate) type States = BTreeMap<(usize, Got), usize>;

pub(crate) const LEVELS: u8 = 3;
pub(crate) const COMPARTMENTS: u8 = 2;
pub(crate) const RANKS: u8 = 2;

pub(crate) fn label(level: u8, compartments: u64, rank: u8) -> Label {
    Label::new(
        Level::new(level).unwrap(),
        Compartments::from_bits(compartments),
        Integrity::new(rank).unwrap(),
    )
}

pub(crate) fn key(label: Label) -> (u8, u64, u8) {
    (label.level.number(), label.compartments.bits(), label.integrity.number())
}

pub(crate) fn labels() -> Vec<Label> {
    let mut all = Vec::new();
    for level in 0..LEVELS {
        for compartments in 0..1 << COMPARTMENTS {
            all.extend((0..RANKS).map(|rank| label(level, compartments, rank)));
        }
    }
    all
}

/// Every subject of up to three tokens over two letters that patterns name and one that none does.
pub(crate) fn subjects() -> Vec<Subject> {
    let mut all: Vec<String> = Vec::new();
    let mut last = vec![String::new()];
    for _ in 0..3 {
        let longer =
            |s: &String| ["a", "b", "z"].map(|t| if s.is_empty() { t.into() } else { format!("{s}.{t}") });
        last = last.iter().flat_map(longer).collect();
        all.extend(last.iter().cloned());
    }
    all.iter().map(|text| Subject::parse(text).unwrap()).collect()
}

impl World {
    fn is_request(&self, rule: usize) -> bool {
        matches!(self.rules[rule].kind, MessageKind::Request { .. })
    }

    /// CONTRACT: allowed iff for each floor entry the label dominates it or the grant applies to it.
    fn flow(
        &self,
        who: usize,
        floor: &[(usize, Label)],
        subject: &Subject,
        label: Label,
        grant: Option<&FlowGrant>,
        at: Millis,
    ) -> bool {
        let within = |outer: &Pattern, inner: &Pattern| {
            subjects().iter().all(|subject| !inner.matches(subject) || outer.matches(subject))
        };
        floor.iter().all(|(rule, c)| {
            label.dominates(*c)
                || grant.is_some_and(|grant| {
                    grant.team == self.agents[who].team
                        && grant.to.matches(subject)
                        && at < grant.expires
                        && label.dominates(grant.to_label)
                        && grant.from_label.dominates(*c)
                        && within(&grant.from, &self.rules[*rule].pattern)
                })
        })
    }

    fn sendable(
        &self,
        who: usize,
        rule: usize,
        floor: &[(usize, Label)],
        reply: bool,
        at: Millis,
    ) -> Vec<Label> {
        let subjects = subjects();
        let mut found = labels();
        found.retain(|label| {
            subjects.iter().any(|subject| {
                let (tables, rule, claims) = (&self.tables, &self.rules[rule], &self.agents[who]);
                check_publish(tables, rule, claims, subject, *label, reply).is_ok()
                    && std::iter::once(None)
                        .chain(self.grants.iter().map(Some))
                        .any(|grant| self.flow(who, floor, subject, *label, grant, at))
            })
        });
        found
    }

    fn may_read(&self, who: usize, rule: usize, label: Label, asked: bool) -> bool {
        check_read(&self.tables, &self.rules[rule], &self.agents[who], label, asked).is_ok()
    }

    /// Everything that can be sent from a state: rule, asker, label.
    pub(crate) fn sent(
        &self,
        who: usize,
        got: Got,
        at: Millis,
    ) -> BTreeSet<(usize, Option<usize>, (u8, u64, u8))> {
        let floor: Vec<_> = got.iter().map(|(rule, (l, c, i))| (*rule, label(*l, *c, *i))).collect();
        let mut all = BTreeSet::new();
        for rule in 0..self.rules.len() {
            all.extend(self.sendable(who, rule, &floor, false, at).into_iter().map(|l| (rule, None, key(l))));
            if !self.is_request(rule) {
                continue;
            }
            for asker in (0..self.agents.len()).filter(|asker| *asker != who) {
                for question in self.sendable(asker, rule, &[], false, at) {
                    if !self.may_read(who, rule, question, false) {
                        continue;
                    }
                    let mut floor = floor.clone();
                    match floor.iter_mut().find(|(other, _)| *other == rule) {
                        Some((_, label)) => *label = label.join(question),
                        None => floor.push((rule, question)),
                    }
                    let answers = self.sendable(who, rule, &floor, true, at).into_iter();
                    all.extend(answers.map(|label| (rule, Some(asker), key(label))));
                }
            }
        }
        all
    }

    /// All states that what `start` has, or `got`, can lead to.
    pub(crate) fn follow(
        &self,
        start: usize,
        got: Got,
        at: Millis,
    ) -> (States, BTreeMap<usize, BTreeSet<(u8, u64, u8)>>) {
        let mut states = States::from([((start, got), 0)]);
        let mut carried: BTreeMap<usize, BTreeSet<_>> = BTreeMap::new();
        let mut queue = VecDeque::from([(start, got)]);
        while let Some((who, got)) = queue.pop_front() {
            let hops = states[&(who, got)] + 1;
            for (rule, asker, l) in self.sent(who, got, at) {
                carried.entry(rule).or_default().insert(l);
                let readers: Vec<usize> = match asker {
                    Some(asker) => vec![asker],
                    None => (0..self.agents.len()).filter(|reader| *reader != who).collect(),
                };
                for reader in readers {
                    let next = (reader, Some((rule, l)));
                    if self.may_read(reader, rule, label(l.0, l.1, l.2), asker.is_some())
                        && !states.contains_key(&next)
                    {
                        states.insert(next, hops);
                        queue.push_back(next);
                    }
                }
            }
        }
        (states, carried)
    }

    /// Whether somebody like `who` may write (or read) `label` on `subject` under `rule` at all.
    pub(crate) fn may(&self, write: bool, who: usize, rule: usize, subject: &Subject, label: Label) -> bool {
        let (tables, record, claims) = (&self.tables, &self.rules[rule], &self.agents[who]);
        let in_rule = record.pattern.matches(subject) && record.labels.contains(label);
        if write {
            check_publish(tables, record, claims, subject, label, false).is_ok()
                || (self.is_request(rule)
                    && check_publish(tables, record, claims, subject, label, true).is_ok())
        } else {
            in_rule
                && (self.may_read(who, rule, label, false)
                    || (self.is_request(rule) && self.may_read(who, rule, label, true)))
        }
    }
}

/// Those that dominate no other.
pub(crate) fn minima(all: impl IntoIterator<Item = (u8, u64, u8)>) -> BTreeSet<(u8, u64, u8)> {
    let all: Vec<_> = all.into_iter().map(|(l, c, i)| label(l, c, i)).collect();
    let least = |one: &&Label| all.iter().all(|other| other == *one || !one.dominates(*other));
    all.iter().filter(least).map(|label| key(*label)).collect()
}

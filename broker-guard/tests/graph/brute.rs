//! The slow way to every answer of the trust graph: try each agent, rule, subject, label and grant, with
//! what the clients ask of the signed records. Knows nothing of classes, least labels or antichains.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque, btree_map::Entry},
};

use sealbus_envelope::{
    identity::Claims,
    label::{Compartments, Integrity, Label, Level},
    policy::{Faults, FlowGrant, MessageKind, Records, check_publish, check_read},
    subject::Subject,
    time::Millis,
};

pub(crate) struct World {
    pub(crate) records: Records,
    pub(crate) agents: Vec<Claims>,
    /// By grant, by rule: whether each subject of the rule is one that the grant's `from` matches.
    pub(crate) lifts_from: Vec<Vec<bool>>,
    pub(crate) known: RefCell<HashMap<(usize, Got), BTreeSet<Sent>>>,
}

/// Something that can be sent: rule, asker, label.
pub(crate) type Sent = (usize, Option<usize>, (u8, u64, u8));
/// What an agent last received: the rule's place and the label.
pub(crate) type Got = Option<(usize, (u8, u64, u8))>;
/// How far each state is from the start.
pub(crate) type States = BTreeMap<(usize, Got), usize>;
/// The labels that each rule carries.
type Carried = BTreeMap<usize, BTreeSet<(u8, u64, u8)>>;

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
    pub(crate) fn new(records: Records, agents: Vec<Claims>) -> Self {
        let all = subjects();
        let within = |grant: &FlowGrant| {
            let of = |outer: &FlowGrant, inner: &sealbus_envelope::subject::Pattern| {
                all.iter().all(|subject| !inner.matches(subject) || outer.from.matches(subject))
            };
            records.rules.iter().map(|rule| of(grant, &rule.pattern)).collect()
        };
        let lifts_from = records.grants.iter().map(within).collect();
        Self { lifts_from, records, agents, known: RefCell::default() }
    }

    fn is_request(&self, rule: usize) -> bool {
        matches!(self.records.rules[rule].kind, MessageKind::Request { .. })
    }

    fn observes(&self, rule: usize, who: usize) -> bool {
        self.records.tables.observes(&self.records.rules[rule], &self.agents[who])
    }

    /// Allowed iff for each floor entry the label dominates it or the grant applies to it.
    fn flow(
        &self,
        who: usize,
        floor: &[(usize, Label)],
        subject: &Subject,
        label: Label,
        grant: Option<usize>,
        at: Millis,
    ) -> bool {
        floor.iter().all(|(rule, c)| {
            label.dominates(*c)
                || grant.is_some_and(|n| {
                    let grant = &self.records.grants[n];
                    grant.team == self.agents[who].team
                        && grant.to.matches(subject)
                        && at < grant.expires
                        && label.dominates(grant.to_label)
                        && grant.from_label.dominates(*c)
                        && self.lifts_from[n][*rule]
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
        let observing = self.observes(rule, who);
        let mut found = labels();
        found.retain(|label| {
            subjects.iter().any(|subject| {
                let (tables, claims) = (&self.records.tables, &self.agents[who]);
                let mut faults = Faults::observing(observing);
                let rule = &self.records.rules[rule];
                check_publish(tables, rule, claims, subject, *label, reply, &mut faults).is_ok()
                    && (observing
                        || std::iter::once(None)
                            .chain((0..self.records.grants.len()).map(Some))
                            .any(|grant| self.flow(who, floor, subject, *label, grant, at)))
            })
        });
        found
    }

    fn may_read(&self, who: usize, rule: usize, label: Label, asked: bool) -> bool {
        let record = &self.records.rules[rule];
        record.labels.contains(label)
            && check_read(&self.records.tables, record, &self.agents[who], label, asked).is_ok()
    }

    /// Everything that can be sent from a state: rule, asker, label.
    pub(crate) fn sent(&self, who: usize, got: Got, at: Millis) -> BTreeSet<Sent> {
        if let Some(known) = self.known.borrow().get(&(who, got)) {
            return known.clone();
        }
        let sent = self.try_all(who, got, at);
        self.known.borrow_mut().insert((who, got), sent.clone());
        sent
    }

    fn try_all(&self, who: usize, got: Got, at: Millis) -> BTreeSet<Sent> {
        let floor: Vec<_> = got.iter().map(|(rule, (l, c, i))| (*rule, label(*l, *c, *i))).collect();
        let mut all = BTreeSet::new();
        for rule in 0..self.records.rules.len() {
            all.extend(self.sendable(who, rule, &floor, false, at).into_iter().map(|l| (rule, None, key(l))));
            if !self.is_request(rule) {
                continue;
            }
            // An answer to somebody whom the rule does not name, and who could ask by observe mode only, opens for
            // nobody: it carries nothing.
            let named = |asker: &usize| self.records.rules[rule].names_publisher(&self.agents[*asker]);
            for asker in (0..self.agents.len()).filter(|asker| *asker != who).filter(named) {
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

    /// Who has what after one step.
    pub(crate) fn next(&self, who: usize, got: Got, at: Millis) -> BTreeSet<(usize, Got)> {
        let mut all = BTreeSet::new();
        for (rule, asker, l) in self.sent(who, got, at) {
            let readers = (0..self.agents.len()).filter(|reader| *reader != who);
            let readers = readers.filter(|reader| asker.is_none_or(|asker| asker == *reader));
            let may_read =
                |reader: &usize| self.may_read(*reader, rule, label(l.0, l.1, l.2), asker.is_some());
            all.extend(readers.filter(may_read).map(|reader| (reader, Some((rule, l)))));
        }
        all
    }

    /// All states that what `start` knows by itself can lead to, with their distance, and what carries it.
    pub(crate) fn follow(&self, start: usize, at: Millis) -> (States, Carried) {
        let mut states = States::from([((start, None), 0)]);
        let mut carried = Carried::new();
        let mut queue = VecDeque::from([(start, None)]);
        while let Some((who, got)) = queue.pop_front() {
            let hops = states[&(who, got)] + 1;
            for (rule, _, l) in self.sent(who, got, at) {
                // Under observation there is more, but nobody is given keys outside a rule's range.
                if self.records.rules[rule].labels.contains(label(l.0, l.1, l.2)) {
                    carried.entry(rule).or_default().insert(l);
                }
            }
            for next in self.next(who, got, at) {
                if let Entry::Vacant(free) = states.entry(next) {
                    free.insert(hops);
                    queue.push_back(next);
                }
            }
        }
        (states, carried)
    }

    /// For each of `states`, whom it can lead to: adds what each next one leads to until nothing is new.
    pub(crate) fn leads_to(
        &self,
        states: &BTreeSet<(usize, Got)>,
        at: Millis,
    ) -> BTreeMap<(usize, Got), BTreeSet<usize>> {
        let edges: Vec<_> = states.iter().map(|state| (*state, self.next(state.0, state.1, at))).collect();
        let mut leads: BTreeMap<_, BTreeSet<usize>> =
            states.iter().map(|state| (*state, BTreeSet::new())).collect();
        loop {
            let mut grew = false;
            for (state, next) in &edges {
                let mut all = leads[state].clone();
                for next in next {
                    all.insert(next.0);
                    all.extend(&leads[next]);
                }
                grew |= all.len() > leads[state].len();
                leads.insert(*state, all);
            }
            if !grew {
                return leads;
            }
        }
    }

    /// Whether `who` may write (or read) `label` on `subject` under `rule` at all.
    pub(crate) fn may(&self, write: bool, who: usize, rule: usize, subject: &Subject, label: Label) -> bool {
        let (tables, record, claims) = (&self.records.tables, &self.records.rules[rule], &self.agents[who]);
        let writes = |reply| {
            let mut faults = Faults::observing(self.observes(rule, who));
            check_publish(tables, record, claims, subject, label, reply, &mut faults).is_ok()
        };
        if write {
            writes(false) || (self.is_request(rule) && writes(true))
        } else {
            record.pattern.matches(subject)
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

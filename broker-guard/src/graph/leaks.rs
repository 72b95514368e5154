//! Static leak analysis: information of a label that gets to somebody not cleared for that label.
//!
//! While taint is enforced two allowed steps leak nothing: the second must dominate the first. What is left
//! is what a policy says on purpose, and what follows from it: flow grants, chains of them that nobody meant
//! as one, and rules that observe mode leaves unenforced.
//!
//! Every leak has a first step that is not by label, and what came in just before it is at least as secret
//! as what it was made of. So it is enough to look at each such step, at the most secret label that can come
//! in before it, and at everybody whom a search from there reaches.

use sealbus_envelope::label::{Clearance, Label};

use super::{
    Holder, Path, Step, TrustGraph,
    classes::{Class, ClassNo, RuleNo},
    flow::{Basis, Emission, Held, Way},
    search::Found,
};

/// Information that reaches holders who are not cleared for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak<'g> {
    /// The label it has at first: the most secret of those for which this holds.
    pub label: Label,
    /// Who can learn it without being cleared for that label.
    pub readers: Vec<&'g Holder>,
    /// How: first with that label, then below it.
    pub path: Path<'g>,
    /// Whether the path needs more than one flow grant or observed step, so that no single statement in the
    /// policy says that this may happen.
    pub composed: bool,
}

/// What can come in to a class: under a rule, from a class, at most with this label.
#[derive(Debug, Clone, Copy)]
struct Incoming {
    rule: RuleNo,
    from: ClassNo,
    way: Way,
    label: Label,
}

impl TrustGraph<'_> {
    /// Every leak: one for each step that is not by label and each class of readers it betrays information
    /// to, with the most secret label. Agents that rules name by themselves but who are not among the holders
    /// are not seen ([`strangers`](super::strangers)).
    #[must_use]
    pub fn leaks(&self) -> Vec<Leak<'_>> {
        let mut leaks = Vec::new();
        for (no, class) in self.classes.classes.iter().enumerate() {
            for (grant, record) in self.facts.grants.iter().enumerate() {
                if self.grants.is_live(grant) && self.grants.team_of(grant) == Some(class.team) {
                    let from = |rule: RuleNo| self.grants.from.get(rule).is_some_and(|g| g.contains(&grant));
                    let incoming = self.incoming(no, class, record.from_label, from);
                    self.leaks_by(no, Basis::Grant(grant), &[grant], &incoming, &mut leaks);
                }
            }
            if class.publishes.iter().chain(&class.subscribes).any(|rule| self.observes(*rule, class.team)) {
                let incoming = self.incoming(no, class, Label::TOP, |_| true);
                self.leaks_by(no, Basis::Observed, &[], &incoming, &mut leaks);
            }
        }
        leaks
    }

    fn leaks_by<'g>(
        &'g self,
        class: ClassNo,
        basis: Basis,
        grants: &[usize],
        incoming: &[Incoming],
        leaks: &mut Vec<Leak<'g>>,
    ) {
        let betrayed = |cleared: Clearance| incoming.iter().any(|incoming| !cleared.covers(incoming.label));
        if !self.classes.classes.iter().any(|class| betrayed(class.clearance)) {
            return;
        }
        // At the highest label every other way out is as narrow as can be; what is by label is left out.
        let held = Held { label: Label::TOP, grants: grants.to_vec(), served: None };
        let mut first = Vec::new();
        self.emissions(class, &held, |emission| first.push(emission));
        first.retain(|emission| {
            // Who reads a label as secret as all that came in is cleared for that; what leaks further on, leaks by
            // an exception further on.
            let Label { level, compartments, .. } = emission.label;
            emission.basis == basis && betrayed(Clearance { level, compartments })
        });
        if first.is_empty() {
            return;
        }
        let found = self.search_from(class, held, first);
        for (no, reader) in self.classes.classes.iter().enumerate() {
            let visit = found.first.get(no).copied().flatten();
            let betrayed = incoming.iter().find(|incoming| !reader.clearance.covers(incoming.label));
            if let (Some(visit), Some(incoming)) = (visit, betrayed) {
                leaks.extend(self.leak(class, incoming, &found, visit, reader));
            }
        }
    }

    fn leak<'g>(
        &'g self,
        class: ClassNo,
        incoming: &Incoming,
        found: &Found,
        visit: usize,
        reader: &'g Class,
    ) -> Option<Leak<'g>> {
        let member = |class: ClassNo, other: Option<usize>| {
            let members = &self.classes.get(class)?.members;
            members.iter().copied().find(|member| Some(*member) != other).or(members.first().copied())
        };
        let start = member(class, None)?;
        let origin = member(incoming.from, Some(start))?;
        let sent = Emission {
            rule: incoming.rule,
            way: incoming.way,
            asker: None,
            label: incoming.label,
            basis: Basis::Label,
        };
        let mut steps: Vec<Step<'_>> = self.step(origin, start, 0, &sent).into_iter().collect();
        let way = found.way_to(visit);
        let exceptions = way.iter().filter(|(_, emission, _)| emission.basis != Basis::Label).count();
        let end = reader.members.first().copied()?;
        steps.extend(self.tell(found, visit, start, end).steps);
        Some(Leak {
            label: incoming.label,
            readers: self.members(reader),
            path: Path { steps },
            composed: exceptions > 1,
        })
    }

    /// The most secret labels at most `below` that members of the class can be given, under each of the rules
    /// from each class that can write them.
    fn incoming(
        &self,
        no: ClassNo,
        class: &Class,
        below: Label,
        wanted: impl Fn(RuleNo) -> bool,
    ) -> Vec<Incoming> {
        let cleared =
            Label { level: class.clearance.level, compartments: class.clearance.compartments, ..Label::TOP };
        let mut incoming: Vec<Incoming> = Vec::new();
        let mut add = |rule: RuleNo, from: ClassNo, way: Way, question: Label| {
            let Some(sender) = self.classes.get(from).filter(|sender| from != no || !sender.alone) else {
                return;
            };
            let Some(range) = self.deliverable(sender, rule) else { return };
            let label = range.high.meet(cleared).meet(below);
            let known = |other: &Incoming| other.label == label;
            if label.dominates(range.low.join(question)) && !incoming.iter().any(known) {
                incoming.push(Incoming { rule, from, way, label });
            }
        };
        for &rule in class.subscribes.iter().filter(|rule| wanted(**rule)) {
            let Some(sides) = self.classes.sides.get(rule) else { continue };
            let way = if sides.request { Way::Ask } else { Way::Publish };
            for from in self.senders(rule) {
                add(rule, from, way, Label::BOTTOM);
            }
        }
        for &rule in class.publishes.iter().filter(|rule| wanted(**rule)) {
            let Some(sides) = self.classes.sides.get(rule).filter(|sides| sides.request) else { continue };
            let Some(question) = self.least_question(no, rule) else { continue };
            for &from in sides.subscribers.iter().filter(|_| sides.publishers.binary_search(&no).is_ok()) {
                let heard = self.classes.get(from).is_some_and(|server| server.clearance.covers(question));
                if heard {
                    add(rule, from, Way::Answer, question);
                }
            }
        }
        incoming.sort_by_key(|incoming| {
            std::cmp::Reverse((incoming.label.level, incoming.label.compartments.bits()))
        });
        incoming
    }
}

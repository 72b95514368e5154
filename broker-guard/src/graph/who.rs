//! Who may read or write a subject, straight from the rules.

use sealbus_envelope::{
    label::{Label, LabelRange},
    name::Name,
    subject::Pattern,
};

use super::{
    Holder, TrustGraph,
    classes::{Class, ClassNo, RuleNo},
};

/// What is asked about a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Who is given keys: subscribers, servers, and who hears an answer.
    Read,
    /// Who can have an envelope admitted: publishers, askers, and who answers.
    Write,
}

/// The part in which a rule lets somebody read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Publishes under a stream rule.
    Publishes,
    /// Asks under a request rule: writes questions, reads answers.
    Asks,
    /// Subscribes under a stream rule.
    Subscribes,
    /// Serves a request rule: reads questions, writes answers.
    Serves,
}

/// What one rule allows to holders with equal rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit<'g> {
    /// Who, in the order given.
    pub holders: Vec<&'g Holder>,
    /// The rule.
    pub rule: &'g Name,
    /// The subjects it covers.
    pub pattern: &'g Pattern,
    /// In which part.
    pub part: Part,
    /// With exactly the labels in this range.
    pub labels: LabelRange,
    /// Only because observe mode switches the checks off.
    pub observed: bool,
}

impl TrustGraph<'_> {
    /// Who can read or write on a subject that `subjects` covers: every rule whose pattern shares a subject with
    /// it, in policy order.
    #[must_use]
    pub fn who_can(&self, access: Access, subjects: &Pattern) -> Vec<Permit<'_>> {
        let mut found = Vec::new();
        for (no, rule) in self.facts.rules.iter().enumerate() {
            if rule.pattern.overlaps(subjects) {
                for class in self.concerned(no) {
                    self.permits(class, no, access, &mut found);
                }
            }
        }
        found
    }

    /// The classes that the rule gives anything, ascending.
    fn concerned(&self, rule: RuleNo) -> Vec<ClassNo> {
        let teams = 0..self.facts.tables.teams.len();
        if self.view.observe && teams.into_iter().any(|team| self.observes(rule, team)) {
            return (0..self.classes.classes.len()).collect();
        }
        let Some(sides) = self.classes.sides.get(rule) else { return Vec::new() };
        let mut classes: Vec<_> = sides.publishers.iter().chain(&sides.subscribers).copied().collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    /// The classes that can publish or ask under the rule, by its parties or by observe mode; ascending.
    pub(super) fn senders(&self, rule: RuleNo) -> Vec<ClassNo> {
        let may = |class: &ClassNo| {
            let class = self.classes.get(*class);
            class.is_some_and(|class| class.publishes.binary_search(&rule).is_ok())
        };
        self.concerned(rule).into_iter().filter(may).collect()
    }

    /// The labels with which what the class sends is delivered, if any. Readers are held to the rule's range
    /// where the sender is not.
    pub(super) fn deliverable(&self, class: &Class, rule: RuleNo) -> Option<LabelRange> {
        if self.observes(rule, class.team) {
            readable(class, self.rule(rule)?.labels)
        } else {
            self.writable(class, rule)
        }
    }

    /// All that members of one class can read or write.
    pub(super) fn permits_of(&self, class: ClassNo, access: Access) -> Vec<Permit<'_>> {
        let mut found = Vec::new();
        let Some(rights) = self.classes.get(class) else { return found };
        let mut rules: Vec<RuleNo> = rights.publishes.iter().chain(&rights.subscribes).copied().collect();
        rules.sort_unstable();
        rules.dedup();
        for rule in rules {
            self.permits(class, rule, access, &mut found);
        }
        found
    }

    fn permits<'g>(&'g self, class_no: ClassNo, no: RuleNo, access: Access, found: &mut Vec<Permit<'g>>) {
        let (Some(rule), Some(sides)) = (self.rule(no), self.classes.sides.get(no)) else { return };
        let Some(class) = self.classes.get(class_no) else { return };
        let mut permit = |part, labels: Option<LabelRange>, observed| {
            let permit = labels.map(|labels| Permit {
                holders: self.members(class),
                rule: &rule.name,
                pattern: &rule.pattern,
                part,
                labels,
                observed,
            });
            found.extend(permit);
        };
        let publishes = sides.publishers.binary_search(&class_no).is_ok();
        let subscribes = sides.subscribers.binary_search(&class_no).is_ok();
        let (from, to) =
            if sides.request { (Part::Asks, Part::Serves) } else { (Part::Publishes, Part::Subscribes) };
        match access {
            Access::Write => {
                let (named, all) = (self.writable(class, no), self.observable(class, no));
                let wider = all.is_some() && (!publishes || all != named);
                let labels = if wider { all } else { named.filter(|_| publishes) };
                permit(from, labels, wider);
                if sides.request && subscribes {
                    let wider = all.is_some() && all != named;
                    permit(to, if wider { all } else { named }, wider);
                }
            }
            Access::Read => {
                let labels = readable(class, rule.labels);
                permit(to, labels.filter(|_| subscribes), false);
                permit(from, labels.filter(|_| publishes && sides.request), false);
            }
        }
    }

    /// The labels that the rule, the clearance and the integrity ceiling allow, if any.
    fn writable(&self, class: &Class, rule: RuleNo) -> Option<LabelRange> {
        let low = self.least(class, rule, Label::BOTTOM)?;
        let high = readable(class, self.rule(rule)?.labels)?.high;
        Some(LabelRange { low, high })
    }

    /// The labels that are admitted where the rule's label checks only watch: all within the clearance.
    fn observable(&self, class: &Class, rule: RuleNo) -> Option<LabelRange> {
        let ranks = u8::try_from(self.facts.tables.integrity.len()).unwrap_or(u8::MAX);
        let best = ranks.checked_sub(1)?.try_into().ok()?;
        let clearance = class.clearance;
        let all = LabelRange {
            low: Label { integrity: best, ..Label::BOTTOM },
            high: Label { level: clearance.level, compartments: clearance.compartments, ..Label::TOP },
        };
        self.observes(rule, class.team).then_some(all)
    }
}

/// The labels of a range that the class is cleared for, if any.
fn readable(class: &Class, range: LabelRange) -> Option<LabelRange> {
    let cleared =
        Label { level: class.clearance.level, compartments: class.clearance.compartments, ..Label::TOP };
    let labels = LabelRange { low: range.low, high: range.high.meet(cleared) };
    (!labels.is_empty()).then_some(labels)
}

//! What can flow between two parties of a rule: the labels that one may write and the other may read.
//!
//! A rule's range, a clearance and an integrity ceiling are each an interval of the lattice, so what is left of
//! them together is one too, or nothing.

use sealbus_envelope::{
    label::{Clearance, Integrity, Label, LabelRange},
    policy::{Party, Rule, Who},
};

use super::trial::Trial;

/// Labels of `range` within `clearance`; none if there is none.
#[must_use]
pub fn readable(range: LabelRange, clearance: Clearance) -> Option<LabelRange> {
    let high = Label {
        level: range.high.level.min(clearance.level),
        compartments: range.high.compartments.intersection(clearance.compartments),
        ..range.high
    };
    some(LabelRange { high, ..range })
}

/// Labels of `range` within `clearance` that claim no more integrity than `ceiling`; none if there is none.
#[must_use]
pub fn writable(range: LabelRange, clearance: Clearance, ceiling: Integrity) -> Option<LabelRange> {
    let low = Label { integrity: range.low.integrity.min(ceiling), ..range.low };
    readable(LabelRange { low, ..range }, clearance)
}

/// The labels that `from` may publish under `rule` and `to` may read.
#[must_use]
pub fn between(trial: &Trial, rule: &Rule, from: &Party, to: &Party) -> Option<LabelRange> {
    let written = writable(rule.labels, trial.clearance_of(from), trial.ceiling_of(from))?;
    readable(written, trial.clearance_of(to))
}

/// Whether the two are one agent, which talks to itself.
#[must_use]
pub fn is_alone(from: &Party, to: &Party) -> bool {
    matches!((&from.who, &to.who), (Who::Agent(a), Who::Agent(b)) if a == b)
}

fn some(range: LabelRange) -> Option<LabelRange> {
    (!range.is_empty()).then_some(range)
}

//! Where information can get to: a breadth-first search over (class, what it holds).
//!
//! Only states that nothing freer makes needless are followed: for each class an antichain of minimal
//! labels, for each rule an antichain of labels it carried. That keeps the search exact and bounds its cost
//! by rules × readers × size of an antichain, whatever the number of agents.

use std::collections::HashMap;

use sealbus_envelope::label::Label;

use super::{
    TrustGraph,
    classes::{ClassNo, RuleNo},
    flow::{Basis, Emission, Held},
};

/// A class that information has reached, and how.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub(super) class: ClassNo,
    pub(super) held: Held,
    /// Steps from the start.
    pub(super) hops: usize,
    /// The visit before and what was sent from there; none at the start.
    pub(super) by: Option<(usize, Emission)>,
}

/// A label that a rule can carry the information with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carried {
    pub(super) emission: Emission,
    pub(super) hops: usize,
}

/// What a search found.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// Fewest hops first.
    pub(super) visits: Vec<Visit>,
    /// By class: the first visit, which is the nearest.
    pub(super) first: Vec<Option<usize>>,
    /// By class: visits that no other makes needless.
    pub(super) least: Vec<Vec<usize>>,
    /// By rule: emissions that dominate no earlier one, nearest first.
    pub(super) carried: Vec<Vec<Carried>>,
}

/// Labels sent under a rule (to one asker, of answers), each with the class that it did not go to.
type Sent = HashMap<(RuleNo, Option<ClassNo>), Vec<(Label, Option<ClassNo>)>>;

impl TrustGraph<'_> {
    /// Follows information that a member of `class` holds.
    pub(super) fn search(&self, class: ClassNo, held: Held) -> Found {
        let mut first = Vec::new();
        self.emissions(class, &held, |emission| first.push(emission));
        self.search_from(class, held, first)
    }

    /// Follows what a member of `class` holds along these first emissions.
    pub(super) fn search_from(&self, class: ClassNo, held: Held, first: Vec<Emission>) -> Found {
        let classes = self.classes.classes.len();
        let mut found = Found {
            visits: vec![Visit { class, held, hops: 0, by: None }],
            first: vec![None; classes],
            least: vec![Vec::new(); classes],
            carried: vec![Vec::new(); self.facts.rules.len()],
        };
        let mut sent = Sent::new();
        let mut emissions = first;
        let (mut at, mut from) = (0, (class, 1));
        loop {
            for emission in emissions.drain(..) {
                self.deliver(&mut found, &mut sent, (at, from.0, from.1), emission);
            }
            at += 1;
            let Some(visit) = found.visits.get(at) else { return found };
            from = (visit.class, visit.hops + 1);
            self.emissions(visit.class, &visit.held, |emission| emissions.push(emission));
        }
    }

    fn deliver(
        &self,
        found: &mut Found,
        sent: &mut Sent,
        (at, class, hops): (usize, ClassNo, usize),
        emission: Emission,
    ) {
        // An agent that is alone in its class sends itself nothing new.
        let alone = self.classes.get(class).is_some_and(|class| class.alone);
        let except = alone.then_some(class);
        let before = sent.entry((emission.rule, emission.asker)).or_default();
        let Some(only) = still_to_reach(before, emission.label, except) else { return };
        before.push((emission.label, except));
        if only.is_none()
            && let Some(carried) = found.carried.get_mut(emission.rule)
            && !carried.iter().any(|earlier| emission.label.dominates(earlier.emission.label))
        {
            carried.push(Carried { emission, hops });
        }
        for (reader, class) in self.readers(&emission) {
            if Some(reader) == except || only.is_some_and(|only| only != reader) {
                continue;
            }
            let held = self.received(class, emission.rule, emission.label);
            let place = found.visits.len();
            let Some(least) = found.least.get_mut(reader) else { continue };
            let freer = |visit: &usize| found.visits.get(*visit).is_some_and(|v| v.held.as_free_as(&held));
            if least.iter().any(freer) {
                continue;
            }
            least.retain(|visit| found.visits.get(*visit).is_some_and(|v| !held.as_free_as(&v.held)));
            least.push(place);
            if let Some(first) = found.first.get_mut(reader) {
                first.get_or_insert(place);
            }
            found.visits.push(Visit { class: reader, held, hops, by: Some((at, emission)) });
        }
    }
}

/// Whom an emission with this label adds to those before: none if nobody, else one class or all.
fn still_to_reach(
    before: &[(Label, Option<ClassNo>)],
    label: Label,
    except: Option<ClassNo>,
) -> Option<Option<ClassNo>> {
    let mut missed = None;
    for (_, skipped) in before.iter().filter(|(lower, _)| label.dominates(*lower)) {
        match (missed, *skipped) {
            (_, None) => return None,
            (None, Some(class)) => missed = Some(class),
            (Some(first), Some(class)) if first != class => return None,
            _ => {}
        }
    }
    if missed.is_some() && missed == except { None } else { Some(missed) }
}

impl Found {
    /// The minimal labels that reach a class.
    pub(super) fn labels(&self, class: ClassNo) -> Vec<Label> {
        let visits = self.least.get(class).into_iter().flatten().filter_map(|n| self.visits.get(*n));
        minimal(visits.map(|visit| visit.held.label))
    }

    /// The way to a visit, first step first.
    pub(super) fn way_to(&self, mut at: usize) -> Vec<(&Visit, Emission, &Visit)> {
        let mut steps = Vec::new();
        while let Some(visit) = self.visits.get(at)
            && let Some((before, emission)) = visit.by
            && let Some(from) = self.visits.get(before)
        {
            steps.push((from, emission, visit));
            at = before;
        }
        steps.reverse();
        steps
    }

    /// Whether a way to the visit makes use of anything but labels.
    pub(super) fn is_exceptional(&self, at: usize) -> bool {
        self.way_to(at).iter().any(|(_, emission, _)| emission.basis != Basis::Label)
    }
}

/// Those labels that dominate no other, in a fixed order.
pub(super) fn minimal(labels: impl IntoIterator<Item = Label>) -> Vec<Label> {
    let mut least: Vec<Label> = Vec::new();
    for label in labels {
        if !least.iter().any(|other| label.dominates(*other)) {
            least.retain(|other| !other.dominates(label));
            least.push(label);
        }
    }
    least.sort_by_key(|l| (l.level, l.compartments.bits(), std::cmp::Reverse(l.integrity)));
    least
}

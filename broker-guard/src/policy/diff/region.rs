//! Subjects and labels as sets: what of one lies outside the union of others, exactly.

use sealbus_envelope::{
    label::{Compartments, Integrity, Label, LabelRange, Level},
    subject::{MAX_TOKENS, Pattern},
};

/// The labels of `range` for which `pattern` has a subject that none of `known` has with that label.
pub(super) fn beyond(
    pattern: &Pattern,
    range: LabelRange,
    known: &[(&Pattern, LabelRange)],
) -> Vec<LabelRange> {
    let concerning: Vec<_> =
        known.iter().filter(|(other, _)| other.overlaps(pattern)).map(|(p, r)| (*p, *r)).collect();
    let mut found = Vec::new();
    search(pattern, range, &concerning, &mut Vec::new(), &mut found);
    found
}

/// Divides `range` at the first of `known`; what lies inside has its pattern among those that are `had`.
fn search<'p>(
    pattern: &Pattern,
    range: LabelRange,
    known: &[(&'p Pattern, LabelRange)],
    had: &mut Vec<&'p Pattern>,
    found: &mut Vec<LabelRange>,
) {
    let Some(((other, labels), rest)) = known.split_first() else {
        if !covered(pattern, had) {
            found.push(range);
        }
        return;
    };
    let inside = LabelRange { low: range.low.join(labels.low), high: range.high.meet(labels.high) };
    if inside.is_empty() {
        return search(pattern, range, rest, had, found);
    }
    had.push(other);
    search(pattern, inside, rest, had, found);
    had.pop();
    for outside in without(range, inside) {
        search(pattern, outside, rest, had, found);
    }
}

/// The labels of `range` outside `hole`, which lies in it: ranges that share no label.
fn without(range: LabelRange, hole: LabelRange) -> Vec<LabelRange> {
    let mut pieces = Vec::new();
    let mut left = range;
    let mut push = |piece: LabelRange| {
        if !piece.is_empty() {
            pieces.push(piece);
        }
    };
    if let Some(below) = hole.low.level.number().checked_sub(1).and_then(|n| Level::new(n).ok()) {
        push(LabelRange { high: Label { level: below, ..left.high }, ..left });
    }
    if let Ok(above) = Level::new(hole.high.level.number() + 1) {
        push(LabelRange { low: Label { level: above, ..left.low }, ..left });
    }
    (left.low.level, left.high.level) = (hole.low.level, hole.high.level);
    // A range begins with the most trusted rank and ends with the least.
    if let Ok(more) = Integrity::new(hole.low.integrity.number() + 1) {
        push(LabelRange { high: Label { integrity: more, ..left.high }, ..left });
    }
    if let Some(less) = hole.high.integrity.number().checked_sub(1).and_then(|n| Integrity::new(n).ok()) {
        push(LabelRange { low: Label { integrity: less, ..left.low }, ..left });
    }
    (left.low.integrity, left.high.integrity) = (hole.low.integrity, hole.high.integrity);
    for n in 0..Compartments::COUNT {
        let Ok(one) = Compartments::single(n) else { continue };
        let (needs, takes) = (hole.low.compartments.contains(one), hole.high.compartments.contains(one));
        if needs && !left.low.compartments.contains(one) {
            push(LabelRange { high: drop(left.high, one), ..left });
            left.low.compartments = left.low.compartments.union(one);
        }
        if !takes && left.high.compartments.contains(one) {
            push(LabelRange { low: add(left.low, one), ..left });
            left.high = drop(left.high, one);
        }
    }
    pieces
}

fn add(label: Label, compartment: Compartments) -> Label {
    Label { compartments: label.compartments.union(compartment), ..label }
}

fn drop(label: Label, compartment: Compartments) -> Label {
    let bits = label.compartments.bits() & !compartment.bits();
    Label { compartments: Compartments::from_bits(bits), ..label }
}

/// Whether every subject that `pattern` matches is matched by one of `others`.
pub(super) fn covered(pattern: &Pattern, others: &[&Pattern]) -> bool {
    if others.iter().any(|other| other.covers(pattern)) {
        return true;
    }
    let tokens =
        |pattern: &Pattern| -> Vec<String> { pattern.as_str().split('.').map(str::to_owned).collect() };
    let others: Vec<Vec<String>> = others.iter().map(|other| tokens(other)).collect();
    let others: Vec<&[String]> = others.iter().map(Vec::as_slice).collect();
    walk(&tokens(pattern), &others, MAX_TOKENS)
}

/// `room`: how many tokens a subject may still have.
fn walk(pattern: &[String], others: &[&[String]], room: usize) -> bool {
    let Some((token, rest)) = pattern.split_first() else {
        return others.iter().any(|other| other.is_empty());
    };
    if room == 0 || others.iter().any(|other| other.first().is_some_and(|head| head == ">")) {
        // No subject goes on from here, or a `>` takes whatever does.
        return true;
    }
    if others.is_empty() {
        return false;
    }
    match token.as_str() {
        "*" => every_token(others).all(|next| walk(rest, &step(others, next), room - 1)),
        ">" => every_token(others).all(|next| {
            let others = step(others, next);
            walk(&[], &others, room - 1) && walk(pattern, &others, room - 1)
        }),
        token => walk(rest, &step(others, Some(token)), room - 1),
    }
}

/// Each token that one of them names, and one that none does.
fn every_token<'t>(others: &[&'t [String]]) -> impl Iterator<Item = Option<&'t str>> + use<'t> {
    let mut named: Vec<&str> = others.iter().filter_map(|other| other.first()).map(String::as_str).collect();
    named.retain(|token| *token != "*");
    named.sort_unstable();
    named.dedup();
    named.into_iter().map(Some).chain([None])
}

/// What is left of those that take the token; `None` is one that none of them names.
fn step<'t>(others: &[&'t [String]], token: Option<&str>) -> Vec<&'t [String]> {
    let takes = |head: &String| head == "*" || token.is_some_and(|token| head == token);
    others
        .iter()
        .filter_map(|other| other.split_first())
        .filter(|(head, _)| takes(head))
        .map(|(_, rest)| rest)
        .collect()
}

#[cfg(test)]
mod tests;

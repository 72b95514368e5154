#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use sealbus_envelope::subject::Subject;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

#[test]
fn a_union_may_cover_what_no_part_of_it_does() {
    let all = |texts: &[&str]| texts.iter().map(|text| pattern(text)).collect::<Vec<_>>();
    let covers = |of: &str, others: &[&str]| covered(&pattern(of), &all(others).iter().collect::<Vec<_>>());
    assert!(covers("a.>", &["a.*", "a.*.>"]));
    assert!(!covers("a.>", &["a.*", "a.b.>"]));
    assert!(!covers("a.*", &["a.b", "a.c"]));
    assert!(covers("a.b", &["a.b", "a.c"]));
    assert!(covers("*.x", &["a.x", "*.*"]));
    assert!(!covers("a", &[]));
}

fn a_label() -> impl Strategy<Value = Label> {
    (0..3_u8, 0..4_u64, 0..3_u8).prop_map(|(level, bits, rank)| {
        let (level, rank) = (Level::new(level).unwrap(), Integrity::new(rank).unwrap());
        Label::new(level, Compartments::from_bits(bits), rank)
    })
}

fn a_range() -> impl Strategy<Value = LabelRange> {
    (a_label(), a_label()).prop_map(|(a, b)| LabelRange { low: a.meet(b), high: a.join(b) })
}

fn a_pattern() -> impl Strategy<Value = Pattern> {
    let token = prop::sample::select(vec!["a", "b", "*"]);
    (prop::collection::vec(token, 1..3), any::<bool>()).prop_map(|(mut tokens, rest)| {
        if rest {
            tokens.push(">");
        }
        pattern(&tokens.join("."))
    })
}

/// Subjects enough to tell patterns of these tokens apart.
fn subjects() -> Vec<Subject> {
    let mut all = vec![String::new()];
    let mut found = Vec::new();
    for _ in 0..4 {
        all = all.iter().flat_map(|begin| ["a", "b", "c"].map(|token| format!("{begin}{token}."))).collect();
        found.extend(all.iter().map(|text| Subject::parse(text.trim_end_matches('.')).unwrap()));
    }
    found
}

fn labels() -> Vec<Label> {
    let mut all = Vec::new();
    for level in 0..4 {
        for bits in 0..8 {
            for rank in 0..4 {
                let (level, rank) = (Level::new(level).unwrap(), Integrity::new(rank).unwrap());
                all.push(Label::new(level, Compartments::from_bits(bits), rank));
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn what_lies_beyond_is_what_a_search_of_every_subject_and_label_finds(
        here in a_pattern(), range in a_range(),
        known in prop::collection::vec((a_pattern(), a_range()), 0..4),
    ) {
        let known: Vec<_> = known.iter().map(|(pattern, range)| (pattern, *range)).collect();
        let found = beyond(&here, range, &known);
        let subjects: Vec<_> = subjects().into_iter().filter(|subject| here.matches(subject)).collect();
        for label in labels() {
            let open = range.contains(label) && subjects.iter().any(|subject| {
                !known.iter().any(|(pattern, range)| range.contains(label) && pattern.matches(subject))
            });
            let times = found.iter().filter(|piece| piece.contains(label)).count();
            prop_assert_eq!(times, usize::from(open), "{:?} {:?}", label, found);
        }
    }
}

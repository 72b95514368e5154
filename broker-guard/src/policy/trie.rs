//! Which patterns concern a subject: wildcards as nats-server reads them.
//!
//! One pattern is matched by [`Pattern`](sealbus_envelope::subject::Pattern); this finds, among
//! thousands of patterns, those that concern a subject or another pattern. Text goes in well formed (no
//! empty token, wildcards alone in their token, `>` last): `Pattern` and `Subject` see to that.

use std::collections::HashMap;

const ONE: &str = "*";
const REST: &str = ">";

/// A set of patterns, each with values, that finds those concerning a subject without trying each.
#[derive(Debug, Clone)]
pub struct SubjectTrie<T> {
    nodes: Vec<Node<T>>,
}

#[derive(Debug, Clone)]
struct Node<T> {
    /// Children by token; the wildcards `*` and `>` are tokens like others here.
    children: HashMap<Box<str>, usize>,
    /// Values of the pattern that ends here.
    values: Vec<T>,
}

impl<T> Node<T> {
    fn new() -> Self {
        Self { children: HashMap::new(), values: Vec::new() }
    }
}

impl<T> Default for SubjectTrie<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::new()] }
    }
}

impl<T> SubjectTrie<T> {
    /// No patterns.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `value` under `pattern`; a pattern can have several values.
    pub fn insert(&mut self, pattern: &str, value: T) {
        let mut at = 0;
        for token in pattern.split('.') {
            let next = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return };
            at = *node.children.entry(token.into()).or_insert(next);
            if at == next {
                self.nodes.push(Node::new());
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.values.push(value);
        }
    }

    /// Calls `found` with each value whose pattern matches the literal `subject`.
    pub fn matching<'t>(&'t self, subject: &str, mut found: impl FnMut(&'t T)) {
        self.walk(0, Some(subject), false, &mut found);
    }

    /// Calls `found` with each value whose pattern shares a subject with `pattern`.
    pub fn overlapping<'t>(&'t self, pattern: &str, mut found: impl FnMut(&'t T)) {
        self.walk(0, Some(pattern), true, &mut found);
    }

    /// Depth-first from node `at` with the tokens of `rest` still to match. When `wild`, wildcards in
    /// `rest` are wildcards, else they are text. Recursion is as deep as the subject has tokens.
    fn walk<'t>(&'t self, at: usize, rest: Option<&str>, wild: bool, found: &mut impl FnMut(&'t T)) {
        let Some(node) = self.nodes.get(at) else { return };
        let Some(rest) = rest else {
            node.values.iter().for_each(found);
            return;
        };
        let (token, rest) = match rest.split_once('.') {
            Some((token, rest)) => (token, Some(rest)),
            None => (rest, None),
        };
        if wild && token == REST {
            for &child in node.children.values() {
                self.everything(child, found);
            }
            return;
        }
        if let Some(&end) = node.children.get(REST) {
            self.walk(end, None, wild, found);
        }
        if wild && token == ONE {
            for (name, &child) in &node.children {
                if name.as_ref() != REST {
                    self.walk(child, rest, wild, found);
                }
            }
            return;
        }
        // A literal subject has no token `*` or `>`; were one to slip in it must not be found twice.
        for key in [token, ONE] {
            if let Some(&child) = node.children.get(key) {
                self.walk(child, rest, wild, found);
            }
            if token == ONE || token == REST {
                break;
            }
        }
    }

    fn everything<'t>(&'t self, at: usize, found: &mut impl FnMut(&'t T)) {
        let Some(node) = self.nodes.get(at) else { return };
        node.values.iter().for_each(&mut *found);
        for &child in node.children.values() {
            self.everything(child, found);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use proptest::prelude::*;
    use sealbus_envelope::subject::Pattern;

    use super::*;

    /// Two letters and three tokens: small enough that random cases collide often.
    fn subject() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..=4).prop_map(|t| t.join("."))
    }

    fn pattern() -> impl Strategy<Value = String> {
        (prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 0..=3), 0..4_u8).prop_map(
            |(mut tokens, last)| {
                tokens.push(["a", "b", "*", ">"][usize::from(last)]);
                tokens.join(".")
            },
        )
    }

    /// Written from the documentation's words, by recursion, sharing nothing with the code above.
    fn naive(pattern: &[&str], subject: &[&str]) -> bool {
        match (pattern, subject) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            ([p, ps @ ..], [s, ss @ ..]) => (*p == "*" || p == s) && naive(ps, ss),
            _ => false,
        }
    }

    fn parsed(pattern: &str) -> Pattern {
        Pattern::parse(pattern).unwrap()
    }

    fn naive_match(pattern: &str, subject: &str) -> bool {
        naive(&pattern.split('.').collect::<Vec<_>>(), &subject.split('.').collect::<Vec<_>>())
    }

    /// Every subject over `a`, `b` and a letter no pattern names, up to one token longer than patterns.
    fn universe() -> Vec<String> {
        let mut all = Vec::new();
        let mut last = vec![String::new()];
        for _ in 0..5 {
            last = last
                .iter()
                .flat_map(|s| {
                    ["a", "b", "z"].map(|t| if s.is_empty() { t.into() } else { format!("{s}.{t}") })
                })
                .collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_naive_matcher(p in pattern(), s in subject()) {
            prop_assert_eq!(parsed(&p).matches_str(&s), naive_match(&p, &s));
        }

        #[test]
        fn covering_and_overlap_agree_with_the_sets_of_subjects(a in pattern(), b in pattern()) {
            let all = universe();
            let subset = all.iter().all(|s| !naive_match(&b, s) || naive_match(&a, s));
            let shared = all.iter().any(|s| naive_match(&a, s) && naive_match(&b, s));
            let (a, b) = (parsed(&a), parsed(&b));
            prop_assert_eq!(a.covers(&b), subset);
            prop_assert_eq!(a.overlaps(&b), shared);
            prop_assert_eq!(b.overlaps(&a), shared);
        }

        #[test]
        fn the_trie_finds_exactly_what_trying_each_pattern_finds(
            patterns in prop::collection::vec(pattern(), 0..40), s in subject(), p in pattern(),
        ) {
            let mut trie = SubjectTrie::new();
            for (n, pattern) in patterns.iter().enumerate() {
                trie.insert(pattern, n);
            }
            let tried = |test: &dyn Fn(&str) -> bool| -> Vec<usize> {
                patterns.iter().enumerate().filter(|(_, p)| test(p)).map(|(n, _)| n).collect()
            };
            let mut found = Vec::new();
            trie.matching(&s, |&n| found.push(n));
            found.sort_unstable();
            prop_assert_eq!(&found, &tried(&|p| naive_match(p, &s)));

            let mut found = Vec::new();
            trie.overlapping(&p, |&n| found.push(n));
            found.sort_unstable();
            prop_assert_eq!(&found, &tried(&|q| parsed(q).overlaps(&parsed(&p))));
        }
    }
}

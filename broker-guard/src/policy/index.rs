//! Rules by name, with the texts that a decision compares.
//!
//! With thousands of rules in use a decision waits for memory and for little else. So one look into a small
//! table says where everything is, and what it says is fetched at once: name and pattern side by side among
//! the texts, and the rule.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};
use sealbus_envelope::name::{MAX_NAME, Name};
use sealbus_envelope::subject::{MAX_SUBJECT, Pattern};

use super::compile::RuleId;

const _: () = assert!(MAX_NAME < 256 && MAX_SUBJECT < 256, "lengths are one byte");

/// Where a rule and its texts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    at: u32,
    id: RuleId,
    name_len: u8,
    pattern_len: u8,
}

/// Finds rules by name.
///
/// The names asked for are an attacker's. They only ever look: what is in the table the quorum signed, so
/// nobody can fill one bucket, and the hash is seeded all the same.
#[derive(Debug, Clone)]
pub(super) struct RuleIndex {
    hasher: DefaultHashBuilder,
    table: HashTable<Place>,
    texts: Vec<u8>,
}

impl RuleIndex {
    pub(super) fn with_capacity(rules: usize) -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            table: HashTable::with_capacity(rules),
            texts: Vec::new(),
        }
    }

    /// Adds a rule; gives nothing, and adds nothing, if there is one of that name.
    pub(super) fn insert(&mut self, name: &Name, pattern: &Pattern, id: RuleId) -> Option<Place> {
        if self.find(name.as_str()).is_some() {
            return None;
        }
        let (name, pattern) = (name.as_str(), pattern.as_str());
        let place = Place {
            at: u32::try_from(self.texts.len()).ok()?,
            id,
            name_len: u8::try_from(name.len()).ok()?,
            pattern_len: u8::try_from(pattern.len()).ok()?,
        };
        self.texts.extend_from_slice(name.as_bytes());
        self.texts.extend_from_slice(pattern.as_bytes());
        let (texts, hasher) = (&self.texts, &self.hasher);
        let rehash = |place: &Place| hasher.hash_one(name_at(texts, *place));
        self.table.insert_unique(hasher.hash_one(name.as_bytes()), place, rehash);
        Some(place)
    }

    /// The rule called `name`.
    pub(super) fn find(&self, name: &str) -> Option<RuleId> {
        let name = name.as_bytes();
        let same = |place: &Place| name_at(&self.texts, *place) == name;
        self.table.find(self.hasher.hash_one(name), same).map(|place| place.id)
    }

    /// The text of the rule's pattern.
    pub(super) fn pattern(&self, place: Place) -> &[u8] {
        part(&self.texts, place.at, usize::from(place.name_len), place.pattern_len)
    }
}

fn name_at(texts: &[u8], place: Place) -> &[u8] {
    part(texts, place.at, 0, place.name_len)
}

fn part(texts: &[u8], at: u32, skip: usize, len: u8) -> &[u8] {
    let begin = usize::try_from(at).unwrap_or(usize::MAX).saturating_add(skip);
    texts.get(begin..).and_then(|rest| rest.get(..usize::from(len))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::HashMap;

    use super::*;
    use crate::policy::compile::numbered;

    #[test]
    fn a_rule_is_found_by_its_whole_name_and_no_other() {
        let (mut index, mut model) = (RuleIndex::with_capacity(1), HashMap::new());
        for n in 0..2_000 {
            let (name, pattern) = (format!("r{n}"), format!("area{n}.>"));
            let parsed = (Name::parse(&name).unwrap(), Pattern::parse(&pattern).unwrap());
            let place = index.insert(&parsed.0, &parsed.1, numbered(n)).unwrap();
            assert_eq!(index.insert(&parsed.0, &parsed.1, numbered(n)), None, "the name is taken");
            assert_eq!(index.pattern(place), pattern.as_bytes());
            model.insert(name, numbered(n));
        }
        for n in 0..2_000 {
            // Its name, and what a wrong length would read: the name with its pattern, the begin of another's.
            for asked in [format!("r{n}"), format!("r{n}area{n}.>"), format!("r{n}a"), format!("r0{n}")] {
                assert_eq!(index.find(&asked), model.get(&asked).copied(), "{asked}");
            }
        }
        assert_eq!(index.find(""), None);
    }
}

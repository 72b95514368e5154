//! What an agent did before: sets that forget nothing, in a fixed room.

use sealbus_envelope::{label::Label, time::Millis};
use serde::{Deserialize, Serialize};

/// A short digest of text, the same on every machine and at every start. Not secret: whoever finds two texts
/// with one digest makes a new subject look like an old one, and gains one signal of many.
#[must_use]
pub fn digest(text: &str) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let (words, rest) = text.as_bytes().as_chunks();
    for word in words {
        state = mix(state ^ u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        state = mix(state ^ last);
    }
    mix(state ^ u64::try_from(text.len()).unwrap_or(u64::MAX))
}

/// Spreads a word over all of its bits (splitmix64's finalizer, Steele 2014).
#[must_use]
pub const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

const WORDS: usize = 32;
/// Beyond so many, a filter says "known" of what is not too often: then nothing is called new any more.
const FULL: u16 = 400;

/// A set of digests in a Bloom filter of 2,048 bits: what it calls new is new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    bits: [u64; WORDS],
    count: u16,
}

impl Known {
    /// Whether the digest may be in the set.
    #[must_use]
    pub fn contains(&self, digest: u64) -> bool {
        self.places(digest).all(|(word, bit)| self.bits.get(word).is_some_and(|word| word & bit != 0))
    }

    /// Puts it in; tells whether it is certainly new, and newness still means something.
    pub fn insert(&mut self, digest: u64) -> bool {
        if self.contains(digest) {
            return false;
        }
        for (word, bit) in self.places(digest) {
            if let Some(word) = self.bits.get_mut(word) {
                *word |= bit;
            }
        }
        self.count = self.count.saturating_add(1);
        self.count < FULL
    }

    /// How many were put in.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    #[expect(
        clippy::unused_self,
        reason = "the places are the filter's, though they depend on its size only"
    )]
    fn places(&self, digest: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        [digest, digest >> 32].into_iter().map(|part| {
            let part = part & 2_047;
            (usize::try_from(part >> 6).unwrap_or(0), 1 << (part & 63))
        })
    }
}

/// How a label differs from all that were used before. Several at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Above any level before.
    pub up: bool,
    /// A compartment that never was.
    pub sideways: bool,
    /// Below anything before, under its rule.
    pub down: bool,
}

impl Drift {
    /// Whether it differs at all.
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.up || self.sideways || self.down
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Used {
    rule: u64,
    label: Label,
    drift: Drift,
    since: Millis,
    told: Millis,
}

const MAX_LABELS: usize = 24;
/// A label is news until it was in use for so long: a week, so that nobody gets used to one over night.
const NEWS_MS: u64 = 7 * 24 * 3_600_000;

/// The labels that an agent used, by rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    used: Vec<Used>,
}

impl Labels {
    /// Notes a label in use. Says how it differs, at first and again each `every_ms` while it is news; and
    /// whether it is settled, so that nobody needs to ask again.
    pub fn note(&mut self, rule: u64, label: Label, now: Millis, free: bool, every_ms: u64) -> (Drift, bool) {
        if let Some(used) = self.used.iter_mut().find(|used| used.rule == rule && used.label == label) {
            if !used.drift.is_any() || now.since(used.since) > NEWS_MS {
                used.drift = Drift::default();
                return (Drift::default(), true);
            }
            if now.since(used.told) < every_ms {
                return (Drift::default(), false);
            }
            used.told = now;
            return (used.drift, false);
        }
        let drift = if free { Drift::default() } else { self.drift(rule, label) };
        if self.used.len() >= MAX_LABELS {
            let oldest = self.used.iter().enumerate().min_by_key(|(_, used)| used.since).map(|(n, _)| n);
            self.used.swap_remove(oldest.unwrap_or(0));
        }
        self.used.push(Used { rule, label, drift, since: now, told: now });
        (drift, !drift.is_any())
    }

    fn drift(&self, rule: u64, label: Label) -> Drift {
        let settled = || self.used.iter().filter(|used| !used.drift.is_any());
        let Some(highest) = settled().map(|used| used.label.level).max() else { return Drift::default() };
        let compartments = settled().fold(0, |bits, used| bits | used.label.compartments.bits());
        let lowest = settled().filter(|used| used.rule == rule).map(|used| used.label).reduce(Label::meet);
        Drift {
            up: label.level > highest,
            sideways: label.compartments.bits() & !compartments != 0,
            down: lowest.is_some_and(|lowest| {
                label.level < lowest.level || !label.compartments.contains(lowest.compartments)
            }),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.used.len()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use sealbus_envelope::label::{Compartments, Integrity, Level};

    use super::*;

    /// Else all that was learned would be new after an update of the guard.
    #[test]
    fn digests_are_the_same_at_every_start() {
        for (text, expected) in [
            ("", 0xe220_a839_7b1d_cdaf),
            ("notes.a", 0xc894_832b_4f64_f555),
            ("0123456789abcdef", 0xb57e_0990_c989_d51a),
            ("collect.web.raw.é", 0x2da0_a0b7_f56b_b7ac),
        ] {
            assert_eq!(digest(text), expected, "{text}");
        }
    }

    #[test]
    fn what_was_put_in_is_known_and_most_else_is_not() {
        let mut known = Known::default();
        for n in 0..300 {
            known.insert(digest(&format!("subject.{n}")));
        }
        assert!((0..300).all(|n| known.contains(digest(&format!("subject.{n}")))));
        let wrong = (0..1_000).filter(|n| known.contains(digest(&format!("other.{n}")))).count();
        assert!(wrong < 120, "{wrong}");
    }

    fn label(level: u8, compartments: u64) -> Label {
        Label::new(Level::new(level).unwrap(), Compartments::from_bits(compartments), Integrity::LOWEST)
    }

    #[test]
    fn labels_drift_up_sideways_and_down() {
        let mut labels = Labels::default();
        let note = |labels: &mut Labels, rule, label, now, free| {
            labels.note(rule, label, Millis(now), free, 1_000).0
        };
        note(&mut labels, 1, label(2, 1), 0, true);
        note(&mut labels, 1, label(3, 3), 0, true);
        assert!(!note(&mut labels, 2, label(2, 1), 5, false).is_any(), "known under another rule");
        let up = note(&mut labels, 1, label(4, 3), 5, false);
        assert_eq!(up, Drift { up: true, ..Drift::default() });
        assert!(note(&mut labels, 1, label(4, 3), 1_005, false).up, "again, while it is news");
        assert!(!note(&mut labels, 1, label(4, 3), 1_006, false).is_any());
        assert!(note(&mut labels, 1, label(2, 5), 5, false).sideways);
        assert!(note(&mut labels, 1, label(1, 1), 5, false).down);
        assert!(note(&mut labels, 1, label(2, 0), 5, false).down, "without what it always had");
        assert!(!note(&mut labels, 1, label(4, 3), NEWS_MS + 6, false).is_any(), "settled in the end");
        for n in 0..100 {
            note(&mut labels, n, label(2, 1), n, false);
        }
        assert!(labels.len() <= MAX_LABELS);
    }
}

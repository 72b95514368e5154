//! Classification labels: one lattice for Bell-LaPadula and Biba.
//!
//! A [`Label`] says how secret information is (an ordered *level* and a set of *compartments*) and how
//! far it can be trusted (an *integrity* rank). Information may flow from `a` to `b` only when
//! `b.dominates(a)`: upwards in secrecy (Bell & LaPadula 1973), downwards in trust (Biba 1977).
//!
//! ```
//! use sealbus_envelope::label::{Compartments, Integrity, Label, Level};
//! # fn main() -> Result<(), sealbus_envelope::label::LabelError> {
//! let web = Label::new(Level::new(1)?, Compartments::EMPTY, Integrity::new(0)?);
//! let notes = Label::new(Level::new(2)?, Compartments::single(3)?, Integrity::new(4)?);
//! let derived = web.join(notes);
//! assert!(derived.dominates(web) && derived.dominates(notes));
//! assert_eq!(derived.integrity, Integrity::new(0)?, "what untrusted text touched is untrusted");
//! # Ok(())
//! # }
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a label was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Levels are numbered 0 to 15.
    #[error("level {0} is out of range: a policy has at most 16 levels, numbered from 0")]
    Level(u8),
    /// Compartments are numbered 0 to 63.
    #[error("compartment {0} is out of range: a policy has at most 64 compartments, numbered from 0")]
    Compartment(u8),
    /// Integrity ranks are numbered 0 to 7.
    #[error("integrity rank {0} is out of range: a policy has at most 8 ranks, numbered from 0")]
    Integrity(u8),
}

/// An ordered secrecy level, 0 (lowest) to 15.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Level(u8);

impl Level {
    /// How many levels there can be.
    pub const COUNT: u8 = 16;
    /// The lowest level.
    pub const LOWEST: Self = Self(0);
    /// The highest level.
    pub const HIGHEST: Self = Self(Self::COUNT - 1);

    /// Level number `n`.
    ///
    /// # Errors
    /// [`LabelError::Level`] if `n` is 16 or more.
    pub const fn new(n: u8) -> Result<Self, LabelError> {
        if n < Self::COUNT { Ok(Self(n)) } else { Err(LabelError::Level(n)) }
    }

    /// The number, 0 to 15.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Level {
    type Error = LabelError;
    fn try_from(n: u8) -> Result<Self, LabelError> {
        Self::new(n)
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> Self {
        level.0
    }
}

/// A trust rank, 0 (untrusted) to 7 (most trusted).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Integrity(u8);

impl Integrity {
    /// How many ranks there can be.
    pub const COUNT: u8 = 8;
    /// Untrusted: what anybody may have written.
    pub const LOWEST: Self = Self(0);
    /// The most trusted rank.
    pub const HIGHEST: Self = Self(Self::COUNT - 1);

    /// Rank number `n`.
    ///
    /// # Errors
    /// [`LabelError::Integrity`] if `n` is 8 or more.
    pub const fn new(n: u8) -> Result<Self, LabelError> {
        if n < Self::COUNT { Ok(Self(n)) } else { Err(LabelError::Integrity(n)) }
    }

    /// The number, 0 to 7.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Integrity {
    type Error = LabelError;
    fn try_from(n: u8) -> Result<Self, LabelError> {
        Self::new(n)
    }
}

impl From<Integrity> for u8 {
    fn from(rank: Integrity) -> Self {
        rank.0
    }
}

/// A set of need-to-know compartments, numbered 0 to 63.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Compartments(u64);

impl Compartments {
    /// How many compartments there can be.
    pub const COUNT: u8 = 64;
    /// No compartment.
    pub const EMPTY: Self = Self(0);
    /// Every compartment.
    pub const ALL: Self = Self(u64::MAX);

    /// The set whose members are the bits set in `bits`: bit `n` is compartment `n`.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The set with the one member `n`.
    ///
    /// # Errors
    /// [`LabelError::Compartment`] if `n` is 64 or more.
    pub const fn single(n: u8) -> Result<Self, LabelError> {
        if n < Self::COUNT { Ok(Self(1 << n)) } else { Err(LabelError::Compartment(n)) }
    }

    /// The members as bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether every member of `other` is a member of `self`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Members of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Members of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The members' numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..Self::COUNT).filter(move |n| self.0 >> n & 1 == 1)
    }
}

impl fmt::Debug for Compartments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// How secret a piece of information is and how far it can be trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Label {
    /// Secrecy level.
    pub level: Level,
    /// Need-to-know compartments: a reader needs every one of them.
    pub compartments: Compartments,
    /// Trust rank: the least trusted input decides.
    pub integrity: Integrity,
}

impl Label {
    /// Flows to everything: lowest level, no compartment, most trusted.
    pub const BOTTOM: Self =
        Self { level: Level::LOWEST, compartments: Compartments::EMPTY, integrity: Integrity::HIGHEST };
    /// Everything flows to it: highest level, every compartment, untrusted.
    pub const TOP: Self =
        Self { level: Level::HIGHEST, compartments: Compartments::ALL, integrity: Integrity::LOWEST };

    /// A label from its three parts.
    #[must_use]
    pub const fn new(level: Level, compartments: Compartments, integrity: Integrity) -> Self {
        Self { level, compartments, integrity }
    }

    /// Whether information labelled `other` may flow into something labelled `self`.
    #[must_use]
    pub fn dominates(self, other: Self) -> bool {
        self.level >= other.level
            && self.compartments.contains(other.compartments)
            && self.integrity <= other.integrity
    }

    /// The least label that dominates both: what is derived from both inputs carries at least this.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            level: self.level.max(other.level),
            compartments: self.compartments.union(other.compartments),
            integrity: self.integrity.min(other.integrity),
        }
    }

    /// The greatest label that both dominate.
    #[must_use]
    pub fn meet(self, other: Self) -> Self {
        Self {
            level: self.level.min(other.level),
            compartments: self.compartments.intersection(other.compartments),
            integrity: self.integrity.max(other.integrity),
        }
    }
}

/// What a subject may read and label: a level and compartments. Trust is limited separately, by an
/// integrity ceiling, because reading untrusted text is allowed and claiming trust is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Clearance {
    /// Highest level.
    pub level: Level,
    /// Compartments held.
    pub compartments: Compartments,
}

impl Clearance {
    /// Whether a holder may read `label`.
    #[must_use]
    pub fn covers(self, label: Label) -> bool {
        self.level >= label.level && self.compartments.contains(label.compartments)
    }

    /// The greatest clearance both grant: a credential never gives more than the team has.
    #[must_use]
    pub fn meet(self, other: Self) -> Self {
        Self {
            level: self.level.min(other.level),
            compartments: self.compartments.intersection(other.compartments),
        }
    }
}

/// The labels a rule accepts: every label between `low` and `high` in the lattice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LabelRange {
    /// Dominated by every label in the range: lowest level, fewest compartments, most trusted.
    pub low: Label,
    /// Dominates every label in the range: highest level, most compartments, least trusted.
    pub high: Label,
}

impl LabelRange {
    /// Whether `label` lies in the range.
    #[must_use]
    pub fn contains(self, label: Label) -> bool {
        self.high.dominates(label) && label.dominates(self.low)
    }

    /// Whether no label lies in the range.
    #[must_use]
    pub fn is_empty(self) -> bool {
        !self.high.dominates(self.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every label over 4 levels, 3 compartments and 3 ranks.
    fn universe() -> Vec<Label> {
        let mut all = Vec::new();
        for level in 0..4 {
            for bits in 0..8 {
                for rank in 0..3 {
                    all.push(Label::new(Level(level), Compartments(bits), Integrity(rank)));
                }
            }
        }
        all
    }

    #[test]
    fn dominance_is_a_partial_order() {
        let all = universe();
        for &a in &all {
            assert!(a.dominates(a));
            for &b in &all {
                assert!(!(a.dominates(b) && b.dominates(a)) || a == b, "antisymmetry: {a:?} {b:?}");
                for &c in &all {
                    assert!(!(a.dominates(b) && b.dominates(c)) || a.dominates(c), "transitivity");
                }
            }
        }
    }

    #[test]
    fn join_is_the_least_upper_and_meet_the_greatest_lower_bound() {
        let all = universe();
        for &a in &all {
            for &b in &all {
                let (join, meet) = (a.join(b), a.meet(b));
                assert!(join.dominates(a) && join.dominates(b));
                assert!(a.dominates(meet) && b.dominates(meet));
                for &c in &all {
                    assert!(!(c.dominates(a) && c.dominates(b)) || c.dominates(join), "least");
                    assert!(!(a.dominates(c) && b.dominates(c)) || meet.dominates(c), "greatest");
                }
            }
        }
    }

    #[test]
    fn join_and_meet_obey_the_lattice_laws() {
        let all = universe();
        for &a in &all {
            assert_eq!(a.join(a), a);
            assert_eq!(a.meet(a), a);
            assert_eq!(a.join(Label::BOTTOM), a);
            assert_eq!(a.meet(Label::TOP), a);
            for &b in &all {
                assert_eq!(a.join(b), b.join(a));
                assert_eq!(a.meet(b), b.meet(a));
                assert_eq!(a.join(a.meet(b)), a, "absorption");
                assert_eq!(a.meet(a.join(b)), a, "absorption");
                assert_eq!(a.dominates(b), a.join(b) == a, "order and join agree");
                for &c in &all {
                    assert_eq!(a.join(b).join(c), a.join(b.join(c)));
                    assert_eq!(a.meet(b).meet(c), a.meet(b.meet(c)));
                }
            }
        }
    }

    #[test]
    fn a_clearance_covers_exactly_what_its_two_parts_allow() {
        for &label in &universe() {
            for level in 0..4 {
                for bits in 0..8 {
                    let clearance = Clearance { level: Level(level), compartments: Compartments(bits) };
                    let allowed = label.level.0 <= level && label.compartments.0 & !bits == 0;
                    assert_eq!(clearance.covers(label), allowed);
                }
            }
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(Level::new(16), Err(LabelError::Level(16)));
        assert_eq!(Integrity::new(8), Err(LabelError::Integrity(8)));
        assert_eq!(Compartments::single(64), Err(LabelError::Compartment(64)));
    }
}

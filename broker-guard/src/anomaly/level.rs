//! What is usual: a level and its spread on a logarithmic scale, learned slowly.
//!
//! Quantities of traffic vary by factors, so everything here is the natural logarithm of one plus the quantity. A
//! level follows what it sees by bounded steps: no single value, however large, moves it further than a small one
//! (Huber 1964), and after the warm-up no day moves it by more than [`CAP`]. That cap is the whole defence against
//! training: whoever raises its traffic faster leaves the level behind and is found, whoever keeps below it needs
//! a week to double.

use serde::{Deserialize, Serialize};

/// By how much a level moves in a day at most, as a logarithm: a tenth.
pub const CAP: f32 = 0.095_31;
/// The least spread: what varies by less than about two fifths is not told apart.
const LEAST: f32 = 0.35;
/// The greatest spread that is believed: else whoever makes itself erratic could do anything.
const MOST: f32 = 0.6;
/// How much of the way to what was seen a level goes, within the cap.
const PACE: f32 = 0.2;

/// A level, its spread, and how often it was visited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    mean: f32,
    spread: f32,
    visits: u16,
}

impl Level {
    /// Whether anything was ever learned.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.visits > 0
    }

    /// The usual value, as a logarithm.
    #[must_use]
    pub const fn mean(self) -> f32 {
        self.mean
    }

    /// The spread, wider while little is known and for small counts, which vary by chance (of the logarithm of one
    /// plus a Poisson count, by the delta method).
    #[must_use]
    pub fn spread(self) -> f32 {
        let one_more = self.mean.max(0.0).exp();
        let chance = (one_more - 1.0) / (one_more * one_more);
        let own = self.spread.clamp(LEAST, MOST);
        (own * own + chance).sqrt() * (1.0 + 1.0 / f32::from(self.visits.max(1)))
    }

    /// What lies `spreads` above the usual.
    #[must_use]
    pub fn upper(self, spreads: f32) -> f32 {
        self.mean + spreads * self.spread()
    }

    /// Learns a value. `free` while the agent is new; else the level moves by no more than `cap`.
    pub fn learn(&mut self, value: f32, free: bool, cap: f32) {
        if !value.is_finite() {
            return;
        }
        if self.visits == 0 {
            (self.mean, self.spread) = (value, LEAST);
        } else {
            let off = value - self.mean;
            let pace = if free { 1.0 / (f32::from(self.visits) + 1.0).min(1.0 / PACE) } else { PACE };
            let step = pace * off;
            self.mean += if free { step } else { step.clamp(-cap, cap) };
            // The mean distance is four fifths of the standard deviation; what is far off counts as little more.
            let distance = (off.abs() * 1.25).min(2.5 * self.spread.max(LEAST));
            self.spread += PACE / 2.0 * (distance - self.spread);
        }
        self.visits = self.visits.saturating_add(1);
    }
}

/// Hours of a day.
pub const HOURS: usize = 24;

/// A level for each hour of a working day and of the weekend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Daily {
    hours: [[Level; HOURS]; 2],
    /// How far hours are from what was usual for them, over all: who has bursts has them at any hour.
    erratic: f32,
}

/// The greatest distance that is believed of hours over all.
const MOST_ERRATIC: f32 = 1.1;
/// By how much that rises in a day at most, after the warm-up.
const ERRATIC_CAP: f32 = 0.02;

/// Which hour of which kind of day an hour since the epoch is. The first of January 1970 was a Thursday; UTC.
fn slot(hour: u64) -> (usize, usize) {
    let day = hour / 24;
    let weekend = usize::from(matches!((day + 3) % 7, 5 | 6));
    (weekend, usize::try_from(hour % 24).unwrap_or(0))
}

impl Daily {
    /// The levels that say something about an hour: its own and its neighbours', because clocks are put forward
    /// and jobs run late; of the other kind of day where this kind was never seen; else all.
    fn about(&self, hour: u64) -> impl Iterator<Item = Level> + '_ {
        let (kind, at) = slot(hour);
        let level = move |kind: usize, at: usize| {
            self.hours.get(kind)?.get(at).copied().filter(|level| level.is_known())
        };
        let near = move || {
            let hours = [at + HOURS - 1, at, at + 1].into_iter().map(|at| at % HOURS);
            hours.filter_map(move |at| level(kind, at).or_else(|| level(1 - kind, at)))
        };
        let none = near().next().is_none();
        let all = self.hours.iter().flatten().copied().filter(move |level| none && level.is_known());
        near().chain(all)
    }

    fn spread(&self, level: Level) -> f32 {
        level.spread().max(self.erratic * (1.0 + 1.0 / f32::from(level.visits.max(1))))
    }

    /// The highest of what is usual about an hour, `spreads` above it; nothing if nothing is known at all.
    #[must_use]
    pub fn upper(&self, hour: u64, spreads: f32) -> Option<f32> {
        self.about(hour).map(|level| level.mean() + spreads * self.spread(level)).reduce(f32::max)
    }

    /// The lowest of what is usual about an hour, `spreads` below it.
    #[must_use]
    pub fn lower(&self, hour: u64, spreads: f32) -> Option<f32> {
        self.about(hour).map(|level| level.mean() - spreads * self.spread(level)).reduce(f32::min)
    }

    /// How many spreads a value is above the highest of what is usual about an hour; 0 if nothing is known.
    #[must_use]
    pub fn above(&self, hour: u64, value: f32) -> f32 {
        let above = self.about(hour).map(|level| (value - level.mean()) / self.spread(level));
        above.reduce(f32::min).unwrap_or(0.0)
    }

    /// The usual value of an hour.
    #[must_use]
    pub fn mean(&self, hour: u64) -> Option<f32> {
        self.about(hour).map(Level::mean).reduce(f32::max)
    }

    /// Whether exactly this hour of this kind of day was ever learned.
    #[must_use]
    pub fn is_known(&self, hour: u64) -> bool {
        let (kind, at) = slot(hour);
        self.hours.get(kind).and_then(|day| day.get(at)).is_some_and(|level| level.is_known())
    }

    /// Learns what an hour was like.
    pub fn learn(&mut self, hour: u64, value: f32, free: bool) {
        // A kind of hour that was never seen starts from what is usual otherwise, not from what is put there.
        let near = self.mean(hour);
        let bound = near.filter(|_| !free);
        let (kind, at) = slot(hour);
        let Some(level) = self.hours.get_mut(kind).and_then(|day| day.get_mut(at)) else { return };
        let usual = if level.is_known() { Some(level.mean()) } else { near };
        if let Some(usual) = usual.filter(|_| value.is_finite()) {
            let pace = if free { PACE / 2.0 } else { PACE / 4.0 };
            let off = pace * ((value - usual).abs() * 1.25 - self.erratic);
            let most = if free { f32::INFINITY } else { ERRATIC_CAP / 24.0 };
            self.erratic = (self.erratic + off.clamp(-most, most)).clamp(0.0, MOST_ERRATIC);
        }
        match bound {
            Some(bound) if !level.is_known() => level.learn(value.min(bound + CAP), true, CAP),
            _ => level.learn(value, free, CAP),
        }
    }
}

/// A count or size, on the scale of levels.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a logarithm needs no more")]
pub fn scale(quantity: u64) -> f32 {
    (quantity as f64).ln_1p() as f32
}

/// The quantity at a point of the scale.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, and negative is zero"
)]
pub fn quantity(scaled: f32) -> u64 {
    f64::from(scaled).exp_m1().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_scale_can_be_read_back() {
        for value in [0, 1, 2, 10, 1_000, 123_456] {
            assert!(quantity(scale(value) + 1e-4).abs_diff(value) <= value / 1_000 + 1, "{value}");
        }
        assert_eq!(quantity(f32::INFINITY), u64::MAX);
        assert_eq!(quantity(f32::NAN), 0);
    }

    #[test]
    fn monday_is_no_weekend() {
        // 2024-01-01 was a Monday: day 19,723.
        let kinds: Vec<_> = (0..7).map(|day| slot((19_723 + day) * 24).0).collect();
        assert_eq!(kinds, [0, 0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn night_and_day_are_told_apart_and_an_hour_either_way_is_not() {
        let mut daily = Daily::default();
        for hour in 0..24 * 14 {
            let value = if (9..18).contains(&(hour % 24)) { 1_000 } else { 5 };
            daily.learn(hour, scale(value), true);
        }
        let (noon, night, edge) = (24 * 14 + 12, 24 * 14 + 2, 24 * 14 + 8);
        assert!(daily.above(noon, scale(1_200)) < 2.0);
        assert!(daily.above(night, scale(1_200)) > 6.0);
        assert!(daily.above(edge, scale(1_200)) < 2.0, "summer time");
    }

    proptest! {
        #[test]
        fn no_value_moves_a_level_by_more_than_the_cap(
            values in proptest::collection::vec(proptest::num::f32::ANY, 1..50)
        ) {
            let mut level = Level::default();
            level.learn(3.0, true, CAP);
            for value in values {
                let before = level.mean();
                level.learn(value, false, CAP);
                prop_assert!((level.mean() - before).abs() <= CAP * 1.001);
                prop_assert!(level.spread().is_finite());
            }
        }

        #[test]
        fn an_hour_never_seen_is_not_learned_from_an_attack(value in 0.0_f32..40.0) {
            let mut daily = Daily::default();
            for hour in 0..24 { daily.learn(hour, 3.0, true); }
            // Day 2 of 1970 was a Saturday.
            daily.learn(2 * 24, value, false);
            prop_assert!(daily.mean(2 * 24).unwrap() <= 3.0 + CAP * 1.001);
        }
    }
}

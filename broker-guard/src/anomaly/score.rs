//! Scores: what an agent did lately, each signal by itself, halving with time.

use sealbus_envelope::time::Millis;
use serde::{Deserialize, Serialize};

use super::{
    settings::Settings,
    signal::{COUNT, SIGNALS, SignalKind, Standing},
};

/// How often over a signal's cost may count, so that no single excusable thing, repeated, is taken for many.
const fn times(kind: SignalKind) -> f32 {
    match kind {
        SignalKind::Denials => 20.0,
        SignalKind::Replay => 15.0,
        SignalKind::FailedAuth => 6.0,
        SignalKind::LabelUp | SignalKind::LabelSideways | SignalKind::LabelDown => 2.0,
        _ => 3.0,
    }
}

/// Of what a flood sets off at once, the heaviest counts whole and the others this much: they are one thing.
const SAME_THING: f32 = 0.1;

const fn is_volume(kind: SignalKind) -> bool {
    matches!(kind, SignalKind::Rate | SignalKind::Size | SignalKind::Pace)
}

/// Scores of one agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    values: [f32; COUNT],
    at: Millis,
}

impl Scores {
    /// Lets time pass. A clock that steps back neither raises nor lowers anything, and scores fall on from there.
    pub fn decay(&mut self, now: Millis, half_life_ms: u64) {
        let passed = now.since(self.at);
        self.at = self.at.min(now);
        if passed == 0 {
            return;
        }
        self.at = now;
        #[expect(clippy::cast_precision_loss, reason = "beyond 2^24 half-lives nothing is left anyway")]
        let factor = (-(passed as f32) / half_life_ms.max(1) as f32).exp2();
        for value in &mut self.values {
            *value = if *value * factor < 1e-3 { 0.0 } else { *value * factor };
        }
    }

    /// One more occurrence, of a magnitude: adds up.
    pub fn add(&mut self, kind: SignalKind, magnitude: f32, settings: &Settings) {
        let cost = settings.cost(kind);
        if let Some(value) = self.values.get_mut(kind.index()) {
            *value = (*value + cost * magnitude).min(cost * times(kind));
        }
    }

    /// A condition that holds, of a magnitude: counts as often as one.
    pub fn hold(&mut self, kind: SignalKind, magnitude: f32, settings: &Settings) {
        let cost = settings.cost(kind);
        if let Some(value) = self.values.get_mut(kind.index()) {
            *value = value.max(cost * magnitude.min(times(kind)));
        }
    }

    /// All that counts towards being watched.
    #[must_use]
    pub fn total(&self) -> f32 {
        self.sum(|_| true)
    }

    /// What the agent's own sessions signed: all that counts towards quarantine.
    #[must_use]
    pub fn signed(&self) -> f32 {
        self.sum(|standing| standing >= Standing::Signed)
    }

    fn sum(&self, counts: impl Fn(Standing) -> bool) -> f32 {
        let (mut sum, mut volume, mut most) = (0.0, 0.0, 0.0_f32);
        for (signal, value) in SIGNALS.iter().zip(self.values) {
            match signal.standing {
                standing if !counts(standing) || standing == Standing::Counted => {}
                _ if is_volume(signal.kind) => {
                    volume += value;
                    most = most.max(value);
                }
                _ => sum += value,
            }
        }
        sum + most + SAME_THING * (volume - most)
    }

    /// What is there, the heaviest first.
    #[must_use]
    pub fn parts(&self) -> Vec<(SignalKind, f32)> {
        let parts = SIGNALS.iter().zip(self.values).map(|(signal, value)| (signal.kind, value));
        let mut parts: Vec<_> = parts.filter(|(_, value)| *value > 0.0).collect();
        parts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        parts
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.values.iter().all(|value| *value <= 0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = SignalKind> {
        proptest::sample::select(SIGNALS.iter().map(|signal| signal.kind).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn scores_only_fall_by_themselves_and_reach_zero(
            adds in proptest::collection::vec((kinds(), 0.0_f32..5.0), 0..50), steps in 1_u64..50
        ) {
            let settings = Settings::default();
            let mut scores = Scores::default();
            for (kind, magnitude) in adds { scores.add(kind, magnitude, &settings); }
            let mut before = scores.total();
            for step in 1..=steps {
                scores.decay(Millis(step * 60_000), settings.half_life_ms);
                prop_assert!(scores.total() <= before + 1e-5);
                before = scores.total();
            }
            scores.decay(Millis(40 * 600_000), settings.half_life_ms);
            prop_assert!(scores.is_zero(), "{scores:?}");
        }

        #[test]
        fn in_what_order_things_happened_at_one_time_makes_no_difference(
            adds in proptest::collection::vec((kinds(), 0.0_f32..0.5), 0..30)
        ) {
            let settings = Settings::default();
            let sum = |adds: &mut dyn Iterator<Item = &(SignalKind, f32)>| {
                let mut scores = Scores::default();
                adds.for_each(|(kind, magnitude)| scores.add(*kind, *magnitude, &settings));
                (scores.total(), scores.signed())
            };
            let (there, back) = (sum(&mut adds.iter()), sum(&mut adds.iter().rev()));
            prop_assert!((there.0 - back.0).abs() < 1e-3 && (there.1 - back.1).abs() < 1e-3);
        }

        #[test]
        fn what_only_the_server_says_never_counts_towards_quarantine(
            adds in proptest::collection::vec((kinds(), 0.0_f32..50.0), 0..200)
        ) {
            let settings = Settings::default();
            let mut scores = Scores::default();
            for (kind, magnitude) in adds.into_iter().filter(|(kind, _)| kind.standing() < Standing::Signed) {
                scores.add(kind, magnitude, &settings);
                scores.hold(kind, magnitude, &settings);
            }
            prop_assert!(scores.signed() <= 0.0);
        }
    }

    #[test]
    fn a_flood_that_shows_in_three_ways_is_one_thing() {
        let settings = Settings::default();
        let mut scores = Scores::default();
        for kind in [SignalKind::Rate, SignalKind::Size, SignalKind::Pace] {
            scores.hold(kind, 2.0, &settings);
        }
        assert!(scores.signed() < settings.quarantine, "{}", scores.signed());
    }
}

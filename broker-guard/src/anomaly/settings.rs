//! What the policy says about anomaly, checked.

use sealbus_envelope::policy::AnomalyRecord;

use super::signal::{COUNT, SIGNALS, SignalKind, named};

/// Thresholds, times and costs. Scores are sums of costs: 1 is one whole occurrence of a middling signal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// From this score on an agent is watched.
    pub watch: f32,
    /// From this score on, counting only what its own sessions signed, it is quarantined.
    pub quarantine: f32,
    /// In this time a score halves, in milliseconds.
    pub half_life_ms: u64,
    /// So long only proof counts against an agent that is new to the guard, in milliseconds.
    pub warm_up_ms: u64,
    /// And until it sent so many messages.
    pub warm_up_messages: u64,
    costs: [f32; COUNT],
}

/// Settings that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// No signal has that name.
    #[error("there is no signal `{0}`; the signals are {names}", names = names())]
    Unknown(String),
    /// The signal's cost is not the policy's to set.
    #[error(
        "`{0}` has no weight to set: proof always acts at once, and what anybody may have sent never counts"
    )]
    Fixed(String),
    /// A threshold that everything passes.
    #[error("`watch` and `quarantine` must be above 0, and `quarantine` not below `watch`")]
    Thresholds,
    /// A score that never falls or is gone at once.
    #[error("`half_life` must be from 1s to 30d")]
    HalfLife,
}

fn names() -> String {
    let names = SIGNALS.iter().filter(|signal| signal.weighs()).map(|signal| format!("`{}`", signal.name));
    names.collect::<Vec<_>>().join(", ")
}

const HOUR_MS: u64 = 3_600_000;

impl Default for Settings {
    /// What a policy means that says nothing: watched from 1, quarantined from 3, halved in ten minutes; an hour and
    /// a hundred messages of warm-up.
    fn default() -> Self {
        let mut costs = [0.0; COUNT];
        for (cost, signal) in costs.iter_mut().zip(SIGNALS) {
            *cost = hundredths(signal.cost);
        }
        Self {
            watch: 1.0,
            quarantine: 3.0,
            half_life_ms: 600_000,
            warm_up_ms: HOUR_MS,
            warm_up_messages: 100,
            costs,
        }
    }
}

impl Settings {
    /// What a signed policy says. A weight of a signal that this guard does not have, or whose cost is fixed, is left
    /// out: `policy check` refuses it before it is signed, and a guard must not stop over it afterwards.
    #[must_use]
    pub fn from_record(record: &AnomalyRecord) -> Self {
        let settings = Self {
            watch: hundredths(record.watch),
            quarantine: hundredths(record.quarantine),
            half_life_ms: u64::from(record.half_life_ms),
            warm_up_ms: u64::from(record.warm_up_ms),
            warm_up_messages: u64::from(record.warm_up_messages),
            ..Self::default()
        };
        let weighed = record.weights.iter().fold(settings, |settings, (name, cost)| {
            settings.with_cost(name.as_str(), *cost).unwrap_or(settings)
        });
        weighed.checked().unwrap_or_default()
    }

    /// What a whole occurrence of the signal adds.
    #[must_use]
    pub fn cost(&self, kind: SignalKind) -> f32 {
        self.costs.get(kind.index()).copied().unwrap_or(0.0)
    }

    /// With another cost for a signal, in hundredths.
    ///
    /// # Errors
    /// [`SettingsError::Unknown`], [`SettingsError::Fixed`].
    pub fn with_cost(mut self, name: &str, cost: u32) -> Result<Self, SettingsError> {
        let signal = named(name).ok_or_else(|| SettingsError::Unknown(name.to_owned()))?;
        if !signal.weighs() {
            return Err(SettingsError::Fixed(name.to_owned()));
        }
        if let Some(slot) = self.costs.get_mut(signal.kind.index()) {
            *slot = hundredths(cost);
        }
        Ok(self)
    }

    /// Whether the numbers make sense together.
    ///
    /// # Errors
    /// [`SettingsError::Thresholds`], [`SettingsError::HalfLife`].
    pub fn checked(self) -> Result<Self, SettingsError> {
        if !(self.watch > 0.0 && self.quarantine >= self.watch && self.quarantine.is_finite()) {
            return Err(SettingsError::Thresholds);
        }
        if !(1_000..=30 * 24 * HOUR_MS).contains(&self.half_life_ms) {
            return Err(SettingsError::HalfLife);
        }
        Ok(self)
    }
}

/// Hundredths as a score.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "scores are small")]
pub fn hundredths(cost: u32) -> f32 {
    cost as f32 / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_sets_what_may_be_set() {
        let settings = Settings::default().with_cost("replay", 50).unwrap_or_default();
        assert!((settings.cost(SignalKind::Replay) - 0.5).abs() < 1e-6);
        for fixed in ["junk", "bad-content", "second-holder"] {
            assert_eq!(Settings::default().with_cost(fixed, 1), Err(SettingsError::Fixed(fixed.to_owned())));
        }
        let text = Settings::default().with_cost("replays", 1).map_err(|error| error.to_string());
        assert!(text.is_err_and(|text| text.contains("`replays`") && text.contains("`replay`")));
    }

    #[test]
    fn a_policy_that_says_nothing_means_the_defaults() {
        assert_eq!(Settings::from_record(&AnomalyRecord::default()), Settings::default());
    }

    #[test]
    fn thresholds_that_make_no_sense_are_refused() {
        let defaults = Settings::default();
        assert_eq!(defaults.checked(), Ok(defaults));
        for (watch, quarantine) in [(0.0, 1.0), (2.0, 1.0), (f32::NAN, 1.0), (1.0, f32::INFINITY)] {
            assert_eq!(Settings { watch, quarantine, ..defaults }.checked(), Err(SettingsError::Thresholds));
        }
        assert_eq!(Settings { half_life_ms: 0, ..defaults }.checked(), Err(SettingsError::HalfLife));
    }
}

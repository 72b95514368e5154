//! How fast an attacker can raise what is usual for it without an alarm: the price of learning at all.

use sealbus_envelope::time::Millis;

use super::{
    Settings, play,
    story::{DAY, Habit, STEADY, Story, at},
};
use crate::anomaly::Action;

/// What an attacker gains who raises its traffic evenly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Training {
    /// By how much it raised its traffic each day.
    pub a_day: f64,
    /// The days until it was watched; nothing if it was not within [`DAYS`].
    pub watched_after_days: Option<f64>,
    /// How many times its usual traffic it had reached by then, or at the end.
    pub reached: f64,
}

/// So long an attacker tries.
pub const DAYS: u64 = 21;

/// Lets an attacker raise its rate by a share each day, after eight honest days.
#[must_use]
pub fn slope(a_day: f64, settings: &Settings) -> Training {
    let habit = Habit { day: 30.0, night: 30.0, ..STEADY };
    let mut story = Story::usually(900, habit, 8);
    #[expect(clippy::cast_precision_loss, reason = "some days")]
    let days = |time: u64| (time.saturating_sub(at(8, 0, 0))) as f64 / DAY as f64;
    // Beyond twelve times it need not be tried: that much is found within a minute.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "some days"
    )]
    let last = (12.0_f64.ln() / a_day.ln_1p()).min(DAYS as f64).ceil() as u64;
    let end = at(8 + last, 0, 0);
    story.lives_as(habit, at(8, 0, 0), end, |time| (1.0 + a_day).powf(days(time)));
    let story = story.told();
    let mut watched: Option<Millis> = None;
    play(&story.events, settings, |time, finding| {
        if finding.action != Action::Calm {
            watched = watched.or(Some(time));
        }
    });
    let until = watched.map_or(end, |time| time.0);
    Training {
        a_day,
        watched_after_days: watched.map(|time| days(time.0)),
        reached: (1.0 + a_day).powf(days(until)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_rises_faster_than_the_cap_is_found_before_it_gains_much() {
        let settings = Settings::default();
        for a_day in [0.3, 0.5] {
            let training = slope(a_day, &settings);
            assert!(training.watched_after_days.is_some() && training.reached < 8.0, "{training:?}");
        }
        // What is learned moves by a tenth a day: that much nobody notices.
        assert_eq!(slope(0.05, &settings).watched_after_days, None);
    }
}

//! How much it sends: too many messages, too large, too close together, or numbers that never come.

use sealbus_envelope::time::Millis;

use super::{ALARM, Fired, MINUTE_MS, Publisher, state::Present};
use crate::anomaly::{
    level::{quantity, scale},
    settings::Settings,
    signal::SignalKind,
};

/// The most minutes that are made up for.
const MOST_MISSED: u64 = 120;
/// The most that one envelope adds to the numbers that never came.
const MAX_GAP: u64 = 1_000;

impl Publisher {
    /// What it could not send in a pause it may send now: whoever was cut off catches up, and that is no flood.
    #[cold]
    pub(super) fn after_pause(&mut self, pause: u64, settings: &Settings, now: Millis) {
        let unusual = scale(pause) > self.habits.pause.upper(1.0);
        if unusual && self.present.last.0 > 0 && !self.is_learning(settings, now) {
            let usual = self.habits.hour.mean(self.present.minute / 60).map_or(0, quantity);
            self.present.credit = usual.saturating_mul((pause / MINUTE_MS).min(MOST_MISSED)) / 60;
        }
    }

    pub(super) fn too_much(&mut self, size: u64, settings: &Settings, now: Millis) -> Fired {
        let hour = self.present.minute / 60;
        let Present { in_minute, in_last, in_second, hour: mut so_far, armed, missed, .. } = self.present;
        so_far.bytes = so_far.bytes.saturating_sub(so_far.missed);
        let more = |reached: u64| reached.saturating_add(reached / 4);
        let mut fired = 0;
        let in_minute = in_minute.max(in_last).saturating_sub(missed);
        let mut rate = 0.0_f32;
        if in_minute > armed.minute {
            rate = rate.max(self.habits.minute.above(hour, scale(in_minute)));
            self.present.armed.minute = more(in_minute);
        }
        if so_far.count > armed.hour {
            rate = rate.max(self.habits.hour.above(hour, scale(so_far.count)));
            self.present.armed.hour = more(so_far.count);
        }
        if rate > 0.0 {
            self.present.in_flood = true;
            // A burst passes, a flood stays.
            let lasting = (f32::from(self.present.flood.saturating_sub(10)) * 0.04).min(1.0);
            fired |= self.hold(SignalKind::Rate, magnitude(rate) + lasting, settings, now);
        }
        if in_second > armed.second {
            self.present.armed.second = more(in_second);
            let above = (scale(in_second) - self.habits.second.mean()) / self.habits.second.spread();
            fired |= self.hold(SignalKind::Pace, magnitude(above), settings, now);
        }
        let mut larger = 0.0_f32;
        if size > armed.size {
            self.present.armed.size = more(size);
            larger = larger.max((scale(size) - self.habits.size.mean()) / self.habits.size.spread());
        }
        if so_far.bytes > armed.bytes {
            self.present.armed.bytes = more(so_far.bytes);
            larger = larger.max(self.habits.bytes.above(hour, scale(so_far.bytes)));
        }
        if larger > 0.0 {
            fired |= self.hold(SignalKind::Size, magnitude(larger), settings, now);
        }
        fired
    }

    pub(super) fn lost(&mut self, gap: u64, settings: &Settings, now: Millis) -> Fired {
        let hour = &mut self.present.hour;
        hour.lost = hour.lost.saturating_add(gap.min(MAX_GAP));
        let share = share(hour.lost, hour.count);
        let unusual = hour.lost >= 20 && share > 0.2 && share > 4.0 * self.habits.lost;
        if unusual && !self.is_learning(settings, now) {
            return self.hold(SignalKind::Gap, 1.0, settings, now);
        }
        0
    }
}

/// How much so many spreads above the usual weigh.
pub(super) fn magnitude(spreads: f32) -> f32 {
    (1.0 + (spreads - ALARM) / 4.0).clamp(1.0, 2.0)
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
pub(super) fn share(lost: u64, came: u64) -> f32 {
    if lost == 0 { 0.0 } else { lost as f32 / (lost as f32 + came as f32) }
}

//! Time passes: what is over is learned, what lasts is held against it, silence is noticed.

use sealbus_envelope::time::Millis;

use super::{
    ALARM, BACK, Fired, MINUTE_MS, Publisher,
    state::{Habits, Limits, Present},
    volume::share,
};
use crate::anomaly::{
    level::{CAP, Daily, Level, quantity, scale},
    settings::Settings,
    signal::SignalKind,
};

/// What is less than this is nothing to worry about, whatever the history says.
const LEAST: Limits = Limits { minute: 10, hour: 20, second: 20, size: 4_096, bytes: 65_536 };
/// The most hours without a word that are learned as such at once.
const MAX_SKIPPED: u64 = 48;
/// A silence is looked at over so many hours at most: all of them must be hours in which it never was silent.
const HOURS_LOOKED_BACK: usize = 24;

impl Publisher {
    /// Time passed: what is over is learned, what lasts is held against it, silence is noticed.
    pub(in crate::anomaly) fn tick(
        &mut self,
        bus_is_silent: bool,
        settings: &Settings,
        now: Millis,
    ) -> Fired {
        let mut fired = 0;
        let minute = now.0 / MINUTE_MS;
        if minute + BACK < self.present.minute {
            self.clock_went_back(now);
        }
        // The minute before may still get envelopes that were sealed in it.
        if minute > self.present.minute.saturating_add(1) {
            self.advance(minute - 1, settings, now);
        }
        if self.is_learning(settings, now) {
            self.scores.decay(now, settings.half_life_ms);
            return fired;
        }
        if self.habits.more.is_far() {
            fired |= self.hold(SignalKind::Rate, 1.0, settings, now);
        }
        if self.habits.larger.is_far() {
            fired |= self.hold(SignalKind::Size, 1.3, settings, now);
        }
        self.present.silent = !bus_is_silent && self.is_silent(now);
        if self.present.silent {
            fired |= self.hold(SignalKind::Silence, 1.0, settings, now);
        }
        self.scores.decay(now, settings.half_life_ms);
        fired
    }

    /// Whether it says nothing, and never did so for so long at this time of the day.
    fn is_silent(&self, now: Millis) -> bool {
        let Present { last, .. } = self.present;
        let (pause, hour) = (now.since(last), now.0 / (60 * MINUTE_MS));
        last.0 > 0
            && pause > 10 * MINUTE_MS
            && scale(pause) > self.habits.pause.upper(ALARM)
            && (last.0 / (60 * MINUTE_MS)..=hour).rev().take(HOURS_LOOKED_BACK).all(|hour| {
                self.habits.hour.is_known(hour)
                    && self.habits.hour.lower(hour, ALARM).is_some_and(|least| least > scale(1))
            })
    }

    /// The guard's clock was set back: the hour under way is over, and nothing is learned of it. Else all that comes
    /// until the clock has caught up would be counted as one minute's.
    #[cold]
    pub(super) fn clock_went_back(&mut self, now: Millis) {
        self.present = Present { marks: self.present.marks, last: now, ..Present::default() };
    }

    /// A later minute begins.
    #[cold]
    pub(super) fn advance(&mut self, minute: u64, settings: &Settings, now: Millis) {
        let before = self.present.minute;
        if minute <= before {
            return;
        }
        let free = self.is_learning(settings, now);
        let present = &mut self.present;
        present.hour.peak_minute = present.hour.peak_minute.max(present.in_minute);
        present.in_last = if minute == before + 1 { present.in_minute } else { 0 };
        present.in_minute = 0;
        present.missed = if minute == before + 1 { present.missed / 2 } else { 0 };
        present.minute = minute;
        present.flood = if std::mem::take(&mut present.in_flood) {
            present.flood.saturating_add(1)
        } else {
            present.flood / 2
        };
        if minute / 60 != before / 60 {
            self.close_hour(before / 60, minute / 60, free);
            self.open_hour(settings, now);
        }
        let present = &mut self.present;
        if minute.is_multiple_of(30) {
            present.credit = 0;
        }
        present.armed = Limits { hour: present.armed.hour, bytes: present.armed.bytes, ..present.limits };
    }

    /// Learns what the hour was like.
    fn close_hour(&mut self, hour: u64, next: u64, free: bool) {
        let past = std::mem::take(&mut self.present.hour);
        if std::mem::replace(&mut self.present.whole, true) {
            self.changed = true;
            self.habits.hours = self.habits.hours.saturating_add(1);
            let Habits { minute, hour: total, bytes, more, larger, .. } = &mut self.habits;
            if !free && past.count > 0 {
                more.add(total.above(hour, scale(past.count)));
                // Of few messages the sum of sizes says little.
                let above = if past.count < 30 { 0.0 } else { bytes.above(hour, scale(past.bytes)) };
                larger.add(above);
            }
            let lost = share(past.lost, past.count);
            // What never came says nothing about how much was sent; and an hour in which nothing at all came may be
            // a server's doing: it could wear a level down by dropping, so that the usual becomes too much.
            let whole = lost < 0.2 && (past.count > 0 || free);
            if whole {
                minute.learn(hour, scale(past.peak_minute), free);
                total.learn(hour, scale(past.count), free);
                bytes.learn(hour, scale(past.bytes), free);
            }
            if past.count > 0 {
                // A day has as many hours as are worth learning from.
                let cap = CAP / 12.0;
                self.habits.second.learn(scale(past.peak_second), free, cap);
                self.habits.size.learn(scale(past.size), free, cap);
                let over = (scale(past.size) - self.habits.largest).max(0.0);
                self.habits.largest += if free { over } else { over.min(CAP / 24.0) };
                self.habits.pause.learn(scale(past.pause), free, cap);
                self.habits.lost += (lost - self.habits.lost).clamp(-0.01, 0.01);
            }
            self.habits.connects.learn(scale(past.connects), free, CAP / 12.0);
            if free {
                let silent = u16::try_from(next - hour - 1).unwrap_or(u16::MAX);
                self.habits.hours = self.habits.hours.saturating_add(silent);
                for hour in (hour + 1..next).take(usize::try_from(MAX_SKIPPED).unwrap_or(0)) {
                    for daily in [&mut self.habits.minute, &mut self.habits.hour, &mut self.habits.bytes] {
                        daily.learn(hour, 0.0, free);
                    }
                }
            }
        }
    }

    /// Finds what is too much in the hour that begins.
    fn open_hour(&mut self, settings: &Settings, now: Millis) {
        let learning = self.is_learning(settings, now);
        let present = &mut self.present;
        let hour = present.minute / 60;
        present.limits = if learning {
            Limits::NONE
        } else {
            let habits = &self.habits;
            let of = |daily: &Daily, least: u64| {
                daily.upper(hour, ALARM).map_or(u64::MAX, |upper| quantity(upper).max(least))
            };
            let at = |level: Level, least: u64| {
                if level.is_known() { quantity(level.upper(ALARM)).max(least) } else { u64::MAX }
            };
            Limits {
                minute: of(&habits.minute, LEAST.minute),
                hour: of(&habits.hour, LEAST.hour),
                bytes: of(&habits.bytes, LEAST.bytes),
                second: at(habits.second, LEAST.second),
                size: at(habits.size, LEAST.size).max(quantity(habits.largest + 0.7)),
            }
        };
        present.armed = present.limits;
    }
}

//! One agent: what it usually does, what it does now, and how much is held against it.

use sealbus_envelope::time::Millis;
use serde::{Deserialize, Serialize};

use super::{
    known::{digest, mix},
    observation::Sent,
    score::Scores,
    settings::Settings,
    signal::SignalKind,
};

mod firsts;
mod state;
mod time;
mod volume;

use state::{Habits, MARKS, Present};

const MINUTE_MS: u64 = 60_000;
/// How far a signed time may be from the guard's clock: freshness, with room.
const SKEW_MS: u64 = 120_000;
/// So many spreads above the usual is an alarm.
const ALARM: f32 = 4.0;
/// A pause of so long, if it is longer than its own usually are, may be followed by what was missed.
const PAUSE_MS: u64 = 5 * MINUTE_MS;
/// If the time is so many minutes before what it was, the clock was set back: signed times may differ by less.
const BACK: u64 = 10;
/// Before it was seen for so many hours nothing is too much.
const HOURS_TO_LEARN: u16 = 24;

/// Everything about one agent. Bounded: about five kilobytes, whatever it does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Publisher {
    first: Millis,
    messages: u64,
    pub(super) scores: Scores,
    pub(super) watched: bool,
    pub(super) barred: bool,
    habits: Habits,
    #[serde(skip)]
    present: Present,
    /// Whether there is something to save.
    #[serde(skip)]
    pub(super) changed: bool,
}

/// Which signals an observation set off. A bit each.
pub(super) type Fired = u32;

const fn bit(kind: SignalKind) -> Fired {
    1 << kind as u8
}

impl Publisher {
    pub(super) fn new(now: Millis) -> Self {
        Self { first: now, ..Self::default() }
    }

    /// Whether only proof counts yet.
    pub(super) fn is_new(&self, settings: &Settings, now: Millis) -> bool {
        self.messages < settings.warm_up_messages || now.since(self.first) < settings.warm_up_ms
    }

    /// Whether what is usual is still being learned: every hour of a day must have been seen.
    fn is_learning(&self, settings: &Settings, now: Millis) -> bool {
        self.habits.hours < HOURS_TO_LEARN || self.is_new(settings, now)
    }

    /// The same agent with nothing learned and nothing held against it.
    pub(super) fn begin_anew(&mut self, now: Millis) {
        *self = Self { changed: true, ..Self::new(now) };
    }

    /// The guard was restarted: what it did meanwhile nobody knows, so it is not taken for silent.
    pub(super) const fn resume(&mut self, now: Millis) {
        self.present.last = now;
    }

    /// When it was heard of last.
    pub(super) const fn last(&self) -> Millis {
        self.present.last
    }

    fn fire(&mut self, kind: SignalKind, magnitude: f32, settings: &Settings, now: Millis) -> Fired {
        self.scores.decay(now, settings.half_life_ms);
        self.scores.add(kind, magnitude, settings);
        self.changed = true;
        bit(kind)
    }

    fn hold(&mut self, kind: SignalKind, magnitude: f32, settings: &Settings, now: Millis) -> Fired {
        self.scores.decay(now, settings.half_life_ms);
        self.scores.hold(kind, magnitude, settings);
        self.changed = true;
        bit(kind)
    }

    /// The hot path: a handful of comparisons, unless something is new or too much.
    pub(super) fn sent(&mut self, sent: &Sent<'_>, settings: &Settings, now: Millis) -> Fired {
        let sealed = sent.sealed.0.clamp(now.0.saturating_sub(SKEW_MS), now.0.saturating_add(SKEW_MS));
        let (minute, count) = (sealed / MINUTE_MS, u64::from(sent.count));
        let mut fired = 0;
        if minute > self.present.minute {
            self.advance(minute, settings, now);
        } else if minute + BACK < self.present.minute {
            self.clock_went_back(now);
            self.advance(minute, settings, now);
        }
        self.messages = self.messages.saturating_add(count);
        let present = &mut self.present;
        if let Some(mark) = sent.mark
            && let Some(slot) = present.marks.get_mut(usize::try_from(mark.number).unwrap_or(0) % MARKS)
        {
            *slot = mark;
        }
        let pause = now.0.saturating_sub(present.last.0);
        if pause > present.hour.pause && present.last.0 > 0 {
            present.hour.pause = pause;
        }
        if pause >= PAUSE_MS {
            self.after_pause(pause, settings, now);
        }
        let present = &mut self.present;
        present.last.0 = present.last.0.max(now.0);
        present.hour.count = present.hour.count.saturating_add(count);
        let bytes = u64::from(sent.size).saturating_mul(count);
        present.hour.bytes = present.hour.bytes.saturating_add(bytes);
        // What makes up for a pause is learned from like anything, but is not too much.
        let missed = present.credit.min(count);
        if missed > 0 {
            present.credit -= missed;
            present.missed = present.missed.saturating_add(missed);
            present.hour.missed = present.hour.missed.saturating_add(bytes);
        }
        if minute == present.minute {
            present.in_minute = present.in_minute.saturating_add(count);
        } else {
            present.in_last = present.in_last.saturating_add(count);
            present.hour.peak_minute = present.hour.peak_minute.max(present.in_last);
        }
        let second = sealed / 1_000;
        if second == present.second {
            present.in_second = present.in_second.saturating_add(count);
        } else if second > present.second {
            (present.second, present.in_second) = (second, count);
        }
        present.hour.peak_second = present.hour.peak_second.max(present.in_second);
        let size = u64::from(sent.size);
        present.hour.size = present.hour.size.max(size);
        let armed = &present.armed;
        let too_much = present.in_minute.max(present.in_last).saturating_sub(present.missed) > armed.minute
            || (present.in_second > armed.second && missed == 0)
            || size > armed.size
            || present.hour.count > armed.hour
            || present.hour.bytes.saturating_sub(present.hour.missed) > armed.bytes;
        if too_much {
            fired |= self.too_much(size, settings, now);
        }
        if sent.gap > 0 {
            fired |= self.lost(sent.gap, settings, now);
        }
        if sent.session != self.present.last_session {
            fired |= self.other_session(sent.session, settings, now);
        }
        let subject = digest(sent.subject);
        if subject != self.present.last_subject {
            self.present.last_subject = subject;
            if !self.habits.subjects.contains(subject) {
                fired |= self.new_subject(subject, settings, now);
            }
        }
        let label = &sent.label;
        let packed = u64::from(label.level.number()) << 8 | u64::from(label.integrity.number());
        let used = digest(sent.rule) ^ mix(label.compartments.bits() ^ packed << 48);
        if used != self.present.last_label {
            fired |= self.label(sent, used, settings, now);
        }
        fired
    }
}

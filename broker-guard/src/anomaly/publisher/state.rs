//! What is kept of one agent: what it usually does, and the hour and minute under way.

use sealbus_envelope::time::Millis;
use serde::{Deserialize, Serialize};

use super::ALARM;
use crate::anomaly::{
    known::{Known, Labels},
    level::{Daily, Level},
    observation::Mark,
    places::Places,
};

/// Of so many spreads a persistent rise needs no more than an hour each to add up, see [`Drifting`].
const DRIFT: f32 = 2.0;
/// A rise that lasts adds up to this before it is an alarm.
const DRIFTED: f32 = 12.0;
/// How many marks are kept to prove that two envelopes were signed under one number.
pub(super) const MARKS: usize = 32;

/// What may come before it is too much; also the counts themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) minute: u64,
    pub(super) second: u64,
    pub(super) size: u64,
    pub(super) hour: u64,
    pub(super) bytes: u64,
}

impl Limits {
    pub(super) const NONE: Self =
        Self { minute: u64::MAX, second: u64::MAX, size: u64::MAX, hour: u64::MAX, bytes: u64::MAX };
}

/// What is learned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Habits {
    /// The busiest minute of the hour.
    pub(super) minute: Daily,
    /// Hours that were seen from beginning to end.
    pub(super) hours: u16,
    /// Messages in the hour.
    pub(super) hour: Daily,
    /// Bytes in the hour.
    pub(super) bytes: Daily,
    /// The busiest second of the hour.
    pub(super) second: Level,
    /// The largest message of the hour.
    pub(super) size: Level,
    /// The largest message of the first days, moved as slowly as anything: one large message a day is no news.
    pub(super) largest: f32,
    /// The longest pause within the hour, in milliseconds.
    pub(super) pause: Level,
    /// Connections in the hour.
    pub(super) connects: Level,
    /// Share of sequence numbers that never come.
    pub(super) lost: f32,
    pub(super) subjects: Known,
    /// Subjects that were new when they came.
    pub(super) novel: u64,
    pub(super) readers: Known,
    pub(super) rules: Known,
    pub(super) labels: Labels,
    pub(super) places: Places,
    pub(super) more: Drifting,
    pub(super) larger: Drifting,
}

/// A rise too small to be a step that lasts: what is above [`DRIFT`] adds up from hour to hour (CUSUM, Page 1954).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Drifting(f32);

impl Drifting {
    pub(super) fn add(&mut self, spreads: f32) {
        self.0 = (self.0 + spreads.clamp(-ALARM, ALARM) - DRIFT).clamp(0.0, DRIFTED + ALARM);
    }

    pub(super) fn is_far(self) -> bool {
        self.0 > DRIFTED
    }
}

/// The hour and minute under way. Not saved: after a restart they begin anew.
#[derive(Debug, Clone)]
pub(super) struct Present {
    pub(super) minute: u64,
    pub(super) in_minute: u64,
    pub(super) in_last: u64,
    pub(super) second: u64,
    pub(super) in_second: u64,
    /// Whether the hour was seen from its beginning.
    pub(super) whole: bool,
    pub(super) hour: Hour,
    /// What is too much in this hour; and the same raised by what was told of already.
    pub(super) limits: Limits,
    pub(super) armed: Limits,
    /// What a pause may be followed by.
    pub(super) credit: u64,
    /// How much of that came in this minute and the last.
    pub(super) missed: u64,
    /// Minutes on end that were too much.
    pub(super) flood: u16,
    pub(super) in_flood: bool,
    pub(super) last: Millis,
    pub(super) last_subject: u64,
    pub(super) last_label: u64,
    pub(super) last_session: u64,
    pub(super) marks: [Mark; MARKS],
    pub(super) asked: f32,
    pub(super) asked_at: Millis,
    pub(super) silent: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hour {
    pub(super) peak_minute: u64,
    pub(super) peak_second: u64,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) size: u64,
    pub(super) pause: u64,
    pub(super) lost: u64,
    pub(super) connects: u64,
    /// Bytes of what made up for a pause.
    pub(super) missed: u64,
}

impl Default for Present {
    fn default() -> Self {
        Self {
            minute: 0,
            in_minute: 0,
            in_last: 0,
            second: 0,
            in_second: 0,
            whole: false,
            hour: Hour::default(),
            limits: Limits::NONE,
            armed: Limits::NONE,
            credit: 0,
            missed: 0,
            flood: 0,
            in_flood: false,
            last: Millis(0),
            last_subject: 0,
            last_label: 0,
            last_session: 0,
            marks: [Mark { number: 0, envelope: 0 }; MARKS],
            asked: 0.0,
            asked_at: Millis(0),
            silent: false,
        }
    }
}

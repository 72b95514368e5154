//! Telling a story: what an agent usually does, for some days, and what happens then.

use std::borrow::Cow;

use sealbus_envelope::{
    label::{Compartments, Integrity, Label, Level},
    time::Millis,
};

use super::{Event, Message, What};
use crate::anomaly::{Mark, known::mix};

pub(super) const SECOND: u64 = 1_000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;
/// Every story begins on Monday, 1 January 2024, at midnight.
const BEGIN: u64 = 1_704_067_200_000;

pub(super) const AGENT: &str = "collector-abcdefghij";
pub(super) const HOME: u64 = 11;
pub(super) const AWAY: u64 = 12;

/// What happens, in order of time, and from when it is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    /// Everything that the guard sees.
    pub events: Vec<Event>,
    /// From when on it is an attack.
    pub from: Millis,
    chance: u64,
    pub(super) session: u64,
    sequence: u64,
    pub(super) agent: &'static str,
}

/// What an agent usually does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habit {
    /// Messages an hour by day.
    pub(super) day: f64,
    /// Messages an hour by night, before eight and after twenty o'clock.
    pub(super) night: f64,
    /// The share of it at weekends.
    pub(super) weekend: f64,
    /// The median size.
    pub(super) size: f64,
    /// How much sizes vary: the standard deviation of their logarithm.
    pub(super) spread: f64,
    pub(super) subjects: &'static [&'static str],
    pub(super) rule: &'static str,
    pub(super) label: (u8, u64),
}

/// Two a minute by day, six an hour by night, of about a kibibyte.
pub(super) const USUAL: Habit = Habit {
    day: 120.0,
    night: 6.0,
    weekend: 1.0,
    size: 1_000.0,
    spread: 0.4,
    subjects: &["notes.web", "notes.mail", "notes.chat"],
    rule: "notes",
    label: (2, 1),
};

/// The same all day.
pub(super) const STEADY: Habit = Habit { day: 60.0, night: 60.0, ..USUAL };

pub(super) fn label((level, compartments): (u8, u64)) -> Label {
    let level = Level::new(level).unwrap_or(Level::LOWEST);
    Label::new(level, Compartments::from_bits(compartments), Integrity::LOWEST)
}

/// A time of the story: a day, an hour, a minute.
pub(super) const fn at(day: u64, hour: u64, minute: u64) -> u64 {
    BEGIN + day * DAY + hour * HOUR + minute * MINUTE
}

impl Story {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            events: Vec::new(),
            from: Millis(u64::MAX),
            chance: seed,
            session: 1,
            sequence: 0,
            agent: AGENT,
        }
    }

    /// A story that begins with some days of what is usual.
    pub(super) fn usually(seed: u64, habit: Habit, days: u64) -> Self {
        let mut story = Self::new(seed);
        story.happens(at(0, 0, 0), What::Connected(1, HOME));
        story.lives(habit, at(0, 0, 0), at(days, 0, 0));
        story
    }

    pub(super) const fn wrong_from(mut self, time: u64) -> Self {
        self.from = Millis(time);
        self
    }

    /// In order.
    pub(super) fn told(mut self) -> Self {
        self.events.sort_by_key(|event| event.time);
        self
    }

    pub(super) fn happens(&mut self, time: u64, what: What) {
        self.events.push(Event { time: Millis(time), agent: self.agent, what });
    }

    /// A number from 0 to below 1.
    pub(super) fn chance(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let chance = (mix(self.chance) >> 11) as f64;
        chance / 9_007_199_254_740_992.0
    }

    /// A number of the normal distribution (Box–Muller).
    pub(super) fn normal(&mut self) -> f64 {
        let (a, b) = (self.chance().max(1e-12), self.chance());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// How many come by chance when so many are expected.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small, and negative is zero"
    )]
    fn poisson(&mut self, expected: f64) -> u64 {
        if expected > 30.0 {
            return (expected + expected.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (limit, mut product, mut count) = ((-expected).exp(), self.chance(), 0);
        while product > limit {
            product *= self.chance();
            count += 1;
        }
        count
    }

    /// It does as it usually does, over a time.
    pub(super) fn lives(&mut self, habit: Habit, from: u64, to: u64) {
        self.lives_as(habit, from, to, |_| 1.0);
    }

    /// The same, times a factor that depends on the time.
    pub(super) fn lives_as(&mut self, habit: Habit, from: u64, to: u64, factor: impl Fn(u64) -> f64) {
        for minute in (from..to).step_by(usize::try_from(MINUTE).unwrap_or(1)) {
            let (day, hour) = ((minute - BEGIN) / DAY, minute / HOUR % 24);
            let weekend = if matches!(day % 7, 5 | 6) { habit.weekend } else { 1.0 };
            let rate = if (8..20).contains(&hour) { habit.day } else { habit.night };
            let count = self.poisson(rate * weekend * factor(minute) / 60.0);
            self.sends(habit, minute, MINUTE, count);
        }
    }

    /// It sends so many within a time.
    pub(super) fn sends(&mut self, habit: Habit, from: u64, within: u64, count: u64) {
        for _ in 0..count {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "times and sizes of stories are small"
            )]
            let (time, size, which) = (
                from + (self.chance() * within as f64) as u64,
                (habit.size * (habit.spread * self.normal()).exp()).max(50.0) as u32,
                // The first is used most.
                (self.chance().powi(2) * habit.subjects.len() as f64) as usize,
            );
            let subject = habit.subjects.get(which).copied().unwrap_or("notes.web");
            let message = self.message(habit, time, subject.into(), size);
            self.happens(time, What::Sent(message));
        }
    }

    pub(super) fn message(
        &mut self,
        habit: Habit,
        time: u64,
        subject: Cow<'static, str>,
        size: u32,
    ) -> Message {
        self.sequence += 1;
        Message {
            sealed: Millis(time),
            subject,
            rule: habit.rule,
            label: label(habit.label),
            size,
            gap: 0,
            session: self.session,
            mark: Some(self.mark(self.sequence)),
        }
    }

    /// The mark of the message of that number.
    pub(super) const fn mark(&self, sequence: u64) -> Mark {
        Mark { number: mix(self.session << 40 ^ sequence), envelope: mix(sequence ^ 0xabcd) }
    }

    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }
}

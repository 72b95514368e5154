//! One agent: what it usually does, what it does now, and how much is held against it.

use sealbus_envelope::time::Millis;
use serde::{Deserialize, Serialize};

use super::{
    known::{Known, Labels, digest, mix},
    level::{CAP, Daily, Level, quantity, scale},
    observation::{Mark, Sent},
    places::Places,
    score::Scores,
    settings::Settings,
    signal::SignalKind,
};

const MINUTE_MS: u64 = 60_000;
/// How far a signed time may be from the guard's clock: freshness, with room.
const SKEW_MS: u64 = 120_000;
/// So many spreads above the usual is an alarm.
const ALARM: f32 = 4.0;
/// Of so many spreads a persistent rise needs no more than an hour each to add up, see [`Drifting`].
const DRIFT: f32 = 2.0;
/// A rise that lasts adds up to this before it is an alarm.
const DRIFTED: f32 = 12.0;
/// What is less than this is nothing to worry about, whatever the history says.
const LEAST: Limits = Limits { minute: 10, hour: 20, second: 20, size: 4_096, bytes: 65_536 };
/// A pause of so long, if it is longer than its own usually are, may be followed by what was missed.
const PAUSE_MS: u64 = 5 * MINUTE_MS;
/// The most minutes that are made up for.
const MOST_MISSED: u64 = 120;
/// If the time is so many minutes before what it was, the clock was set back: signed times may differ by less.
const BACK: u64 = 10;
/// How many marks are kept to prove that two envelopes were signed under one number.
const MARKS: usize = 32;
/// Before it was seen for so many hours nothing is too much.
const HOURS_TO_LEARN: u16 = 24;
/// The most hours without a word that are learned as such at once.
const MAX_SKIPPED: u64 = 48;
/// The most that one envelope adds to the numbers that never came.
const MAX_GAP: u64 = 1_000;

/// What may come before it is too much; also the counts themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    minute: u64,
    second: u64,
    size: u64,
    hour: u64,
    bytes: u64,
}

impl Limits {
    const NONE: Self =
        Self { minute: u64::MAX, second: u64::MAX, size: u64::MAX, hour: u64::MAX, bytes: u64::MAX };
}

/// What is learned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Habits {
    /// The busiest minute of the hour.
    minute: Daily,
    /// Hours that were seen from beginning to end.
    hours: u16,
    /// Messages in the hour.
    hour: Daily,
    /// Bytes in the hour.
    bytes: Daily,
    /// The busiest second of the hour.
    second: Level,
    /// The largest message of the hour.
    size: Level,
    /// The largest message of the first days, moved as slowly as anything: one large message a day is no news.
    largest: f32,
    /// The longest pause within the hour, in milliseconds.
    pause: Level,
    /// Connections in the hour.
    connects: Level,
    /// Share of sequence numbers that never come.
    lost: f32,
    subjects: Known,
    /// Subjects that were new when they came.
    novel: u64,
    readers: Known,
    rules: Known,
    labels: Labels,
    places: Places,
    more: Drifting,
    larger: Drifting,
}

/// A rise too small to be a step that lasts: what is above [`DRIFT`] adds up from hour to hour (CUSUM, Page 1954).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Drifting(f32);

impl Drifting {
    fn add(&mut self, spreads: f32) {
        self.0 = (self.0 + spreads.clamp(-ALARM, ALARM) - DRIFT).clamp(0.0, DRIFTED + ALARM);
    }

    fn is_far(self) -> bool {
        self.0 > DRIFTED
    }
}

/// The hour and minute under way. Not saved: after a restart they begin anew.
#[derive(Debug, Clone)]
struct Present {
    minute: u64,
    in_minute: u64,
    in_last: u64,
    second: u64,
    in_second: u64,
    /// Whether the hour was seen from its beginning.
    whole: bool,
    hour: Hour,
    /// What is too much in this hour; and the same raised by what was told of already.
    limits: Limits,
    armed: Limits,
    /// What a pause may be followed by.
    credit: u64,
    /// How much of that came in this minute and the last.
    missed: u64,
    /// Minutes on end that were too much.
    flood: u16,
    in_flood: bool,
    last: Millis,
    last_subject: u64,
    last_label: u64,
    last_session: u64,
    marks: [Mark; MARKS],
    asked: f32,
    asked_at: Millis,
    silent: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Hour {
    peak_minute: u64,
    peak_second: u64,
    count: u64,
    bytes: u64,
    size: u64,
    pause: u64,
    lost: u64,
    connects: u64,
    /// Bytes of what made up for a pause.
    missed: u64,
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

    /// The guard's clock was set back: the hour under way is over, and nothing is learned of it. Else all that comes
    /// until the clock has caught up would be counted as one minute's.
    #[cold]
    fn clock_went_back(&mut self, now: Millis) {
        self.present = Present { marks: self.present.marks, last: now, ..Present::default() };
    }

    /// What it could not send in a pause it may send now: whoever was cut off catches up, and that is no flood.
    #[cold]
    fn after_pause(&mut self, pause: u64, settings: &Settings, now: Millis) {
        let unusual = scale(pause) > self.habits.pause.upper(1.0);
        if unusual && self.present.last.0 > 0 && !self.is_learning(settings, now) {
            let usual = self.habits.hour.mean(self.present.minute / 60).map_or(0, quantity);
            self.present.credit = usual.saturating_mul((pause / MINUTE_MS).min(MOST_MISSED)) / 60;
        }
    }

    fn too_much(&mut self, size: u64, settings: &Settings, now: Millis) -> Fired {
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

    fn lost(&mut self, gap: u64, settings: &Settings, now: Millis) -> Fired {
        let hour = &mut self.present.hour;
        hour.lost = hour.lost.saturating_add(gap.min(MAX_GAP));
        let share = share(hour.lost, hour.count);
        let unusual = hour.lost >= 20 && share > 0.2 && share > 4.0 * self.habits.lost;
        if unusual && !self.is_learning(settings, now) {
            return self.hold(SignalKind::Gap, 1.0, settings, now);
        }
        0
    }

    fn new_subject(&mut self, subject: u64, settings: &Settings, now: Millis) -> Fired {
        let told = self.habits.subjects.insert(subject);
        self.changed = true;
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
        let usual = (self.habits.novel as f32 + 0.5) / (self.messages as f32 + 1.0);
        self.habits.novel = self.habits.novel.saturating_add(1);
        // Who names its subjects after orders uses new ones all the time.
        if !told || usual > 0.02 || self.is_new(settings, now) {
            return 0;
        }
        self.fire(SignalKind::NewSubject, (-usual.log10() / 4.0).clamp(0.0, 1.0), settings, now)
    }

    fn label(&mut self, sent: &Sent<'_>, used: u64, settings: &Settings, now: Millis) -> Fired {
        let free = self.is_new(settings, now);
        let rule = digest(sent.rule);
        let before = self.habits.labels.len();
        let (drift, settled) = self.habits.labels.note(rule, sent.label, now, free, settings.half_life_ms);
        self.changed |= self.habits.labels.len() != before;
        if settled {
            self.present.last_label = used;
        }
        let mut fired = 0;
        for (is, kind) in [
            (drift.up, SignalKind::LabelUp),
            (drift.sideways, SignalKind::LabelSideways),
            (drift.down, SignalKind::LabelDown),
        ] {
            if is {
                fired |= self.fire(kind, 1.0, settings, now);
            }
        }
        fired
    }

    fn other_session(&mut self, session: u64, settings: &Settings, now: Millis) -> Fired {
        let free = self.is_new(settings, now);
        self.present.last_session = session;
        match self.habits.places.heard(session, now, free) {
            true if !free => self.hold(SignalKind::TwoPlaces, 1.5, settings, now),
            _ => 0,
        }
    }

    /// A session of it was let in.
    pub(super) fn connected(&mut self, session: u64, place: u64, settings: &Settings, now: Millis) -> Fired {
        self.advance(now.0 / MINUTE_MS, settings, now);
        let mut fired = 0;
        let free = self.is_new(settings, now);
        self.changed = true;
        let elsewhere = self.habits.places.connected(session, place, now, free);
        let connects = &mut self.present.hour.connects;
        *connects = connects.saturating_add(1);
        let (connects, usual) = (*connects, self.habits.connects);
        if free {
            return fired;
        }
        let learning = self.is_learning(settings, now);
        if elsewhere {
            fired |= self.hold(SignalKind::TwoPlaces, 0.5, settings, now);
        }
        if !learning && connects > 6 && scale(connects) > usual.upper(ALARM) {
            let above = (scale(connects) - usual.mean()) / usual.spread();
            fired |= self.hold(SignalKind::Churn, 3.0 * magnitude(above), settings, now);
        }
        fired
    }

    pub(super) fn left(&mut self, session: u64) {
        self.habits.places.left(session);
    }

    /// A key of it was handed to a reader.
    pub(super) fn granted(&mut self, reader: &str, settings: &Settings, now: Millis) -> Fired {
        if !self.habits.readers.insert(digest(reader)) {
            return 0;
        }
        self.changed = true;
        if self.is_new(settings, now) { 0 } else { self.fire(SignalKind::NewReader, 1.0, settings, now) }
    }

    /// It asked to read under a rule.
    pub(super) fn asked(&mut self, rule: &str, settings: &Settings, now: Millis) -> Fired {
        if !self.habits.rules.insert(digest(rule)) {
            return 0;
        }
        self.changed = true;
        let Present { asked, asked_at, .. } = &mut self.present;
        #[expect(clippy::cast_precision_loss, reason = "what is long ago is nothing")]
        let left = (-(now.since(*asked_at) as f32) / 300_000.0).exp2();
        *asked = (*asked * left) + 1.0;
        *asked_at = now;
        let asked = *asked;
        // An agent that only reads never gets through the warm-up by sending: its age alone counts here.
        if asked < 5.5 || now.since(self.first) < settings.warm_up_ms {
            return 0;
        }
        self.hold(SignalKind::KeySweep, asked / 5.5, settings, now)
    }

    /// Whether two envelopes were signed under one number: proof.
    pub(super) fn replayed(&mut self, mark: Option<Mark>, settings: &Settings, now: Millis) -> Fired {
        let kept = mark.and_then(|mark| {
            let slot = usize::try_from(mark.number).unwrap_or(0) % MARKS;
            Some((mark, *self.present.marks.get(slot)?))
        });
        if let Some((mark, kept)) = kept
            && kept.number == mark.number
            && kept.envelope != mark.envelope
        {
            return self.fire(SignalKind::SecondHolder, 1.0, settings, now);
        }
        self.counted(SignalKind::Replay, settings, now)
    }

    /// Something that needs no history.
    pub(super) fn counted(&mut self, kind: SignalKind, settings: &Settings, now: Millis) -> Fired {
        match kind {
            SignalKind::Junk => bit(kind),
            SignalKind::BadContent | SignalKind::SecondHolder => self.fire(kind, 1.0, settings, now),
            _ if self.is_new(settings, now) => 0,
            _ => self.fire(kind, 1.0, settings, now),
        }
    }

    /// Time passed: what is over is learned, what lasts is held against it, silence is noticed.
    pub(super) fn tick(&mut self, bus_is_silent: bool, settings: &Settings, now: Millis) -> Fired {
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

    /// A later minute begins.
    #[cold]
    fn advance(&mut self, minute: u64, settings: &Settings, now: Millis) {
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

/// A silence is looked at over so many hours at most: all of them must be hours in which it never was silent.
const HOURS_LOOKED_BACK: usize = 24;

/// How much so many spreads above the usual weigh.
fn magnitude(spreads: f32) -> f32 {
    (1.0 + (spreads - ALARM) / 4.0).clamp(1.0, 2.0)
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
fn share(lost: u64, came: u64) -> f32 {
    if lost == 0 { 0.0 } else { lost as f32 / (lost as f32 + came as f32) }
}

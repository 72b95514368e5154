//! What it never did before, and what is told of it now and then: subjects, labels, sessions, readers, rules, denials.

use sealbus_envelope::time::Millis;

use super::{
    ALARM, Fired, MINUTE_MS, Publisher, bit,
    state::{MARKS, Present},
    volume::magnitude,
};
use crate::anomaly::{
    known::digest,
    level::scale,
    observation::{Mark, Sent},
    settings::Settings,
    signal::SignalKind,
};

impl Publisher {
    pub(super) fn new_subject(&mut self, subject: u64, settings: &Settings, now: Millis) -> Fired {
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

    pub(super) fn label(&mut self, sent: &Sent<'_>, used: u64, settings: &Settings, now: Millis) -> Fired {
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

    pub(super) fn other_session(&mut self, session: u64, settings: &Settings, now: Millis) -> Fired {
        let free = self.is_new(settings, now);
        self.present.last_session = session;
        match self.habits.places.heard(session, now, free) {
            true if !free => self.hold(SignalKind::TwoPlaces, 1.5, settings, now),
            _ => 0,
        }
    }

    /// A session of it was let in.
    pub(in crate::anomaly) fn connected(
        &mut self,
        session: u64,
        place: u64,
        settings: &Settings,
        now: Millis,
    ) -> Fired {
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

    pub(in crate::anomaly) fn left(&mut self, session: u64) {
        self.habits.places.left(session);
    }

    /// A key of it was handed to a reader.
    pub(in crate::anomaly) fn granted(&mut self, reader: &str, settings: &Settings, now: Millis) -> Fired {
        if !self.habits.readers.insert(digest(reader)) {
            return 0;
        }
        self.changed = true;
        if self.is_new(settings, now) { 0 } else { self.fire(SignalKind::NewReader, 1.0, settings, now) }
    }

    /// It asked to read under a rule.
    pub(in crate::anomaly) fn asked(&mut self, rule: &str, settings: &Settings, now: Millis) -> Fired {
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
    pub(in crate::anomaly) fn replayed(
        &mut self,
        mark: Option<Mark>,
        settings: &Settings,
        now: Millis,
    ) -> Fired {
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
    pub(in crate::anomaly) fn counted(
        &mut self,
        kind: SignalKind,
        settings: &Settings,
        now: Millis,
    ) -> Fired {
        match kind {
            SignalKind::Junk => bit(kind),
            SignalKind::BadContent | SignalKind::SecondHolder => self.fire(kind, 1.0, settings, now),
            _ if self.is_new(settings, now) => 0,
            _ => self.fire(kind, 1.0, settings, now),
        }
    }
}

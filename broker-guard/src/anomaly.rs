//! What deviates: a detector that is a pure function of (state, observation, time).
//!
//! For each agent it keeps what is usual ([`level`]), what it did before ([`known`]) and a score for each signal
//! ([`SIGNALS`]). Scores halve with time. From `watch` on an agent is watched; from `quarantine` on, counting only
//! what its own sessions signed, it is quarantined; proof acts at once. No IO, no clock, no chance: the same
//! observations at the same times give the same findings, which is what `sealbus anomaly replay` rests on.
//!
//! ```
//! use sealbus_envelope::time::Millis;
//! use sealbus_guard::anomaly::{Action, Detector, Observation, Settings};
//! let mut detector = Detector::new(Settings::default());
//! let finding = detector.observe("alice-abcdefghij", Observation::BadContent, Millis(1_000));
//! assert!(finding.is_some_and(|finding| finding.action == Action::Quarantine));
//! for n in 0..10_000 {
//!     let finding = detector.observe("bob-abcdefghij", Observation::Junk, Millis(1_000 + n));
//!     assert!(finding.is_none(), "what nobody signed is held against nobody");
//! }
//! ```

pub mod known;
pub mod level;
mod observation;
pub mod parents;
mod places;
mod publisher;
pub mod scenario;
pub mod score;
pub mod series;
mod settings;
mod signal;

use hashbrown::HashMap;
use sealbus_envelope::{name::AgentToken, time::Millis};

pub use observation::{Mark, Observation, Sent};
pub use settings::{Settings, SettingsError, hundredths};
pub use signal::{COUNT, SIGNALS, Signal, SignalKind, Standing, named};

use publisher::{Fired, Publisher};

#[cfg(test)]
mod tests;

/// The most agents that are followed, at about five kilobytes each; of more, those heard of last are not.
pub const MAX_PUBLISHERS: usize = 16_384;
/// How often time passes for agents that say nothing, in milliseconds.
const SWEEP_MS: u64 = 10_000;
/// Nobody said a word for so long: it is the bus that is silent, not an agent.
const BUS_SILENT_MS: u64 = 120_000;
/// A score must fall to this share of the threshold before who is watched is calmed.
const CALM: f32 = 0.5;
/// The form of what [`Detector::save`] gives. What has another number is not read, and learned anew.
const FORM: u8 = 1;

/// What a finding calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Watch the agent.
    Watch,
    /// Watch it no longer.
    Calm,
    /// Quarantine it.
    Quarantine,
}

impl Action {
    /// The stable word for events and the command.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Calm => "calm",
            Self::Quarantine => "quarantine",
        }
    }
}

/// An agent passed a threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What it calls for.
    pub action: Action,
    /// The whole score.
    pub score: f32,
    /// What of it the agent's own sessions signed.
    pub signed: f32,
    /// The threshold that was passed.
    pub threshold: f32,
    /// The signals, the heaviest first.
    pub signals: Vec<(SignalKind, f32)>,
}

impl Finding {
    /// The heaviest signal.
    #[must_use]
    pub fn main(&self) -> Option<SignalKind> {
        self.signals.first().map(|(kind, _)| *kind)
    }

    /// The signals in words: `rate 1.20, size 0.80`.
    #[must_use]
    pub fn show(&self) -> String {
        let parts = self.signals.iter().map(|(kind, score)| format!("{kind} {score:.2}"));
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// The detector.
#[derive(Debug, Default)]
pub struct Detector {
    settings: Settings,
    publishers: HashMap<AgentToken, Box<Publisher>>,
    heard: Millis,
    swept: Millis,
    fired: [u64; COUNT],
}

impl Detector {
    /// A detector that knows nobody.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// The settings in use.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Other settings from now on. What was learned stays.
    pub const fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// How many agents are followed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.publishers.len()
    }

    /// Whether no agent is followed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.publishers.is_empty()
    }

    /// Tells the detector something about an agent, named as subjects name it. Gives a finding if that took it
    /// over a threshold.
    #[inline]
    pub fn observe(&mut self, agent: &str, observation: Observation<'_>, now: Millis) -> Option<Finding> {
        let Some(publisher) = self.publishers.get_mut(agent) else {
            return self.meet(agent, observation, now);
        };
        if let Observation::Sent(_) = observation {
            self.heard = now;
        }
        let fired = tell(publisher, observation, &self.settings, now);
        if fired == 0 { None } else { self.weigh(agent, fired, now) }
    }

    /// The first that is heard of an agent.
    #[cold]
    fn meet(&mut self, agent: &str, observation: Observation<'_>, now: Millis) -> Option<Finding> {
        // Anybody can put junk on a subject with any name: that must not fill the memory.
        if let Observation::Junk = observation {
            self.count(1 << SignalKind::Junk as u8);
            return None;
        }
        if self.publishers.len() >= MAX_PUBLISHERS {
            self.forget_idle(now);
        }
        if self.publishers.len() >= MAX_PUBLISHERS {
            return None;
        }
        let token = AgentToken::parse(agent).ok()?;
        self.publishers.insert(token, Box::new(Publisher::new(now)));
        self.observe(agent, observation, now)
    }

    /// Makes room: who was not heard of for a week and has no score.
    fn forget_idle(&mut self, now: Millis) {
        self.publishers.retain(|_, publisher| {
            publisher.watched
                || publisher.barred
                || !publisher.scores.is_zero()
                || now.since(publisher.last()) < 7 * 24 * 3_600_000
        });
    }

    fn count(&mut self, fired: Fired) {
        for (place, count) in self.fired.iter_mut().enumerate() {
            *count += u64::from(fired >> place & 1);
        }
    }

    #[cold]
    fn weigh(&mut self, agent: &str, fired: Fired, now: Millis) -> Option<Finding> {
        self.count(fired);
        let publisher = self.publishers.get_mut(agent)?;
        publisher.scores.decay(now, self.settings.half_life_ms);
        judge(publisher, &self.settings)
    }

    /// Lets time pass. Call it once a second or so; most of the time it does nothing.
    pub fn tick(&mut self, now: Millis) -> Vec<(AgentToken, Finding)> {
        // A clock that was set back must not stop the sweeps until it has caught up.
        if now >= self.swept && now.since(self.swept) < SWEEP_MS {
            return Vec::new();
        }
        self.swept = now;
        // Of one or two agents nobody can tell whether it is they or the bus.
        let bus_is_silent = self.publishers.len() > 2 && now.since(self.heard) > BUS_SILENT_MS;
        let mut findings = Vec::new();
        let mut all = 0;
        for (agent, publisher) in &mut self.publishers {
            let fired = publisher.tick(bus_is_silent, &self.settings, now);
            all |= fired;
            if let Some(finding) = judge(publisher, &self.settings) {
                findings.push((agent.clone(), finding));
            }
        }
        self.count(all);
        // A map gives its members in any order; a pure function does not.
        findings.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        findings
    }

    /// A person let an agent back: what it does from now on is what is usual.
    pub fn release(&mut self, agent: &str, now: Millis) {
        if let Some(publisher) = self.publishers.get_mut(agent) {
            publisher.begin_anew(now);
        }
    }

    /// An agent was watched when the guard stopped: it is calmed when its score, if there is one, is gone.
    pub fn resume_watch(&mut self, agent: &AgentToken, now: Millis) {
        let publisher = self.publishers.entry(agent.clone());
        publisher.or_insert_with(|| Box::new(Publisher::new(now))).watched = true;
    }

    /// The score of an agent and how much of it is signed.
    #[must_use]
    pub fn score(&self, agent: &str) -> Option<(f32, f32)> {
        let publisher = self.publishers.get(agent)?;
        Some((publisher.scores.total(), publisher.scores.signed()))
    }

    /// Who is watched, with the score.
    pub fn watched(&self) -> impl Iterator<Item = (&AgentToken, f32)> {
        let watched = self.publishers.iter().filter(|(_, publisher)| publisher.watched);
        watched.map(|(agent, publisher)| (agent, publisher.scores.total()))
    }

    /// How often each signal was set off since the last call.
    pub fn take_fired(&mut self) -> impl Iterator<Item = (SignalKind, u64)> + use<> {
        let fired = std::mem::replace(&mut self.fired, [0; COUNT]);
        SIGNALS.iter().map(|signal| signal.kind).zip(fired).filter(|(_, count)| *count > 0)
    }

    /// What was learned about agents since the last call, or about `all`, to be kept.
    pub fn save(&mut self, all: bool) -> Vec<(AgentToken, Vec<u8>)> {
        let changed = self.publishers.iter_mut().filter(|(_, publisher)| all || publisher.changed);
        changed
            .filter_map(|(agent, publisher)| {
                publisher.changed = false;
                Some((agent.clone(), rmp_serde::to_vec(&(FORM, &**publisher)).ok()?))
            })
            .collect()
    }

    /// What was learned before, as [`save`](Self::save) gave it. What cannot be read is learned anew; tells
    /// whether it could.
    pub fn restore(&mut self, agent: AgentToken, saved: &[u8], now: Millis) -> bool {
        if self.publishers.len() >= MAX_PUBLISHERS {
            return false;
        }
        let Ok((FORM, mut publisher)) = rmp_serde::from_slice::<(u8, Publisher)>(saved) else { return false };
        publisher.resume(now);
        self.publishers.insert(agent, Box::new(publisher));
        true
    }
}

#[inline]
fn tell(publisher: &mut Publisher, observation: Observation<'_>, settings: &Settings, now: Millis) -> Fired {
    match observation {
        Observation::Sent(sent) => publisher.sent(&sent, settings, now),
        Observation::BadContent => publisher.counted(SignalKind::BadContent, settings, now),
        Observation::SignedDenial => publisher.counted(SignalKind::Denials, settings, now),
        Observation::Replayed { mark } => publisher.replayed(mark, settings, now),
        Observation::Junk => publisher.counted(SignalKind::Junk, settings, now),
        Observation::Connected { session, place } => publisher.connected(session, place, settings, now),
        Observation::Left { session } => {
            publisher.left(session);
            0
        }
        Observation::FailedLogin => publisher.counted(SignalKind::FailedAuth, settings, now),
        Observation::Granted { reader } => publisher.granted(reader, settings, now),
        Observation::Asked { rule } => publisher.asked(rule, settings, now),
        Observation::UntrueParents => publisher.counted(SignalKind::UntrueParents, settings, now),
    }
}

/// Whether the scores take the agent from where it stands to elsewhere.
fn judge(publisher: &mut Publisher, settings: &Settings) -> Option<Finding> {
    let (score, signed) = (publisher.scores.total(), publisher.scores.signed());
    let hard = |kind: &SignalKind| kind.standing() == Standing::Hard;
    if publisher.barred {
        return None;
    }
    let (action, threshold) = if signed >= settings.quarantine
        || (signed > 0.0 && publisher.scores.parts().iter().any(|(kind, score)| hard(kind) && *score > 9.0))
    {
        (publisher.barred, publisher.watched) = (true, false);
        (Action::Quarantine, settings.quarantine)
    } else if !publisher.watched && score >= settings.watch {
        publisher.watched = true;
        (Action::Watch, settings.watch)
    } else if publisher.watched && score < settings.watch * CALM {
        publisher.watched = false;
        (Action::Calm, settings.watch * CALM)
    } else {
        return None;
    };
    publisher.changed = true;
    Some(Finding { action, score, signed, threshold, signals: publisher.scores.parts() })
}

//! Labelled scenarios: what attackers do and what honest agents do, made the same way each time.
//!
//! They are what thresholds are judged by: `sealbus-bench anomaly` and a test run all of them. Each is a stream of
//! observations about one agent or a few; an attack says from when it is one, and how far detection must go.

use std::borrow::Cow;

use sealbus_envelope::{label::Label, time::Millis};

use super::{Action, Detector, Finding, Mark, Observation, Sent, Settings, SignalKind};

mod attacks;
mod honest;
mod story;
mod training;

pub use training::{DAYS, Training, slope};

/// What a scenario must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nobody is watched: all of it is honest.
    Nothing,
    /// Nobody is quarantined: a server acts in the agent's name, which may make it watched and no more.
    NoQuarantine,
    /// The agent is at least watched.
    Watch,
    /// The agent is quarantined.
    Quarantine,
}

/// One scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens.
    pub about: &'static str,
    /// What must come of it.
    pub expect: Expect,
    tell: fn() -> Story,
}

pub use story::Story;

impl Scenario {
    /// What happens, in order.
    #[must_use]
    pub fn story(&self) -> Story {
        (self.tell)()
    }

    /// Whether somebody does wrong.
    #[must_use]
    pub const fn is_attack(&self) -> bool {
        matches!(self.expect, Expect::Watch | Expect::Quarantine)
    }
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When.
    pub time: Millis,
    /// To whom, as subjects name it.
    pub agent: &'static str,
    /// What.
    pub what: What,
}

/// What happens. As [`Observation`], but owned.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// An envelope.
    Sent(Message),
    /// Hard evidence.
    BadContent,
    /// A signed envelope is denied.
    SignedDenial,
    /// An envelope comes again, or another under its number.
    Replayed(Option<Mark>),
    /// Unsigned bytes.
    Junk,
    /// A session begins, somewhere.
    Connected(u64, u64),
    /// A session ends.
    Left(u64),
    /// A login is refused.
    FailedLogin,
    /// A reader gets its key.
    Granted(Cow<'static, str>),
    /// It subscribes under a rule.
    Asked(Cow<'static, str>),
    /// It names parents that it never had.
    UntrueParents,
    /// The guard is restarted: what was learned is kept, what was under way is lost.
    Restart,
}

/// An envelope of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// When it was sealed.
    pub sealed: Millis,
    /// Its subject.
    pub subject: Cow<'static, str>,
    /// Its rule.
    pub rule: &'static str,
    /// Its label.
    pub label: Label,
    /// Bytes of it.
    pub size: u32,
    /// Numbers before it that never came.
    pub gap: u64,
    /// Its session.
    pub session: u64,
    /// Its number.
    pub mark: Option<Mark>,
}

impl What {
    /// As the detector is told it; nothing if it is nothing that a detector sees.
    #[must_use]
    pub fn observation(&self) -> Option<Observation<'_>> {
        Some(match self {
            Self::Sent(message) => Observation::Sent(Sent {
                sealed: message.sealed,
                subject: &message.subject,
                rule: message.rule,
                label: message.label,
                size: message.size,
                count: 1,
                gap: message.gap,
                session: message.session,
                mark: message.mark,
            }),
            Self::BadContent => Observation::BadContent,
            Self::SignedDenial => Observation::SignedDenial,
            Self::Replayed(mark) => Observation::Replayed { mark: *mark },
            Self::Junk => Observation::Junk,
            Self::Connected(session, place) => Observation::Connected { session: *session, place: *place },
            Self::Left(session) => Observation::Left { session: *session },
            Self::FailedLogin => Observation::FailedLogin,
            Self::Granted(reader) => Observation::Granted { reader },
            Self::Asked(rule) => Observation::Asked { rule },
            Self::UntrueParents => Observation::UntrueParents,
            Self::Restart => return None,
        })
    }
}

/// What came of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Alarms before anything was wrong, or in a scenario where nothing is.
    pub false_alarms: Vec<(Millis, Finding)>,
    /// The first alarm that went as far as it must, and how long after the beginning of the attack.
    pub detected: Option<Detected>,
    /// How far it went at most.
    pub reached: Option<Action>,
}

/// An attack that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detected {
    /// After how long, in milliseconds.
    pub after_ms: u64,
    /// By which signal most of all.
    pub signal: Option<SignalKind>,
}

impl Outcome {
    /// Whether the scenario went as it must.
    #[must_use]
    pub fn is_right(&self, scenario: &Scenario) -> bool {
        match scenario.expect {
            Expect::Nothing => self.false_alarms.is_empty(),
            Expect::NoQuarantine => self.reached != Some(Action::Quarantine),
            Expect::Watch | Expect::Quarantine => self.detected.is_some() && self.false_alarms.is_empty(),
        }
    }
}

/// All scenarios: the attacks, then what is honest.
#[must_use]
pub fn all() -> Vec<Scenario> {
    attacks::ALL.iter().chain(honest::ALL).copied().collect()
}

/// How often the detector hears of the time in a scenario.
const TICK_MS: u64 = 60_000;

/// Runs a scenario.
#[must_use]
pub fn run(scenario: &Scenario, settings: &Settings) -> Outcome {
    let story = scenario.story();
    let mut outcome = Outcome { false_alarms: Vec::new(), detected: None, reached: None };
    play(&story.events, settings, |time, finding| {
        if finding.action == Action::Calm {
            return;
        }
        if outcome.reached != Some(Action::Quarantine) {
            outcome.reached = Some(finding.action);
        }
        if !scenario.is_attack() || time < story.from {
            outcome.false_alarms.push((time, finding));
        } else if outcome.detected.is_none()
            && (scenario.expect == Expect::Watch || finding.action == Action::Quarantine)
        {
            let detected = Detected { after_ms: time.since(story.from), signal: finding.main() };
            outcome.detected = Some(detected);
        }
    });
    outcome
}

/// Lets a detector see what happens, and time pass between.
pub fn play(events: &[Event], settings: &Settings, mut found: impl FnMut(Millis, Finding)) {
    let mut detector = Detector::new(*settings);
    let mut ticked = events.first().map_or(Millis(0), |event| event.time);
    for event in events {
        while ticked.plus(TICK_MS) <= event.time {
            ticked = ticked.plus(TICK_MS);
            detector.tick(ticked).into_iter().for_each(|(_, finding)| found(ticked, finding));
        }
        let Some(observation) = event.what.observation() else {
            let mut restarted = Detector::new(*settings);
            for (agent, saved) in detector.save(true) {
                restarted.restore(agent, &saved, event.time);
            }
            detector = restarted;
            continue;
        };
        if let Some(finding) = detector.observe(event.agent, observation, event.time) {
            found(event.time, finding);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_found_and_honest_agents_are_left_alone() {
        let settings = Settings::default();
        let (mut wrong, mut attacks, mut honest) = (Vec::new(), 0, 0);
        for scenario in all() {
            let outcome = run(&scenario, &settings);
            if scenario.is_attack() {
                attacks += 1;
            } else {
                honest += 1;
            }
            if !outcome.is_right(&scenario) {
                let alarms = outcome.false_alarms.iter();
                let alarms: Vec<_> =
                    alarms.take(3).map(|(time, found)| format!("{} {}", time.0, found.show())).collect();
                wrong.push(format!("{}: {:?} {alarms:?}", scenario.name, outcome.detected));
            }
        }
        assert!(attacks >= 25 && honest >= 20, "{attacks} attacks, {honest} honest");
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn every_scenario_has_its_own_name() {
        let mut names: Vec<_> = all().iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_scenario_is_the_same_each_time() {
        for scenario in all().iter().take(3) {
            assert_eq!(scenario.story().events, scenario.story().events);
        }
    }
}

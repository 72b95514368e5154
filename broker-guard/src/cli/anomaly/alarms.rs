//! Telling of alarms, and their sum.

use std::collections::BTreeMap;

use sealbus_envelope::{name::AgentToken, time::Millis};
use serde_json::{Map, Value, json};

use super::super::{
    failure::Failure,
    output::{BAD, Output, paint},
    when,
};
use crate::anomaly::{Action, Detector, Finding, Observation, Settings};

/// The most steps in which a long silence is gone through.
const STEPS: u64 = 10_000;
const STEP_MS: u64 = 60_000;

/// A detector that tells what it finds.
pub(super) struct Alarms<'o> {
    output: &'o Output,
    detector: Detector,
    /// Names that are none on a bus, and what stands for them.
    names: BTreeMap<String, String>,
    shown: BTreeMap<String, String>,
    ticked: Option<Millis>,
    seen: u64,
    watched: BTreeMap<String, u64>,
    quarantined: BTreeMap<String, u64>,
}

impl<'o> Alarms<'o> {
    pub(super) fn new(settings: Settings, output: &'o Output) -> Self {
        Self {
            output,
            detector: Detector::new(settings),
            names: BTreeMap::new(),
            shown: BTreeMap::new(),
            ticked: None,
            seen: 0,
            watched: BTreeMap::new(),
            quarantined: BTreeMap::new(),
        }
    }

    /// What stands for a publisher: itself, if it is named as on a bus.
    fn token(&mut self, publisher: &str) -> String {
        if let Some(token) = self.names.get(publisher) {
            return token.clone();
        }
        let token = if AgentToken::check(publisher).is_ok() {
            publisher.to_owned()
        } else {
            let mut number = self.names.len();
            let letters = (0..10).map(|_| {
                let letter = u8::try_from(number % 26).unwrap_or(0);
                number /= 26;
                char::from(b'a' + letter)
            });
            format!("p-{}", letters.collect::<String>())
        };
        self.names.insert(publisher.to_owned(), token.clone());
        self.shown.insert(token.clone(), publisher.to_owned());
        token
    }

    /// Tells the detector of something, after it was told of the time between.
    pub(super) fn see(
        &mut self,
        publisher: &str,
        observation: Observation<'_>,
        now: Millis,
    ) -> Result<(), Failure> {
        self.pass(now)?;
        self.seen += 1;
        let token = self.token(publisher);
        match self.detector.observe(&token, observation, now) {
            Some(finding) => self.tell(&token, &finding, now),
            None => Ok(()),
        }
    }

    fn pass(&mut self, now: Millis) -> Result<(), Failure> {
        let Some(ticked) = self.ticked else {
            self.ticked = Some(now);
            return Ok(());
        };
        let step = (now.since(ticked) / STEPS).max(STEP_MS);
        let mut at = ticked;
        while at.plus(step) <= now {
            at = at.plus(step);
            for (agent, finding) in self.detector.tick(at) {
                self.tell(agent.as_str(), &finding, at)?;
            }
        }
        self.ticked = Some(at);
        Ok(())
    }

    fn tell(&mut self, token: &str, finding: &Finding, time: Millis) -> Result<(), Failure> {
        let publisher = self.shown.get(token).map_or(token, String::as_str).to_owned();
        let count = match finding.action {
            Action::Watch => Some(&mut self.watched),
            Action::Quarantine => Some(&mut self.quarantined),
            Action::Calm => None,
        };
        if let Some(count) = count {
            *count.entry(publisher.clone()).or_default() += 1;
        }
        if finding.action == Action::Quarantine {
            // Nobody lets it back here, and what it does from then on is to be seen too.
            self.detector.release(token, time);
        }
        let round = |score: f32| (f64::from(score) * 1e3).round() / 1e3;
        let signals: Map<String, Value> = finding
            .signals
            .iter()
            .map(|(kind, score)| (kind.name().to_owned(), json!(round(*score))))
            .collect();
        let action = finding.action.code();
        let object = json!({
            "time": time.0,
            "publisher": publisher,
            "action": action,
            "score": round(finding.score),
            "signed": round(finding.signed),
            "threshold": round(finding.threshold),
            "signals": signals,
        });
        let said = if finding.action == Action::Calm {
            format!("{action:<10}")
        } else {
            paint(BAD, format!("{action:<10}")).to_string()
        };
        let parts = finding.show();
        let text =
            format!("{}  {said}  {publisher}  score {:.2}  {parts}", when::rfc3339(time), finding.score);
        self.output.show(&object, text.trim_end())
    }

    /// The end: the sum of it.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
        let (watched, quarantined) = (sum(&self.watched), sum(&self.quarantined));
        let publishers = self.detector.len();
        let alarmed: Vec<&String> = self.watched.keys().chain(self.quarantined.keys()).collect();
        let object = json!({ "summary": {
            "observations": self.seen,
            "publishers": publishers,
            "watched": self.watched,
            "quarantined": self.quarantined,
        }});
        let text = if alarmed.is_empty() {
            format!("no alarm: {} observations of {publishers} publishers", self.seen)
        } else {
            format!(
                "{} observations of {publishers} publishers: watched {watched} times, quarantined {quarantined} times",
                self.seen
            )
        };
        self.output.show(&object, text)
    }
}

//! What observe mode let pass: by rule, sender and reason; and what can be enforced now.

use std::collections::BTreeMap;

use sealbus_envelope::{policy::Records, time::Millis};

use crate::audit::entry::{Body, Entry};

/// Faults of one sort.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The rule.
    pub rule: String,
    /// The sender's token.
    pub agent: String,
    /// What would have denied them.
    pub reason: String,
}

/// How many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How many envelopes.
    pub envelopes: u64,
    /// When it was last.
    pub last: Millis,
}

/// What was let pass.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Envelopes that were admitted, with and without a fault.
    pub admitted: u64,
    /// The faults.
    pub faults: BTreeMap<Key, Count>,
}

impl Observed {
    /// Counts one entry.
    pub fn enter(&mut self, entry: &Entry<'_>) {
        let Body::Admitted(admitted) = &entry.body else { return };
        self.admitted += 1;
        let Some(reason) = &admitted.observed else { return };
        let key = Key {
            rule: admitted.rule.to_string(),
            agent: admitted.sender.to_string(),
            reason: reason.to_string(),
        };
        let count = self.faults.entry(key).or_default();
        count.envelopes += 1;
        count.last = count.last.max(entry.time);
    }

    fn count(&self, concerns: impl Fn(&Key) -> bool) -> u64 {
        self.faults.iter().filter(|(key, _)| concerns(key)).map(|(_, count)| count.envelopes).sum()
    }

    /// Everything that `records` observe, with the number of faults it let pass: 0 means that it can be enforced.
    /// `team_of` gives the team of a sender.
    #[must_use]
    pub fn scopes(&self, records: &Records, team_of: impl Fn(&str) -> Option<String>) -> Vec<(Scope, u64)> {
        let mut scopes = Vec::new();
        if records.tables.observe {
            scopes.push((Scope::Everything, self.count(|_| true)));
        }
        for team in records.tables.teams.iter().filter(|team| team.observe) {
            let of_team = |key: &Key| team_of(&key.agent).as_deref() == Some(team.name.as_str());
            scopes.push((Scope::Team(team.name.to_string()), self.count(of_team)));
        }
        for rule in records.rules.iter().filter(|rule| rule.observe) {
            let of_rule = |key: &Key| key.rule == rule.name.as_str();
            scopes.push((Scope::Rule(rule.name.to_string()), self.count(of_rule)));
        }
        scopes
    }
}

/// What is under observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of the policy.
    Everything,
    /// A team.
    Team(String),
    /// A rule.
    Rule(String),
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Everything => f.write_str("the whole policy"),
            Self::Team(team) => write!(f, "team {team}"),
            Self::Rule(rule) => write!(f, "rule {rule}"),
        }
    }
}

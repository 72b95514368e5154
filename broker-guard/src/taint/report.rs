//! Floors as people are shown them, with the policy's words for labels.

use sealbus_envelope::{name::AgentToken, policy::Tables};
use serde::{Deserialize, Serialize};

use super::{Floor, Floors};

/// One floor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorReport {
    /// The agent, as subjects name it.
    pub agent: String,
    /// What it counts against.
    pub scope: Scope,
    /// The join of all of it.
    pub floor: String,
    /// What was read under each rule.
    pub rules: Vec<RuleReport>,
}

/// What a floor counts against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The agent, until an order clears it.
    Agent,
    /// The agent: an order clears it, and the last keys that it stands for are being rotated away.
    Clearing,
    /// One session.
    Session {
        /// Which, in hexadecimal.
        session: String,
        /// When its certificate ends, unix milliseconds.
        until: u64,
    },
}

/// What was read under one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleReport {
    /// The rule.
    pub rule: String,
    /// The join of the labels.
    pub label: String,
}

impl Floors {
    /// Every floor, by agent.
    #[must_use]
    pub fn report(&self, tables: &Tables) -> Vec<FloorReport> {
        let report = |agent: &AgentToken, scope, floor: &Floor| FloorReport {
            agent: agent.to_string(),
            scope,
            floor: tables.show(floor.join()),
            rules: floor
                .by_name()
                .into_iter()
                .map(|(rule, label)| RuleReport { rule: rule.to_string(), label: tables.show(label) })
                .collect(),
        };
        let agents = self.agents.iter().map(|(agent, floor)| report(agent, Scope::Agent, floor));
        let clearing = self.clearing.iter().filter(|(_, floor)| floor.rules().next().is_some());
        let clearing = clearing.map(|(agent, floor)| report(agent, Scope::Clearing, floor));
        let sessions = self.sessions.iter().map(|(session, kept)| {
            let scope = Scope::Session { session: session.to_string(), until: kept.until.0 };
            report(&kept.agent, scope, &kept.floor)
        });
        let mut all: Vec<_> = agents.chain(clearing).chain(sessions).collect();
        let rank = |floor: &FloorReport| match &floor.scope {
            Scope::Agent => (0, String::new()),
            Scope::Clearing => (1, String::new()),
            Scope::Session { session, .. } => (2, session.clone()),
        };
        all.sort_by_cached_key(|floor| (floor.agent.clone(), rank(floor)));
        all
    }
}

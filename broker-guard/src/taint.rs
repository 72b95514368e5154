//! Taint floors: the labels of every key that was handed to an agent, by the rule it came under.
//!
//! What an agent was given to read it may repeat, whatever it says of its sources. So its floor, not the
//! parents it names, carries confidentiality, and it rises when a key is handed over, not when a message is
//! read: nothing on the hot path, and no way to hide a read. Pure: the store keeps floors, the sessions ask.
//!
//! ```
//! use sealbus_envelope::{label::Label, name::Name};
//! use sealbus_guard::taint::Floor;
//! let (mut floor, rule) = (Floor::default(), Name::parse("findings")?);
//! assert_eq!(floor.join(), Label::BOTTOM, "nothing was read");
//! assert!(floor.raise(&rule, Label::TOP));
//! assert!(!floor.raise(&rule, Label::BOTTOM), "it never falls");
//! assert_eq!(floor.join(), Label::TOP);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sealbus_envelope::{
    identity::SessionId,
    label::Label,
    name::{AgentToken, Name},
    time::Millis,
};
use serde::{Deserialize, Serialize};

mod clear;
pub mod report;

pub use clear::Cleared;

/// What was read under each rule, joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    join: Label,
    rules: BTreeMap<Name, Label>,
}

impl Default for Floor {
    fn default() -> Self {
        Self { join: Label::BOTTOM, rules: BTreeMap::new() }
    }
}

impl Floor {
    /// The join of all of it: [`Label::BOTTOM`] if nothing was read.
    #[must_use]
    pub const fn join(&self) -> Label {
        self.join
    }

    /// What was read under each rule, by the rule's name.
    pub fn rules(&self) -> impl Iterator<Item = (&Name, Label)> {
        self.rules.iter().map(|(rule, label)| (rule, *label))
    }

    /// Adds what was read. Whether that raised it.
    pub fn raise(&mut self, rule: &Name, label: Label) -> bool {
        if self.rules.get(rule.as_str()).is_some_and(|held| held.dominates(label)) {
            return false;
        }
        let held = self.rules.entry(rule.clone()).or_insert(label);
        *held = held.join(label);
        self.join = self.join.join(label);
        true
    }

    fn with(mut self, other: &Self) -> Self {
        for (rule, label) in other.rules() {
            self.raise(rule, label);
        }
        self
    }
}

/// Whose floor it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Holder {
    /// An agent's, until an order clears it.
    Agent(AgentToken),
    /// A session's, until its certificate ends.
    Session {
        /// Which session.
        session: SessionId,
        /// Whose.
        agent: AgentToken,
        /// When its certificate ends.
        until: Millis,
    },
    /// An agent's from before an order to clear it: it counts until every key that it stands for is stale.
    Clearing {
        /// Whose.
        agent: AgentToken,
        /// The order's id.
        order: [u8; 16],
    },
}

impl Holder {
    /// The agent.
    #[must_use]
    pub const fn agent(&self) -> &AgentToken {
        match self {
            Self::Agent(agent) | Self::Session { agent, .. } | Self::Clearing { agent, .. } => agent,
        }
    }
}

/// A floor that rises: to be on disk before the key that raises it is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raise {
    /// Whose.
    pub holder: Holder,
    /// Under which rule the key was granted.
    pub rule: Name,
    /// Its label.
    pub label: Label,
}

/// Every floor that this guard keeps.
#[derive(Debug, Default)]
pub struct Floors {
    agents: HashMap<AgentToken, Floor>,
    clearing: HashMap<AgentToken, Floor>,
    cleared: HashMap<AgentToken, Cleared>,
    sessions: HashMap<SessionId, OfSession>,
}

#[derive(Debug)]
struct OfSession {
    agent: AgentToken,
    until: Millis,
    floor: Floor,
}

impl FromIterator<Raise> for Floors {
    fn from_iter<T: IntoIterator<Item = Raise>>(kept: T) -> Self {
        let mut floors = Self::default();
        for raise in kept {
            floors.raise(&raise);
        }
        floors
    }
}

impl Floors {
    /// Raises a floor. Whether it was lower.
    pub fn raise(&mut self, raise: &Raise) -> bool {
        let floor = match &raise.holder {
            Holder::Agent(agent) => self.agents.entry(agent.clone()).or_default(),
            Holder::Clearing { agent, .. } => self.clearing.entry(agent.clone()).or_default(),
            Holder::Session { session, agent, until } => {
                let new = || OfSession { agent: agent.clone(), until: *until, floor: Floor::default() };
                &mut self.sessions.entry(*session).or_insert_with(new).floor
            }
        };
        floor.raise(&raise.rule, raise.label)
    }

    /// What counts against a session: its own floor and its agent's. A team that changes its scope keeps what
    /// counted before.
    #[must_use]
    pub fn of(&self, agent: &AgentToken, session: SessionId) -> Arc<Floor> {
        let floor = self.of_agent(agent);
        Arc::new(match self.sessions.get(&session) {
            Some(own) => floor.with(&own.floor),
            None => floor,
        })
    }

    /// Counts against the agent as a whole what counts against its sessions, because its team is not taken any
    /// longer to forget between them. Gives what rose.
    pub fn settle(&mut self, agent: &AgentToken) -> Vec<Raise> {
        let of_agent: Vec<OfSession> =
            self.sessions.extract_if(|_, own| own.agent == *agent).map(|(_, own)| own).collect();
        let raises = of_agent.iter().flat_map(|own| own.floor.rules()).map(|(rule, label)| Raise {
            holder: Holder::Agent(agent.clone()),
            rule: rule.clone(),
            label,
        });
        raises.filter(|raise| self.raise(raise)).collect()
    }

    /// What counts against every session of an agent.
    #[must_use]
    pub fn of_agent(&self, agent: &AgentToken) -> Floor {
        let floor = self.agents.get(agent.as_str()).cloned().unwrap_or_default();
        match self.clearing.get(agent.as_str()) {
            Some(before) => floor.with(before),
            None => floor,
        }
    }

    /// Forgets sessions that are over, and clears that no session lives to remember.
    pub fn expire(&mut self, now: Millis) {
        self.sessions.retain(|_, own| own.until > now);
        self.cleared.retain(|_, cleared| !cleared.is_over(now));
    }
}

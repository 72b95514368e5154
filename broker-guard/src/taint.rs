//! Taint floors: the labels of every key that was handed to an agent, by the rule it came under.
//!
//! What an agent was given to read it may repeat, whatever it says of its sources. So its floor, not the
//! parents it names, carries confidentiality, and it rises when a key is handed over, not when a message is
//! read: nothing on the hot path, and no way to hide a read. Pure: the store keeps floors, the sessions ask.
//!
//! ```
//! use sealbus_envelope::{label::Label, name::Name, subject::Pattern};
//! use sealbus_guard::taint::Floor;
//! let (mut floor, rule, on) = (Floor::default(), Name::parse("findings")?, Pattern::parse("findings.>")?);
//! assert_eq!(floor.join(), Label::BOTTOM, "nothing was read");
//! assert!(floor.raise(&rule, &on, Label::TOP));
//! assert!(!floor.raise(&rule, &on, Label::BOTTOM), "it never falls");
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
    subject::Pattern,
    time::Millis,
};
use serde::{Deserialize, Serialize};

mod clear;
pub mod report;

pub use clear::Cleared;

/// What was read under each rule, joined.
///
/// By the rule's name and by the subjects that it covered then: under another policy the same name may stand for
/// other subjects, and what a flow grant lifts was read on the subjects of its `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    join: Label,
    rules: BTreeMap<(Name, Pattern), Label>,
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

    /// What was read under each rule, by the rule's name and the subjects that it covered then.
    pub fn rules(&self) -> impl Iterator<Item = (&Name, &Pattern, Label)> {
        self.rules.iter().map(|((rule, pattern), label)| (rule, pattern, *label))
    }

    /// What was read under each rule, whatever it covered.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<&Name, Label> {
        let mut names: BTreeMap<&Name, Label> = BTreeMap::new();
        for (rule, _, label) in self.rules() {
            let held = names.entry(rule).or_insert(label);
            *held = held.join(label);
        }
        names
    }

    /// Adds what was read under a rule that covers `pattern`. Whether that raised it.
    pub fn raise(&mut self, rule: &Name, pattern: &Pattern, label: Label) -> bool {
        let of_rule = (rule.clone(), pattern.clone());
        if self.rules.get(&of_rule).is_some_and(|held| held.dominates(label)) {
            return false;
        }
        let held = self.rules.entry(of_rule).or_insert(label);
        *held = held.join(label);
        self.join = self.join.join(label);
        true
    }

    fn with(mut self, other: &Self) -> Self {
        for (rule, pattern, label) in other.rules() {
            self.raise(rule, pattern, label);
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
    /// The subjects that the rule covered then.
    pub pattern: Pattern,
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
        floor.raise(&raise.rule, &raise.pattern, raise.label)
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
        let raises = of_agent.iter().flat_map(|own| own.floor.rules()).map(|(rule, pattern, label)| Raise {
            holder: Holder::Agent(agent.clone()),
            rule: rule.clone(),
            pattern: pattern.clone(),
            label,
        });
        raises.filter(|raise| self.raise(raise)).collect()
    }

    /// Counts what was read under rules that cover other subjects by now as read on those too: the keys that were
    /// handed over go on opening what is sent under the rule. Gives what rose.
    pub fn follow(&mut self, covers: impl Fn(&Name) -> Option<Pattern>) -> Vec<Raise> {
        let raises_of = |holder: &Holder, floor: &Floor| -> Vec<Raise> {
            let moved = |(rule, on, label): (&Name, &Pattern, Label)| {
                let pattern = covers(rule).filter(|now| now != on)?;
                Some(Raise { holder: holder.clone(), rule: rule.clone(), pattern, label })
            };
            floor.rules().filter_map(moved).collect()
        };
        let mut raises = Vec::new();
        for (agent, floor) in &self.agents {
            raises.extend(raises_of(&Holder::Agent(agent.clone()), floor));
        }
        for (agent, floor) in &self.clearing {
            // It is forgotten by the agent, whichever order set it apart.
            raises.extend(raises_of(&Holder::Clearing { agent: agent.clone(), order: [0; 16] }, floor));
        }
        for (session, own) in &self.sessions {
            let holder = Holder::Session { session: *session, agent: own.agent.clone(), until: own.until };
            raises.extend(raises_of(&holder, &own.floor));
        }
        raises.retain(|raise| self.raise(raise));
        raises
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

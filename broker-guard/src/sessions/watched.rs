//! Who is watched: it opens no key above those that it had in use.

use sealbus_envelope::{
    label::Label,
    name::AgentToken,
    reason::{Reason, Refused},
};

use super::Sessions;
use crate::{quarantine::state::Ceiling, roster::session::LiveSession};

impl Sessions {
    /// The sender keys that an agent has in use, as a ceiling for when it is watched.
    #[must_use]
    pub fn ceiling_of(&self, agent: &AgentToken) -> Option<Ceiling> {
        let sessions = self.roster.of_agent(agent.as_str());
        Ceiling::over(sessions.flat_map(|session| session.keys.values()).map(|key| key.label))
    }

    /// An agent is watched from now on, or no longer (`None`).
    pub fn watch(&mut self, agent: &AgentToken, ceiling: Option<Option<Ceiling>>) {
        match ceiling {
            Some(ceiling) => self.watched.insert(agent.clone(), ceiling),
            None => self.watched.remove(agent.as_str()),
        };
    }

    /// Who is watched opens no key for more than it used before.
    pub(super) fn check_watched(&self, session: &LiveSession, label: Label) -> Result<(), Refused> {
        match self.watched.get(session.agent()) {
            Some(Some(ceiling)) if !ceiling.covers(label) => {
                Err(Refused::new(Reason::Anomalous, "sender key"))
            }
            _ => Ok(()),
        }
    }
}

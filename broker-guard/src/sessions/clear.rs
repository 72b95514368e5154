//! Clearing what an agent was given to read: its sessions end, what it holds rotates, then its floor falls.
//! [`crate::taint::Cleared`] says why in that order.

use sealbus_envelope::{
    control::{Rekey, kind},
    identity::SessionId,
    keys::KeyId,
    name::AgentToken,
    reason::{Reason, Refused},
    time::Millis,
};

use super::{Sessions, rotating::STALE_AFTER_MS};
use crate::{
    effect::Effects,
    roster::{OwnedKey, session::LiveSession},
    taint::Cleared,
};

impl Sessions {
    /// What a clear of the agent that begins now leaves to be remembered: to be on disk before
    /// [`begin_clear`](Self::begin_clear).
    #[must_use]
    pub fn clear_of(&self, agent: &AgentToken, now: Millis) -> Cleared {
        let live = self.roster.of_agent(agent.as_str()).map(LiveSession::id).collect();
        self.floors.clear_of(agent, live, now)
    }

    /// Ends the agent's sessions and has every key rotate that it may hold. Not only those that this guard saw
    /// it being granted, for another may have been here before: all that its floor stands for.
    pub fn begin_clear(&mut self, agent: &AgentToken, cleared: Cleared, now: Millis, effects: &mut Effects) {
        self.expel(agent, Reason::SessionEnded, now, effects);
        let mut may_hold: Vec<OwnedKey> = Vec::new();
        for (rule, up_to) in &cleared.held {
            let keys = self.roster.keys_under(rule.as_str());
            may_hold.extend(keys.filter(|(_, key)| up_to.dominates(key.label)).map(|(owned, _)| owned));
        }
        self.rotate_now(may_hold, Reason::StaleKey, now);
        self.floors.begin_clear(agent, cleared);
    }

    /// Agents whose clear may be finished: every key of before is refused by now.
    #[must_use]
    pub fn cleared(&self, now: Millis) -> Vec<AgentToken> {
        self.floors.clearing(now.minus(STALE_AFTER_MS))
    }

    /// Forgets what was set apart of the agent's floor, after the store has, and tells its sessions.
    ///
    /// # Errors
    /// None that a control message gives.
    pub fn finish_clear(&mut self, agent: &AgentToken, effects: &mut Effects) -> Result<(), Refused> {
        self.floors.finish_clear(agent);
        let sessions = self.roster.of_agent(agent.as_str()).map(LiveSession::id).collect();
        self.show_floor(agent, sessions, effects)
    }

    /// Refuses a key that its session brought along and that a cleared agent may hold: at once, because its
    /// floor may have fallen already.
    pub(super) fn outdate(
        &mut self,
        id: SessionId,
        key: KeyId,
        now: Millis,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let Some(sending) = self.roster.key_mut((id, key)) else { return Ok(()) };
        sending.stale_from = Some(now);
        let agent = self.session(id)?.agent().clone();
        effects.tell(&agent, id, kind::REKEY, &Rekey { key, reason: Reason::StaleKey })
    }
}

//! Who leaves: sessions that end or whose time is over, and agents that lost their right to be on the bus.

use sealbus_envelope::{identity::SessionId, name::AgentToken, reason::Reason, time::Millis};

use super::Sessions;
use crate::{audit::entry, effect::Effects, roster::session::LiveSession};

impl Sessions {
    /// A session ended: by itself, or because its connection did.
    pub fn gone(&mut self, id: SessionId, now: Millis, effects: &mut Effects) {
        self.end(id, "closed", now, effects);
    }

    pub(super) fn end(&mut self, id: SessionId, event: &'static str, now: Millis, effects: &mut Effects) {
        let Some((session, held)) = self.roster.remove(id, self.marks_until(now)) else { return };
        effects.record(session_event(id, session.agent(), event));
        self.rotate_in_time(held, now);
    }

    /// An agent lost its right to be on the bus: its sessions end, what it holds goes stale, its
    /// connections are closed.
    pub fn expel(&mut self, agent: &AgentToken, reason: Reason, now: Millis, effects: &mut Effects) {
        if reason == Reason::Quarantined {
            self.quarantined.insert(agent.clone());
        }
        let sessions: Vec<SessionId> = self.roster.of_agent(agent.as_str()).map(LiveSession::id).collect();
        for id in sessions {
            effects.disconnect(id, reason);
            if let Some((_, held)) = self.roster.remove(id, self.marks_until(now)) {
                effects.record(session_event(id, agent, reason.code()));
                self.rotate_now(held, reason, now);
            }
        }
    }

    /// An agent may come back.
    pub fn readmit(&mut self, agent: &AgentToken) {
        self.quarantined.remove(agent.as_str());
    }

    /// Ends sessions whose time is over.
    pub(super) fn end_over(&mut self, now: Millis, effects: &mut Effects) {
        let over: Vec<(SessionId, Reason)> = self
            .roster
            .iter()
            .filter_map(|session| {
                let (certificate, credential) = (&session.certificate, &session.credential);
                let over = certificate.check_time(now).and_then(|()| credential.check_time(now)).err()?;
                Some((session.id(), over.reason))
            })
            .collect();
        for (id, reason) in over {
            effects.disconnect(id, reason);
            self.end(id, "expired", now, effects);
        }
    }

    /// Until when an envelope that was sealed by now can be fresh: its clock may be a window ahead.
    pub(super) fn marks_until(&self, now: Millis) -> Millis {
        let window = u64::from(self.in_force.policy.tables().freshness_ms);
        now.plus(window.saturating_mul(2))
    }
}

pub(super) fn session_event(id: SessionId, agent: &AgentToken, event: &'static str) -> entry::Body<'static> {
    entry::Body::Session(entry::Session {
        session: (*id.as_bytes()).into(),
        agent: agent.to_string().into(),
        event: event.into(),
    })
}

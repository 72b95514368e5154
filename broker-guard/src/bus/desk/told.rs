//! What people decided lately, for senders that were away when the verdict was told.

use std::collections::{HashMap, VecDeque};

use sealbus_envelope::{
    control::kind, identity::SessionId, name::AgentToken, subject::WireSubjects, time::Millis,
};

use super::PendingVerdicts;
use crate::bus::egress::Outgoing;

/// How many verdicts are kept of one agent: who has more takes its own oldest away, and nobody else's.
pub(super) const MAX_OF_AGENT: usize = 64;
/// How many in all: one more takes the oldest of whoever has most.
const MAX_IN_ALL: usize = 4_096;
/// How long each is kept.
const KEPT_MS: u64 = 10 * 60_000;

/// A verdict on something that was held.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) at: Millis,
    pub(super) session: SessionId,
    /// How many leaves of the log must be durable before it is told.
    pub(super) upto: u64,
    pub(super) payload: Vec<u8>,
}

impl Told {
    pub(super) fn notice(&self, wire: &WireSubjects, agent: &AgentToken) -> Outgoing {
        Outgoing::tell(wire, agent, self.session, kind::VERDICT, self.payload.clone())
    }
}

/// The verdicts, by agent, the oldest first.
#[derive(Debug, Default)]
pub(super) struct ToldVerdicts {
    of: HashMap<AgentToken, VecDeque<Told>>,
    len: usize,
}

impl ToldVerdicts {
    pub(super) fn keep(&mut self, agent: &AgentToken, told: Told) {
        if self.len >= MAX_IN_ALL {
            let most = self.of.iter().max_by_key(|(_, told)| told.len()).map(|(agent, _)| agent.clone());
            most.iter().for_each(|agent| self.drop_oldest(agent));
        }
        if self.of.get(agent).is_some_and(|told| told.len() >= MAX_OF_AGENT) {
            self.drop_oldest(agent);
        }
        self.of.entry(agent.clone()).or_default().push_back(told);
        self.len = self.len.saturating_add(1);
    }

    fn drop_oldest(&mut self, agent: &AgentToken) {
        let Some(told) = self.of.get_mut(agent) else { return };
        if told.pop_front().is_some() {
            self.len = self.len.saturating_sub(1);
        }
        if told.is_empty() {
            self.of.remove(agent);
        }
    }

    /// Forgets what was decided too long ago.
    pub(super) fn expire(&mut self, now: Millis) {
        self.of.retain(|_, told| {
            while told.pop_front_if(|told| now.since(told.at) > KEPT_MS).is_some() {}
            !told.is_empty()
        });
        self.len = self.of.values().map(VecDeque::len).sum();
    }

    /// All that was decided about what this session had sent, as one thing to wait for: the queue of verdicts is
    /// short, and the guard's loop waits for room in it.
    pub(super) fn of_session(
        &self,
        agent: &AgentToken,
        session: SessionId,
        wire: &WireSubjects,
    ) -> Option<PendingVerdicts> {
        let told = || self.of.get(agent).into_iter().flatten().filter(|told| told.session == session);
        let upto = told().map(|told| told.upto).max()?;
        Some(PendingVerdicts { upto, notices: told().map(|told| told.notice(wire, agent)).collect() })
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

//! What the desk tells the intake, and what it tells of what the intake dropped.

use sealbus_envelope::{
    name::AgentToken,
    reason::{Reason, Refused},
    time::Millis,
};

use super::Desk;
use crate::{bus::intake::bound::Bound, check::Denial};

/// Whether a denial is of junk: bytes that nobody honest sends, and that nobody signed. Not what honest senders
/// send too late, too soon or too often.
pub(super) fn junk(denial: &Denial, bytes: usize) -> Option<(AgentToken, usize)> {
    let junk = !denial.signed
        && matches!(
            denial.refused.reason,
            Reason::BadEncoding
                | Reason::Malformed
                | Reason::Truncated
                | Reason::TooLarge
                | Reason::BadSignature
                | Reason::BadProof
        );
    denial.agent.clone().filter(|_| junk).map(|agent| (agent, bytes))
}

impl Desk {
    /// What the intake lets through of an agent that has a session.
    #[must_use]
    pub fn bound_of(&self, agent: &str) -> Option<(AgentToken, Bound)> {
        let session = self.sessions.roster().of_agent(agent).next()?;
        let policy = &self.sessions.in_force().policy;
        let parts = policy.rules_for(&session.principal);
        let sends = parts.iter().filter(|part| part.publishes || part.rule.is_request());
        let rates =
            sends.map(|part| (part.rule.rate, u32::try_from(part.rule.max_bytes).unwrap_or(u32::MAX)));
        Some((session.agent().clone(), Bound::of(rates)))
    }

    /// Logs and tells what the intake dropped of an agent: one entry, one event and one notice for all of it.
    pub fn dropped_unread(&mut self, agent: Option<AgentToken>, count: u64, now: Millis) {
        let mut denial = Denial::bare(Refused::new(Reason::RateLimited, "flood"));
        denial.agent = agent;
        self.metrics.denied(Reason::RateLimited, count);
        self.report(vec![(denial, count)], &[], now);
    }
}

//! The rates of senders: per rule as the policy says, and over all before anything is read.

use std::collections::HashMap;

use sealbus_envelope::{
    name::{AgentToken, Name},
    policy::{Faults, Rate},
    reason::{Reason, Refused},
    time::Millis,
};

use super::rate::{AgentLimits, Limiter};
use crate::{
    policy::compile::{CompiledGrant, CompiledPolicy, CompiledRule},
    roster::{Roster, session::LiveSession},
};

/// How far above the sum of its rules' rates an agent may be before its envelopes are dropped unread.
const OVERALL_HEADROOM: u32 = 2;
/// What an agent without a session may send before it says hello: nothing of it is admitted, but it is told so.
const STRANGER: Rate = Rate { per_second: 100, burst: 1_000 };

/// What is kept of each agent between its envelopes: one with a session only.
#[derive(Debug)]
struct Sender {
    overall: Option<Limiter>,
    by_rule: HashMap<u16, Limiter>,
    by_grant: HashMap<Name, Limiter>,
}

/// The limits in use. Bounded by the agents that have sessions, and [`MAX_AGENTS`](super::rate::MAX_AGENTS)
/// that have none.
#[derive(Debug)]
pub(super) struct Senders {
    known: HashMap<AgentToken, Sender>,
    strangers: AgentLimits,
}

impl Default for Senders {
    fn default() -> Self {
        Self { known: HashMap::new(), strangers: AgentLimits::new(STRANGER) }
    }
}

impl Senders {
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    /// Forgets limits that nobody uses: a new one has as much left.
    pub(super) fn prune(&mut self, now: Millis) {
        self.strangers.prune(now);
        self.known.retain(|_, sender| {
            sender.by_rule.retain(|_, limiter| !limiter.is_idle(now));
            sender.by_grant.retain(|_, limiter| !limiter.is_idle(now));
            let idle = sender.overall.as_mut().is_none_or(|limiter| limiter.is_idle(now));
            !idle || !sender.by_rule.is_empty() || !sender.by_grant.is_empty()
        });
    }

    pub(super) fn len(&self) -> usize {
        self.known.len() + self.strangers.len()
    }

    /// Before anything is read: at most twice what all the agent's rules allow together, so that a flood
    /// costs a map lookup a message.
    pub(super) fn check_overall(
        &mut self,
        policy: &CompiledPolicy,
        roster: &Roster,
        agent: &str,
        now: Millis,
    ) -> Result<(), Refused> {
        let within = match self.known.get_mut(agent) {
            Some(sender) => sender.overall.as_mut().is_none_or(|limiter| limiter.admit(now)),
            None => {
                let token = AgentToken::parse(agent)?;
                match roster.of_agent(agent).next() {
                    Some(session) => {
                        let mut overall = overall_rate(policy, session).map(Limiter::new);
                        let within = overall.as_mut().is_none_or(|limiter| limiter.admit(now));
                        self.known.insert(
                            token,
                            Sender { overall, by_rule: HashMap::new(), by_grant: HashMap::new() },
                        );
                        within
                    }
                    None => self.strangers.of(&token).admit(now),
                }
            }
        };
        if within { Ok(()) } else { Err(Refused::new(Reason::RateLimited, "sender")) }
    }

    pub(super) fn check_rule(
        &mut self,
        rule: &CompiledRule,
        session: &LiveSession,
        now: Millis,
        faults: &mut Faults,
    ) -> Result<(), Refused> {
        let Some(rate) = rule.rate else { return Ok(()) };
        let limited = Refused::new(Reason::RateLimited, "rule");
        // There is one: the overall check made it.
        let sender = self.known.get_mut(session.agent()).ok_or(limited)?;
        let limiter = sender.by_rule.entry(rule.id.number()).or_insert_with(|| Limiter::new(rate));
        if limiter.admit(now) { Ok(()) } else { faults.found(limited.reason, limited.what) }
    }

    /// A flow grant may be for a trickle only.
    pub(super) fn check_grant(
        &mut self,
        grant: Option<&CompiledGrant>,
        session: &LiveSession,
        now: Millis,
        faults: &mut Faults,
    ) -> Result<(), Refused> {
        let Some((grant, rate)) = grant.and_then(|grant| Some((&grant.record, grant.record.rate?))) else {
            return Ok(());
        };
        let limited = Refused::new(Reason::RateLimited, "flow grant");
        let sender = self.known.get_mut(session.agent()).ok_or(limited)?;
        let limiter = sender.by_grant.entry(grant.name.clone()).or_insert_with(|| Limiter::new(rate));
        if limiter.admit(now) { Ok(()) } else { faults.found(limited.reason, limited.what) }
    }
}

/// The sum of what its rules allow, with headroom; none if a rule has no limit.
fn overall_rate(policy: &CompiledPolicy, session: &LiveSession) -> Option<Rate> {
    let mut total = Rate { per_second: 0, burst: 0 };
    for part in policy.rules_for(&session.principal) {
        if part.publishes || part.rule.is_request() {
            let rate = part.rule.rate?;
            total.per_second = total.per_second.saturating_add(rate.per_second);
            total.burst = total.burst.saturating_add(rate.burst);
        }
    }
    Some(Rate {
        per_second: total.per_second.max(1).saturating_mul(OVERALL_HEADROOM),
        burst: total.burst.max(1).saturating_mul(OVERALL_HEADROOM),
    })
}

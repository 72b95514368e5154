//! The rates of senders: per rule as the policy says, and over all before anything is read. Who is watched has
//! half of each.

use std::collections::{HashMap, HashSet};

use sealbus_envelope::{
    name::{AgentToken, Name},
    policy::{Faults, Rate},
    reason::{Reason, Refused},
    time::Millis,
};

use super::rate::{AgentLimits, Limiter};
use crate::{
    oversight::is_open_ended,
    policy::compile::{CompiledGrant, CompiledPolicy, CompiledRule},
    roster::{Roster, session::LiveSession},
};

/// How far above the sum of its rules' rates an agent may be before its envelopes are dropped unread.
const OVERALL_HEADROOM: u32 = 2;
/// What an agent without a session may send before it says hello: nothing of it is admitted, but it is told so.
const STRANGER: Rate = Rate { per_second: 100, burst: 1_000 };
/// What an agent that is watched may send under a rule that has no rate, and there is nothing to halve.
const WATCHED: Rate = Rate { per_second: 100, burst: 200 };

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
    watched: HashSet<AgentToken>,
}

impl Default for Senders {
    fn default() -> Self {
        Self { known: HashMap::new(), strangers: AgentLimits::new(STRANGER), watched: HashSet::new() }
    }
}

impl Senders {
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    /// An agent is watched, or no longer.
    pub(super) fn watch(&mut self, agent: &AgentToken, watched: bool) {
        let changed =
            if watched { self.watched.insert(agent.clone()) } else { self.watched.remove(agent.as_str()) };
        if changed {
            self.known.remove(agent.as_str());
        }
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
                        let watched = self.has_half(policy, session);
                        let mut overall = overall_rate(policy, session, watched).map(Limiter::new);
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
        policy: &CompiledPolicy,
        rule: &CompiledRule,
        session: &LiveSession,
        now: Millis,
        faults: &mut Faults,
    ) -> Result<(), Refused> {
        let watched = self.has_half(policy, session);
        let Some(rate) = limit(rule.rate, watched) else { return Ok(()) };
        let limited = Refused::new(Reason::RateLimited, "rule");
        // There is one: the overall check made it.
        let sender = self.known.get_mut(session.agent()).ok_or(limited)?;
        let limiter = sender.by_rule.entry(rule.id.number()).or_insert_with(|| Limiter::new(rate));
        if limiter.admit(now) { Ok(()) } else { faults.found(limited.reason, limited.what) }
    }

    /// Whether it is watched and its team has no latitude. One lookup in what is nearly always empty.
    fn has_half(&self, policy: &CompiledPolicy, session: &LiveSession) -> bool {
        !self.watched.is_empty()
            && self.watched.contains(session.agent())
            && !is_open_ended(policy, &session.principal)
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

/// A rate as it is for who is watched, or is not.
fn limit(rate: Option<Rate>, watched: bool) -> Option<Rate> {
    if !watched {
        return rate;
    }
    let half = |n: u32| (n / 2).max(1);
    Some(rate.map_or(WATCHED, |rate| Rate { per_second: half(rate.per_second), burst: half(rate.burst) }))
}

/// The sum of what its rules allow, with headroom; none if a rule has no limit.
fn overall_rate(policy: &CompiledPolicy, session: &LiveSession, watched: bool) -> Option<Rate> {
    let mut total = Rate { per_second: 0, burst: 0 };
    for part in policy.rules_for(&session.principal) {
        if part.publishes || part.rule.is_request() {
            let rate = limit(part.rule.rate, watched)?;
            total.per_second = total.per_second.saturating_add(rate.per_second);
            total.burst = total.burst.saturating_add(rate.burst);
        }
    }
    Some(Rate {
        per_second: total.per_second.max(1).saturating_mul(OVERALL_HEADROOM),
        burst: total.burst.max(1).saturating_mul(OVERALL_HEADROOM),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn who_is_watched_has_half() {
        let rate = Rate { per_second: 10, burst: 1 };
        assert_eq!(limit(Some(rate), false), Some(rate));
        assert_eq!(limit(Some(rate), true), Some(Rate { per_second: 5, burst: 1 }));
        assert_eq!((limit(None, false), limit(None, true)), (None, Some(WATCHED)));
    }

    #[test]
    fn limits_begin_anew_when_an_agent_is_watched() {
        let mut senders = Senders::default();
        let agent = AgentToken::parse("collector-abcdefghij").unwrap();
        let sender = Sender { overall: None, by_rule: HashMap::new(), by_grant: HashMap::new() };
        senders.known.insert(agent.clone(), sender);
        senders.watch(&agent, false);
        assert_eq!(senders.len(), 1);
        senders.watch(&agent, true);
        assert_eq!(senders.len(), 0);
    }
}

//! The circuit breaker of directed workflows: what is a deviation, and which workflows it pauses.
//!
//! A pause lasts until a person ends it, so whoever can bring one about at will has a switch for the whole workflow.
//! A hostile nats-server can stop a workflow anyway, by delivering nothing; but that ends with its hostility, is seen
//! for what it is, and teaches nobody to resume without looking. So a pause must rest on what no server can make:
//!
//! | a server can | so this trips nothing |
//! | --- | --- |
//! | put junk on an agent's subjects | what no session of the agent signed |
//! | repeat an envelope, now or much later | an envelope that was held against its sender before; whatever was sealed before the workflow last went on |
//! | hold envelopes back, deliver many at once, or late | `stale`, `expired`, `replay`, `stale_key`, `below_floor`, `flow_grant_expired`, `rate_limited` by themselves; what was sealed before its sender could know the policy |
//! | deliver elsewhere, or cut connections | `wrong_subject`, `unknown_session`, `no_responder`, `no_request`, `fan_in_exceeded`; an agent that is watched for where and when it connects |
//!
//! Nor may an agent pause what is not its own: a rule is paused only for those whom it names as senders, a team only
//! for its members.
//!
//! What trips, the first time, because an honest client asks the same signed policy before it seals:
//! - a signed envelope that contradicts its session, or that the policy in force does not allow its sender;
//! - more envelopes *signed as of* one [window](WINDOW_MS) than the rule's rate allows in it. When an envelope was
//!   sealed is the sender's own signed word; a server that holds back and bunches does not change it, nor in which
//!   order they come;
//! - a sender that is quarantined, or watched for what it signed, by the guard itself. An order of a person does not:
//!   who gives it can pause the workflow as well;
//! - a signal of the anomaly detector that rests on signed bytes, such as a subject that it never used.
//!
//! Under observe mode a fault is recorded and trips nothing: a policy that is tried out must not stop anybody.

use std::collections::HashMap;

use sealbus_envelope::{
    name::AgentToken,
    order::Workflow,
    policy::{Oversight, Rate},
    reason::{Reason, Refused},
    time::Millis,
};

use super::pause::{Workflows, sends_under};
use crate::policy::{
    compile::{CompiledPolicy, CompiledRule, RuleId},
    decide::Principal,
};

/// Signed times are counted in windows of this length, in milliseconds.
pub const WINDOW_MS: u64 = 10_000;
/// How much more than the rate allows in a window trips, as a fraction: a clock may be set back a little.
const SLACK: (u64, u64) = (5, 4);
/// Windows kept of each sender and rule: what is older is not fresh any more.
const MAX_WINDOWS: usize = 32;
/// The most senders and rules that are counted: each has a session, so only a hostile issuer gets here.
const MAX_COUNTS: usize = 65_536;

/// Whether a denial of what a session of the sender signed is a deviation.
#[must_use]
pub const fn is_deviation(reason: Reason, knew_policy: bool) -> bool {
    match reason {
        Reason::WrongSender | Reason::WrongSession | Reason::WrongBus => true,
        Reason::AboveClearance
        | Reason::AboveIntegrity
        | Reason::BelowParents
        | Reason::NotPublisher
        | Reason::NotSubscriber
        | Reason::UnknownRule
        | Reason::LabelUnknown
        | Reason::LabelOutOfRange
        | Reason::SubjectOutsideRule
        | Reason::TooBigForRule
        | Reason::WrongPattern
        | Reason::FlowGrantUnknown
        | Reason::FlowGrantMismatch => knew_policy,
        _ => false,
    }
}

/// Envelopes signed as of each window.
#[derive(Debug, Default)]
struct Counts(Vec<(u64, u64)>);

impl Counts {
    /// Counts one, and gives how many its window has.
    fn add(&mut self, issued: Millis) -> u64 {
        let window = issued.0 / WINDOW_MS;
        if let Some((_, count)) = self.0.iter_mut().find(|(of, _)| *of == window) {
            *count += 1;
            return *count;
        }
        if self.0.len() >= MAX_WINDOWS {
            let oldest = self.0.iter().enumerate().min_by_key(|(_, (of, _))| *of).map(|(place, _)| place);
            oldest.map(|place| self.0.swap_remove(place));
        }
        self.0.push((window, 1));
        1
    }

    fn newest(&self) -> u64 {
        self.0.iter().map(|(window, _)| *window).max().unwrap_or(0)
    }
}

/// The most that a sender at this rate signs as of one window.
const fn allowed(rate: Rate) -> u64 {
    let (burst, per_second) = (rate.burst as u64, rate.per_second as u64);
    (burst + per_second * (WINDOW_MS / 1000)) * SLACK.0 / SLACK.1
}

/// What is counted for the breaker. Forgotten at a restart, unlike the pauses.
#[derive(Debug, Default)]
pub struct Breaker {
    signed: HashMap<(AgentToken, RuleId), Counts>,
    directed: bool,
}

impl Breaker {
    /// Takes another policy: its rules have other numbers, perhaps.
    pub fn follow(&mut self, policy: &CompiledPolicy) {
        self.signed.clear();
        let teams = policy.teams().iter().any(|team| team.oversight == Some(Oversight::Directed));
        let rules = policy.rules().iter().any(|rule| rule.oversight == Some(Oversight::Directed));
        self.directed = teams || rules;
    }

    /// Whether the policy has a directed workflow at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.directed
    }

    /// Counts an envelope that was signed and that came within the rate, or not. Gives why it is a deviation, if more
    /// were signed as of its window than the rate allows.
    pub fn count(
        &mut self,
        policy: &CompiledPolicy,
        who: &Principal,
        rule: &CompiledRule,
        issued: Millis,
    ) -> Option<Refused> {
        if !self.directed || workflows_of(policy, who, Some(rule)).next().is_none() {
            return None;
        }
        let key = (who.token().clone(), rule.id);
        if self.signed.len() >= MAX_COUNTS && !self.signed.contains_key(&key) {
            return None;
        }
        let count = self.signed.entry(key).or_default().add(issued);
        let beyond = rule.rate.is_some_and(|rate| count > allowed(rate));
        beyond.then_some(Refused::new(Reason::RateLimited, "signed more than the rule's rate in ten seconds"))
    }

    /// Forgets what is not fresh any more.
    pub fn expire(&mut self, now: Millis, freshness_ms: u64) {
        let oldest = now.minus(freshness_ms.saturating_add(2 * WINDOW_MS)).0 / WINDOW_MS;
        self.signed.retain(|_, counts| counts.newest() >= oldest);
    }

    /// How many senders and rules are counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.signed.len()
    }

    /// Whether nothing is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.signed.is_empty()
    }
}

/// The directed workflows that something `who` sends under `rule` is of: its team, and the rule if it names `who`.
fn workflows_of<'p>(
    policy: &'p CompiledPolicy,
    who: &'p Principal,
    rule: Option<&'p CompiledRule>,
) -> impl Iterator<Item = Workflow> + 'p {
    let directed = Some(Oversight::Directed);
    let team = policy.team(who.team()).filter(|team| team.oversight == directed);
    let rule = rule.filter(|rule| rule.oversight == directed && sends_under(rule, who));
    let team = team.map(|team| Workflow::Team(team.name.clone()));
    team.into_iter().chain(rule.map(|rule| Workflow::Rule(rule.name.clone())))
}

/// The workflows that a deviation of `who` in an envelope under `rule`, sealed at `issued`, pauses.
#[must_use]
pub fn tripped(
    policy: &CompiledPolicy,
    workflows: &Workflows,
    who: &Principal,
    rule: Option<&str>,
    issued: Millis,
) -> Vec<Workflow> {
    let rule = rule.and_then(|rule| policy.rule(rule));
    let mut of = workflows_of(policy, who, rule).collect::<Vec<_>>();
    of.retain(|workflow| workflows.may_trip(workflow, issued));
    of
}

/// The workflows that are paused because `who` itself is not to be trusted now: all directed ones it sends in.
#[must_use]
pub fn tripped_by_member(
    policy: &CompiledPolicy,
    workflows: &Workflows,
    who: &Principal,
    now: Millis,
) -> Vec<Workflow> {
    let mut of: Vec<Workflow> = workflows_of(policy, who, None).collect();
    for rule in policy.rules_concerning(who) {
        if rule.oversight == Some(Oversight::Directed) && sends_under(rule, who) {
            of.push(Workflow::Rule(rule.name.clone()));
        }
    }
    of.retain(|workflow| workflows.may_trip(workflow, now));
    of
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_server_can_do_with_honest_envelopes_is_no_deviation() {
        for reason in [
            Reason::Replay,
            Reason::Stale,
            Reason::Expired,
            Reason::FromFuture,
            Reason::WrongSubject,
            Reason::RateLimited,
            Reason::BelowFloor,
            Reason::StaleKey,
            Reason::UnknownKey,
            Reason::UnknownSession,
            Reason::FlowGrantExpired,
            Reason::FanInExceeded,
            Reason::NoResponder,
            Reason::NoRequest,
            Reason::BadSignature,
            Reason::Truncated,
            Reason::Quarantined,
            Reason::WorkflowPaused,
            Reason::AuditUnavailable,
        ] {
            assert!(!is_deviation(reason, true), "{reason}");
        }
        assert!(is_deviation(Reason::WrongSender, false), "its own name it always knows");
        assert!(is_deviation(Reason::NotPublisher, true) && !is_deviation(Reason::NotPublisher, false));
    }

    proptest! {
        /// Whatever part of an honest sender's envelopes a server lets through, in whatever order and however late:
        /// only when they were signed counts.
        #[test]
        fn an_honest_pace_is_never_beyond_its_rate(
            per_second in 1u32..50,
            burst in 1u32..100,
            steps in prop::collection::vec(0u64..2_000, 1..600),
            order in any::<u64>(),
        ) {
            let rate = Rate { per_second, burst };
            // The sender keeps to its rate by the reference's own algorithm.
            let mut limiter = crate::check::rate::Limiter::new(rate);
            let mut now = Millis(1_800_000_000_000);
            let mut signed = Vec::new();
            for step in steps {
                now = now.plus(step);
                if limiter.admit(now) {
                    signed.push(now);
                }
            }
            // Any order.
            let turn = usize::try_from(order % 1_000).unwrap_or(0) % signed.len().max(1);
            signed.rotate_left(turn);
            if order % 2 == 0 {
                signed.reverse();
            }
            let mut counts = Counts::default();
            for issued in signed {
                prop_assert!(counts.add(issued) <= allowed(rate));
            }
        }

        #[test]
        fn who_signs_twice_its_rate_is_found_within_a_window(per_second in 4u32..50, burst in 1u32..20) {
            let rate = Rate { per_second, burst };
            let mut counts = Counts::default();
            let every = 1_000 / u64::from(2 * per_second);
            let sent = (0..).map(|n| Millis(1_800_000_000_000 + n * every));
            let within = sent.take_while(|at| at.0 < 1_800_000_000_000 + WINDOW_MS);
            let found = within.map(|issued| counts.add(issued)).any(|count| count > allowed(rate));
            // A large burst is part of what is allowed.
            prop_assert!(found || u64::from(burst) * 2 > u64::from(per_second) * (WINDOW_MS / 1000));
        }

        #[test]
        fn the_windows_that_are_kept_are_few(times in prop::collection::vec(0u64..10_000_000, 0..500)) {
            let mut counts = Counts::default();
            for at in times {
                counts.add(Millis(at));
            }
            prop_assert!(counts.0.len() <= MAX_WINDOWS);
        }
    }
}

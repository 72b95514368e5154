//! What people have a say in: envelopes that wait for their approval, workflows that they watch over, and the periodic
//! review.
//!
//! A workflow is what a team sends, or what goes under a rule. *Directed*, it is a fixed thing with tight limits: the
//! first deviation pauses all of it until a person resumes it. *Open-ended*, it has latitude: being watched lowers no
//! limits there, and a person [reviews](review) from time to time what was done.
//!
//! Pure: who may approve what is in the signed policy, the time is an argument, and what is to be durable or told is
//! the caller's to do.

pub mod approvers;
pub mod breaker;
pub mod holds;
pub mod pause;
pub mod recheck;
pub mod review;

use sealbus_envelope::policy::Oversight;

use crate::policy::{compile::CompiledPolicy, decide::Principal};

/// Whether the agent's own team has latitude: then suspicion is recorded and told, and lowers no limit of it.
#[must_use]
pub fn is_open_ended(policy: &CompiledPolicy, who: &Principal) -> bool {
    policy.team(who.team()).is_some_and(|team| team.oversight == Some(Oversight::OpenEnded))
}

//! Policy: who may send what to whom, with which labels.
//!
//! ```text
//! policy.toml ── check ──► Policy ── bundle, signed by the policy keys ──► signed records ── compile ──► CompiledPolicy
//! ```
//!
//! [`check`] reads the file people review and reports everything wrong with it at once. What the guard
//! enforces is compiled from the *signed records* of a bundle, never from the file.
//!
//! Nothing here reads a clock or does IO.

pub mod bundle;
pub mod cases;
pub mod compile;
pub mod decide;
pub mod diagnostic;
pub mod diff;
mod enforced;
pub mod explain;
pub mod flows;
mod index;
mod lint;
pub mod model;
mod names;
pub mod observed;
mod parse;
pub mod permissions;
pub mod place;
pub mod replay;
mod snippet;
mod sound;
pub mod source;
pub mod trial;
pub mod trie;
mod validate;
pub mod words;

use diagnostic::Findings;
use model::Policy;
use sealbus_envelope::time::Millis;
use source::{PolicySource, RawPolicy};

/// The policy a new bus begins with.
pub const DEFAULT_POLICY: &str = include_str!("default.toml");

/// A policy that may be signed, and what its author should look at nevertheless.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The policy.
    pub policy: Policy,
    /// Warnings only; may be empty.
    pub warnings: Findings,
}

/// Reads and validates a policy.
///
/// # Errors
/// Everything found, warnings too, if something refuses the policy.
pub fn check(source: &PolicySource) -> Result<Checked, Findings> {
    checked(source, |_, _, _| {})
}

/// As [`check`], and looks for what is allowed and perhaps not meant; `now` tells what has expired. Slower: for
/// people and for CI, before a policy is signed.
///
/// # Errors
/// Everything found, warnings too, if something refuses the policy.
pub fn review(source: &PolicySource, now: Millis) -> Result<Checked, Findings> {
    checked(source, |policy, raw, findings| lint::lint(policy, raw, now, findings))
}

fn checked(
    source: &PolicySource,
    further: impl FnOnce(&Policy, &RawPolicy, &mut Findings),
) -> Result<Checked, Findings> {
    let mut findings = Findings::new(source);
    let raw = parse::parse(source, &mut findings);
    // After a syntax error most other findings would be its echoes.
    if !findings.has_syntax_errors() {
        let policy = validate::validate(&raw, &mut findings);
        sound::check(&policy, &raw, &mut findings);
        if !findings.has_errors() {
            further(&policy, &raw, &mut findings);
        }
        findings.sort();
        if !findings.has_errors() {
            return Ok(Checked { policy, warnings: findings });
        }
    }
    Err(findings)
}

//! The trust graph: who can send what to whom, how far information gets, and what a stolen agent reaches.
//!
//! ```text
//! signed policy ─┐                       ┌─ who_can   who may read or write a subject
//! credentials  ──┼─► TrustGraph ─────────┼─ reach     where an agent's information can get to
//! time         ──┘   (classes, rules,    ├─ path      the shortest way from one agent to another
//!                     grants, labels)    ├─ blast     what a stolen key is worth; suspects in the log
//! audit log    ────► Observed            ├─ leaks     flows below their level
//!                                        └─ diff      what another policy opens and closes
//! ```
//!
//! # What is exact, and what a step is
//! Information flows from agent A to another agent B by rule r with label L exactly if the guard would admit
//! it and both clients would agree: A publishes (or asks) under r and B subscribes (or serves), or A serves a
//! request of B and answers; L lies in r's range, within A's effective clearance and integrity ceiling and B's
//! effective clearance. What B received at label c it may pass on only with a label that dominates c, or by
//! a flow grant of its team that has not expired, whose `from` covers the rule c came in by, whose `to`
//! overlaps the rule it goes out by, with c at or below `from_label` and the new label at or above `to_label`.
//! Who answers was given the key of the question, so an answer dominates the question's label too. Where
//! observe mode switches label checks off, the step is possible and marked so.
//!
//! Answers are about a holder whose floor is just what it received last: that is the most an agent can do.
//! A team whose taint is kept per agent can do less while its floor is raised by other things, so on a way
//! that visits the *same* agent twice the guard may deny what the graph allows, never the reverse.
//! Rates, sizes and approvals slow a flow down and do not close it: they are left out.
//!
//! Agents with equal rights are one class, and only minimal labels are followed (`search.rs`), so 10,000 agents
//! under 2,000 rules take milliseconds; `cargo run --release -p sealbus-guard --example graph_speed`.
//!
//! Nothing here reads a clock or does IO.
//!
//! ```
//! use sealbus_envelope::{identity::{Roots, SigningKey}, name::Name, subject::Pattern, time::Millis};
//! use sealbus_guard::graph::{Access, Facts, TrustGraph, View, members};
//! use sealbus_guard::policy::{self, bundle::{self, ServiceKeys}, source::PolicySource};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = [1, 2, 3].map(|n| SigningKey::from_seed(&[n; 32]));
//! let [issuer, policy_key, status] = &keys;
//! let roots = Roots {
//!     name: Name::parse("demo")?,
//!     issuer: issuer.public().clone(),
//!     policy_keys: vec![policy_key.public().clone()],
//!     quorum: 1,
//! };
//! let checked = policy::check(&PolicySource::new("policy.toml", policy::DEFAULT_POLICY))?;
//! let services = ServiceKeys { status: status.public().clone(), guards: vec![] };
//! let signed = bundle::sign(&checked.policy, &services, 1, Millis(1), &[policy_key], &roots)?;
//!
//! let graph = TrustGraph::new(Facts::of(&signed), members(signed.tables()), View::at(Millis(1)));
//! let way = graph.path("collector", "observer")?.ok_or("no path")?;
//! let rules: Vec<_> = way.steps.iter().map(|step| step.rule.as_str()).collect();
//! assert_eq!(rules, ["hello"], "what everybody may say in public reaches everybody");
//! let readers = graph.who_can(Access::Read, &Pattern::parse("report.final")?);
//! assert_eq!(readers.len(), 1, "only the observers");
//! # Ok(())
//! # }
//! ```

mod blast;
mod classes;
mod diff;
pub mod drawing;
mod facts;
mod flow;
mod grants;
mod leaks;
mod reach;
mod search;
pub mod structure;
mod suspects;
mod who;

use sealbus_envelope::{name::Name, policy::Rule, time::Millis};

pub use blast::BlastRadius;
use classes::{Class, ClassNo, Classes, RuleNo};
pub use diff::{Diff, End, FlowChange, ReachChange};
pub use facts::{Facts, Holder, Standing, members, strangers};
pub use flow::Way;
use grants::Grants;
pub use leaks::Leak;
pub use reach::{Allowed, Carriage, Path, Reach, Reached, Step, UnknownHolder};
pub use suspects::{Envelope, Exposure, Suspects};
pub use who::{Access, Part, Permit};

use crate::policy::diagnostic::nearest;

/// From where the graph is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// When: flow grants that have expired by then are left out.
    pub at: Millis,
    /// Whether what observe mode lets pass counts as possible, as it is now. Without, the graph shows the
    /// policy as if it were enforced throughout.
    pub observe: bool,
}

impl View {
    /// As things are at `at`.
    #[must_use]
    pub const fn at(at: Millis) -> Self {
        Self { at, observe: true }
    }

    /// As things would be at `at` with nothing in observe mode.
    #[must_use]
    pub const fn enforced(at: Millis) -> Self {
        Self { at, observe: false }
    }
}

/// One policy and the agents under it.
#[derive(Debug, Clone)]
pub struct TrustGraph<'p> {
    facts: Facts<'p>,
    holders: Vec<Holder>,
    classes: Classes,
    grants: Grants,
    view: View,
}

impl<'p> TrustGraph<'p> {
    /// The graph of `holders` under `facts`.
    #[must_use]
    pub fn new(facts: Facts<'p>, mut holders: Vec<Holder>, view: View) -> Self {
        let classes = Classes::sort(facts, &mut holders, view);
        Self { facts, holders, classes, grants: Grants::index(facts, view.at), view }
    }

    /// The policy's records.
    #[must_use]
    pub const fn facts(&self) -> Facts<'p> {
        self.facts
    }

    /// Everybody, those that may not connect too.
    #[must_use]
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// How many kinds of agents the policy tells apart.
    #[must_use]
    pub fn kinds(&self) -> usize {
        self.classes.classes.len()
    }

    /// From where the graph is looked at.
    #[must_use]
    pub const fn view(&self) -> View {
        self.view
    }

    /// The agent called `name`, or the team if no agent is called so.
    ///
    /// # Errors
    /// [`UnknownHolder`] with the nearest name there is.
    pub fn find(&self, name: &str) -> Result<&Holder, UnknownHolder> {
        self.locate(name).map(|(_, holder)| holder)
    }

    fn locate(&self, name: &str) -> Result<(usize, &Holder), UnknownHolder> {
        let named = |team: bool| {
            let mut all = self.holders.iter().enumerate();
            all.find(|(_, holder)| holder.name().as_str() == name && holder.is_team() == team)
        };
        named(false).or_else(|| named(true)).ok_or_else(|| {
            let names = self.holders.iter().map(|holder| holder.name().as_str());
            UnknownHolder { name: name.to_owned(), near: nearest(name, names).map(str::to_owned) }
        })
    }

    /// Whether rule and team are observed, not enforced.
    fn observes(&self, rule: RuleNo, team: usize) -> bool {
        self.view.observe && facts::observes(self.facts, rule, team)
    }

    fn rule(&self, rule: RuleNo) -> Option<&'p Rule> {
        self.facts.rules.get(rule)
    }

    fn members(&self, class: &Class) -> Vec<&Holder> {
        class.members.iter().filter_map(|member| self.holders.get(*member)).collect()
    }

    fn class_of(&self, holder: usize) -> Option<ClassNo> {
        self.classes.of.get(holder).copied().flatten()
    }
}

/// A grant's name, for a step that needs it.
fn grant_name(facts: Facts<'_>, grant: usize) -> Option<Name> {
    facts.grants.get(grant).map(|grant| grant.name.clone())
}

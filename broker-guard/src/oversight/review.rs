//! The periodic review: what was done in a period, what of it is new, and what nearly went wrong, from the log alone.
//!
//! Every entry goes through a [`Collector`] once, oldest first; what it keeps grows with agents, rules and labels and
//! not with messages, and past its bounds it says so. What is *new* in the period is what the log before it does not
//! have; how much is *more* is against the period of the same length before. The log holds no payloads and no sizes.

mod collect;
mod findings;
mod html;
mod markdown;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use sealbus_envelope::{label::Label, policy::Rate, time::Millis};
use serde::Serialize;

pub use collect::Collector;
pub use findings::{Finding, Severity};
pub use html::html;
pub use markdown::markdown;

/// What the log does not say and a reader of the report wants to know: from the policy and the registry.
#[derive(Debug, Clone, Default)]
pub struct Background {
    /// The bus.
    pub bus: String,
    /// Each agent's team, by its token.
    pub teams: BTreeMap<String, String>,
    /// Teams that are open-ended.
    pub open_ended: BTreeSet<String>,
    /// Each rule's rate.
    pub rates: BTreeMap<String, Rate>,
    /// Each flow grant's reason.
    pub grants: BTreeMap<String, String>,
    /// Names of levels, compartments and ranks; none if no policy is at hand.
    pub tables: Option<sealbus_envelope::policy::Tables>,
    /// Only what members of this team did.
    pub team: Option<String>,
}

impl Background {
    fn label(&self, label: Label) -> String {
        match &self.tables {
            Some(tables) => tables.show(label),
            None => {
                let compartments: Vec<_> = label.compartments.iter().map(|n| n.to_string()).collect();
                let compartments =
                    if compartments.is_empty() { "-".to_owned() } else { compartments.join("+") };
                format!("{}/{compartments}/{}", label.level.number(), label.integrity.number())
            }
        }
    }
}

/// What an agent did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Activity {
    /// Its token.
    pub agent: String,
    /// Its team, if it is known.
    pub team: Option<String>,
    /// Whether its team is open-ended.
    pub open_ended: bool,
    /// Messages admitted.
    pub messages: u64,
    /// Messages admitted in the period before.
    pub before: u64,
    /// Messages and control messages denied.
    pub denied: u64,
    /// Denied in the period before.
    pub denied_before: u64,
    /// Let pass by observe mode.
    pub observed: u64,
    /// Subjects it used; at most a hundred are named.
    pub subjects: BTreeSet<String>,
    /// How many more there are.
    pub more_subjects: u64,
    /// Labels it used, and how often.
    pub labels: BTreeMap<String, u64>,
    /// Sessions it began.
    pub sessions: u64,
    /// The first time it sent in the period.
    pub first: Option<Millis>,
    /// The last.
    pub last: Option<Millis>,
}

/// A flow that the log does not have before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NewFlow {
    /// Who sent.
    pub agent: String,
    /// Under which rule.
    pub rule: String,
    /// At which label.
    pub label: String,
    /// How often since.
    pub times: u64,
    /// The first time.
    pub first: Millis,
    /// Whether the agent was never seen to send at all before.
    pub new_agent: bool,
}

/// A reader that was given a key of a sender under a rule for the first time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NewReader {
    /// Who reads.
    pub reader: String,
    /// Whose messages.
    pub sender: String,
    /// Under which rule.
    pub rule: String,
    /// The label of the key.
    pub label: String,
    /// When.
    pub first: Millis,
}

/// Denials of one kind, or what observe mode let pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Denials {
    /// Whose.
    pub agent: String,
    /// The reason code.
    pub reason: String,
    /// The rule, if it was named.
    pub rule: String,
    /// How many.
    pub times: u64,
    /// The last time.
    pub last: Millis,
    /// An envelope's id, to ask about.
    pub example: Option<String>,
}

/// Something that happened at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happened {
    /// When.
    pub time: Millis,
    /// Whom or what it concerns.
    pub subject: String,
    /// What happened, in a few words.
    pub what: String,
    /// Why, or by whom.
    pub detail: String,
}

/// How near a sender came to a rule's rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearRate {
    /// Who.
    pub agent: String,
    /// The rule.
    pub rule: String,
    /// The most that was admitted in ten seconds.
    pub peak: u64,
    /// The most that can be.
    pub limit: u64,
    /// When.
    pub at: Millis,
}

/// How often a flow grant was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrantUse {
    /// The grant.
    pub grant: String,
    /// By whom.
    pub agent: String,
    /// How often.
    pub times: u64,
    /// How often in the period before.
    pub before: u64,
    /// Why the policy has it.
    pub reason: Option<String>,
}

/// The report.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Review {
    /// The bus.
    pub bus: String,
    /// From when.
    pub since: Millis,
    /// Until when, exclusive.
    pub until: Millis,
    /// Whether the log reaches back over the period before.
    pub compared: bool,
    /// Only of this team.
    pub team: Option<String>,
    /// Entries of the log in the period.
    pub entries: u64,
    /// What to look at, most pressing first.
    pub findings: Vec<Finding>,
    /// What each agent did, most first.
    pub agents: Vec<Activity>,
    /// New flows.
    pub new_flows: Vec<NewFlow>,
    /// New readers.
    pub new_readers: Vec<NewReader>,
    /// Denials.
    pub denials: Vec<Denials>,
    /// What observe mode let pass and would be denied without.
    pub observed: Vec<Denials>,
    /// Who was watched, quarantined, released.
    pub states: Vec<Happened>,
    /// Workflows paused and resumed.
    pub workflows: Vec<Happened>,
    /// What was held, and how it ended.
    pub holds: Vec<Happened>,
    /// How many held envelopes were released.
    pub released: u64,
    /// Who came near a rate.
    pub near_rates: Vec<NearRate>,
    /// Orders.
    pub orders: Vec<Happened>,
    /// Policies and status statements that came into force.
    pub changes: Vec<Happened>,
    /// Flow grants used.
    pub grants: Vec<GrantUse>,
    /// Agents at servers where they never were before.
    pub new_places: Vec<Happened>,
    /// Logins that were not let in.
    pub refused_logins: Vec<Denials>,
    /// Gaps of the log, and what was removed of it.
    pub log: Vec<Happened>,
    /// What is not in the report because there was too much of it.
    pub left_out: u64,
}

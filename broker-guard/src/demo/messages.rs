//! What the agents say to each other: JSON, inside the envelopes.

use serde::{Deserialize, Serialize};

use super::project::Dependency;

/// On `deps.item.>`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Item {
    /// One dependency.
    Dependency { batch: u32, dependency: Dependency },
    /// A batch is complete: so many were sent.
    End { batch: u32, total: u64, last: bool },
}

/// On `findings.>`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Findings {
    /// One finding; the envelope's parents are the dependencies it is about.
    Finding { batch: u32, finding: Finding },
    /// All findings of a batch were sent.
    End { batch: u32, total: u64, last: bool },
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    Warning,
    Note,
    Info,
}

impl Severity {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Note => "note",
            Self::Info => "info",
        }
    }
}

/// What an analyst found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Finding {
    /// Who found it.
    pub(super) analyst: String,
    pub(super) severity: Severity,
    pub(super) title: String,
    /// `name version` of what it is about.
    pub(super) crates: Vec<String>,
}

/// On `review.merged`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Merged {
    pub(super) batch: u32,
    pub(super) packages: u64,
    pub(super) findings: Vec<Finding>,
    /// Findings whose every parent was checked.
    pub(super) chains: u64,
    /// Parents that were checked.
    pub(super) links: u64,
    /// What an analyst answered when asked.
    pub(super) answer: Option<Answer>,
    /// Whether more parts of this batch follow.
    pub(super) more: bool,
    pub(super) last: bool,
}

/// On `ask.analyst`, asking.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) question: String,
}

/// On `ask.analyst`, answering.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) analyst: String,
    pub(super) text: String,
}

//! What came of a demo: the numbers, and whether all is well.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;

use super::{Done, Heard, agents::Tally, messages::Severity, progress::Attack};
use crate::metrics::Metrics;

/// What came of a demo, in the form of its JSON.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Messages that honest agents published and the guard confirmed.
    pub published: u64,
    /// Messages that honest agents received and opened: one that three read counts three times.
    pub delivered: u64,
    /// Deliveries that there should have been and were not.
    pub lost: u64,
    /// What the guard denied, by reason.
    pub denied: BTreeMap<String, u64>,
    /// The attacks in order.
    pub attacks: Vec<Attack>,
    /// Agents in quarantine at the end, as subjects name them.
    pub quarantined: Vec<String>,
    /// Denials to agents other than the hostile one.
    pub honest_denied: u64,
    /// The report in numbers.
    pub report: Summary,
    /// The check of the audit log.
    pub audit: Audit,
    /// From the start of the command, set by it.
    pub elapsed_ms: u64,
    /// Of what ran.
    pub versions: Versions,
    /// The agent that is to be in quarantine.
    #[serde(skip)]
    pub hostile: String,
    /// What the honest denials were.
    #[serde(skip)]
    pub honest_denials: Vec<String>,
}

/// The report in numbers.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// What was reviewed.
    pub project: String,
    /// Packages reviewed.
    pub packages: u64,
    /// Kinds of findings.
    pub findings: usize,
    /// Those that are warnings.
    pub warnings: usize,
    /// Those that are notes.
    pub notes: usize,
    /// Findings whose sources were all checked before they were merged.
    pub chains_checked: u64,
    /// Sources checked.
    pub sources_checked: u64,
    /// The report's file, if it was kept.
    pub file: Option<PathBuf>,
}

/// The check of the audit log.
#[derive(Debug, Serialize)]
pub struct Audit {
    /// How many entries it has.
    pub entries: u64,
    /// Whether each is what was signed, and none is missing.
    pub verified: bool,
    /// What is wrong with it.
    #[serde(skip)]
    pub fault: Option<String>,
}

/// Versions of what ran.
#[derive(Debug, Default, Serialize)]
pub struct Versions {
    /// Sealbus.
    pub sealbus: String,
    /// nats-server, set by who started it.
    pub nats_server: String,
}

impl Outcome {
    pub(super) fn new(
        ledger: Ledger,
        done: Done,
        heard: Heard,
        hostile: String,
        metrics: &Metrics,
        audit: Audit,
        file: Option<&PathBuf>,
    ) -> Self {
        let report = done.report;
        Self {
            published: ledger.published(),
            delivered: ledger.delivered(),
            lost: ledger.lost() + heard.dropped,
            denied: denied(&metrics.render()),
            attacks: done.attacks,
            quarantined: heard.quarantined,
            honest_denied: u64::try_from(heard.honest_denied.len()).unwrap_or(u64::MAX),
            report: Summary {
                packages: report.packages,
                findings: report.findings(),
                warnings: report.count(Severity::Warning),
                notes: report.count(Severity::Note),
                chains_checked: report.chains,
                sources_checked: report.links,
                file: file.cloned(),
                project: report.project,
            },
            audit,
            elapsed_ms: 0,
            versions: Versions { sealbus: env!("CARGO_PKG_VERSION").to_owned(), nats_server: String::new() },
            hostile,
            honest_denials: heard.honest_denied,
        }
    }

    /// Whether nothing was lost, every attack was stopped, the hostile agent and no other is in quarantine,
    /// no honest one was denied anything, and the log is whole.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.lost == 0
            && self.honest_denied == 0
            && self.audit.verified
            && self.attacks.iter().all(|attack| attack.stopped_by.is_some())
            && self.quarantined == [self.hostile.clone()]
    }
}

/// What each agent sent and got.
#[derive(Debug, Default)]
pub(super) struct Ledger(Vec<(&'static str, Tally)>);

impl Ledger {
    pub(super) fn add(&mut self, agent: &'static str, tally: Tally) {
        self.0.push((agent, tally));
    }

    pub(super) fn published(&self) -> u64 {
        self.0.iter().flat_map(|(_, tally)| tally.published.values()).sum()
    }

    pub(super) fn delivered(&self) -> u64 {
        self.0.iter().flat_map(|(_, tally)| tally.received.values()).sum()
    }

    /// For each rule: what was published, times its readers, less what these got.
    pub(super) fn lost(&self) -> u64 {
        const READERS: [(&str, &[&str]); 5] = [
            ("deps-item", &["licence", "versions", "risk", "aggregator"]),
            ("findings", &["aggregator"]),
            ("review-merged", &["reporter"]),
            ("report-final", &["duty"]),
            ("hello", &["witness"]),
        ];
        let sum = |of: &dyn Fn(&Tally) -> &BTreeMap<String, u64>, rule: &str| -> u64 {
            self.0.iter().filter_map(|(_, tally)| of(tally).get(rule)).sum()
        };
        let mut lost = 0;
        for (rule, readers) in READERS {
            let published = sum(&|tally| &tally.published, rule);
            for reader in readers {
                let tally = self.0.iter().find(|(name, _)| name == reader);
                let got = tally.and_then(|(_, tally)| tally.received.get(rule)).copied().unwrap_or(0);
                lost += published.abs_diff(got);
            }
        }
        // A request goes to one that answers, the answer to the one that asked.
        let rule = "ask-analyst";
        lost + sum(&|tally| &tally.published, rule).abs_diff(sum(&|tally| &tally.received, rule))
    }
}

/// The counter of denials, by reason, from the metrics' text.
fn denied(metrics: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (reason, count) = line.strip_prefix("sealbus_denied_total{reason=\"")?.split_once("\"}")?;
        Some((reason.to_owned(), count.trim().parse().ok()?))
    };
    metrics.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(published: &[(&str, u64)], received: &[(&str, u64)]) -> Tally {
        let map = |of: &[(&str, u64)]| of.iter().map(|(rule, n)| ((*rule).to_owned(), *n)).collect();
        Tally { published: map(published), received: map(received) }
    }

    #[test]
    fn what_one_of_several_readers_did_not_get_is_lost() {
        let mut ledger = Ledger::default();
        ledger.add("collector", tally(&[("deps-item", 10)], &[]));
        ledger.add(
            "licence",
            tally(&[("findings", 2), ("ask-analyst", 1)], &[("deps-item", 10), ("ask-analyst", 1)]),
        );
        ledger.add("versions", tally(&[], &[("deps-item", 10)]));
        ledger.add("risk", tally(&[], &[("deps-item", 9)]));
        ledger.add(
            "aggregator",
            tally(&[("ask-analyst", 1)], &[("deps-item", 10), ("findings", 2), ("ask-analyst", 1)]),
        );
        assert_eq!((ledger.published(), ledger.lost()), (14, 1));
    }

    #[test]
    fn denials_are_read_from_the_metrics() {
        let metrics = Metrics::new();
        metrics.denied(sealbus_envelope::reason::Reason::Replay, 3);
        metrics.denied(sealbus_envelope::reason::Reason::BadEncoding, 4);
        let expected = BTreeMap::from([("bad_encoding".to_owned(), 4), ("replay".to_owned(), 3)]);
        assert_eq!(denied(&metrics.render()), expected);
    }
}

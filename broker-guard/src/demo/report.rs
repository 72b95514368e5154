//! The report: all findings, those of one kind together, the gravest first.

use std::{collections::BTreeMap, fmt::Write as _};

use super::messages::{Answer, Merged, Severity};

/// How many packages are named in one line.
const NAMED: usize = 40;

/// What the reporter gathers.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) project: String,
    pub(super) packages: u64,
    /// (severity, analyst, title) to packages.
    findings: BTreeMap<(Severity, String, String), Vec<String>>,
    pub(super) chains: u64,
    pub(super) links: u64,
    answer: Option<Answer>,
}

impl Report {
    pub(super) const fn new(project: String) -> Self {
        Self { project, packages: 0, findings: BTreeMap::new(), chains: 0, links: 0, answer: None }
    }

    pub(super) fn add(&mut self, merged: Merged) {
        self.packages += merged.packages;
        self.chains += merged.chains;
        self.links += merged.links;
        self.answer = self.answer.take().or(merged.answer);
        for finding in merged.findings {
            let key = (finding.severity, finding.analyst, finding.title);
            self.findings.entry(key).or_default().extend(finding.crates);
        }
    }

    pub(super) fn count(&self, severity: Severity) -> usize {
        self.findings.keys().filter(|(of, _, _)| *of == severity).count()
    }

    pub(super) fn findings(&self) -> usize {
        self.findings.len()
    }

    /// The gravest kinds, as lines: severity, title, how many packages.
    pub(super) fn gravest(&self, most: usize) -> Vec<(Severity, String, usize)> {
        let mut lines: Vec<_> = self
            .findings
            .iter()
            .filter(|((severity, _, _), _)| *severity != Severity::Info)
            .map(|((severity, _, title), crates)| (*severity, title.clone(), crates.len()))
            .collect();
        lines.sort_by(|a, b| a.0.cmp(&b.0).then(b.2.cmp(&a.2)));
        lines.truncate(most);
        lines
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = format!("# Dependencies of {}\n\n", self.project);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{} packages reviewed: {} warnings, {} notes. Each of {} findings was traced to the {} messages \
             it names as its sources before it was merged.\n",
            self.packages,
            self.count(Severity::Warning),
            self.count(Severity::Note),
            self.chains,
            self.links,
        );
        if let Some(answer) = &self.answer {
            let _ =
                writeln!(text, "Asked for the gravest so far, `{}` said: {}.\n", answer.analyst, answer.text);
        }
        text.push_str(
            "From Cargo.lock and `cargo metadata` alone: who owns a package, whether a version was yanked and \
             which newer ones there are is not in them, and not judged.\n",
        );
        let mut under = None;
        for ((severity, analyst, title), crates) in &self.findings {
            if under != Some(*severity) {
                under = Some(*severity);
                let _ = writeln!(text, "\n## {}\n", heading(*severity));
            }
            let named: Vec<_> = crates.iter().take(NAMED).map(String::as_str).collect();
            let more = match crates.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let _ = writeln!(text, "- **{title}** ({analyst}, {}): {}{more}", crates.len(), named.join(", "));
        }
        text
    }
}

const fn heading(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "Warnings",
        Severity::Note => "Notes",
        Severity::Info => "For information",
    }
}

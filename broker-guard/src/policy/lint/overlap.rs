//! Rules that take the same subject from the same publisher and answer differently.
//!
//! Neither is wrong: an envelope names its rule. But a publisher that names none cannot be told which is meant.

use sealbus_envelope::policy::{MessageKind, Rule, Who};

use super::{
    super::{
        diagnostic::{Code, Finding, Findings},
        trie::SubjectTrie,
    },
    View,
};

pub(super) fn lint(view: &View<'_>, findings: &mut Findings) {
    let mut earlier: SubjectTrie<&Rule> = SubjectTrie::new();
    for rule in view.rules() {
        let mut others: Vec<(&Rule, &Who, String)> = Vec::new();
        earlier.overlapping(rule.pattern.as_str(), |other| {
            let shared = rule
                .publishers
                .iter()
                .find(|party| other.publishers.iter().any(|theirs| theirs.who == party.who));
            if let Some((party, differences)) = shared.zip(differences(view, rule, other)) {
                others.push((*other, &party.who, differences));
            }
        });
        earlier.insert(rule.pattern.as_str(), rule);
        // In the order of the file, whatever the order of the tree.
        others.sort_by_key(|(other, ..)| view.places.rule(&other.name).start);
        let Some((other, who, differences)) = others.first() else { continue };
        let who = match who {
            Who::Team(team) => format!("team `{team}`"),
            Who::Agent(agent) => format!("agent `{agent}`"),
        };
        let more = match others.len() - 1 {
            0 => String::new(),
            n => format!(" (and {n} more overlap it)"),
        };
        let message = format!(
            "rules `{}` and `{}` take the same subjects from {who} and differ in {differences}{more}",
            other.name, rule.name
        );
        findings.push(
            Finding::error(Code::OverlappingRules, message, view.places.pattern(&rule.name), "this pattern")
                .also(view.places.pattern(&other.name), "overlaps this one")
                .warning()
                .help(format!(
                    "both are allowed, and the envelope names the one it uses: agents must publish with `--rule {}` \
                     or `--rule {}`; or let the patterns not overlap",
                    other.name, rule.name
                )),
        );
    }
}

/// In what the two answer differently.
fn differences(view: &View<'_>, a: &Rule, b: &Rule) -> Option<String> {
    let kind = |rule: &Rule| matches!(rule.kind, MessageKind::Request { .. });
    let mut found = Vec::new();
    if kind(a) != kind(b) {
        found.push("their kind".to_owned());
    }
    if a.labels != b.labels {
        let range = |rule: &Rule| {
            let (low, high) = (view.show(rule.labels.low), view.show(rule.labels.high));
            if low == high { low } else { format!("{low} to {high}") }
        };
        found.push(format!("their labels ({} and {})", range(b), range(a)));
    } else if a.default_label != b.default_label {
        found.push("their default label".to_owned());
    }
    if a.rate != b.rate {
        found.push("their rate".to_owned());
    }
    if a.max_bytes != b.max_bytes {
        found.push("their size limit".to_owned());
    }
    (!found.is_empty()).then(|| found.join(", "))
}

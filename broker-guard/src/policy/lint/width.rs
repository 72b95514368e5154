//! Patterns that reach further than their author may have meant.

use sealbus_envelope::policy::{Party, Rule, Who};

use super::{
    super::{
        diagnostic::{Code, Finding, Findings},
        trie::SubjectTrie,
    },
    View,
};

pub(super) fn lint(view: &View<'_>, findings: &mut Findings) {
    let mut all: SubjectTrie<&Rule> = SubjectTrie::new();
    for rule in view.rules() {
        all.insert(rule.pattern.as_str(), rule);
    }
    for rule in view.rules() {
        let pattern = rule.pattern.as_str();
        if is_everything(pattern) {
            let message = format!("rule `{}` takes every subject of its shape: `{pattern}`", rule.name);
            findings.push(
                Finding::error(Code::WidePattern, message, view.places.pattern(&rule.name), "no word in it")
                    .warning()
                    .help(format!("begin with a word of its own, such as `{}.>`", rule.name)),
            );
            continue;
        }
        let mut covered: Vec<&Rule> = Vec::new();
        all.overlapping(pattern, |other| {
            let below = rule.pattern.covers(&other.pattern) && other.pattern != rule.pattern;
            if below && !shares(&rule.publishers, &other.publishers) {
                covered.push(*other);
            }
        });
        covered.sort_by_key(|other| view.places.rule(&other.name).start);
        let Some(other) = covered.first() else { continue };
        let more = match covered.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let message = format!(
            "rule `{}` lets {} publish on all of `{}`, which rule `{}`{more} gives to {}",
            rule.name,
            parties(&rule.publishers),
            other.pattern.as_str(),
            other.name,
            parties(&other.publishers),
        );
        findings.push(
            Finding::error(Code::WidePattern, message, view.places.pattern(&rule.name), "reaches over")
                .also(view.places.pattern(&other.name), "this one")
                .warning()
                .help(
                    "if that is not meant, narrow the wider pattern; readers of one rule are not readers of the \
                     other, but people take a subject for one thing",
                ),
        );
    }
}

/// Whether a pattern has wildcards only.
pub(super) fn is_everything(pattern: &str) -> bool {
    pattern.split('.').all(|token| token == "*" || token == ">")
}

fn shares(ours: &[Party], theirs: &[Party]) -> bool {
    ours.iter().any(|party| theirs.iter().any(|other| other.who == party.who))
}

fn parties(parties: &[Party]) -> String {
    let names: Vec<_> = parties
        .iter()
        .take(3)
        .map(|party| match &party.who {
            Who::Team(team) => format!("`{team}`"),
            Who::Agent(agent) => format!("agent `{agent}`"),
        })
        .collect();
    let more = parties.len().saturating_sub(names.len());
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}

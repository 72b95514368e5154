//! Rules that carry nothing, and readers that get less than a rule carries.

use sealbus_envelope::policy::{Party, Rule, Who};

use super::{
    super::{
        diagnostic::{Code, Finding, Findings},
        flows::{between, is_alone},
    },
    View,
};

pub(super) fn lint(view: &View<'_>, findings: &mut Findings) {
    for rule in view.rules() {
        if !carries(view, rule) {
            let message = format!("nothing can flow under rule `{}`", rule.name);
            findings.push(
                Finding::error(
                    Code::UnreachableRule,
                    message,
                    view.places.rule(&rule.name),
                    "no publisher writes what a subscriber reads",
                )
                .warning()
                .help("name a publisher and a subscriber with a label in common, or remove the rule"),
            );
            continue;
        }
        for party in &rule.subscribers {
            lower_reader(view, rule, party, findings);
        }
    }
}

fn carries(view: &View<'_>, rule: &Rule) -> bool {
    rule.publishers.iter().any(|from| {
        let others = rule.subscribers.iter().filter(|to| !is_alone(from, to));
        others.into_iter().any(|to| between(view.trial, rule, from, to).is_some())
    })
}

/// Levels are delivered apart, so a lower reader gets the lower ones, and does not learn that there are others.
fn lower_reader(view: &View<'_>, rule: &Rule, party: &Party, findings: &mut Findings) {
    let Who::Team(team) = &party.who else { return };
    let cleared = view.trial.clearance_of(party).level;
    // What no publisher can write nobody misses.
    let written = rule.publishers.iter().map(|from| view.trial.clearance_of(from).level).max();
    let highest = written.map_or(rule.labels.high.level, |level| level.min(rule.labels.high.level));
    if cleared >= highest || cleared < rule.labels.low.level {
        return;
    }
    let message = format!(
        "team `{team}` gets rule `{}` up to `{}` only; it carries up to `{}`",
        rule.name,
        view.level(cleared),
        view.level(highest)
    );
    findings.push(
        Finding::error(
            Code::ReaderBelowRange,
            message,
            view.places.subscriber(&rule.name, team),
            format!("cleared to `{}`", view.level(cleared)),
        )
        .also(view.places.labels(&rule.name), "the labels it carries")
        .warning()
        .help(format!(
            "if that is not meant, lower `max` to `{}`, clear the team higher, or make two rules",
            view.level(cleared)
        )),
    );
}

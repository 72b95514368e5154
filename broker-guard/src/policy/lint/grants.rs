//! Flow grants that can never be used, that lift nothing, that are over, or that are wider than they need be.

use sealbus_envelope::{
    name::Name,
    policy::{FlowGrant, MessageKind, Rule, Team, Who},
    time::Millis,
};

use super::{
    super::{
        diagnostic::{Code, Finding, Findings},
        flows::{readable, writable},
        source::RawGrant,
    },
    View,
    width::is_everything,
};

/// A grant that lasts longer than this was hardly thought through.
const LONG: u64 = 366 * 24 * 3_600_000;

pub(super) fn lint(view: &View<'_>, findings: &mut Findings) {
    for grant in view.policy.grants.iter().map(|grant| &grant.record) {
        let Some(team) = view.trial.tables().team(grant.team.as_str()) else { continue };
        let one = One { view, grant, team };
        one.expiry(findings);
        one.width(findings);
        if grant.to_label.dominates(grant.from_label) {
            one.warn(
                findings,
                Code::GrantUseless,
                to_label,
                "dominates `from_label`",
                format!(
                    "flow grant `{}` lifts nothing: {} may follow {} without it",
                    grant.name,
                    view.show(grant.to_label),
                    view.show(grant.from_label)
                ),
                "lower `to_label`, or remove the grant",
            );
            continue;
        }
        one.from(findings);
        one.to(findings);
    }
}

struct One<'o> {
    view: &'o View<'o>,
    grant: &'o FlowGrant,
    team: &'o Team,
}

type Field = fn(&RawGrant) -> Option<std::ops::Range<usize>>;

fn to_label(raw: &RawGrant) -> Option<std::ops::Range<usize>> {
    raw.to_label.as_ref().map(|label| label.span.clone())
}
fn from_label(raw: &RawGrant) -> Option<std::ops::Range<usize>> {
    raw.from_label.as_ref().map(|label| label.span.clone())
}
fn from(raw: &RawGrant) -> Option<std::ops::Range<usize>> {
    raw.from.as_ref().map(|pattern| pattern.span.clone())
}
fn to(raw: &RawGrant) -> Option<std::ops::Range<usize>> {
    raw.to.as_ref().map(|pattern| pattern.span.clone())
}
fn expires(raw: &RawGrant) -> Option<std::ops::Range<usize>> {
    raw.expires.as_ref().map(|time| time.span.clone())
}

impl One<'_> {
    fn warn(
        &self,
        findings: &mut Findings,
        code: Code,
        field: Field,
        note: &str,
        message: String,
        help: impl Into<String>,
    ) {
        let span = self.view.places.grant_field(&self.grant.name, field);
        findings.push(Finding::error(code, message, span, note).warning().help(help));
    }

    fn expiry(&self, findings: &mut Findings) {
        let (name, ends, now) = (&self.grant.name, self.grant.expires, self.view.now);
        if now >= ends {
            let message = format!("flow grant `{name}` is over");
            self.warn(findings, Code::GrantExpired, expires, "in the past", message, "renew it or remove it");
        } else if ends.since(now) > LONG {
            let days = Millis(ends.since(now)).seconds() / 86_400;
            let message = format!("flow grant `{name}` is for {days} more days");
            let help = "let it end within a year, so that somebody asks whether it is still needed";
            self.warn(findings, Code::GrantLong, expires, "far away", message, help);
        }
    }

    fn width(&self, findings: &mut Findings) {
        let name = &self.grant.name;
        for (pattern, field, key) in [(&self.grant.from, from as Field, "from"), (&self.grant.to, to, "to")] {
            if is_everything(pattern.as_str()) {
                let message = format!("`{key}` of flow grant `{name}` is every subject of its shape");
                let help = "name the subjects that it is for: an exception is narrow";
                self.warn(findings, Code::GrantWide, field, "no word in it", message, help);
            }
        }
    }

    /// What it lifts must be something that the team reads.
    fn from(&self, findings: &mut Findings) {
        let (name, team) = (&self.grant.name, &self.team.name);
        let reads = |rule: &Rule| names(rule, team, false) || (is_request(rule) && names(rule, team, true));
        let mut overlaps = false;
        let mut covered = Vec::new();
        for rule in self.view.rules() {
            overlaps |= self.grant.from.overlaps(&rule.pattern);
            covered.extend(self.grant.from.covers(&rule.pattern).then_some(rule));
        }
        if covered.is_empty() {
            let (message, help) = if overlaps {
                (
                    format!("flow grant `{name}` covers the whole pattern of no rule, so it lifts nothing"),
                    "what was read is known by rule: let `from` cover a rule's pattern",
                )
            } else {
                (format!("`from` of flow grant `{name}` is no rule's subject"), "name the subjects of a rule")
            };
            return self.warn(findings, Code::GrantUseless, from, "covers no rule", message, help);
        }
        covered.retain(|rule| reads(rule));
        if covered.is_empty() {
            let message = format!("team `{team}` reads nothing that flow grant `{name}` lifts");
            let help = "name subjects that the team subscribes to, or the team that does";
            return self.warn(findings, Code::GrantUseless, from, "not read by the team", message, help);
        }
        let lifted = |rule: &&Rule| {
            let read = readable(rule.labels, self.team.clearance);
            read.is_some_and(|range| self.grant.from_label.dominates(range.low))
        };
        if !covered.iter().any(lifted) {
            let message = format!(
                "flow grant `{name}` lifts up to {}, below all that team `{team}` reads there",
                self.view.show(self.grant.from_label)
            );
            let help = "raise `from_label` to what the rule carries; its integrity must be as low too";
            self.warn(findings, Code::GrantUseless, from_label, "too low", message, help);
        }
        if !self.team.clearance.covers(self.grant.from_label) {
            let message = format!(
                "flow grant `{name}` lifts more than team `{team}` may read: {}",
                self.view.show(self.grant.from_label)
            );
            let help = "lower `from_label` to the team's clearance";
            self.warn(findings, Code::GrantWide, from_label, "above the team's clearance", message, help);
        }
    }

    /// What it gives must be something that the team publishes.
    fn to(&self, findings: &mut Findings) {
        let (name, team) = (&self.grant.name, &self.team.name);
        let mut published: Vec<&Rule> =
            self.view.rules().filter(|rule| self.grant.to.overlaps(&rule.pattern)).collect();
        published.retain(|rule| names(rule, team, true) || (is_request(rule) && names(rule, team, false)));
        if published.is_empty() {
            let message = format!("team `{team}` publishes on no subject of flow grant `{name}`");
            let help = "name subjects of a rule that the team publishes under";
            return self.warn(findings, Code::GrantUseless, to, "not published by the team", message, help);
        }
        let fits = |rule: &&Rule| {
            let range = writable(rule.labels, self.team.clearance, self.team.integrity_ceiling);
            range.is_some_and(|range| range.high.dominates(self.grant.to_label))
        };
        if !published.iter().any(fits) {
            let message = format!(
                "team `{team}` can label nothing there as flow grant `{name}` asks: {} or above",
                self.view.show(self.grant.to_label)
            );
            let help = "let `to_label` be one that the rule accepts and the team is cleared for";
            self.warn(findings, Code::GrantUseless, to_label, "outside", message, help);
        }
    }
}

fn is_request(rule: &Rule) -> bool {
    matches!(rule.kind, MessageKind::Request { .. })
}

/// Whether a side of the rule names the team, or agents that may be of the team.
fn names(rule: &Rule, team: &Name, publishes: bool) -> bool {
    let parties = if publishes { &rule.publishers } else { &rule.subscribers };
    parties.iter().any(|party| match &party.who {
        Who::Team(named) => named == team,
        Who::Agent(_) => true,
    })
}

//! What is allowed and perhaps not meant: rules that answer differently, patterns that reach too far, grants
//! that lift nothing, flows that leak through two allowed steps.
//!
//! Everything here is a warning but for what could never work. Looks at a policy that [`check`](super::check)
//! accepted, and compiles it as the guard would.

mod grants;
mod held;
mod leaks;
mod overlap;
mod permissions;
mod reach;
mod width;

use std::{collections::HashMap, ops::Range};

use sealbus_envelope::{label::Label, name::Name, policy::Rule, time::Millis};

use super::{
    diagnostic::Findings,
    model::Policy,
    source::{RawGrant, RawPolicy, RawRule, RawTeam},
    trial::Trial,
};

/// Reports what the author of `policy` should look at. `now` tells what has expired.
pub(super) fn lint(policy: &Policy, raw: &RawPolicy, now: Millis, findings: &mut Findings) {
    // A policy that was checked compiles; one that does not is for signing to refuse.
    let Ok(trial) = Trial::of_policy(policy) else { return };
    let places = Places::new(raw);
    let view = View { policy, trial: &trial, places: &places, now };
    overlap::lint(&view, findings);
    reach::lint(&view, findings);
    width::lint(&view, findings);
    grants::lint(&view, findings);
    held::lint(&view, findings);
    leaks::lint(&view, findings);
    permissions::lint(&view, findings);
}

/// What every analysis looks at.
struct View<'v> {
    policy: &'v Policy,
    trial: &'v Trial,
    places: &'v Places<'v>,
    now: Millis,
}

impl View<'_> {
    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.policy.rules.iter().map(|rule| &rule.record)
    }

    fn show(&self, label: Label) -> String {
        self.trial.tables().show(label)
    }

    fn level(&self, level: sealbus_envelope::label::Level) -> &str {
        self.policy.levels.get(usize::from(level.number())).map_or("?", Name::as_str)
    }
}

/// Where things stand in the file.
struct Places<'r> {
    raw: &'r RawPolicy,
    rules: HashMap<&'r str, (&'r Range<usize>, &'r RawRule)>,
    teams: HashMap<&'r str, (&'r Range<usize>, &'r RawTeam)>,
    grants: HashMap<&'r str, (&'r Range<usize>, &'r RawGrant)>,
}

impl<'r> Places<'r> {
    fn new(raw: &'r RawPolicy) -> Self {
        Self {
            raw,
            rules: raw.rules.iter().map(|(name, rule)| (name.value.as_str(), (&name.span, rule))).collect(),
            teams: raw.teams.iter().map(|(name, team)| (name.value.as_str(), (&name.span, team))).collect(),
            grants: raw.grants.iter().map(|(name, one)| (name.value.as_str(), (&name.span, one))).collect(),
        }
    }

    fn rule(&self, name: &Name) -> Range<usize> {
        self.rules.get(name.as_str()).map_or(0..0, |(span, _)| (*span).clone())
    }

    fn pattern(&self, rule: &Name) -> Range<usize> {
        let raw = self.rules.get(rule.as_str()).and_then(|(_, raw)| raw.pattern.as_ref());
        raw.map_or_else(|| self.rule(rule), |pattern| pattern.span.clone())
    }

    /// Whether the file gives the rule a rate, or leaves it the default.
    fn has_rate(&self, rule: &Name) -> bool {
        self.rules.get(rule.as_str()).is_some_and(|(_, raw)| raw.rate.is_some())
    }

    fn labels(&self, rule: &Name) -> Range<usize> {
        let raw = self.rules.get(rule.as_str()).and_then(|(_, raw)| raw.labels.as_ref());
        raw.map_or_else(|| self.rule(rule), |labels| labels.span.clone())
    }

    /// A party in a rule's list of subscribers.
    fn subscriber(&self, rule: &Name, party: &Name) -> Range<usize> {
        let raw = self.rules.get(rule.as_str()).and_then(|(_, raw)| raw.subscribers.as_ref());
        let named = raw.and_then(|list| list.value.iter().find(|one| one.name.value == party.as_str()));
        named.map_or_else(|| self.rule(rule), |party| party.name.span.clone())
    }

    fn team(&self, name: &Name) -> Range<usize> {
        self.teams.get(name.as_str()).map_or(0..0, |(span, _)| (*span).clone())
    }

    fn taint(&self, team: &Name) -> Range<usize> {
        let raw = self.teams.get(team.as_str()).and_then(|(_, raw)| raw.taint.as_ref());
        raw.map_or_else(|| self.team(team), |taint| taint.span.clone())
    }

    fn grant(&self, name: &Name) -> Range<usize> {
        self.grants.get(name.as_str()).map_or(0..0, |(span, _)| (*span).clone())
    }

    /// A field of a grant.
    fn grant_field(&self, name: &Name, field: impl Fn(&RawGrant) -> Option<Range<usize>>) -> Range<usize> {
        let raw = self.grants.get(name.as_str()).and_then(|(_, raw)| field(raw));
        raw.unwrap_or_else(|| self.grant(name))
    }
}

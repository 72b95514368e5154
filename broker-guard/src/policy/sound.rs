//! Whether the resolved parts of a policy can work together: clearances against zones and rules, and
//! the patterns one team reads against what a NATS permission list can say.

use std::collections::{HashMap, HashSet};

use sealbus_envelope::label::{Clearance, Compartments, Label, LabelRange, Level};
use sealbus_envelope::name::Name;
use sealbus_envelope::policy::{MessageKind, Rule, Team, Who};

use super::diagnostic::{Code, Finding, Findings};
use super::model::Policy;
use super::source::{At, RawParty, RawPolicy, RawRule};
use super::trie::SubjectTrie;

/// Reports what cannot work. Looks only at what could be resolved.
pub(crate) fn check(policy: &Policy, raw: &RawPolicy, findings: &mut Findings) {
    let teams: HashMap<&str, &Team> =
        policy.teams.iter().map(|team| (team.record.name.as_str(), &team.record)).collect();
    let raw_rules: HashMap<&str, &RawRule> =
        raw.rules.iter().map(|(name, rule)| (name.value.as_str(), rule)).collect();
    zones(policy, raw, findings);
    for rule in policy.rules.iter().map(|rule| &rule.record) {
        if let Some(raw) = raw_rules.get(rule.name.as_str()) {
            Parties { policy, teams: &teams, rule, findings }.check(raw);
        }
    }
    held_requests(policy, raw, &raw_rules, findings);
    delivery(policy, &teams, &raw_rules, findings);
    // Where a name is misspelt the right one is unused: no news.
    if !findings.has_errors() {
        unused(policy, raw, findings);
    }
}

fn zones(policy: &Policy, raw: &RawPolicy, findings: &mut Findings) {
    for team in &policy.teams {
        let named = |name: &Name| policy.zones.iter().find(|zone| zone.name == *name);
        let Some(zone) = team.record.zone.as_ref().and_then(named) else { continue };
        let team = &team.record;
        if zone.ceiling.meet(team.clearance) == team.clearance {
            continue;
        }
        let message = format!("team `{}` is cleared higher than its zone `{}`", team.name, zone.name);
        let place = raw.teams.iter().find(|(name, _)| name.value == team.name.as_str());
        let clearance = place.and_then(|(_, team)| team.clearance.as_ref()).map_or(0..0, |c| c.span.clone());
        let mut finding =
            Finding::error(Code::AboveZoneCeiling, message, clearance, "more than the zone holds");
        let ceiling = raw.zones.iter().find(|(name, _)| name.value == zone.name.as_str());
        if let Some(ceiling) = ceiling.and_then(|(_, zone)| zone.ceiling.as_ref()) {
            finding = finding.also(ceiling.span.clone(), "the zone's ceiling");
        }
        findings.push(finding.help("lower the team's clearance, or move the team to another zone"));
    }
}

/// What is asked, and what is answered, cannot wait for people: a flow grant that wants their approval would only ever
/// be denied there.
fn held_requests(
    policy: &Policy,
    raw: &RawPolicy,
    raw_rules: &HashMap<&str, &RawRule>,
    findings: &mut Findings,
) {
    let requests: Vec<&Rule> = policy
        .rules
        .iter()
        .map(|rule| &rule.record)
        .filter(|rule| matches!(rule.kind, MessageKind::Request { .. }))
        .collect();
    for grant in policy.grants.iter().map(|grant| &grant.record).filter(|grant| grant.approval.is_some()) {
        let sends = |rule: &&Rule| {
            let mut parties = rule.publishers.iter().chain(&rule.subscribers);
            grant.to.overlaps(&rule.pattern)
                && parties.any(|party| party.who == Who::Team(grant.team.clone()))
        };
        let Some(rule) = requests.iter().copied().find(sends) else { continue };
        let place = raw.grants.iter().find(|(name, _)| name.value == grant.name.as_str());
        let approval =
            place.and_then(|(_, grant)| grant.approval.as_ref()).map_or(0..0, |one| one.span.clone());
        let message = format!(
            "flow grant `{}` waits for approval, and reaches the request rule `{}`",
            grant.name, rule.name
        );
        let mut finding =
            Finding::error(Code::Conflict, message, approval, "what is asked or answered cannot wait");
        if let Some(kind) = raw_rules.get(rule.name.as_str()).and_then(|rule| rule.kind.as_ref()) {
            finding = finding.also(kind.span.clone(), "a request rule");
        }
        let help = "let `to` name subjects of stream rules alone; for the request write a flow grant of its own, \
                    without `approval`";
        findings.push(finding.help(help));
    }
}

/// The teams of one rule against the labels it accepts.
struct Parties<'a> {
    policy: &'a Policy,
    teams: &'a HashMap<&'a str, &'a Team>,
    rule: &'a Rule,
    findings: &'a mut Findings,
}

impl Parties<'_> {
    fn check(mut self, raw: &RawRule) {
        let parties = |list: &Option<At<Vec<RawParty>>>| -> Vec<At<String>> {
            let all = list.iter().flat_map(|list| &list.value);
            all.filter(|party| !party.agent).map(|party| party.name.clone()).collect()
        };
        let (publishers, subscribers) = (parties(&raw.publishers), parties(&raw.subscribers));
        // In a request rule answers travel back under the same rule, so both sides read and write.
        let both = matches!(self.rule.kind, MessageKind::Request { .. });
        for (name, asks) in
            publishers.iter().map(|name| (name, true)).chain(subscribers.iter().map(|name| (name, false)))
        {
            let Some(team) = self.teams.get(name.value.as_str()).copied() else { continue };
            if asks || both {
                self.writes(team, name);
            }
            if !asks || both {
                self.reads(team, name);
            }
        }
    }

    fn writes(&mut self, team: &Team, place: &At<String>) {
        let LabelRange { low, high } = self.rule.labels;
        let lacking = self
            .lacks(team.clearance, low)
            .or_else(|| self.lacks_rank(team, high))
            .map(|lack| (format!("cannot write any label of rule `{}`", self.rule.name), lack))
            .or_else(|| {
                let default = self.rule.default_label;
                let lack = self.lacks(team.clearance, default).or_else(|| self.lacks_rank(team, default))?;
                Some((format!("cannot write the default label of rule `{}`", self.rule.name), lack))
            });
        if let Some((message, lack)) = lacking {
            self.findings.push(
                Finding::error(
                    Code::PublisherCannotWrite,
                    format!("team `{}` {message}", team.name),
                    place.span.clone(),
                    lack,
                )
                .help(
                    "raise the team's clearance or integrity, lower the rule's labels, or take the team out",
                ),
            );
        }
    }

    fn reads(&mut self, team: &Team, place: &At<String>) {
        let LabelRange { low, high } = self.rule.labels;
        // Levels are delivered on subjects of their own, so a lower reader gets the lower part.
        // Compartments are not: a reader without one would be sent what it has no key for.
        let need = Label { level: low.level, ..high };
        if let Some(lack) = self.lacks(team.clearance, need) {
            let message = format!("team `{}` cannot read what rule `{}` carries", team.name, self.rule.name);
            self.findings.push(
                Finding::error(Code::SubscriberCannotRead, message, place.span.clone(), lack)
                    .help("give the team the clearance, narrow the rule's labels, or take the team out"),
            );
        }
    }

    fn lacks(&self, clearance: Clearance, need: Label) -> Option<String> {
        if clearance.level < need.level {
            let name =
                |level: Level| self.policy.levels.get(usize::from(level.number())).map_or("?", Name::as_str);
            return Some(format!("cleared to `{}`, needs `{}`", name(clearance.level), name(need.level)));
        }
        let missing = need.compartments.bits() & !clearance.compartments.bits();
        let missing = self.compartment_names(Compartments::from_bits(missing));
        (!missing.is_empty()).then(|| format!("lacks compartment {missing}"))
    }

    fn lacks_rank(&self, team: &Team, need: Label) -> Option<String> {
        let name = |label: Label| {
            self.policy.integrity.get(usize::from(label.integrity.number())).map_or("?", Name::as_str)
        };
        let own = Label { integrity: team.integrity_ceiling, ..need };
        (team.integrity_ceiling < need.integrity)
            .then(|| format!("may claim `{}` at most, needs `{}`", name(own), name(need)))
    }

    fn compartment_names(&self, set: Compartments) -> String {
        let names = set.iter().filter_map(|n| self.policy.compartments.get(usize::from(n)));
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }
}

/// What one team reads under one rule.
#[derive(Clone, Copy)]
struct Reading<'p> {
    rule: &'p Rule,
    queue: bool,
    /// Highest level delivered to the team.
    top: Level,
}

/// Rejects what a NATS permission list cannot say.
///
/// - A grant without a queue group needs a deny of every queue group on its pattern, or its holder could
///   join another team's group and steal its share; that deny would also forbid the team its own group
///   on an overlapping pattern.
/// - nats-server takes `a.>` for allowed where `a.*` is granted (it matches the wildcard asked for as
///   text), so `a.*` needs a deny of `a.*.>`, which would also forbid the team a rule below that.
fn delivery(
    policy: &Policy,
    teams: &HashMap<&str, &Team>,
    raw: &HashMap<&str, &RawRule>,
    findings: &mut Findings,
) {
    let mut readings: HashMap<&str, Vec<Reading<'_>>> = HashMap::new();
    for rule in policy.rules.iter().map(|rule| &rule.record).filter(|rule| rule.kind == MessageKind::Stream) {
        for party in &rule.subscribers {
            // An agent named by itself has a team nobody knows here; its permissions are checked for the
            // same clashes when they are made.
            let Who::Team(name) = &party.who else { continue };
            let Some(team) = teams.get(name.as_str()) else { continue };
            readings.entry(name.as_str()).or_default().push(Reading {
                rule,
                queue: party.queue.is_some(),
                top: team.clearance.level.min(rule.labels.high.level),
            });
        }
    }
    for team in policy.teams.iter().map(|team| &team.record) {
        let Some(readings) = readings.get(team.name.as_str()) else { continue };
        let mut queued = SubjectTrie::new();
        let mut deep = SubjectTrie::new();
        for &reading in readings {
            let pattern = reading.rule.pattern.as_str();
            deep.insert(pattern, reading);
            if reading.queue {
                queued.insert(pattern, reading);
            }
        }
        for &reading in readings {
            let pattern = reading.rule.pattern.as_str();
            let mut clash = None;
            if !reading.queue {
                queued.overlapping(pattern, |other| {
                    clash = clash.or(meets(reading, *other).then_some((other.rule, QUEUE)));
                });
            }
            if pattern == "*" || pattern.ends_with(".*") {
                deep.overlapping(&format!("{pattern}.>"), |other| {
                    clash = clash.or(meets(reading, *other).then_some((other.rule, STAR)));
                });
            }
            if let Some((other, (message, help))) = clash {
                let place = |rule: &Rule| {
                    let raw = raw.get(rule.name.as_str());
                    raw.and_then(|raw| raw.pattern.as_ref()).map_or(0..0, |pattern| pattern.span.clone())
                };
                let message = format!(
                    "team `{}` reads rules `{}` and `{}`, {message}",
                    team.name, reading.rule.name, other.name
                );
                findings.push(
                    Finding::error(Code::Conflict, message, place(reading.rule), "this pattern")
                        .also(place(other), "overlaps this one")
                        .help(help),
                );
            }
        }
    }
}

const QUEUE: (&str, &str) = (
    "one with a queue group and one without, on overlapping subjects",
    "NATS could not keep the team out of other queue groups: name the queue group in both, or in neither",
);
const STAR: (&str, &str) = (
    "where the pattern of one ends in `*` and the other lies below it",
    "NATS permissions cannot hold the two apart: end the first pattern in `>`, or name its last token",
);

/// Whether two readings are delivered on a common level.
fn meets(a: Reading<'_>, b: Reading<'_>) -> bool {
    let (low_a, low_b) = (a.rule.labels.low.level, b.rule.labels.low.level);
    !std::ptr::eq(a.rule, b.rule) && low_a <= b.top && low_b <= a.top
}

fn unused(policy: &Policy, raw: &RawPolicy, findings: &mut Findings) {
    let parties = |rule: &RawRule| -> Vec<String> {
        let lists = [&rule.publishers, &rule.subscribers];
        lists
            .into_iter()
            .flatten()
            .flat_map(|list| &list.value)
            .map(|party| party.name.value.clone())
            .collect()
    };
    let used: HashSet<String> = raw.rules.iter().flat_map(|(_, rule)| parties(rule)).collect();
    for (name, _) in raw.teams.iter().filter(|(name, _)| !used.contains(&name.value)) {
        let message = format!("team `{}` is in no rule", name.value);
        findings.push(
            Finding::error(Code::Unused, message, name.span.clone(), "may neither publish nor subscribe")
                .warning()
                .help("name it in a rule, or remove it"),
        );
    }
    let used: HashSet<&str> =
        policy.teams.iter().filter_map(|t| t.record.zone.as_ref()).map(Name::as_str).collect();
    for (name, _) in raw.zones.iter().filter(|(name, _)| !used.contains(name.value.as_str())) {
        let message = format!("zone `{}` has no team", name.value);
        findings.push(
            Finding::error(Code::Unused, message, name.span.clone(), "limits nobody")
                .warning()
                .help("put a team in it with `zone = \"NAME\"`, or remove it"),
        );
    }
}

//! [`RawPolicy`] to [`Policy`]: names resolved to numbers, numbers kept in range.
//!
//! Whatever cannot be resolved is reported and left out, so that one pass finds every fault; the result
//! counts only if nothing was reported. Keys that are missing were reported by the parser.

mod grant;
mod oversight;
mod zone;

use std::collections::HashSet;

use sealbus_envelope::identity::PublicKey;
use sealbus_envelope::label::{Clearance, Compartments, Integrity, Label, LabelRange, Level};
use sealbus_envelope::name::Name;
use sealbus_envelope::policy as record;
use sealbus_envelope::policy::{
    MAX_GRANTS, MAX_PARTIES, MAX_RULES, MAX_ZONES, MessageKind, Oversight, Party, Rate, TaintScope, Who,
};
use sealbus_envelope::subject::Pattern;

use super::diagnostic::{Code, Finding, Findings};
use super::enforced;
use super::model::{
    DEFAULT_DEADLINE, DEFAULT_FRESHNESS, DEFAULT_MAX_BYTES, DEFAULT_MAX_READERS, DEFAULT_RATE, HOUR_MS,
    MAX_APPROVER_LISTS, MAX_BYTES, MAX_RATE, MAX_READERS, MAX_TEAMS, Policy, Rule, Team,
};
use super::names::{Table, checked_name};
use super::source::{
    At, Names, RawClearance, RawLabel, RawParty, RawPolicy, RawRange, RawRate, RawRule, RawSpan, RawTeam,
};

/// Resolves `raw`. The result is complete only if `findings` has no error afterwards.
pub(crate) fn validate(raw: &RawPolicy, findings: &mut Findings) -> Policy {
    let mut resolver = Resolver {
        levels: Table::new("level", Code::UnknownLevel),
        compartments: Table::new("compartment", Code::UnknownCompartment),
        integrity: Table::new("integrity rank", Code::UnknownIntegrity),
        zones: Table::new("zone", Code::UnknownZone),
        teams: Table::new("team", Code::UnknownTeam),
        rules: Table::new("rule", Code::UnknownRule),
        grants: Table::new("flow grant", Code::UnknownGrant),
        approver_lists: Table::new("list of approvers", Code::UnknownApprovers),
        people: Vec::new(),
        directed_teams: directed_teams(raw),
        findings,
    };
    resolver.declare(raw);
    let lists: Vec<_> = raw.approvers.iter().map(|(name, list)| resolver.approvers(name, list)).collect();
    resolver.people =
        lists.into_iter().map(|list| list.map(|(_, people)| people).unwrap_or_default()).collect();
    let supervision = resolver.supervision(raw);
    let zones = raw.zones.iter().filter_map(|(name, zone)| resolver.zone(name, zone)).collect();
    let teams = raw.teams.iter().filter_map(|(name, team)| resolver.team(name, team)).collect();
    let rules = raw.rules.iter().filter_map(|(name, rule)| resolver.rule(name, rule)).collect();
    let grants = raw.grants.iter().filter_map(|(name, grant)| resolver.grant(name, grant)).collect();
    let freshness = raw.freshness.as_ref().and_then(|time| resolver.duration("freshness", time));
    let readers = raw.max_readers.as_ref().and_then(|n| resolver.number("max_readers", n, MAX_READERS));
    Policy {
        freshness_ms: freshness.unwrap_or(DEFAULT_FRESHNESS),
        max_readers: readers.unwrap_or(DEFAULT_MAX_READERS),
        levels: resolver.levels.names,
        compartments: resolver.compartments.names,
        integrity: resolver.integrity.names,
        zones,
        teams,
        rules,
        grants,
        observe: on(raw.observe.as_ref()),
        supervision,
    }
}

/// By the words alone: whether they are right is found with the teams.
fn directed_teams(raw: &RawPolicy) -> HashSet<String> {
    let directed =
        |team: &RawTeam| team.oversight.as_ref().is_some_and(|mode| mode.value == Oversight::Directed.code());
    raw.teams.iter().filter(|(_, team)| directed(team)).map(|(name, _)| name.value.clone()).collect()
}

fn on(switch: Option<&At<bool>>) -> bool {
    switch.is_some_and(|switch| switch.value)
}

struct Resolver<'f> {
    levels: Table,
    compartments: Table,
    integrity: Table,
    zones: Table,
    teams: Table,
    rules: Table,
    grants: Table,
    approver_lists: Table,
    /// Who stands on each list of approvers, in their order.
    people: Vec<Vec<(Name, PublicKey)>>,
    directed_teams: HashSet<String>,
    findings: &'f mut Findings,
}

impl Resolver<'_> {
    fn declare(&mut self, raw: &RawPolicy) {
        for (table, names, most) in [
            (&mut self.levels, &raw.levels, usize::from(Level::COUNT)),
            (&mut self.compartments, &raw.compartments, usize::from(Compartments::COUNT)),
            (&mut self.integrity, &raw.integrity, usize::from(Integrity::COUNT)),
        ] {
            let optional = table.unknown == Code::UnknownCompartment;
            let Some(names) = names else {
                table.faulty = !optional;
                continue;
            };
            if names.value.is_empty() && !optional {
                table.faulty = true;
                let message = format!("the policy declares no {}", table.what);
                self.findings.push(
                    Finding::error(Code::EmptyList, message, names.span.clone(), "nothing here")
                        .help("name at least one"),
                );
            }
            table.declare(names.value.iter(), most, self.findings);
        }
        self.zones.declare(raw.zones.iter().map(|(name, _)| name), MAX_ZONES, self.findings);
        self.teams.declare(raw.teams.iter().map(|(name, _)| name), MAX_TEAMS, self.findings);
        self.rules.declare(raw.rules.iter().map(|(name, _)| name), MAX_RULES, self.findings);
        self.grants.declare(raw.grants.iter().map(|(name, _)| name), MAX_GRANTS, self.findings);
        let lists = raw.approvers.iter().map(|(name, _)| name);
        self.approver_lists.declare(lists, MAX_APPROVER_LISTS, self.findings);
    }

    fn level(&mut self, name: &At<String>) -> Option<Level> {
        Level::new(self.levels.number(name, self.findings)?).ok()
    }

    fn rank(&mut self, name: &At<String>) -> Option<Integrity> {
        Integrity::new(self.integrity.number(name, self.findings)?).ok()
    }

    fn compartments(&mut self, names: Option<&Names>) -> Option<Compartments> {
        let Some(names) = names else { return Some(Compartments::EMPTY) };
        let mut all = Some(Compartments::EMPTY);
        for (n, name) in names.value.iter().enumerate() {
            self.once(names.value.iter().take(n), name);
            let one =
                self.compartments.number(name, self.findings).and_then(|n| Compartments::single(n).ok());
            all = all.zip(one).map(|(all, one)| all.union(one));
        }
        all
    }

    /// Reports `name` if an earlier item of its list says the same.
    fn once<'r>(&mut self, earlier: impl IntoIterator<Item = &'r At<String>>, name: &At<String>) {
        if let Some(first) = earlier.into_iter().find(|earlier| earlier.value == name.value) {
            let message = format!("`{}` is listed twice", name.value);
            self.findings.push(
                Finding::error(Code::Duplicate, message, name.span.clone(), "again here")
                    .also(first.span.clone(), "first here")
                    .help("remove one of the two"),
            );
        }
    }

    fn clearance(&mut self, raw: Option<&RawClearance>) -> Option<Clearance> {
        let raw = raw?;
        let level = raw.level.as_ref().and_then(|name| self.level(name));
        let compartments = self.compartments(raw.compartments.as_ref());
        Some(Clearance { level: level?, compartments: compartments? })
    }

    fn label(&mut self, raw: Option<&RawLabel>, integrity: Integrity) -> Option<Label> {
        let raw = raw?;
        let level = raw.level.as_ref().and_then(|name| self.level(name));
        let compartments = self.compartments(raw.compartments.as_ref());
        let integrity = match &raw.integrity {
            Some(name) => self.rank(name),
            None => Some(integrity),
        };
        Some(Label::new(level?, compartments?, integrity?))
    }

    fn team(&mut self, name: &At<String>, raw: &RawTeam) -> Option<Team> {
        enforced::team(raw, self.findings);
        let clearance = self.clearance(raw.clearance.as_ref());
        let integrity = match &raw.integrity {
            Some(name) => self.rank(name),
            None => Some(Integrity::LOWEST),
        };
        let zone = match &raw.zone {
            Some(zone) => self.zones.number(zone, self.findings).and_then(|_| Name::parse(&zone.value).ok()),
            None => None,
        };
        let oversight = self.oversight(raw.oversight.as_ref());
        let choices = [("agent", TaintScope::Agent), ("session", TaintScope::Session)];
        let taint = self.choice("taint", raw.taint.as_ref(), choices);
        let quorum = raw.quorum.as_ref().and_then(|n| self.number("quorum", n, 255));
        let name = Name::parse(&name.value).ok()?;
        Some(Team {
            record: record::Team {
                name,
                clearance: clearance?,
                integrity_ceiling: integrity?,
                zone,
                taint: taint.unwrap_or_default(),
                observe: on(raw.observe.as_ref()),
                oversight,
            },
            quorum: quorum.and_then(|n| u8::try_from(n).ok()),
        })
    }

    fn rule(&mut self, name: &At<String>, raw: &RawRule) -> Option<Rule> {
        enforced::rule(raw, self.findings);
        let pattern = raw.pattern.as_ref().and_then(|pattern| self.pattern(pattern));
        let publishers = raw.publishers.as_ref().and_then(|list| self.publishers(list));
        let kind = self.kind(raw);
        let subscribers = raw.subscribers.as_ref().and_then(|list| self.subscribers(list, kind));
        let labels = raw.labels.as_ref().and_then(|labels| self.range(labels));
        let default = labels.and_then(|labels| self.default_label(raw, labels));
        let rate = self.rate(raw.rate.as_ref());
        let max_bytes = match &raw.max_bytes {
            Some(n) => self.number("max_bytes", n, MAX_BYTES),
            None => Some(DEFAULT_MAX_BYTES),
        };
        let fan_in = raw.fan_in.as_ref().map(|n| self.number("fan_in", n, MAX_READERS));
        let oversight = self.oversight(raw.oversight.as_ref());
        self.tight_limits(name, raw);
        let hold = self.hold(raw.hold.as_ref());
        if let Some(raw) = raw.hold.as_ref().filter(|_| matches!(kind, Some(MessageKind::Request { .. }))) {
            let message = "what is asked cannot wait for approval";
            self.findings.push(
                Finding::error(Code::Conflict, message, raw.span.clone(), "in a request rule").help(
                    "a request is answered within its deadline; hold a stream rule, or approve before asking",
                ),
            );
        }
        if let Some(evidence) = &raw.evidence {
            self.teams.number(evidence, self.findings);
        }
        Some(Rule {
            record: record::Rule {
                name: Name::parse(&name.value).ok()?,
                pattern: pattern?,
                kind: kind?,
                publishers: publishers?,
                subscribers: subscribers?,
                labels: labels?,
                default_label: default?,
                max_bytes: max_bytes?,
                rate: Some(rate?),
                fan_in: fan_in.map_or(Some(None), |n| n.map(Some))?,
                observe: on(raw.observe.as_ref()),
                hold: hold?,
                oversight,
            },
            durable: raw.durable.as_ref().is_some_and(|on| on.value),
            evidence: raw.evidence.as_ref().and_then(|team| Name::parse(&team.value).ok()),
        })
    }

    fn pattern(&mut self, raw: &At<String>) -> Option<Pattern> {
        let pattern = Pattern::parse(&raw.value).ok();
        if pattern.is_none() {
            let message = format!("`{}` is not a subject pattern", raw.value);
            self.findings
                .push(Finding::error(Code::InvalidPattern, message, raw.span.clone(), "not a pattern").help(
                "1 to 16 tokens divided by dots, 200 bytes at most; `*` stands for one token, `>` at the end \
                     for one or more, and each stands alone in its token; no `$`",
            ));
        }
        pattern
    }

    fn publishers(&mut self, list: &At<Vec<RawParty>>) -> Option<Vec<Party>> {
        for queue in list.value.iter().filter_map(|party| party.queue.as_ref()) {
            let message = "publishers have no queue group";
            self.findings.push(
                Finding::error(Code::Conflict, message, queue.span.clone(), "only subscribers have one")
                    .help("write the team's name alone"),
            );
        }
        self.parties("publishers", list)
    }

    fn subscribers(&mut self, list: &At<Vec<RawParty>>, kind: Option<MessageKind>) -> Option<Vec<Party>> {
        let request = matches!(kind, Some(MessageKind::Request { .. }));
        for queue in list.value.iter().filter(|_| request).filter_map(|party| party.queue.as_ref()) {
            let message = "a request rule has no queue groups";
            self.findings.push(
                Finding::error(Code::Conflict, message, queue.span.clone(), "a queue group").help(
                    "the guard already picks one responder for each request; write the team's name alone",
                ),
            );
        }
        self.parties("subscribers", list)
    }

    fn parties(&mut self, key: &str, list: &At<Vec<RawParty>>) -> Option<Vec<Party>> {
        if list.value.is_empty() {
            let message = format!("`{key}` is empty");
            self.findings
                .push(Finding::error(Code::EmptyList, message, list.span.clone(), "no team here").help(
                    "name at least one team, or remove the rule: a rule nobody can use allows nothing",
                ));
            return None;
        }
        if list.value.len() > MAX_PARTIES {
            let message = format!("`{key}` names {} parties", list.value.len());
            self.findings.push(
                Finding::error(Code::TooMany, message, list.span.clone(), "too many")
                    .help(format!("a rule has at most {MAX_PARTIES} on each side; put agents into teams")),
            );
        }
        let mut parties = Some(Vec::with_capacity(list.value.len()));
        for (n, raw) in list.value.iter().enumerate() {
            let earlier = list.value.iter().take(n).filter(|earlier| earlier.agent == raw.agent);
            self.once(earlier.map(|party| &party.name), &raw.name);
            let party = self.party(raw);
            parties = parties.zip(party).map(|(mut parties, party)| {
                parties.push(party);
                parties
            });
        }
        parties
    }

    fn party(&mut self, raw: &RawParty) -> Option<Party> {
        let queue = match &raw.queue {
            Some(queue) => Some(checked_name("queue group", queue, self.findings)?),
            None => None,
        };
        // Agents are the issuer's to name, so only the form can be checked.
        let who = if raw.agent {
            Who::Agent(checked_name("agent", &raw.name, self.findings)?)
        } else {
            self.teams.number(&raw.name, self.findings)?;
            Who::Team(Name::parse(&raw.name.value).ok()?)
        };
        Some(Party { who, queue })
    }

    fn kind(&mut self, raw: &RawRule) -> Option<MessageKind> {
        let choices = [("stream", false), ("request", true)];
        let request = match &raw.kind {
            Some(_) => self.choice("kind", raw.kind.as_ref(), choices)?,
            None => false,
        };
        let deadline = match &raw.deadline {
            Some(deadline) => self.duration("deadline", deadline)?,
            None => DEFAULT_DEADLINE,
        };
        if request {
            return Some(MessageKind::Request { deadline_ms: deadline });
        }
        if let Some(deadline) = &raw.deadline {
            self.findings.push(
                Finding::error(
                    Code::Conflict,
                    "a stream rule has no `deadline`",
                    deadline.span.clone(),
                    "nothing is waited for",
                )
                .help("remove it, or write `kind = \"request\"`"),
            );
        }
        Some(MessageKind::Stream)
    }

    fn range(&mut self, raw: &RawRange) -> Option<LabelRange> {
        let ends = raw.level.as_ref().and_then(|span| {
            let (low, high) = (self.end(&span.min, Self::level), self.end(&span.max, Self::level));
            self.ordered(span, low?, high?)
        });
        let ranks = match &raw.integrity {
            Some(span) => {
                let (low, high) = (self.end(&span.min, Self::rank), self.end(&span.max, Self::rank));
                low.zip(high).and_then(|(low, high)| self.ordered(span, low, high))
            }
            None => {
                let most = self.integrity.numbers.len().saturating_sub(1);
                let most = u8::try_from(most).ok().and_then(|n| Integrity::new(n).ok());
                most.map(|most| (Integrity::LOWEST, most))
            }
        };
        let required = self.compartments(raw.required.as_ref());
        let allowed = self.compartments(raw.allowed.as_ref());
        let ((low, high), (least, most)) = (ends?, ranks?);
        let (required, allowed) = (required?, allowed?.union(required?));
        Some(LabelRange { low: Label::new(low, required, most), high: Label::new(high, allowed, least) })
    }

    fn end<T>(
        &mut self,
        name: &Option<At<String>>,
        resolve: impl Fn(&mut Self, &At<String>) -> Option<T>,
    ) -> Option<T> {
        name.as_ref().and_then(|name| resolve(self, name))
    }

    fn ordered<T: Ord>(&mut self, span: &RawSpan, low: T, high: T) -> Option<(T, T)> {
        if low <= high {
            return Some((low, high));
        }
        self.findings.push(
            Finding::error(
                Code::EmptyRange,
                "`min` is above `max`",
                span.span.clone(),
                "nothing lies between",
            )
            .help("exchange the two"),
        );
        None
    }

    /// The label of an envelope whose sender names none. Never guessed where there is a choice: a guess
    /// too low would disclose, one too high would lock readers out.
    fn default_label(&mut self, raw: &RawRule, range: LabelRange) -> Option<Label> {
        if raw.default.is_some() {
            let label = self.label(raw.default.as_ref(), range.high.integrity)?;
            if !range.contains(label) {
                let mut finding = Finding::error(
                    Code::DefaultOutsideRange,
                    "the default label is not one the rule accepts",
                    raw.default.as_ref().map_or(0..0, |label| label.span.clone()),
                    "outside the range",
                );
                if let Some(labels) = &raw.labels {
                    finding = finding.also(labels.span.clone(), "the labels accepted");
                }
                self.findings.push(finding.help("change the default or widen `labels`"));
                return None;
            }
            return Some(label);
        }
        if range.low.level == range.high.level && range.low.compartments == range.high.compartments {
            return Some(Label { integrity: range.high.integrity, ..range.low });
        }
        self.findings.push(
            Finding::error(
                Code::DefaultMissing,
                "the rule accepts several labels and names no `default`",
                raw.labels.as_ref().map_or(0..0, |labels| labels.span.clone()),
                "several labels",
            )
            .help("say which label an envelope gets if its sender names none: `default = { level = \"NAME\", compartments = [] }`"),
        );
        None
    }

    fn rate(&mut self, raw: Option<&RawRate>) -> Option<Rate> {
        let Some(raw) = raw else { return Some(DEFAULT_RATE) };
        let per_second = raw.per_second.as_ref().and_then(|n| self.number("per_second", n, MAX_RATE));
        let burst = match &raw.burst {
            Some(n) => self.number("burst", n, MAX_RATE),
            None => per_second,
        };
        Some(Rate { per_second: per_second?, burst: burst? })
    }

    fn choice<T: Copy, const N: usize>(
        &mut self,
        key: &str,
        written: Option<&At<String>>,
        choices: [(&'static str, T); N],
    ) -> Option<T> {
        let written = written?;
        let found = choices.iter().find(|(name, _)| *name == written.value);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
            let message = format!("`{}` is not a value of `{key}`", written.value);
            self.findings.push(
                Finding::error(Code::InvalidValue, message, written.span.clone(), "unknown value")
                    .help(format!("write {}", names.join(" or "))),
            );
        }
        found.map(|(_, value)| *value)
    }

    fn number(&mut self, key: &str, n: &At<u64>, most: u64) -> Option<u32> {
        if (1..=most).contains(&n.value) {
            return u32::try_from(n.value).ok();
        }
        let message = format!("`{key}` is {}, which is out of range", n.value);
        self.findings.push(
            Finding::error(Code::InvalidValue, message, n.span.clone(), "out of range")
                .help(format!("write a whole number from 1 to {most}")),
        );
        None
    }

    fn duration(&mut self, key: &str, written: &At<String>) -> Option<u32> {
        self.duration_up_to(key, written, 1)
    }

    fn duration_up_to(&mut self, key: &str, written: &At<String>, hours: u64) -> Option<u32> {
        let most = hours * HOUR_MS;
        let digits = written.value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = written.value.strip_prefix(digits).unwrap_or_default();
        let scale = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            _ => None,
        };
        let ms = digits.parse::<u64>().ok().zip(scale).and_then(|(n, scale)| n.checked_mul(scale));
        match ms {
            Some(ms) if (1..=most).contains(&ms) => u32::try_from(ms).ok(),
            _ => {
                let message = format!("`{}` is not a value of `{key}`", written.value);
                self.findings.push(
                    Finding::error(
                        Code::InvalidValue,
                        message,
                        written.span.clone(),
                        "not a time Sealbus takes",
                    )
                    .help(format!(
                        "write a whole number and `ms`, `s`, `m` or `h`, up to `{hours}h`: such as `30s`"
                    )),
                );
                None
            }
        }
    }
}

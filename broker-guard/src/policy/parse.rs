//! TOML to [`RawPolicy`]: shapes and keys, every fault at once.

mod oversight;

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Code, Finding, Findings, nearest};
use super::source::{
    At, Name, Names, PolicySource, RawClearance, RawGrant, RawLabel, RawParty, RawPolicy, RawRange, RawRate,
    RawRule, RawSpan, RawTeam, RawZone,
};

/// Reads `source`; what cannot be read is left out of the result and described in `findings`.
pub(crate) fn parse(source: &PolicySource, findings: &mut Findings) -> RawPolicy {
    let (document, errors) = DeTable::parse_recoverable(source.text());
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        findings.push(
            Finding::error(Code::Syntax, format!("not TOML: {}", error.message()), span, "here")
                .help("mend the syntax first; see https://toml.io for the format"),
        );
    }
    if findings.has_syntax_errors() {
        return RawPolicy::default();
    }
    // An empty mark at the start: marking the whole file would hide every other mark.
    let mut root = Fields::new(document.get_ref(), 0..0, "the policy");
    root.require(&["levels", "integrity", "teams", "rules"], findings);
    let policy = RawPolicy {
        levels: root.names("levels", findings),
        compartments: root.names("compartments", findings),
        integrity: root.names("integrity", findings),
        freshness: root.name("freshness", findings),
        max_readers: root.number("max_readers", findings),
        observe: root.switch("observe", findings),
        zones: root.tables("zones", "zone", findings, zone),
        teams: root.tables("teams", "team", findings, team),
        rules: root.tables("rules", "rule", findings, rule),
        grants: root.tables("grants", "flow grant", findings, grant),
        approvers: root.tables("approvers", "list of approvers", findings, oversight::approvers),
        orders: root.table("orders", findings, oversight::orders),
        anomaly: root.table("anomaly", findings, oversight::anomaly),
    };
    root.finish(findings);
    policy
}

fn zone(fields: &mut Fields<'_>, findings: &mut Findings) -> RawZone {
    fields.require(&["ceiling"], findings);
    RawZone {
        ceiling: fields.table("ceiling", findings, clearance),
        servers: fields.names("servers", findings),
        cluster: fields.name("cluster", findings),
        tags: fields.names("tags", findings),
        tls: fields.name("tls", findings),
        ca: fields.name("ca", findings),
        span: fields.span.clone(),
    }
}

fn team(fields: &mut Fields<'_>, findings: &mut Findings) -> RawTeam {
    fields.require(&["clearance"], findings);
    RawTeam {
        clearance: fields.table("clearance", findings, clearance),
        integrity: fields.name("integrity", findings),
        zone: fields.name("zone", findings),
        oversight: fields.name("oversight", findings),
        taint: fields.name("taint", findings),
        quorum: fields.number("quorum", findings),
        observe: fields.switch("observe", findings),
        span: fields.span.clone(),
    }
}

fn rule(fields: &mut Fields<'_>, findings: &mut Findings) -> RawRule {
    fields.require(&["pattern", "publishers", "subscribers", "labels"], findings);
    RawRule {
        pattern: fields.name("pattern", findings),
        publishers: fields.parties("publishers", findings),
        subscribers: fields.parties("subscribers", findings),
        labels: fields.table("labels", findings, range),
        default: fields.table("default", findings, label),
        kind: fields.name("kind", findings),
        deadline: fields.name("deadline", findings),
        rate: fields.table("rate", findings, rate),
        max_bytes: fields.number("max_bytes", findings),
        durable: fields.switch("durable", findings),
        hold: fields.table("hold", findings, oversight::hold),
        oversight: fields.name("oversight", findings),
        evidence: fields.name("evidence", findings),
        fan_in: fields.number("fan_in", findings),
        observe: fields.switch("observe", findings),
        span: fields.span.clone(),
    }
}

fn grant(fields: &mut Fields<'_>, findings: &mut Findings) -> RawGrant {
    fields.require(&["team", "from", "to", "from_label", "to_label", "expires", "reason"], findings);
    RawGrant {
        team: fields.name("team", findings),
        from: fields.name("from", findings),
        to: fields.name("to", findings),
        from_label: fields.table("from_label", findings, label),
        to_label: fields.table("to_label", findings, label),
        reason: fields.name("reason", findings),
        expires: fields.moment("expires", findings),
        max_bytes: fields.number("max_bytes", findings),
        rate: fields.table("rate", findings, rate),
        approval: fields.table("approval", findings, oversight::hold),
        span: fields.span.clone(),
    }
}

fn clearance(fields: &mut Fields<'_>, findings: &mut Findings) -> RawClearance {
    fields.require(&["level"], findings);
    RawClearance {
        level: fields.name("level", findings),
        compartments: fields.names("compartments", findings),
        span: fields.span.clone(),
    }
}

fn label(fields: &mut Fields<'_>, findings: &mut Findings) -> RawLabel {
    fields.require(&["level"], findings);
    RawLabel {
        level: fields.name("level", findings),
        compartments: fields.names("compartments", findings),
        integrity: fields.name("integrity", findings),
        span: fields.span.clone(),
    }
}

fn range(fields: &mut Fields<'_>, findings: &mut Findings) -> RawRange {
    fields.require(&["level"], findings);
    RawRange {
        level: fields.span("level", findings),
        required: fields.names("required", findings),
        allowed: fields.names("allowed", findings),
        integrity: fields.span("integrity", findings),
        span: fields.span.clone(),
    }
}

fn rate(fields: &mut Fields<'_>, findings: &mut Findings) -> RawRate {
    fields.require(&["per_second"], findings);
    RawRate {
        per_second: fields.number("per_second", findings),
        burst: fields.number("burst", findings),
        span: fields.span.clone(),
    }
}

/// A TOML table being read. Each key asked for becomes a known key; what remains is unknown.
struct Fields<'t> {
    table: &'t DeTable<'t>,
    span: Range<usize>,
    what: String,
    known: Vec<&'static str>,
    /// Any key goes: its keys are names of the writer's own.
    open: bool,
}

impl<'t> Fields<'t> {
    fn new(table: &'t DeTable<'t>, span: Range<usize>, what: impl Into<String>) -> Self {
        Self { table, span, what: what.into(), known: Vec::new(), open: false }
    }

    fn get(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.table.get(key)
    }

    fn name(&mut self, key: &'static str, findings: &mut Findings) -> Option<Name> {
        let value = self.get(key)?;
        string(value, &format!("`{key}`"), findings)
    }

    /// A date or time, written bare as TOML has it or as a string.
    fn moment(&mut self, key: &'static str, findings: &mut Findings) -> Option<Name> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Datetime(moment) => Some(At::new(moment.to_string(), value.span())),
            _ => string(value, &format!("`{key}`"), findings),
        }
    }

    fn names(&mut self, key: &'static str, findings: &mut Findings) -> Option<Names> {
        let value = self.get(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            findings.push(wrong_type(value, &format!("`{key}`"), "an array of strings"));
            return None;
        };
        let what = format!("each item of `{key}`");
        let names = items.iter().filter_map(|item| string(item, &what, findings)).collect();
        Some(At::new(names, value.span()))
    }

    fn number(&mut self, key: &'static str, findings: &mut Findings) -> Option<At<u64>> {
        let value = self.get(key)?;
        let DeValue::Integer(number) = value.get_ref() else {
            findings.push(wrong_type(value, &format!("`{key}`"), "a whole number"));
            return None;
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Some(At::new(number, value.span())),
            Err(_) => {
                let message = format!("`{key}` is `{number}`, which is out of range");
                findings.push(
                    Finding::error(Code::InvalidValue, message, value.span(), "not a number this key takes")
                        .help("write a whole number, zero or more"),
                );
                None
            }
        }
    }

    fn switch(&mut self, key: &'static str, findings: &mut Findings) -> Option<At<bool>> {
        let value = self.get(key)?;
        let DeValue::Boolean(on) = value.get_ref() else {
            findings.push(wrong_type(value, &format!("`{key}`"), "`true` or `false`"));
            return None;
        };
        Some(At::new(*on, value.span()))
    }

    fn table<T>(
        &mut self,
        key: &'static str,
        findings: &mut Findings,
        read: impl FnOnce(&mut Fields<'t>, &mut Findings) -> T,
    ) -> Option<T> {
        let value = self.get(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            findings.push(wrong_type(value, &format!("`{key}`"), "a table"));
            return None;
        };
        let mut fields = Fields::new(table, value.span(), format!("`{key}`"));
        let read = read(&mut fields, findings);
        fields.finish(findings);
        Some(read)
    }

    /// `[KEY.NAME]` tables, in file order.
    fn tables<T>(
        &mut self,
        key: &'static str,
        one: &str,
        findings: &mut Findings,
        read: impl Fn(&mut Fields<'t>, &mut Findings) -> T,
    ) -> Vec<(Name, T)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            findings.push(
                wrong_type(value, &format!("`{key}`"), "a table of named tables")
                    .help(format!("write each {one} as `[{key}.NAME]`")),
            );
            return Vec::new();
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut read_entries = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            let DeValue::Table(table) = value.get_ref() else {
                findings.push(
                    wrong_type(value, &format!("{one} `{}`", name.get_ref()), "a table")
                        .help(format!("write each {one} as `[{key}.NAME]`")),
                );
                continue;
            };
            let what = format!("{one} `{}`", name.get_ref());
            let mut fields = Fields::new(table, name.span(), what);
            let entry = read(&mut fields, findings);
            fields.finish(findings);
            read_entries.push((At::new(name.get_ref().to_string(), name.span()), entry));
        }
        read_entries
    }

    /// One name, or `{ min, max }`.
    fn span(&mut self, key: &'static str, findings: &mut Findings) -> Option<RawSpan> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(name) => {
                let name = At::new(name.to_string(), value.span());
                Some(RawSpan { min: Some(name.clone()), max: Some(name), span: value.span() })
            }
            DeValue::Table(table) => {
                let mut fields = Fields::new(table, value.span(), format!("`{key}`"));
                fields.require(&["min", "max"], findings);
                let span = RawSpan {
                    min: fields.name("min", findings),
                    max: fields.name("max", findings),
                    span: value.span(),
                };
                fields.finish(findings);
                Some(span)
            }
            _ => {
                findings.push(wrong_type(value, &format!("`{key}`"), "a name or a table").help(format!(
                    "write `{key} = \"NAME\"` or `{key} = {{ min = \"NAME\", max = \"NAME\" }}`"
                )));
                None
            }
        }
    }

    /// An array of team names and `{ team, queue }` or `{ agent, queue }` tables.
    fn parties(&mut self, key: &'static str, findings: &mut Findings) -> Option<At<Vec<RawParty>>> {
        let value = self.get(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            findings.push(wrong_type(value, &format!("`{key}`"), "an array of team names"));
            return None;
        };
        let mut parties = Vec::with_capacity(items.len());
        for item in items.iter() {
            match item.get_ref() {
                DeValue::String(team) => {
                    let name = At::new(team.to_string(), item.span());
                    parties.push(RawParty { name, agent: false, queue: None });
                }
                DeValue::Table(table) => parties.extend(party(key, table, item.span(), findings)),
                _ => findings.push(
                    wrong_type(item, &format!("each item of `{key}`"), "a team name or a table").help(PARTY),
                ),
            }
        }
        // Faulty items were reported; that the list is empty without them is no news.
        (items.is_empty() || !parties.is_empty()).then(|| At::new(parties, value.span()))
    }

    /// Reports each of `keys` that is not there.
    fn require(&self, keys: &[&str], findings: &mut Findings) {
        for key in keys.iter().filter(|key| !self.table.contains_key(**key)) {
            let message = format!("{} has no `{key}`", self.what);
            findings.push(
                Finding::error(Code::MissingKey, message, self.span.clone(), format!("`{key}` is missing"))
                    .help(remedy(key)),
            );
        }
    }

    /// Reports every key nobody asked for: a slip in a key must never silently drop a limit.
    fn finish(self, findings: &mut Findings) {
        for (key, _) in self.table {
            let written = key.get_ref().as_ref();
            if self.open || self.known.contains(&written) {
                continue;
            }
            let message = format!("unknown key `{written}` in {}", self.what);
            let help = match nearest(written, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys here: {}", list(&self.known)),
            };
            findings
                .push(Finding::error(Code::UnknownKey, message, key.span(), "not a known key").help(help));
        }
    }
}

const PARTY: &str = "write `\"TEAM\"`, `{ team = \"NAME\", queue = \"GROUP\" }` or `{ agent = \"NAME\" }`";

fn party<'t>(
    key: &str,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    findings: &mut Findings,
) -> Option<RawParty> {
    let mut fields = Fields::new(table, span.clone(), format!("an item of `{key}`"));
    let team = fields.name("team", findings);
    let agent = fields.name("agent", findings);
    let queue = fields.name("queue", findings);
    fields.finish(findings);
    let (code, message, note) = match (team, agent) {
        (Some(name), None) => return Some(RawParty { name, agent: false, queue }),
        (None, Some(name)) => return Some(RawParty { name, agent: true, queue }),
        (Some(_), Some(_)) => (Code::Conflict, "both a `team` and an `agent`", "one too many"),
        // There and not a string: that was reported.
        (None, None) if table.contains_key("team") || table.contains_key("agent") => return None,
        (None, None) => (Code::MissingKey, "neither a `team` nor an `agent`", "nobody here"),
    };
    let message = format!("an item of `{key}` names {message}");
    findings.push(Finding::error(code, message, span, note).help(PARTY));
    None
}

/// What to write for a required key.
fn remedy(key: &str) -> &'static str {
    match key {
        "levels" => "declare the secrecy levels, lowest first: `levels = [\"public\", \"secret\"]`",
        "integrity" => "declare the ranks of trust, lowest first: `integrity = [\"untrusted\", \"trusted\"]`",
        "teams" => "declare each team as `[teams.NAME]`",
        "rules" => "write each allowed flow as `[rules.NAME]`; without rules nothing may be sent",
        "approvals" => "say how many different people must approve: `approvals = 1`",
        "deadline" => "say how long they have, such as `deadline = \"15m\"`: no answer denies",
        "approvers" => {
            "name the lists of people who may: `approvers = [\"LIST\"]`, each as `[approvers.LIST]`"
        }
        "clearance" | "ceiling" => "write `{ level = \"NAME\", compartments = [\"NAME\"] }`",
        "level" => "name one of the declared levels",
        "pattern" => "write the logical subjects, such as `pattern = \"orders.>\"`",
        "publishers" => "list the teams that may publish: `publishers = [\"TEAM\"]`",
        "subscribers" => "list the teams that may subscribe: `subscribers = [\"TEAM\"]`",
        "labels" => "say which labels the rule accepts: `labels = { level = \"NAME\" }`",
        "per_second" => "say how many envelopes a second one agent may publish",
        "from" => "write the subjects of what it lifts, such as `from = \"orders.>\"`",
        "to" => "write the subjects that it is used on, such as `to = \"orders.public.>\"`",
        "from_label" => "write the highest label it lifts: `{ level = \"NAME\", compartments = [\"NAME\"] }`",
        "to_label" => "write the lowest label it gives: `{ level = \"NAME\", compartments = [\"NAME\"] }`",
        "expires" => {
            "write its last day, such as `expires = 2027-06-30`: an exception that nobody renews ends"
        }
        "reason" => "say why, for the people who review and audit it",
        _ => "add it",
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn string(value: &Spanned<DeValue<'_>>, what: &str, findings: &mut Findings) -> Option<Name> {
    if let DeValue::String(text) = value.get_ref() {
        Some(At::new(text.to_string(), value.span()))
    } else {
        findings.push(wrong_type(value, what, "a string"));
        None
    }
}

fn wrong_type(value: &Spanned<DeValue<'_>>, what: &str, wanted: &str) -> Finding {
    let found = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    let help = match wanted {
        "a string" => "put it in double quotes",
        "a whole number" => "write the digits alone, without quotes or a unit",
        "`true` or `false`" => "write it without quotes",
        "a table" if what == "`hold`" || what == "`approval`" => {
            "write `{ approvals = 1, deadline = \"15m\", approvers = [\"LIST\"] }`"
        }
        "a table" => "write `{ key = value, … }`; the example policy shows each table",
        _ => "write `[\"NAME\", …]`, in brackets even if it is one",
    };
    let message = format!("{what} must be {wanted}");
    Finding::error(Code::WrongType, message, value.span(), format!("this is {found}")).help(help)
}

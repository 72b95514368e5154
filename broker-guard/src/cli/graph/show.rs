//! Answers as tables, JSON, Mermaid and DOT.

use sealbus_envelope::{
    label::{Label, LabelRange},
    policy::Tables,
};
use serde_json::{Value, json};

use super::super::{failure::Failure, output::Output};
use crate::graph::{
    Allowed, Holder, Part, Path, Permit, Reached, Standing, Way,
    drawing::{Drawing, Shape, Stroke},
};

/// In which form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// One object
    Json,
    /// A Mermaid flowchart
    Mermaid,
    /// A Graphviz digraph
    Dot,
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FormatArg {
    /// Form of the answer; `--json` is short for `--format json`
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl FormatArg {
    /// Shows an answer in the form asked for.
    pub(crate) fn show(
        self,
        output: &Output,
        object: impl FnOnce() -> Value,
        drawing: impl FnOnce() -> Drawing,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => output.object(&object()),
            _ if output.is_json() => output.object(&object()),
            Format::Table => output.text(text()),
            Format::Mermaid => output.text(drawing().to_mermaid().trim_end()),
            Format::Dot => output.text(drawing().to_dot().trim_end()),
        }
    }
}

/// The most names of one cell.
const NAMES: usize = 4;

/// Several holders in one cell.
pub(crate) fn names(holders: &[&Holder]) -> String {
    let shown: Vec<String> = holders.iter().take(NAMES).map(|holder| name(holder)).collect();
    let more = holders.len().saturating_sub(NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// One holder.
pub(crate) fn name(holder: &Holder) -> String {
    if holder.is_team() { format!("any {}", holder.name()) } else { holder.name().to_string() }
}

pub(crate) fn holder_json(holder: &Holder) -> Value {
    let kind = if holder.is_team() { "team" } else { "agent" };
    json!({ "kind": kind, "name": holder.name(), "team": holder.team, "standing": holder.standing })
}

pub(crate) fn holders_json(holders: &[&Holder]) -> Vec<Value> {
    holders.iter().map(|holder| holder_json(holder)).collect()
}

/// Why a holder takes part in nothing, if it does not.
pub(crate) fn standing(holder: &Holder) -> Option<String> {
    let why = match holder.standing {
        Standing::Valid => return None,
        Standing::Expired => "its credential is not good at that time",
        Standing::Revoked => "it is revoked",
        Standing::UnknownTeam => "the policy does not have its team",
        Standing::WrongZone => "its credential is not for its team's zone",
        Standing::AboveCeiling => "it is cleared above its zone's ceiling",
        Standing::NoAgent => "guards and observers take part in no flow",
    };
    Some(format!("`{}` may not connect: {why}", holder.name()))
}

pub(crate) fn range(tables: &Tables, labels: LabelRange) -> String {
    let (low, high) = (tables.show(labels.low), tables.show(labels.high));
    if low == high { low } else { format!("{low} … {high}") }
}

pub(crate) fn range_json(tables: &Tables, labels: LabelRange) -> Value {
    json!({ "low": tables.show(labels.low), "high": tables.show(labels.high) })
}

pub(crate) fn labels(tables: &Tables, labels: &[Label]) -> String {
    labels.iter().map(|label| tables.show(*label)).collect::<Vec<_>>().join(", ")
}

pub(crate) fn labels_json(tables: &Tables, labels: &[Label]) -> Vec<String> {
    labels.iter().map(|label| tables.show(*label)).collect()
}

pub(crate) const fn part(part: Part) -> &'static str {
    match part {
        Part::Publishes => "publishes",
        Part::Asks => "asks",
        Part::Subscribes => "subscribes",
        Part::Serves => "serves",
    }
}

pub(crate) const fn way(way: Way) -> &'static str {
    match way {
        Way::Publish => "publishes",
        Way::Ask => "asks",
        Way::Answer => "answers",
    }
}

pub(crate) const PERMIT_HEAD: [&str; 5] = ["WHO", "RULE", "SUBJECTS", "AS", "LABELS"];

pub(crate) fn permit_row(tables: &Tables, permit: &Permit<'_>) -> Vec<String> {
    let observed = if permit.observed { " (observe mode)" } else { "" };
    vec![
        names(&permit.holders),
        permit.rule.to_string(),
        permit.pattern.to_string(),
        part(permit.part).to_owned(),
        format!("{}{observed}", range(tables, permit.labels)),
    ]
}

pub(crate) fn permit_json(tables: &Tables, permit: &Permit<'_>) -> Value {
    json!({
        "holders": holders_json(&permit.holders),
        "rule": permit.rule,
        "pattern": permit.pattern,
        "part": permit.part,
        "labels": range_json(tables, permit.labels),
        "observed": permit.observed,
    })
}

pub(crate) fn reached_row(tables: &Tables, reached: &Reached<'_>) -> Vec<String> {
    let by = if reached.exceptional { " (by grant or observe mode)" } else { "" };
    vec![
        reached.hops.to_string(),
        names(&reached.holders),
        format!("{}{by}", labels(tables, &reached.labels)),
    ]
}

pub(crate) fn reached_json(tables: &Tables, reached: &Reached<'_>) -> Value {
    json!({
        "holders": holders_json(&reached.holders),
        "hops": reached.hops,
        "labels": labels_json(tables, &reached.labels),
        "exceptional": reached.exceptional,
    })
}

fn allowed(allowed: &Allowed) -> (String, Stroke) {
    match allowed {
        Allowed::ByLabel => (String::new(), Stroke::Solid),
        Allowed::ByGrant(grant) => (format!("by flow grant {grant}"), Stroke::Thick),
        Allowed::ByObserveMode => ("only by observe mode".to_owned(), Stroke::Dotted),
    }
}

pub(crate) fn path_rows(tables: &Tables, path: &Path<'_>) -> Vec<Vec<String>> {
    let row = |(n, step): (usize, &crate::graph::Step<'_>)| {
        let alike = if step.alike > 0 { format!(" (or {} alike)", step.alike) } else { String::new() };
        vec![
            (n + 1).to_string(),
            name(step.from),
            way(step.way).to_owned(),
            step.rule.to_string(),
            step.pattern.to_string(),
            tables.show(step.label),
            format!("{}{alike}", name(step.to)),
            allowed(&step.allowed).0,
        ]
    };
    path.steps.iter().enumerate().map(row).collect()
}

pub(crate) const PATH_HEAD: [&str; 8] = ["STEP", "FROM", "", "RULE", "SUBJECTS", "LABEL", "TO", ""];

pub(crate) fn path_json(tables: &Tables, path: &Path<'_>) -> Vec<Value> {
    let step = |step: &crate::graph::Step<'_>| {
        let (grant, observed) = match &step.allowed {
            Allowed::ByGrant(grant) => (Some(grant), false),
            other => (None, *other == Allowed::ByObserveMode),
        };
        json!({
            "from": holder_json(step.from),
            "to": holder_json(step.to),
            "alike": step.alike,
            "way": step.way,
            "rule": step.rule,
            "pattern": step.pattern,
            "label": tables.show(step.label),
            "grant": grant,
            "observed": observed,
        })
    };
    path.steps.iter().map(step).collect()
}

pub(crate) fn path_drawing(tables: &Tables, path: &Path<'_>, drawing: &mut Drawing) {
    let mut last = None;
    for step in &path.steps {
        let from = last.unwrap_or_else(|| drawing.node(name(step.from), Shape::Box));
        let to = drawing.node(name(step.to), Shape::Box);
        let (by, stroke) = allowed(&step.allowed);
        let text = format!("{} {}, {} {by}", way(step.way), step.rule, tables.show(step.label));
        drawing.edge(from, to, text.trim_end(), stroke);
        last = Some(to);
    }
}

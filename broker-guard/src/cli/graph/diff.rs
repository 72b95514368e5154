//! `sealbus graph diff`.

use sealbus_envelope::{label::LabelRange, policy::Tables};
use serde_json::{Value, json};

use super::{
    super::{
        busdir::BusArg,
        failure::Failure,
        output::{BAD, GOOD, Output, STRONG, paint, table},
    },
    show::{FormatArg, labels, labels_json, range, range_json, way},
    world::{agents, find, time},
};
use crate::{
    clock::now,
    graph::{
        Diff, Facts, View,
        drawing::{Drawing, Shape, Stroke},
    },
};

const EXAMPLES: &str = "\
Examples:
  sealbus graph diff 3 4
  sealbus graph diff 4 policy.toml
  sealbus graph diff old.bundle new.bundle --json | jq '.flows[] | select(.opens)'

Flows are what a single rule allows; REACH is where information gets in any number of steps. Of
each team, any member with all the team has; of agents, those that a rule names by themselves.";

/// Show which flows another policy opens and closes
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A version that was kept, a bundle, or a policy file
    #[arg(value_name = "OLD")]
    old: String,
    /// What to compare with: the same forms
    #[arg(value_name = "NEW")]
    new: String,
    #[command(flatten)]
    bus: BusArg,
    /// Flow grants count if they are good at this time
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// As if nothing were in observe mode
    #[arg(long)]
    enforced: bool,
    #[command(flatten)]
    format: FormatArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let (in_force, _) = dir.bundle()?;
    let at = time(args.at.as_deref(), "at")?.unwrap_or_else(now);
    let view = if args.enforced { View::enforced(at) } else { View::at(at) };
    let (old, old_version) = find(&dir, &in_force, &args.old)?;
    let (new, new_version) = find(&dir, &in_force, &args.new)?;
    let agents = agents(&dir, &in_force, at)?;
    let diff = Diff::between(Facts::records(&old), Facts::records(&new), &agents, view);
    // Names are only ever appended, so the longer tables know the names of both.
    let tables = if new.tables.levels.len() >= old.tables.levels.len() { &new.tables } else { &old.tables };
    args.format.show(
        output,
        || object(tables, &diff, old_version, new_version),
        || drawing(tables, &diff),
        || text(tables, &diff),
    )
}

fn object(tables: &Tables, diff: &Diff, old: Option<u64>, new: Option<u64>) -> Value {
    let ranges =
        |ranges: &[LabelRange]| -> Vec<Value> { ranges.iter().map(|r| range_json(tables, *r)).collect() };
    let flows = diff.flows.iter().map(|change| {
        json!({
            "from": change.from, "to": change.to, "pattern": change.pattern, "way": change.way,
            "before": ranges(&change.before), "after": ranges(&change.after),
            "opens": change.opens(), "closes": change.closes(),
        })
    });
    let reach = diff.reach.iter().map(|change| {
        json!({
            "from": change.from, "to": change.to,
            "before": labels_json(tables, &change.before), "after": labels_json(tables, &change.after),
            "opens": change.opens(), "closes": change.closes(),
        })
    });
    json!({
        "old": old, "new": new, "opens": diff.opens(),
        "flows": flows.collect::<Vec<_>>(), "reach": reach.collect::<Vec<_>>(),
    })
}

/// Opening is thick, closing dotted.
fn drawing(tables: &Tables, diff: &Diff) -> Drawing {
    let mut drawing = Drawing::default();
    let mut places = std::collections::BTreeMap::new();
    for change in &diff.flows {
        let mut place = |end: &crate::graph::End| {
            *places.entry(end.clone()).or_insert_with(|| drawing.node(end.to_string(), Shape::Box))
        };
        let (from, to) = (place(&change.from), place(&change.to));
        let stroke = if change.opens() { Stroke::Thick } else { Stroke::Dotted };
        let shown = if change.opens() { &change.after } else { &change.before };
        let verb = if change.opens() { "opens" } else { "closes" };
        drawing.edge(from, to, format!("{verb} {}, {}", change.pattern, ranges(tables, shown)), stroke);
    }
    drawing
}

fn text(tables: &Tables, diff: &Diff) -> String {
    if diff.is_empty() {
        return "No flow changes".to_owned();
    }
    let mut parts = Vec::new();
    if !diff.flows.is_empty() {
        let rows: Vec<_> = diff
            .flows
            .iter()
            .map(|change| {
                vec![
                    mark(change.opens(), change.closes()),
                    change.from.to_string(),
                    way(change.way).to_owned(),
                    change.pattern.to_string(),
                    change.to.to_string(),
                    step(&ranges(tables, &change.before), &ranges(tables, &change.after)),
                ]
            })
            .collect();
        parts.push(table(&["FLOW", "FROM", "", "SUBJECTS", "TO", "LABELS"], &rows));
    }
    if !diff.reach.is_empty() {
        let rows: Vec<_> = diff
            .reach
            .iter()
            .map(|change| {
                let labels = step(&labels(tables, &change.before), &labels(tables, &change.after));
                let mark = mark(change.opens(), change.closes());
                vec![mark, change.from.to_string(), change.to.to_string(), labels]
            })
            .collect();
        parts.push(table(&["REACH", "FROM", "TO", "LOWEST LABELS"], &rows));
    }
    let verdict = if diff.opens() {
        paint(BAD, "opens something").to_string()
    } else {
        paint(GOOD, "opens nothing").to_string()
    };
    parts.push(format!("{} {verdict}", paint(STRONG, "This change")));
    parts.join("\n\n")
}

fn mark(opens: bool, closes: bool) -> String {
    match (opens, closes) {
        (true, true) => "changes",
        (true, false) => "opens",
        (false, true) => "closes",
        (false, false) => "same",
    }
    .to_owned()
}

fn step(before: &str, after: &str) -> String {
    match (before.is_empty(), after.is_empty()) {
        (true, _) => after.to_owned(),
        (_, true) => format!("was {before}"),
        _ => format!("{before} → {after}"),
    }
}

fn ranges(tables: &Tables, ranges: &[LabelRange]) -> String {
    ranges.iter().map(|one| range(tables, *one)).collect::<Vec<_>>().join(", ")
}

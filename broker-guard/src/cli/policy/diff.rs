//! `sealbus policy diff`.

use std::path::PathBuf;

use sealbus_envelope::label::LabelRange;
use serde_json::{Value, json};

use super::{
    super::{
        busdir::BusArg,
        failure::{Exit, Failure},
        output::{BAD, FAINT, GOOD, Output, STRONG, paint},
    },
    asked::load,
};
use crate::policy::{
    diff::{Change, Effect, Flow, Kind, diff, grouped, text},
    trial::Trial,
};

const EXAMPLES: &str = "\
Examples:
  sealbus policy diff policy.bundle policy.toml
  sealbus policy diff 3 4 --config mybus
  git show main:policy.toml > old.toml && sealbus policy diff old.toml policy.toml --json

Tells which flows open, close or change, not which lines: a rule that is renamed or split changes
nothing if the same can flow. Of agents that rules name by themselves every label is assumed.
Exit code 5 if the new policy opens something, else 0.";

/// Compare two policies: which flows open, close or change
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A policy file, a signed bundle, a draft, or the number of a version that is kept
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The one that would replace it
    #[arg(value_name = "NEW")]
    new: PathBuf,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let (old, new) = (load(&args.old, &args.bus)?, load(&args.new, &args.bus)?);
    let found = diff(&old, &new);
    let changes = |effect: Effect| -> Vec<&Change> {
        found.changes.iter().filter(|change| change.effect == effect).collect()
    };
    let (opens, closes, others) = (changes(Effect::Opens), changes(Effect::Closes), changes(Effect::Changes));
    let says = |changes: &[&Change]| changes.iter().map(|change| change.what.clone()).collect::<Vec<_>>();
    let object = json!({
        "opens": found.opens(),
        "opened": found.opened.iter().map(|flow| object(&new, flow)).collect::<Vec<_>>(),
        "closed": found.closed.iter().map(|flow| object(&old, flow)).collect::<Vec<_>>(),
        "settings": { "open": says(&opens), "close": says(&closes), "change": says(&others) },
    });
    let mut lines = Vec::new();
    section("opens", &new, &found.opened, &opens, &mut lines);
    section("closes", &old, &found.closed, &closes, &mut lines);
    if !others.is_empty() {
        lines.push(paint(STRONG, "changes").to_string());
        lines.extend(others.iter().map(|change| format!("  {} {}", paint(FAINT, "~"), change.what)));
    }
    if lines.is_empty() {
        lines.push("Nothing opens, closes or changes".to_owned());
    }
    output.show(&object, lines.join("\n"))?;
    if found.opens() { Err(Failure::shown(Exit::Opens)) } else { Ok(()) }
}

fn section(head: &str, trial: &Trial, flows: &[Flow], changes: &[&Change], lines: &mut Vec<String>) {
    if flows.is_empty() && changes.is_empty() {
        return;
    }
    let sign = if head == "opens" { paint(BAD, "+") } else { paint(GOOD, "-") }.to_string();
    lines.push(paint(STRONG, head).to_string());
    for (from, to, flow) in grouped(flows) {
        let kind = match flow.kind {
            Kind::Stream => "",
            Kind::Request => " (asking)",
            Kind::Answer => " (answering)",
        };
        lines.push(format!(
            "  {sign} {} → {}{kind}  {}  {}  (rule {})",
            from.join(", "),
            to.join(", "),
            flow.subject.as_str(),
            labels(trial, flow.labels),
            flow.rule
        ));
    }
    lines.extend(changes.iter().map(|change| format!("  {sign} {}", change.what)));
}

fn labels(trial: &Trial, range: LabelRange) -> String {
    let (low, high) = (trial.tables().show(range.low), trial.tables().show(range.high));
    if low == high { low } else { format!("{low} to {high}") }
}

fn object(trial: &Trial, flow: &Flow) -> Value {
    json!({
        "from": text(&flow.from),
        "to": text(&flow.to),
        "kind": flow.kind.as_str(),
        "subject": flow.subject.as_str(),
        "lowest": trial.tables().show(flow.labels.low),
        "highest": trial.tables().show(flow.labels.high),
        "rule": flow.rule,
    })
}

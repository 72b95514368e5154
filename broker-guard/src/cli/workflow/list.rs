//! `sealbus workflow list`.

use sealbus_envelope::time::Millis;
use serde_json::json;

use super::super::{
    busdir::BusArg,
    failure::Failure,
    output::{Output, table},
    page::AddressArg,
    session::printable,
    when::relative,
};
use crate::{clock::now, oversight::pause::WorkflowReport};

const EXAMPLES: &str = "\
Examples:
  sealbus workflow list
  sealbus workflow list --json

Asks the guard; if none runs, reads its store in the bus directory.";

/// List the workflows that are directed, open-ended or paused
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    address: AddressArg,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let (workflows, from) = super::read(&dir, &args.address)?;
    output.show(&json!({ "workflows": workflows, "from": from }), text(&workflows, now()))
}

fn text(workflows: &[WorkflowReport], now: Millis) -> String {
    if workflows.is_empty() {
        return "No workflow is directed, open-ended or paused".to_owned();
    }
    let row = |report: &WorkflowReport| {
        let mode = report.mode.clone().unwrap_or_else(|| "-".to_owned());
        let (state, since, why) = match &report.paused {
            Some(pause) => ("paused", relative(pause.since, now), printable(&pause.by.in_words())),
            None => {
                let resumed = report.resumed.map(|since| format!("resumed {}", relative(since, now)));
                ("running", resumed.unwrap_or_default(), String::new())
            }
        };
        vec![report.workflow.clone(), mode, state.to_owned(), since, why]
    };
    let rows: Vec<_> = workflows.iter().map(row).collect();
    let mut text = table(&["WORKFLOW", "MODE", "STATE", "SINCE", "WHY"], &rows);
    if let Some(paused) = workflows.iter().find(|report| report.paused.is_some()) {
        text = format!(
            "{}\n\nA person lets it go on: sealbus workflow resume {} --reason '…'",
            text.trim_end(),
            paused.workflow
        );
    }
    text
}

//! `sealbus workflow show`.

use sealbus_envelope::time::Millis;
use serde_json::json;

use super::super::{
    busdir::BusArg,
    failure::{Exit, Failure},
    output::{BAD, GOOD, Output, STRONG, paint},
    page::AddressArg,
    session::printable,
    when::{relative, rfc3339},
};
use crate::{
    clock::now,
    oversight::pause::{By, WorkflowReport},
};

const EXAMPLES: &str = "\
Examples:
  sealbus workflow show payments
  sealbus workflow show team:collector --json";

/// Show one workflow: who sends in it, how it stands and why, and what to do about it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// `team:NAME`, `rule:NAME`, or a name that only one of both has
    workflow: String,
    #[command(flatten)]
    address: AddressArg,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let wanted = super::named(&dir, &args.workflow)?.to_string();
    let (workflows, from) = super::read(&dir, &args.address)?;
    let Some(report) = workflows.iter().find(|report| report.workflow == wanted) else {
        let message = format!("`{wanted}` is neither directed nor open-ended, and not paused");
        let remedy = "see what there is: sealbus workflow list";
        return Err(Failure::told(Exit::Failure, "no_such_workflow", message, remedy));
    };
    output.show(&json!({ "workflow": report, "from": from }), text(report, now()))
}

fn text(report: &WorkflowReport, now: Millis) -> String {
    let name = &report.workflow;
    let mode = match report.mode.as_deref() {
        Some("directed") => "directed: the first deviation pauses all of it",
        Some("open-ended") => "open-ended: being watched lowers no limits; see `sealbus review`",
        Some(_) => "of a newer version",
        None => "none in the policy in force",
    };
    let senders = if report.senders.is_empty() { "nobody".to_owned() } else { report.senders.join(", ") };
    let pattern =
        report.pattern.as_ref().map(|pattern| format!("\n  subjects  {pattern}")).unwrap_or_default();
    let head = format!("{}\n  mode      {mode}\n  senders   {senders}{pattern}", paint(STRONG, name));
    let Some(pause) = &report.paused else {
        let resumed = report.resumed.map(|at| format!(", since {} ({})", rfc3339(at), relative(at, now)));
        return format!("{head}\n  state     {}{}", paint(GOOD, "running"), resumed.unwrap_or_default());
    };
    let mut text = format!(
        "{head}\n  state     {} since {} ({})\n  why       {}",
        paint(BAD, "paused"),
        rfc3339(pause.since),
        relative(pause.since, now),
        printable(&pause.by.in_words()),
    );
    text.push_str("\n\nEvery envelope of it is denied (workflow_paused) until a person resumes it.");
    match &pause.by {
        By::Deviation { agent, envelope, .. } => {
            if let Some(id) = envelope {
                text.push_str(&format!("\n  what happened   sealbus why {id}"));
            }
            text.push_str(&format!("\n  who it was      sealbus audit search --agent {agent} --since 1h"));
            text.push_str(&format!(
                "\n  take it off     sealbus quarantine add {} --reason '…'",
                agent.name()
            ));
        }
        By::Order { .. } => {
            text.push_str(&format!("\n  who ordered it  sealbus audit search --agent {name}"))
        }
    }
    text.push_str(&format!("\n  let it go on    sealbus workflow resume {name} --reason '…'"));
    text
}

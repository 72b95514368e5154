//! `sealbus approvals list`: what waits for people.

use std::{collections::BTreeSet, time::Duration};

use sealbus_envelope::control::HeldReport;
use serde_json::json;

use super::{Way, WayArg, short};
use crate::{
    cli::{
        failure::Failure,
        output::{FAINT, Output, paint, table},
        runtime,
        session::printable,
        when::relative,
    },
    clock::now,
};

const EXAMPLES: &str = "\
Examples:
  sealbus approvals list                          at the guard's machine
  sealbus approvals list --creds ann.creds        from anywhere: what ann may read
  sealbus approvals list --watch                  and go on, with each that comes
  sealbus --json approvals list | jq '.held[].digest'";

/// How often the guard is asked again.
const EVERY: Duration = Duration::from_secs(1);

/// List what waits for approval
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Go on, and print each that comes
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    way: WayArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let way = args.way.open().await?;
        let outcome = if args.watch { watch(&way, output).await } else { once(&way, output).await };
        way.close().await;
        outcome
    })
}

async fn once(way: &Way, output: &Output) -> Result<(), Failure> {
    let (held, more) = way.held().await?;
    if output.is_json() {
        return output.object(&json!({ "held": held, "more": more }));
    }
    if held.is_empty() {
        return output.text("Nothing waits for approval.");
    }
    let rows: Vec<Vec<String>> = held.iter().map(|one| row(way, one)).collect();
    let mut text = table(&HEAD, &rows);
    if more > 0 {
        text = format!("{text}\nand {more} more");
    }
    output.text(format!("{text}\n{}", paint(FAINT, "Look at one: sealbus approvals show DIGEST")))
}

const HEAD: [&str; 7] = ["DIGEST", "SENDER", "RULE", "SUBJECT", "LABEL", "APPROVED", "UNTIL"];

fn row(way: &Way, one: &HeldReport) -> Vec<String> {
    let approved: Vec<String> =
        one.holds.iter().map(|hold| format!("{} of {}", hold.approved.len(), hold.approvals)).collect();
    vec![
        short(&one.digest),
        printable(&one.sender),
        one.rule.to_string(),
        printable(&one.subject),
        way.label(one.label),
        approved.join(", "),
        relative(one.until, now()),
    ]
}

async fn watch(way: &Way, output: &Output) -> Result<(), Failure> {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    loop {
        let (held, _) = way.held().await?;
        for one in held.iter().filter(|one| !seen.contains(&one.digest)) {
            output.show(one, row(way, one).join("  "))?;
        }
        // What is no longer held need not be remembered; it never comes again.
        seen = held.into_iter().map(|one| one.digest).collect();
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

//! `sealbus quarantine list`.

use sealbus_envelope::time::Millis;
use serde_json::json;

use super::{
    super::{
        busdir::BusArg,
        failure::Failure,
        output::{Output, table},
        page::AddressArg,
        session::printable,
        when::relative,
    },
    report,
};
use crate::{clock::now, quarantine::state::State};

const EXAMPLES: &str = "\
Examples:
  sealbus quarantine list
  sealbus quarantine list --all
  sealbus quarantine list --json | jq '.agents[] | select(.state == \"quarantined\") | .agent'

Asks the guard; if none runs, reads its store in the bus directory.";

/// List who is off the bus, and who is watched
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Also who was released, or watched once
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    address: AddressArg,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let (mut agents, from) = report::read(args.address.of(&dir.config), &dir)?;
    if !args.all {
        agents.retain(|agent| agent.state.is_barred() || agent.state == State::Watched);
    }
    let rows: Vec<Vec<String>> = agents
        .iter()
        .map(|agent| {
            vec![
                agent.agent.clone(),
                agent.state.to_string(),
                relative(Millis(agent.since), now()),
                agent.cause.reason.clone(),
                report::confirmation(agent).to_owned(),
                agent.evidence.waiting.to_string(),
                printable(&report::who(&agent.cause)),
            ]
        })
        .collect();
    let text = if rows.is_empty() {
        "Nobody is off the bus, and nobody is watched".to_owned()
    } else {
        table(&["AGENT", "STATE", "SINCE", "REASON", "SERVERS", "KEPT", "BY"], &rows)
    };
    output.show(&json!({ "agents": agents, "from": from }), text)
}

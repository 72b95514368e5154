//! `sealbus anomaly`: the detector over recorded or supplied series, so that thresholds can be judged on one's own
//! history before they act.

mod alarms;
mod log;
mod replay;
mod table;
mod values;

use clap::Subcommand;
use serde_json::json;

use super::{
    failure::Failure,
    output::{Output, table as show_table},
};
use crate::anomaly::SIGNALS;

/// Try the anomaly detector on recorded series, and list its signals
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Replay(replay::Args),
    Signals(Signals),
}

const EXAMPLES: &str = "\
Examples:
  sealbus anomaly signals
  sealbus anomaly signals --json | jq -r 'select(.standing == \"signed\") | .name'

Hard signals act at once. Signed ones add up to quarantine. Attested ones make an agent watched at
most, because a hostile server could bring them about. Counted ones are held against nobody.
A policy gives a signal another weight under [anomaly.weights].";

/// List the signals: name, how far each may go, its default weight, what it means
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Signals {}

pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Replay(args) => replay::run(args, output),
        Command::Signals(Signals {}) => signals(output),
    }
}

fn signals(output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return SIGNALS.iter().try_for_each(|signal| {
            output.object(&json!({
                "name": signal.name,
                "standing": signal.standing.code(),
                "weight": crate::anomaly::hundredths(signal.cost),
                "meaning": signal.doc,
            }))
        });
    }
    let rows: Vec<Vec<String>> = SIGNALS
        .iter()
        .map(|signal| {
            let weight = format!("{:.2}", crate::anomaly::hundredths(signal.cost));
            vec![signal.name.to_owned(), signal.standing.code().to_owned(), weight, signal.doc.to_owned()]
        })
        .collect();
    output.text(show_table(&["signal", "standing", "weight", "meaning"], &rows))
}

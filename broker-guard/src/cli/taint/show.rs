//! `sealbus taint show`.

use sealbus_envelope::time::Millis;
use serde_json::json;

use super::super::{
    busdir::{BusArg, BusDir},
    failure::Failure,
    output::{Output, table},
    page::{self, AddressArg},
    when::{relative, rfc3339},
};
use crate::{
    clock::now,
    taint::report::{FloorReport, Scope},
};

const EXAMPLES: &str = "\
Examples:
  sealbus taint show
  sealbus taint show alice --json

Asks the guard; if none runs, reads its store in the bus directory.";

/// Show what agents were given to read: no envelope of theirs may be labelled below it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Only this agent: its name, or as subjects name it
    agent: Option<String>,
    #[command(flatten)]
    address: AddressArg,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let (mut floors, from) = read(args, &dir)?;
    if let Some(wanted) = &args.agent {
        let name = |floor: &FloorReport| floor.agent.rsplit_once('-').map(|(name, _)| name.to_owned());
        floors.retain(|floor| floor.agent == *wanted || name(floor).as_ref() == Some(wanted));
    }
    output.show(&json!({ "floors": floors, "from": from }), text(&floors, now()))
}

/// The floors, and whether they come from the `guard` or its `store`.
fn read(args: &Args, dir: &BusDir) -> Result<(Vec<FloorReport>, &'static str), Failure> {
    page::get_or_store(dir, args.address.of(&dir.config), "/floors", |store| {
        let floors = store.floors().map_err(page::unreadable_store)?;
        let (bundle, _) = dir.bundle()?;
        Ok(floors.report(bundle.tables()))
    })
}

fn text(floors: &[FloorReport], now: Millis) -> String {
    if floors.is_empty() {
        return "Nothing was given to read".to_owned();
    }
    let mut rows = Vec::new();
    for floor in floors {
        let scope = match &floor.scope {
            Scope::Agent => "agent".to_owned(),
            Scope::Clearing => "agent, until its keys have rotated".to_owned(),
            Scope::Session { session, until } => {
                let short: String = session.chars().take(12).collect();
                let until = Millis(*until);
                format!("session {short} until {} ({})", rfc3339(until), relative(until, now))
            }
        };
        rows.push(vec![floor.agent.clone(), scope, String::new(), floor.floor.clone()]);
        for rule in &floor.rules {
            rows.push(vec![String::new(), String::new(), rule.rule.clone(), rule.label.clone()]);
        }
    }
    table(&["AGENT", "COUNTS AGAINST", "RULE", "FLOOR"], &rows)
}

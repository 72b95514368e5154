//! `sealbus policy place`.

use serde_json::json;

use super::{
    super::{
        failure::Failure,
        output::{BAD, Output, STRONG, paint, table},
    },
    asked::PolicyArg,
};
use crate::policy::place::place;

const EXAMPLES: &str = "\
Examples:
  sealbus policy place
  sealbus policy place --policy policy.toml --json

Data is placed by the highest label that a rule carries. A zone that names no server, cluster,
tag or TLS tells no connection from another.";

/// Show where every team and every class of data may run, and what contradicts it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    policy: PolicyArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let placement = place(&args.policy.trial()?);
    let teams: Vec<_> = placement
        .teams
        .iter()
        .map(|team| json!({ "team": team.team, "clearance": team.clearance, "zone": team.zone, "connects": team.connects }))
        .collect();
    let data: Vec<_> = placement
        .data
        .iter()
        .map(|data| json!({ "class": data.class, "rules": data.rules, "zones": data.zones, "readers": data.readers }))
        .collect();
    let object = json!({ "teams": teams, "data": data, "contradictions": placement.contradictions });
    let rows: Vec<Vec<String>> = placement
        .teams
        .iter()
        .map(|team| {
            let zone = team.zone.clone().unwrap_or_else(|| "-".to_owned());
            vec![team.team.clone(), team.clearance.clone(), zone, team.connects.clone()]
        })
        .collect();
    let mut text = table(&["TEAM", "CLEARED TO", "ZONE", "CONNECTS"], &rows);
    let some = |names: &[String]| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let rows: Vec<Vec<String>> = placement
        .data
        .iter()
        .map(|data| vec![data.class.clone(), some(&data.zones), some(&data.readers), data.rules.join(", ")])
        .collect();
    text.push_str("\n\n");
    text.push_str(&table(&["DATA", "ZONES THAT MAY HOLD IT", "READ BY", "RULES"], &rows));
    if !placement.contradictions.is_empty() {
        text.push_str(&format!("\n\n{}", paint(STRONG, "what contradicts it")));
        for what in &placement.contradictions {
            text.push_str(&format!("\n  {} {what}", paint(BAD, "!")));
        }
    }
    output.show(&object, text)
}

//! `sealbus graph leaks`.

use serde_json::json;

use super::{
    super::{
        failure::Failure,
        output::{BAD, Output, STRONG, paint, table},
    },
    show::{FormatArg, PATH_HEAD, holders_json, names, path_drawing, path_json, path_rows},
    world::WorldArgs,
};
use crate::graph::drawing::Drawing;

const EXAMPLES: &str = "\
Examples:
  sealbus graph leaks
  sealbus graph leaks --policy policy.toml --teams
  sealbus graph leaks --json | jq '.leaks[] | select(.composed)'

While taint is enforced, information goes below its label only by flow grants and where observe mode
lets it. A leak that is `composed` needs several of them: no single line of the policy says it.";

/// Show what can reach agents that are not cleared for it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    world: WorldArgs,
    #[command(flatten)]
    format: FormatArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let world = args.world.open(None)?;
    let tables = &world.records.tables;
    let graph = world.graph();
    let leaks = graph.leaks();
    args.format.show(
        output,
        || {
            let leaks = leaks.iter().map(|leak| {
                json!({
                    "label": tables.show(leak.label),
                    "readers": holders_json(&leak.readers),
                    "composed": leak.composed,
                    "steps": path_json(tables, &leak.path),
                })
            });
            json!({ "policy_version": world.version, "leaks": leaks.collect::<Vec<_>>() })
        },
        || {
            let mut drawing = Drawing::default();
            for leak in &leaks {
                path_drawing(tables, &leak.path, &mut drawing);
            }
            drawing
        },
        || {
            if leaks.is_empty() {
                return format!("Nothing can reach an agent not cleared for it under {}", world.policy());
            }
            let told = leaks.iter().map(|leak| {
                let kind = if leak.composed { "by several exceptions together" } else { "by one exception" };
                format!(
                    "{} {} can learn {}, {kind}\n{}",
                    paint(BAD, "●"),
                    paint(STRONG, names(&leak.readers)),
                    tables.show(leak.label),
                    table(&PATH_HEAD, &path_rows(tables, &leak.path))
                )
            });
            told.collect::<Vec<_>>().join("\n\n")
        },
    )
}

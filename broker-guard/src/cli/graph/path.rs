//! `sealbus graph path`.

use serde_json::json;

use super::{
    super::{
        failure::Failure,
        output::{Output, table},
    },
    reach::parse_label,
    show::{FormatArg, PATH_HEAD, name, path_drawing, path_json, path_rows, standing},
    world::WorldArgs,
};
use crate::graph::drawing::{Drawing, Shape};

const EXAMPLES: &str = "\
Examples:
  sealbus graph path collector-1 reporter-1
  sealbus graph path analyst-1 observer-1 --label confidential/findings/checked --format dot
  sealbus graph path collector-1 reporter-1 --json | jq -e '.steps == null'

The shortest way, with the lowest label of each step and the flow grant it needs, if any. Without a
way the answer is `null` and the exit code still 0.";

/// Show the shortest way for information from one agent to another
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where it starts: an agent, or with --teams a team
    from: String,
    /// Where it gets to
    to: String,
    /// What `from` holds at this label, as `level/compartments/integrity`
    #[arg(long)]
    label: Option<String>,
    #[command(flatten)]
    world: WorldArgs,
    #[command(flatten)]
    format: FormatArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let world = args.world.open(None)?;
    let tables = &world.records.tables;
    let label = args.label.as_deref().map(|text| parse_label(tables, text)).transpose()?;
    let graph = world.graph();
    let path = graph.path_of(&args.from, &args.to, label)?;
    let (from, to) = (graph.find(&args.from)?, graph.find(&args.to)?);
    args.format.show(
        output,
        || {
            json!({
                "from": args.from,
                "to": args.to,
                "label": label.map(|label| tables.show(label)),
                "policy_version": world.version,
                "steps": path.as_ref().map(|path| path_json(tables, path)),
            })
        },
        || {
            let mut drawing = Drawing::default();
            match &path {
                Some(path) => path_drawing(tables, path, &mut drawing),
                None => {
                    drawing.node(name(from), Shape::Box);
                    drawing.node(name(to), Shape::Box);
                }
            }
            drawing
        },
        || match &path {
            Some(path) => table(&PATH_HEAD, &path_rows(tables, path)),
            None => {
                let why = standing(from).or_else(|| standing(to)).map(|why| format!(": {why}"));
                let (from, to) = (name(from), name(to));
                format!("No way from {from} to {to} under {}{}", world.policy(), why.unwrap_or_default())
            }
        },
    )
}

//! `sealbus graph at`.

use serde_json::json;

use super::{
    super::{
        audit::unreadable,
        failure::{Exit, Failure},
        output::{FAINT, Output, paint, table},
    },
    show::FormatArg,
    world::{World, WorldArgs},
};
use crate::{
    audit::search::{Filter, search},
    graph::{
        Facts,
        structure::{Node, Observed, Structure},
    },
    policy::diagnostic::nearest,
};

const EXAMPLES: &str = "\
Examples:
  sealbus graph at                                the policy in force
  sealbus graph at 3                              version 3, as `sealbus policy history` lists it
  sealbus graph at --around analyst --format mermaid
  sealbus graph at --observed --format dot | dot -Tsvg > graph.svg";

/// Show agents, teams, zones, rules, tools, subjects, labels and grants as one graph
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A version that was kept, a bundle, or a policy file; the policy in force if not given
    #[arg(value_name = "VERSION|FILE", conflicts_with = "policy")]
    which: Option<String>,
    /// Only what is near the node of this name
    #[arg(long, value_name = "NAME")]
    around: Option<String>,
    /// How many edges away is near
    #[arg(long, default_value_t = 2, requires = "around")]
    steps: usize,
    /// With what the audit log has seen: envelopes sent and denied, keys relayed
    #[arg(long)]
    observed: bool,
    #[command(flatten)]
    world: WorldArgs,
    #[command(flatten)]
    format: FormatArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let world = args.world.clone().with_policy(args.which.as_deref()).open(None)?;
    let observed = if args.observed { observed(&world)? } else { Observed::default() };
    let mut structure = Structure::new(Facts::records(&world.records), &world.holders, &observed);
    if let Some(name) = &args.around {
        structure = structure.around(name, args.steps).ok_or_else(|| {
            let near = nearest(name, structure.nodes().map(Node::name));
            let remedy = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`sealbus graph at` shows every name".to_owned(),
            };
            Failure::told(Exit::Failure, "unknown_node", format!("the graph has no node `{name}`"), remedy)
        })?;
    }
    args.format.show(
        output,
        || {
            let edges =
                structure.edges().map(|(from, to, edge)| json!({ "from": from, "to": to, "edge": edge }));
            json!({
                "policy_version": world.version,
                "nodes": structure.nodes().collect::<Vec<_>>(),
                "edges": edges.collect::<Vec<_>>(),
            })
        },
        || structure.drawing(),
        || {
            let rows: Vec<Vec<String>> = structure
                .edges()
                .map(|(from, to, edge)| {
                    let (from_kind, to_kind) = (from.kind().to_owned(), to.kind().to_owned());
                    vec![from_kind, from.name().to_owned(), edge.to_string(), to_kind, to.name().to_owned()]
                })
                .collect();
            let count =
                format!("{} nodes, {} edges under {}", structure.nodes().count(), rows.len(), world.policy());
            format!("{}\n\n{}", table(&["", "FROM", "", "", "TO"], &rows), paint(FAINT, count))
        },
    )
}

fn observed(world: &World) -> Result<Observed, Failure> {
    let dir = &world.dir;
    let mut observed = Observed::default();
    for found in search(&dir.config.audit_dir, Filter::default()).map_err(|error| unreadable(dir, error))? {
        observed.read(&found.map_err(|error| unreadable(dir, error))?.entry);
    }
    Ok(observed)
}

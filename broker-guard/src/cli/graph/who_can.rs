//! `sealbus graph who-can`.

use sealbus_envelope::subject::Pattern;
use serde_json::json;

use super::{
    super::{
        failure::{Exit, Failure},
        output::{Output, table},
    },
    show::{FormatArg, PERMIT_HEAD, names, part, permit_json, permit_row, range},
    world::{WorldArgs, unknown_subject},
};
use crate::graph::{
    Access,
    drawing::{Drawing, Shape, Stroke},
};

const EXAMPLES: &str = "\
Examples:
  sealbus graph who-can read report.final
  sealbus graph who-can write 'deps.>' --policy policy.toml
  sealbus graph who-can read report.final --json | jq '.permits[].holders[].name'

LABELS are exactly those that the rule, the clearance and the integrity ceiling allow together.
Agents with equal rights share a line.";

/// Show who can read or write a subject, under which rule and with which labels
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What is asked
    access: Wanted,
    /// The subject; with wildcards, any subject it matches
    subject: String,
    #[command(flatten)]
    world: WorldArgs,
    #[command(flatten)]
    format: FormatArg,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Wanted {
    /// Who is given keys
    Read,
    /// Who can have an envelope admitted
    Write,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let subject = Pattern::parse(&args.subject).map_err(|_| {
        let message = format!("`{}` is not a subject", args.subject);
        let remedy = "tokens of visible ASCII divided by single dots, such as `deps.item.>`";
        Failure::told(Exit::Failure, "bad_subject", message, remedy)
    })?;
    let (access, word) = match args.access {
        Wanted::Read => (Access::Read, "read"),
        Wanted::Write => (Access::Write, "write"),
    };
    let world = args.world.open(None)?;
    if !world.records.rules.iter().any(|rule| rule.pattern.overlaps(&subject)) {
        return Err(unknown_subject(&world.records, &args.subject));
    }
    let graph = world.graph();
    let tables = &world.records.tables;
    let permits = graph.who_can(access, &subject);
    args.format.show(
        output,
        || {
            json!({
                "access": access,
                "subject": subject,
                "policy_version": world.version,
                "permits": permits.iter().map(|permit| permit_json(tables, permit)).collect::<Vec<_>>(),
            })
        },
        || {
            let mut drawing = Drawing::default();
            let node = drawing.node(&args.subject, Shape::Slanted);
            for permit in &permits {
                let who = drawing.node(names(&permit.holders), Shape::Box);
                let stroke = if permit.observed { Stroke::Dotted } else { Stroke::Solid };
                let text = format!("{} {}, {}", part(permit.part), permit.rule, range(tables, permit.labels));
                match access {
                    Access::Read => drawing.edge(node, who, text, stroke),
                    Access::Write => drawing.edge(who, node, text, stroke),
                }
            }
            drawing
        },
        || {
            if permits.is_empty() {
                return format!("Nobody can {word} `{subject}` under {}", world.policy());
            }
            table(&PERMIT_HEAD, &permits.iter().map(|permit| permit_row(tables, permit)).collect::<Vec<_>>())
        },
    )
}

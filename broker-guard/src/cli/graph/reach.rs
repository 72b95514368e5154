//! `sealbus graph reach`.

use sealbus_envelope::{label::Label, policy::Tables};
use serde_json::json;

use super::{
    super::{
        failure::{Exit, Failure},
        output::{FAINT, Output, paint, table},
    },
    show::{FormatArg, holder_json, labels, labels_json, name, names, reached_json, reached_row, standing},
    world::WorldArgs,
};
use crate::graph::{
    Reach, Standing,
    drawing::{Drawing, Shape, Stroke},
};

const EXAMPLES: &str = "\
Examples:
  sealbus graph reach collector-1
  sealbus graph reach analyst-1 --label confidential/deps+findings/untrusted
  sealbus graph reach collector --teams --format mermaid

Counts every step that labels, flow grants and observe mode let information take, in any number of
steps, with the lowest labels it can have. With --label, what the agent holds at that label.";

/// Show where an agent's information can get to
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The agent, or with --teams the team
    agent: String,
    /// What it holds at this label, as `level/compartments/integrity`, instead of what it knows itself
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
    let reach = graph.reach(&args.agent, label)?;
    args.format.show(
        output,
        || {
            let mut object = reach_json(tables, &reach);
            if let Some(object) = object.as_object_mut() {
                object.insert("policy_version".to_owned(), json!(world.version));
            }
            object
        },
        || reach_drawing(tables, &reach),
        || {
            if let Some(why) = standing(reach.start) {
                return why;
            }
            let rows: Vec<_> = reach.agents.iter().map(|reached| reached_row(tables, reached)).collect();
            let subjects: Vec<_> = reach
                .subjects
                .iter()
                .map(|on| {
                    let (rule, pattern) = (on.rule.to_string(), on.pattern.to_string());
                    vec![on.hops.to_string(), rule, pattern, labels(tables, &on.labels)]
                })
                .collect();
            let let_in = graph.holders().iter().filter(|holder| holder.standing == Standing::Valid);
            let others = let_in.count().saturating_sub(usize::from(!reach.start.is_team()));
            format!(
                "{}\n\n{}\n\n{}",
                table(&["HOPS", "AGENTS", "LOWEST LABELS"], &rows),
                table(&["HOPS", "RULE", "SUBJECTS", "LOWEST LABELS"], &subjects),
                paint(
                    FAINT,
                    format_args!(
                        "{} reaches {} of {} others under {}",
                        name(reach.start),
                        reach.count(),
                        others,
                        world.policy()
                    )
                ),
            )
        },
    )
}

pub(super) fn reach_json(tables: &Tables, reach: &Reach<'_>) -> serde_json::Value {
    let subjects = reach.subjects.iter().map(|on| {
        json!({
            "rule": on.rule, "pattern": on.pattern, "hops": on.hops, "labels": labels_json(tables, &on.labels),
        })
    });
    json!({
        "start": holder_json(reach.start),
        "label": reach.label.map(|label| tables.show(label)),
        "agents": reach.agents.iter().map(|reached| reached_json(tables, reached)).collect::<Vec<_>>(),
        "subjects": subjects.collect::<Vec<_>>(),
    })
}

pub(super) fn reach_drawing(tables: &Tables, reach: &Reach<'_>) -> Drawing {
    let mut drawing = Drawing::default();
    let start = drawing.node(name(reach.start), Shape::Double);
    for reached in &reach.agents {
        let node = drawing.node(names(&reached.holders), Shape::Box);
        let steps = if reached.hops == 1 { "1 hop".to_owned() } else { format!("{} hops", reached.hops) };
        let stroke = if reached.exceptional { Stroke::Thick } else { Stroke::Solid };
        drawing.edge(start, node, format!("{steps}, {}", labels(tables, &reached.labels)), stroke);
    }
    drawing
}

/// A label in the policy's words, as tables show it: `level/compartment+compartment/integrity`.
pub(super) fn parse_label(tables: &Tables, text: &str) -> Result<Label, Failure> {
    let number = |names: &[sealbus_envelope::name::Name], name: &str| {
        names.iter().position(|other| other.as_str() == name).and_then(|n| u8::try_from(n).ok())
    };
    let parse = || {
        let mut parts = text.split('/');
        let (level, compartments, rank) = (parts.next()?, parts.next()?, parts.next()?);
        let mut bits = 0_u64;
        for name in compartments.split('+').filter(|name| *name != "-") {
            bits |= 1_u64.checked_shl(number(&tables.compartments, name)?.into())?;
        }
        let label = Label {
            level: number(&tables.levels, level)?.try_into().ok()?,
            compartments: sealbus_envelope::label::Compartments::from_bits(bits),
            integrity: number(&tables.integrity, rank)?.try_into().ok()?,
        };
        parts.next().is_none().then_some(label)
    };
    parse().ok_or_else(|| {
        let list = |names: &[sealbus_envelope::name::Name]| {
            names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let message = format!("`{text}` is not a label of this policy");
        let remedy = format!(
            "write level/compartments/integrity; levels: {}; compartments joined by `+`, or `-`: {}; integrity: {}",
            list(&tables.levels),
            list(&tables.compartments),
            list(&tables.integrity)
        );
        Failure::told(Exit::Failure, "bad_label", message, remedy)
    })
}

//! `sealbus workflow pause` and `resume`.

use sealbus_envelope::order::{OrderKind, Target};

use super::super::{
    busdir::BusArg,
    failure::Failure,
    order::{self, OrderArgs},
    output::Output,
};

const PAUSE: &str = "\
Examples:
  sealbus workflow pause payments --reason 'two invoices look alike'
  sealbus workflow pause team:collector --reason 'the model was changed' --out pause.order

One policy key signs it, unless the policy wants more. What is under way is denied; nothing is
lost that its sender did not choose to lose: it is told, and waits or fails as it asked to.";

const RESUME: &str = "\
Examples:
  sealbus workflow show payments
  sealbus workflow resume payments --reason 'the invoice was a test'

One policy key signs it, unless the policy wants more: `[orders] resume = 2`.";

/// Pause a workflow: everything a team sends, or everything under a rule
#[derive(Debug, clap::Args)]
#[command(after_help = PAUSE)]
pub(crate) struct Pause {
    /// `team:NAME`, `rule:NAME`, or a name that only one of both has
    workflow: String,
    #[command(flatten)]
    order: OrderArgs,
    #[command(flatten)]
    bus: BusArg,
}

/// Let a paused workflow go on
#[derive(Debug, clap::Args)]
#[command(after_help = RESUME)]
pub(crate) struct Resume {
    /// `team:NAME`, `rule:NAME`, or a name that only one of both has
    workflow: String,
    #[command(flatten)]
    order: OrderArgs,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn pause(args: &Pause, output: &Output) -> Result<(), Failure> {
    give(&args.bus, OrderKind::Pause, &args.workflow, &args.order, output)
}

pub(crate) fn resume(args: &Resume, output: &Output) -> Result<(), Failure> {
    give(&args.bus, OrderKind::Resume, &args.workflow, &args.order, output)
}

fn give(
    bus: &BusArg,
    kind: OrderKind,
    name: &str,
    order: &OrderArgs,
    output: &Output,
) -> Result<(), Failure> {
    let dir = bus.open()?;
    let workflow = super::named(&dir, name)?;
    let file = workflow.to_string().replace(':', "-");
    order::give(&dir, kind, (&file, Target::Workflow(workflow)), order, output)
}

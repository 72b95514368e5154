//! `sealbus quarantine add`.

use sealbus_envelope::order::OrderKind;

use super::super::{
    busdir::BusArg,
    failure::Failure,
    order::{self, OrderArgs},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  sealbus quarantine add mallory --reason 'reported by its owner'
  sealbus quarantine add mallory --reason 'reported by its owner' --offline /media/keys/offline

One signature is enough, unless the policy wants more: taking off is quick, letting back is not.
Its connections are cut, what others sealed with keys that it holds goes stale in two seconds, who
waits for its answers is told. `sealbus quarantine show` says when every server has confirmed it.";

/// Take an agent off the bus, by an order that one policy key signs
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the agent
    agent: String,
    #[command(flatten)]
    order: OrderArgs,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let target = order::agent(&dir, &args.agent)?;
    order::give(&dir, OrderKind::Quarantine, (&args.agent, target), &args.order, output)
}

//! `sealbus quarantine add`.

use sealbus_envelope::order::OrderKind;

use super::super::{failure::Failure, order::AgentOrder, output::Output};

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
    #[command(flatten)]
    order: AgentOrder,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.order.give(OrderKind::Quarantine, output)
}

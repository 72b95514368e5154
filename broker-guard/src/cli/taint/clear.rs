//! `sealbus taint clear`: an order that forgets an agent's floor.

use sealbus_envelope::order::OrderKind;

use super::super::{failure::Failure, order::AgentOrder, output::Output};

const EXAMPLES: &str = "\
Examples:
  sealbus taint clear alice --reason 'redeployed with an empty memory'
  sealbus taint clear alice --reason 'redeployed' --offline /media/keys/offline

If the quorum's keys are in different hands, a draft is written:
  sealbus taint clear alice --reason 'redeployed' --out clear.order
  sealbus order sign clear.order          by the next holder
  sealbus order submit clear.order        by anybody

Who signs vouches that nothing the agent has read is left in it. So stop the agent, give the
order, and start the agent again: its sessions end with the order and do not come back. Keys
that it may hold rotate before the floor falls. Floors of single sessions end with them.";

/// Forget what an agent was given to read, by an order that a quorum signs
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    order: AgentOrder,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.order.give(OrderKind::ClearTaint, output)
}

//! `sealbus quarantine revoke`.

use sealbus_envelope::order::OrderKind;

use super::super::{failure::Failure, order::AgentOrder, output::Output};

const EXAMPLES: &str = "\
Examples:
  sealbus quarantine revoke mallory --reason 'its key was stolen'
  sealbus quarantine revoke mallory --reason 'its key was stolen' --offline /media/keys/offline

Nothing undoes this: the agent needs a new identity (`sealbus agent add`). It holds at this guard;
to have every client refuse the identity as well, revoke it in the status statement too:
  sealbus agent revoke mallory";

/// Keep an agent off this bus for good, by an order that one policy key signs
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    order: AgentOrder,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.order.give(OrderKind::Revoke, output)
}

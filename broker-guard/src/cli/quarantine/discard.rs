//! `sealbus quarantine discard`.

use sealbus_envelope::order::OrderKind;

use super::super::{failure::Failure, order::AgentOrder, output::Output};

const EXAMPLES: &str = "\
Examples:
  sealbus quarantine discard mallory --reason 'all of it was junk'
  sealbus quarantine discard mallory --reason 'all of it was junk' --offline /media/keys/offline

If the quorum's keys are in different hands, a draft is written:
  sealbus quarantine discard mallory --reason 'all of it was junk' --out mallory.order
  sealbus order sign mallory.order          by the next holder
  sealbus order submit mallory.order        by anybody

What the guard's disk holds is deleted. What the bus's stream holds is struck from the list and
goes when the stream's age says so: nobody can delete from it, which is what makes it evidence.";

/// Discard what was kept of an agent, by an order that a quorum signs
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    order: AgentOrder,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.order.give(OrderKind::DiscardEvidence, output)
}

//! `sealbus quarantine release`.

use sealbus_envelope::order::OrderKind;

use super::super::{failure::Failure, order::AgentOrder, output::Output};

const EXAMPLES: &str = "\
Examples:
  sealbus quarantine release mallory --reason 'a bug, mended'
  sealbus quarantine release mallory --reason 'a bug, mended' --offline /media/keys/offline

If the quorum's keys are in different hands, a draft is written:
  sealbus quarantine release mallory --reason 'a bug, mended' --out mallory.order
  sealbus order sign mallory.order          by the next holder
  sealbus order submit mallory.order        by anybody

Its past stays on record. What was kept of it is not delivered by this: see `quarantine replay`.";

/// Let an agent back on the bus, by an order that a quorum signs
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    order: AgentOrder,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.order.give(OrderKind::Release, output)
}

//! `sealbus order submit`.

use std::path::PathBuf;

use super::super::{busdir::BusArg, failure::Failure, output::Output, page::AddressArg};

const EXAMPLES: &str = "\
Examples:
  sealbus order submit clear_taint-alice-1f3a9c02.order
  sealbus order submit clear_taint-alice-1f3a9c02.order --address 10.0.0.7:9464

Needs no key: the order proves itself. The guard carries it out once.
Exit code 3 if it lacks signatures, its time is over or the guard refuses it.";

/// Hand a signed order to the guard
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The order's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    address: AddressArg,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let draft = super::read(&args.file, &dir.config.roots)?;
    super::complete(&args.file, &draft, &dir.config.roots)?;
    super::submit(args.address.of(&dir.config), &draft)?.show(output)
}

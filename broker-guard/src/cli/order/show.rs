//! `sealbus order show`.

use std::path::PathBuf;

use super::super::{busdir::BusArg, failure::Failure, output::Output};

const EXAMPLES: &str = "\
Examples:
  sealbus order show clear_taint-alice-1f3a9c02.order

Exit code 4 if a signature on it is not good.";

/// Show what an order says, who has signed it, and who must
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The order's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let draft = super::read(&args.file, &dir.config.roots)?;
    super::tell(&dir, &args.file, &draft, output)
}

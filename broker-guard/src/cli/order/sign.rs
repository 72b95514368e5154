//! `sealbus order sign`.

use std::path::PathBuf;

use super::super::{
    busdir::{BusArg, OfflineArg},
    failure::{Exit, Failure},
    output::Output,
};
use crate::keyfile::replace_public;

const EXAMPLES: &str = "\
Examples:
  sealbus order show clear_taint-alice-1f3a9c02.order
  sealbus order sign clear_taint-alice-1f3a9c02.order --offline /media/keys/offline

Adds the signatures of the policy keys at hand and writes the file again.";

/// Sign an order that somebody else began
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The order's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    bus: BusArg,
    #[command(flatten)]
    offline: OfflineArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let roots = &dir.config.roots;
    let mut draft = super::read(&args.file, roots)?;
    let mut added = false;
    for key in dir.offline(&args.offline).policy_keys_at_hand()? {
        added |= draft.sign(&key, roots).map_err(super::unmade)?;
    }
    if !added {
        let message = format!("every policy key that is here has signed `{}` already", args.file.display());
        let remedy = "give it to another key holder; one key is one signature";
        return Err(Failure::told(Exit::Denied, "already_signed", message, remedy));
    }
    replace_public(&args.file, &draft.encode())?;
    super::tell(&dir, &args.file, &draft, output)
}

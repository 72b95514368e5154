//! `sealbus policy`: check a policy file, and sign it.

mod check;
mod sign;

use clap::Subcommand;

use super::{failure::Failure, output::Output};

/// Check and sign the policy
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(check::Args),
    Sign(sign::Args),
}

pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Check(args) => check::run(args, output),
        Command::Sign(args) => sign::run(args, output),
    }
}

//! `sealbus taint`: what agents were given to read, which they may not write below.

mod clear;
mod show;

use clap::Subcommand;

use super::{failure::Failure, output::Output};

/// Show and clear what agents were given to read
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Show(show::Args),
    Clear(clear::Args),
}

pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Show(args) => show::run(args, output),
        Command::Clear(args) => clear::run(args, output),
    }
}

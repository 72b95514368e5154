//! `sealbus graph`: the trust graph of a policy and of the agents under it.

mod at;
mod blast_radius;
mod diff;
mod leaks;
mod path;
mod reach;
mod show;
mod who_can;
mod world;

pub(crate) use blast_radius::radius;

use clap::Subcommand;

use super::{failure::Failure, output::Output};

/// Ask the trust graph who can reach whom, and with what
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    WhoCan(who_can::Args),
    Reach(reach::Args),
    Path(path::Args),
    BlastRadius(blast_radius::Args),
    Leaks(leaks::Args),
    At(at::Args),
    Diff(diff::Args),
}

pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::WhoCan(args) => who_can::run(args, output),
        Command::Reach(args) => reach::run(args, output),
        Command::Path(args) => path::run(args, output),
        Command::BlastRadius(args) => blast_radius::run(args, output),
        Command::Leaks(args) => leaks::run(args, output),
        Command::At(args) => at::run(args, output),
        Command::Diff(args) => diff::run(args, output),
    }
}

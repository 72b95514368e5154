//! `sealbus quarantine`: who is off the bus or watched, why, and the orders that change it.

mod add;
mod discard;
mod list;
mod release;
mod replay;
mod report;
mod revoke;
mod show;

use clap::Subcommand;

use super::{failure::Failure, output::Output};

/// See who is off the bus and why, and decide: release, revoke, deliver or discard what was kept
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Add(add::Args),
    List(list::Args),
    Show(show::Args),
    Release(release::Args),
    Revoke(revoke::Args),
    Replay(replay::Args),
    Discard(discard::Args),
}

pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Add(args) => add::run(args, output),
        Command::List(args) => list::run(args, output),
        Command::Show(args) => show::run(args, output),
        Command::Release(args) => release::run(args, output),
        Command::Revoke(args) => revoke::run(args, output),
        Command::Replay(args) => replay::run(args, output),
        Command::Discard(args) => discard::run(args, output),
    }
}

//! `sealbus agent`: who may join the bus.

pub(super) mod add;
mod list;
mod renew;
mod renew_status;
mod revoke;
mod show;

use clap::Subcommand;

use super::{failure::Failure, output::Output};

/// Add, list, show and revoke agents
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Add(add::Args),
    List(list::Args),
    Show(show::Args),
    Renew(renew::Args),
    Revoke(revoke::Args),
    RenewStatus(renew_status::Args),
}

pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Add(args) => add::run(args, output),
        Command::List(args) => list::run(args, output),
        Command::Show(args) => show::run(args, output),
        Command::Renew(args) => renew::run(args, output),
        Command::Revoke(args) => revoke::run(args, output),
        Command::RenewStatus(args) => renew_status::run(args, output),
    }
}

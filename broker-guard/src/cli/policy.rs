//! `sealbus policy`: check a policy file, sign it, give it to guards, look at what was in force.

mod bucket;
mod changes;
mod check;
mod history;
mod issue;
mod publish;
mod rollback;
mod sign;

use std::path::Path;

use clap::Subcommand;

use super::{
    failure::{Exit, Failure},
    output::Output,
};
use crate::policy::source::PolicySource;

/// Check, sign and publish the policy
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(check::Args),
    Sign(sign::Args),
    Publish(publish::Args),
    History(history::Args),
    Rollback(rollback::Args),
}

pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Check(args) => check::run(args, output),
        Command::Sign(args) => sign::run(args, output),
        Command::Publish(args) => publish::run(args, output),
        Command::History(args) => history::run(args, output),
        Command::Rollback(args) => rollback::run(args, output),
    }
}

/// Reads a policy file.
pub(crate) fn source(path: &Path) -> Result<PolicySource, Failure> {
    let text = std::fs::read_to_string(path).map_err(|source| {
        let message = format!("cannot read the policy `{}`", path.display());
        let remedy = match source.kind() {
            std::io::ErrorKind::NotFound => "name the file, or run this in the bus directory",
            std::io::ErrorKind::InvalidData => "it must be UTF-8 text; see whether it is the right file",
            _ => "see whether the path is right",
        };
        Failure::because(Exit::Config, "policy_unreadable", message, remedy, source)
    })?;
    Ok(PolicySource::new(path.display().to_string(), text))
}

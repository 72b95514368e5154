//! `sealbus policy`: check a policy file, test and compare it, sign it, give it to guards, look at what was in force.

mod asked;
mod bucket;
mod changes;
mod check;
mod diff;
mod explain;
mod history;
mod issue;
mod observed;
mod place;
mod publish;
mod replay;
mod rollback;
mod sign;
mod test;

use std::{io, path::Path};

use clap::Subcommand;

use super::{
    failure::{Exit, Failure},
    output::Output,
};
use crate::policy::source::PolicySource;

/// Check, test, explain, compare, sign and publish the policy
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(check::Args),
    Test(test::Args),
    Explain(explain::Args),
    Diff(diff::Args),
    Replay(replay::Args),
    Observed(observed::Args),
    Place(place::Args),
    Sign(sign::Args),
    Publish(publish::Args),
    History(history::Args),
    Rollback(rollback::Args),
}

pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Check(args) => check::run(args, output),
        Command::Test(args) => test::run(args, output),
        Command::Explain(args) => explain::run(args, output),
        Command::Diff(args) => diff::run(args, output),
        Command::Replay(args) => replay::run(args, output),
        Command::Observed(args) => observed::run(args, output),
        Command::Place(args) => place::run(args, output),
        Command::Sign(args) => sign::run(args, output),
        Command::Publish(args) => publish::run(args, output),
        Command::History(args) => history::run(args, output),
        Command::Rollback(args) => rollback::run(args, output),
    }
}

/// Reads a policy file, or one of cases.
pub(crate) fn source(path: &Path) -> Result<PolicySource, Failure> {
    let bytes = std::fs::read(path).map_err(|source| unreadable(path, source))?;
    source_of(path, bytes)
}

/// The text that was read from `path`.
fn source_of(path: &Path, bytes: Vec<u8>) -> Result<PolicySource, Failure> {
    let invalid = |error| unreadable(path, io::Error::new(io::ErrorKind::InvalidData, error));
    Ok(PolicySource::new(path.display().to_string(), String::from_utf8(bytes).map_err(invalid)?))
}

fn unreadable(path: &Path, source: io::Error) -> Failure {
    let message = format!("cannot read the policy `{}`", path.display());
    let remedy = match source.kind() {
        io::ErrorKind::NotFound => "name the file, or run this in the bus directory",
        io::ErrorKind::InvalidData => "it must be UTF-8 text; see whether it is the right file",
        _ => "see whether the path is right",
    };
    Failure::because(Exit::Config, "policy_unreadable", message, remedy, source)
}

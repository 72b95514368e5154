//! `sealbus audit`: the log on the guard's disk, read without asking the guard.

mod accept_loss;
mod check_proof;
mod consistency;
pub(crate) mod delivery;
mod entry_text;
mod export;
mod key;
mod parents;
mod prove;
mod prune;
mod search;
mod verify;

use clap::Subcommand;
use sealbus_envelope::time::Millis;

pub(crate) use entry_text::line;

use super::{
    busdir::BusDir,
    failure::{Exit, Failure},
    output::Output,
    when,
};
use crate::{
    audit::{note::NoteKey, prove::ProofError},
    clock::now,
    keyfile::read_credential,
    service::log_name,
};

/// Verify and search the audit log, and prove what it holds
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Verify(verify::Args),
    Search(search::Args),
    Parents(parents::Args),
    Prove(prove::Args),
    Consistency(consistency::Args),
    CheckProof(check_proof::Args),
    Key(key::Args),
    Export(export::Args),
    Prune(prune::Args),
    AcceptLoss(accept_loss::Args),
}

pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Verify(args) => verify::run(args, output),
        Command::Search(args) => search::run(args, output),
        Command::Parents(args) => parents::run(args, output),
        Command::Prove(args) => prove::run(args, output),
        Command::Consistency(args) => consistency::run(args, output),
        Command::CheckProof(args) => check_proof::run(args, output),
        Command::Key(args) => key::run(args, output),
        Command::Export(args) => export::run(args, output),
        Command::Prune(args) => prune::run(args, output),
        Command::AcceptLoss(args) => accept_loss::run(args, output),
    }
}

/// The key that the guard signs checkpoints with. Its credential is public, so no secret is touched.
pub(crate) fn note_key(dir: &BusDir) -> Result<NoteKey, Failure> {
    let credential = read_credential(&dir.config.keys.credential, &dir.config)?;
    let public = *credential.claims().identity.as_bytes();
    NoteKey::new(&log_name(&dir.config), public).map_err(|error| {
        let remedy = "see whether the guard's credential is the right one";
        Failure::told(Exit::Config, "audit_key", error.to_string(), remedy)
    })
}

/// A time as an argument.
fn parse_time(text: &str) -> Result<Millis, String> {
    when::parse(text, now())
}

/// The log cannot be read.
pub(crate) fn unreadable(dir: &BusDir, error: impl std::fmt::Display) -> Failure {
    let message = format!("audit log `{}`: {error}", dir.config.audit_dir.display());
    let remedy = "see whether the path is right; `sealbus audit verify` tells what is damaged";
    Failure::told(Exit::Failure, "audit_unreadable", message, remedy)
}

/// A proof could not be made.
pub(crate) fn not_proven(dir: &BusDir, error: ProofError) -> Failure {
    match error {
        error @ ProofError::Beyond { .. } => {
            let remedy =
                "find the number with `sealbus audit search`; a running guard signs ten checkpoints a second";
            Failure::told(Exit::Failure, "audit_beyond", error.to_string(), remedy)
        }
        error @ (ProofError::Note(_) | ProofError::False | ProofError::Tile(_)) => {
            let remedy = "run `sealbus audit verify`";
            Failure::told(Exit::Unverified, "audit_not_verified", error.to_string(), remedy)
        }
        error => unreadable(dir, error),
    }
}

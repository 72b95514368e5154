//! `sealbus audit key`, and the argument that takes what it shows.

use serde_json::json;

use super::{
    super::{
        busdir::{BusArg, BusDir},
        failure::Failure,
        output::Output,
    },
    note_key,
};
use crate::audit::note::NoteKey;

const EXAMPLES: &str = "\
Examples:
  sealbus audit key
  sealbus audit check-proof entry.proof --key \"$(cat log.key)\"    on any machine

Give it to whoever is to check proofs and exports, by a way that you trust: it is public, and all
they need (C2SP signed-note verifier key).";

/// Show the public key that proofs and exports of the log are checked with
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let key = note_key(&args.bus.open()?)?;
    output.show(&json!({ "log": key.name(), "key": key.to_string() }), &key)
}

/// Whose log it is: a bus of this machine, or a key alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Whose {
    /// The log's public key as `sealbus audit key` shows it; then nothing of the bus is needed
    #[arg(long, value_name = "KEY")]
    key: Option<NoteKey>,
    #[command(flatten)]
    pub(crate) bus: BusArg,
}

impl Whose {
    /// The key, and the bus's directory unless the key was given.
    pub(crate) fn open(&self) -> Result<(NoteKey, Option<BusDir>), Failure> {
        if let Some(key) = &self.key {
            return Ok((key.clone(), None));
        }
        let dir = self.bus.open()?;
        Ok((note_key(&dir)?, Some(dir)))
    }
}

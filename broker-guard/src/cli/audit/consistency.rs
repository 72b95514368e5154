//! `sealbus audit consistency`.

use std::{fs, path::PathBuf};

use serde_json::json;

use super::{
    super::{
        busdir::BusArg,
        failure::{Exit, Failure},
        output::Output,
    },
    not_proven, note_key,
};
use crate::{
    audit::{note::Checkpoint, prove::prove_consistency},
    keyfile::replace_public,
};

const EXAMPLES: &str = "\
Examples:
  sealbus audit consistency january.checkpoint > since-january.proof
  sealbus audit check-proof since-january.proof --old january.checkpoint --key KEY

The proof (the form of C2SP tlog-witness) convinces who holds the old checkpoint and the log's
public key that today's log still holds every entry of then, unchanged and in order. Exit code 4
if it does not.";

/// Write a proof that the log extends what it was at an earlier checkpoint
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The earlier checkpoint, a copy of the log's file `checkpoint`
    old: PathBuf,
    /// Write the proof to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let key = note_key(&dir)?;
    let note = fs::read_to_string(&args.old).map_err(|source| Failure::io("read", &args.old, source))?;
    let old = Checkpoint::open(&note, &key).map_err(|error| {
        let message = format!("`{}`: {error}", args.old.display());
        Failure::told(Exit::Unverified, "checkpoint_false", message, "give a checkpoint of this log")
    })?;
    let proof = prove_consistency(&dir.config.audit_dir, &key, old.size)
        .and_then(|proof| {
            proof.verify(&old, &key)?;
            Ok(proof)
        })
        .map_err(|error| not_proven(&dir, error))?;
    let text = proof.to_text();
    if let Some(path) = &args.out {
        replace_public(path, text.as_bytes())?;
        let object = json!({ "old": old.size, "proof": path });
        let text = format!("Proof that the log extends its first {} entries in {}", old.size, path.display());
        return output.show(&object, text);
    }
    if output.is_json() {
        return output.object(&json!({ "old": old.size, "proof": text }));
    }
    output.raw(text.as_bytes())
}

//! `sealbus audit prove`.

use std::path::PathBuf;

use serde_json::json;

use super::{
    super::{
        busdir::BusArg,
        failure::{Exit, Failure},
        output::Output,
    },
    note_key, unreadable,
};
use crate::{
    audit::prove::{ProofError, prove_inclusion},
    keyfile::replace_public,
};

const EXAMPLES: &str = "\
Examples:
  sealbus audit prove 1234 > entry-1234.proof
  sealbus audit prove 1234 --out entry-1234.proof

The leaf number is the first column of `sealbus audit search`. The proof (C2SP tlog-proof)
convinces who has the guard's public key that the entry is in the log, without the log: `sealbus
audit check-proof`.";

/// Write a proof that an entry is in the log
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Leaf number of the entry
    leaf: u64,
    /// Write the proof to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let key = note_key(&dir)?;
    let proof = prove_inclusion(&dir.config.audit_dir, &key, args.leaf).map_err(|error| match error {
        error @ ProofError::Beyond { .. } => {
            let remedy =
                "find the number with `sealbus audit search`; a running guard signs ten checkpoints a second";
            Failure::told(Exit::Failure, "audit_beyond", error.to_string(), remedy)
        }
        error @ (ProofError::Note(_) | ProofError::False | ProofError::Tile(_)) => {
            let remedy = "run `sealbus audit verify`";
            Failure::told(Exit::Unverified, "audit_not_verified", error.to_string(), remedy)
        }
        error => unreadable(&dir, error),
    })?;
    let text = proof.to_text();
    if let Some(path) = &args.out {
        replace_public(path, text.as_bytes())?;
        let object = json!({ "leaf": args.leaf, "proof": path });
        return output.show(&object, format_args!("Proof of entry {} in {}", args.leaf, path.display()));
    }
    if output.is_json() {
        return output.object(&json!({ "leaf": args.leaf, "proof": text }));
    }
    output.raw(text.as_bytes())
}

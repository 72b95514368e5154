//! `sealbus audit check-proof`.

use std::{fs, path::PathBuf};

use serde_json::json;

use super::{
    super::{
        failure::{Exit, Failure},
        output::{GOOD, Output, paint},
    },
    key::Whose,
    line,
};
use crate::audit::{
    hex::Hex,
    note::{Checkpoint, NoteKey},
    prove::{ConsistencyProof, InclusionProof, ProofError},
};

const EXAMPLES: &str = "\
Examples:
  sealbus audit check-proof entry-1234.proof --key KEY
  sealbus audit check-proof since-january.proof --old january.checkpoint --key KEY

Needs the log's public key (`sealbus audit key`), or the bus's configuration and the guard's
credential, and nothing else. Exit code 4 if the proof is false.";

/// Check a proof that an entry is in the log, or that the log extends an earlier checkpoint
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The proof
    file: PathBuf,
    /// The earlier checkpoint that the log is to extend
    #[arg(long, value_name = "FILE")]
    old: Option<PathBuf>,
    #[command(flatten)]
    whose: Whose,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let (key, dir) = args.whose.open()?;
    let text = fs::read_to_string(&args.file).map_err(|source| Failure::io("read", &args.file, source))?;
    if text.starts_with("old ") {
        return consistency(args, &text, &key, output);
    }
    let checked = InclusionProof::parse(&text).and_then(|proof| Ok((proof.leaf, proof.verify(&key)?)));
    let (leaf, entry) = checked.map_err(|error| refuted(args, &error))?;
    if output.is_json() {
        let entry = entry.to_json().unwrap_or_default();
        let rest = entry.strip_prefix('{').unwrap_or_default();
        return output.text(format_args!("{{\"leaf\":{leaf},\"verified\":true,{rest}"));
    }
    let bundle = dir.map(|dir| dir.bundle()).transpose()?;
    output.text(format_args!("{} in the log of {}", paint(GOOD, "✓"), key.name()))?;
    output.text(line(leaf, &entry, bundle.as_ref().map(|(bundle, _)| bundle.tables())))
}

fn consistency(args: &Args, text: &str, key: &NoteKey, output: &Output) -> Result<(), Failure> {
    let Some(path) = &args.old else {
        let message = "this is a proof that the log extends an earlier checkpoint";
        let remedy = "name the checkpoint that you kept with `--old FILE`";
        return Err(Failure::told(Exit::Failure, "old_checkpoint", message, remedy));
    };
    let note = fs::read_to_string(path).map_err(|source| Failure::io("read", path, source))?;
    let checked = Checkpoint::open(&note, key)
        .map_err(ProofError::from)
        .and_then(|old| Ok((ConsistencyProof::parse(text)?.verify(&old, key)?, old)));
    let (new, old) = checked.map_err(|error| refuted(args, &error))?;
    let object = json!({
        "verified": true, "log": key.name(), "old": old.size, "size": new.size, "root": Hex(new.root),
    });
    let text = format!(
        "{} the log of {} has {} entries, and the first {} are those of then",
        paint(GOOD, "✓"),
        key.name(),
        new.size,
        old.size
    );
    output.show(&object, text)
}

fn refuted(args: &Args, error: &ProofError) -> Failure {
    let message = format!("`{}`: {error}", args.file.display());
    let remedy = "ask for the proof again; if it stays false, the log or who sent the proof is";
    Failure::told(Exit::Unverified, "proof_false", message, remedy)
}

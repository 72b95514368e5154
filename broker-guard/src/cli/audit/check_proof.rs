//! `sealbus audit check-proof`.

use std::{fs, path::PathBuf};

use super::{
    super::{
        busdir::BusArg,
        failure::{Exit, Failure},
        output::{GOOD, Output, paint},
    },
    line, note_key,
};
use crate::audit::prove::InclusionProof;

const EXAMPLES: &str = "\
Examples:
  sealbus audit check-proof entry-1234.proof

Needs the bus's configuration and the guard's credential (both public), not the log. Exit code 4
if the proof is false.";

/// Check a proof that an entry is in the log, and show the entry
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The proof
    file: PathBuf,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let key = note_key(&dir)?;
    let text = fs::read_to_string(&args.file).map_err(|source| Failure::io("read", &args.file, source))?;
    let checked = InclusionProof::parse(&text).and_then(|proof| Ok((proof.leaf, proof.verify(&key)?)));
    let (leaf, entry) = checked.map_err(|error| {
        let message = format!("`{}`: {error}", args.file.display());
        let remedy = "ask for the proof again; if it stays false, the log or who sent the proof is";
        Failure::told(Exit::Unverified, "proof_false", message, remedy)
    })?;
    if output.is_json() {
        let entry = entry.to_json().unwrap_or_default();
        let rest = entry.strip_prefix('{').unwrap_or_default();
        return output.text(format_args!("{{\"leaf\":{leaf},\"verified\":true,{rest}"));
    }
    let (bundle, _) = dir.bundle()?;
    output.text(format_args!("{} in the log of {}", paint(GOOD, "✓"), key.name()))?;
    output.text(line(leaf, &entry, bundle.tables()))
}

//! `sealbus audit prove`.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    super::{
        busdir::{BusArg, BusDir},
        failure::Failure,
        output::{GOOD, Output, paint},
    },
    delivery::Delivery,
    not_proven, note_key, unreadable,
};
use crate::{
    audit::{
        note::NoteKey,
        prove::{InclusionProof, ProofError, prove_inclusion},
        search::locate,
    },
    keyfile::replace_public,
};

const EXAMPLES: &str = "\
Examples:
  sealbus audit prove 1234 > entry-1234.proof
  sealbus audit prove --delivery saved/9f86d081884c7d659a2feaa0c55ad015.envelope --out entry.proof

The leaf number is the first column of `sealbus audit search`. A delivery is what `sealbus sub
--save DIR` keeps, or any program that keeps the envelope's bytes and the header
`Sealbus-Admission`: the guard signed that it let it pass, so its log must have the entry; exit
code 4 if it has not. The proof (C2SP tlog-proof) convinces who has the log's public key that the
entry is in the log, without the log: `sealbus audit check-proof`.";

/// How long a running guard may take for its next checkpoint.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the file is read again: the guard tells nobody that it has signed one.
const EVERY: Duration = Duration::from_millis(50);

/// Write a proof that an entry is in the log
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Leaf number of the entry
    #[arg(required_unless_present = "delivery", conflicts_with = "delivery")]
    leaf: Option<u64>,
    /// The sealed envelope as it was delivered
    #[arg(long, value_name = "FILE")]
    delivery: Option<PathBuf>,
    /// Its proof of admission; if not given, the file beside it that ends with `.admission`
    #[arg(long, value_name = "FILE", requires = "delivery")]
    admission: Option<PathBuf>,
    /// Write the proof to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let key = note_key(&dir)?;
    let leaf = match (&args.delivery, args.leaf) {
        (Some(path), _) => {
            let delivery = Delivery::read(path, args.admission.as_deref(), &key)?;
            let found = locate(&dir.config.audit_dir, delivery.position());
            delivery.check(found.map_err(|error| unreadable(&dir, error))?)?.leaf
        }
        (None, leaf) => leaf.unwrap_or_default(),
    };
    let proof = prove(&dir, &key, leaf)?;
    let text = proof.to_text();
    if let Some(path) = &args.out {
        replace_public(path, text.as_bytes())?;
        let object = json!({ "leaf": leaf, "proof": path });
        let told = format!("{} entry {leaf} is in the log; proof in {}", paint(GOOD, "✓"), path.display());
        return output.show(&object, told);
    }
    if output.is_json() {
        return output.object(&json!({ "leaf": leaf, "proof": text }));
    }
    output.raw(text.as_bytes())
}

/// What was just delivered may wait for its checkpoint; a running guard signs ten a second.
fn prove(dir: &BusDir, key: &NoteKey, leaf: u64) -> Result<InclusionProof, Failure> {
    let begun = Instant::now();
    loop {
        match prove_inclusion(&dir.config.audit_dir, key, leaf) {
            Err(ProofError::Beyond { .. }) if begun.elapsed() < PATIENCE && is_there(dir, leaf) => {
                thread::sleep(EVERY);
            }
            outcome => return outcome.map_err(|error| not_proven(dir, error)),
        }
    }
}

/// Whether the entry was written, if not sealed.
fn is_there(dir: &BusDir, leaf: u64) -> bool {
    use crate::audit::search::{Filter, search};
    let filter = Filter { from_leaf: leaf, ..Filter::default() };
    search(&dir.config.audit_dir, filter).is_ok_and(|mut found| matches!(found.next(), Some(Ok(_))))
}

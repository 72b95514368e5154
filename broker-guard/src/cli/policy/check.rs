//! `sealbus policy check`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::{
    failure::{Failure, to_json},
    output::{GOOD, Output, paint},
};
use crate::policy::{self, Checked};

const EXAMPLES: &str = "\
Examples:
  sealbus policy check policy.toml
  sealbus policy check policy.toml --json | jq '.error.related[].places[0].line'

Everything wrong is reported at once, with its line. Exit code 64 if the policy cannot be
signed.";

/// Check a policy file and report everything wrong with it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The policy file
    #[arg(default_value = "policy.toml")]
    file: PathBuf,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let checked = read(&args.file, output)?;
    let (teams, rules) = (checked.policy.teams().len(), checked.policy.rules().len());
    let object = json!({
        "file": args.file,
        "teams": teams,
        "rules": rules,
        "warnings": checked.warnings.as_slice().len(),
        "findings": if checked.warnings.is_empty() { json!([]) } else { to_json(&checked.warnings).get("related").cloned().unwrap_or_default() },
    });
    let text = format!("{} {}: {teams} teams, {rules} rules", paint(GOOD, "✓"), args.file.display());
    output.show(&object, text)
}

/// Reads and checks a policy; shows its warnings.
pub(super) fn read(path: &Path, output: &Output) -> Result<Checked, Failure> {
    let checked = policy::check(&super::source(path)?)?;
    if !checked.warnings.is_empty() && !output.is_json() {
        output.diagnostic(&checked.warnings);
    }
    Ok(checked)
}

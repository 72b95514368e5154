//! `sealbus policy check`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::{
    failure::{Exit, Failure, to_json},
    output::{GOOD, Output, paint},
};
use crate::{
    clock::now,
    policy::{self, Checked},
};

const EXAMPLES: &str = "\
Examples:
  sealbus policy check policy.toml
  sealbus policy check policy.toml --deny-warnings      (in CI)
  sealbus policy check policy.toml --json | jq '.error.related[].places[0].line'

Everything is reported at once, with its line: errors, which refuse the policy, and warnings: what
is allowed and perhaps not meant. Exit code 64 for an error, and with --deny-warnings for a
warning.";

/// Check a policy file and report everything wrong with it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The policy file
    #[arg(default_value = "policy.toml")]
    file: PathBuf,
    /// Fail on warnings too
    #[arg(long)]
    deny_warnings: bool,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let checked = read(&args.file, output)?;
    if args.deny_warnings && !checked.warnings.is_empty() {
        // Shown already, unless the output is JSON.
        let denied = Failure::new(Exit::Config, checked.warnings);
        return Err(if output.is_json() { denied } else { Failure::shown(Exit::Config) });
    }
    let (teams, rules) = (checked.policy.teams().len(), checked.policy.rules().len());
    let object = json!({
        "file": args.file,
        "teams": teams,
        "rules": rules,
        "warnings": checked.warnings.as_slice().len(),
        "findings": if checked.warnings.is_empty() { json!([]) } else { to_json(&checked.warnings).get("related").cloned().unwrap_or_default() },
    });
    let warnings = match checked.warnings.as_slice().len() {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        n => format!(", {n} warnings"),
    };
    let text =
        format!("{} {}: {teams} teams, {rules} rules{warnings}", paint(GOOD, "✓"), args.file.display());
    output.show(&object, text)
}

/// Reads and checks a policy; shows its warnings.
pub(super) fn read(path: &Path, output: &Output) -> Result<Checked, Failure> {
    let checked = policy::review(&super::source(path)?, now())?;
    if !checked.warnings.is_empty() && !output.is_json() {
        output.diagnostic(&checked.warnings);
    }
    Ok(checked)
}

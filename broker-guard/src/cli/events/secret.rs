//! `sealbus events secret`: makes a webhook's secret.

use std::path::PathBuf;

use serde_json::json;

use super::super::{
    failure::{Exit, Failure},
    output::Output,
};
use crate::{events::sink::signature::Secret, keyfile};

const EXAMPLES: &str = "\
Examples:
  sealbus events secret guard/pager.secret

The receiver needs the same secret, to check the signature as standardwebhooks.com says. To replace
one without a gap, put the new one on a second line: both sign until you remove the old one.";

/// Make a webhook's secret
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where to write it; only its owner can read it
    file: PathBuf,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let (_, text) = Secret::generate().map_err(|source| {
        let message = "the operating system gives no randomness";
        Failure::because(Exit::Failure, "random", message, "see its log", std::io::Error::other(source))
    })?;
    keyfile::create_secret(&args.file, &format!("{}\n", *text))?;
    let file = args.file.display().to_string();
    output.show(&json!({ "secret": file }), format_args!("wrote {file}; give the receiver the same secret"))
}

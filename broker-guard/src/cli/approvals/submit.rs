//! `sealbus approvals submit`: hands in what somebody signed elsewhere.

use std::path::PathBuf;

use sealbus_envelope::approval::SignedApproval;

use super::{WayArg, decide};
use crate::cli::{
    failure::{Exit, Failure},
    output::Output,
    runtime,
};

const EXAMPLES: &str = "\
Examples:
  sealbus approvals submit ann.approval
  sealbus approvals submit ann.approval --creds bea.creds

Who brings it need not be trusted: the signature is what counts.";

/// Hand in an approval that was signed elsewhere
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file that `--out` wrote
    file: PathBuf,
    #[command(flatten)]
    way: WayArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let bytes = std::fs::read(&args.file).map_err(|source| Failure::io("read", &args.file, source))?;
    let signed = SignedApproval::verify(&bytes, args.way.bus_id()?).map_err(|refused| {
        let reason = refused.reason;
        let message = format!("`{}` is no approval: {} [{reason}]", args.file.display(), reason.meaning());
        Failure::told(
            Exit::Unverified,
            reason.code(),
            message,
            "get it again from who signed it, for this bus",
        )
    })?;
    runtime()?.block_on(async {
        let way = args.way.open().await?;
        let submitted = way.submit(&signed).await;
        way.close().await;
        decide::tell(&submitted?, signed.approval().approve, output)
    })
}

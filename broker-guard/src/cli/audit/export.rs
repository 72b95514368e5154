//! `sealbus audit export`.

use std::path::PathBuf;

use sealbus_envelope::time::Millis;
use serde_json::json;

use super::{
    super::{
        busdir::BusArg,
        failure::{Exit, Failure},
        output::{GOOD, Output, paint},
        when::rfc3339,
    },
    note_key, parse_time, unreadable,
};
use crate::audit::{
    export::{ExportError, export},
    hex::Hex,
};

const EXAMPLES: &str = "\
Examples:
  sealbus audit export --out audit-2026-01 --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z
  sealbus audit export --out everything
  sealbus audit verify --export audit-2026-01 --key KEY    on any machine

The directory holds the entries of that time, rounded to whole bundles of 256, the hashes that
lead from them to the signed checkpoint, and a page on how to check it without Sealbus. It is
verified before the command ends. It says who sent what to whom: keep it as you keep the log.";

/// Copy a part of the log, with all that proves it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Not before: a time such as `2026-01-31T12:00:00Z`, or how long ago, such as `90s`, `15m`, `2h`, `7d`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    from: Option<Millis>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to: Option<Millis>,
    /// The directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let key = note_key(&dir)?;
    let times = args.from.unwrap_or_default()..args.to.unwrap_or(Millis(u64::MAX));
    let report = export(&dir.config.audit_dir, &key, &times, &args.out).map_err(|error| match error {
        ExportError::Io(source) => Failure::io("write", &args.out, source),
        error @ (ExportError::Empty | ExportError::NotEmpty) => {
            let message = format!("`{}`: {error}", args.out.display());
            Failure::told(Exit::Failure, "not_exported", message, "see `sealbus audit export --help`")
        }
        error @ ExportError::Verify(_) => {
            let remedy = "run `sealbus audit verify`";
            Failure::told(Exit::Unverified, "audit_not_verified", error.to_string(), remedy)
        }
        error => unreadable(&dir, error),
    })?;
    let (from, to) = (report.held.start, report.held.end);
    let object = json!({
        "export": args.out, "from_leaf": from, "to_leaf": to, "size": report.checkpoint.size,
        "root": Hex(report.checkpoint.root), "key": key.to_string(),
    });
    let mut text = format!("{} entries {from} to {to} in {}", paint(GOOD, "✓"), args.out.display());
    if let Some((first, last)) = report.times {
        text = format!("{text}, of {} to {}", rfc3339(first), rfc3339(last));
    }
    output.show(&object, format_args!("{text}\n  key      {key}"))
}

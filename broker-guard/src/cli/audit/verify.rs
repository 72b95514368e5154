//! `sealbus audit verify`.

use std::{fs, path::PathBuf};

use serde_json::json;

use super::{
    super::{
        busdir::BusArg,
        failure::{Exit, Failure},
        output::{GOOD, Output, paint},
        when::rfc3339,
    },
    note_key, unreadable,
};
use crate::audit::{
    hex::Hex,
    verify::{VerifyError, VerifyOptions, verify},
};

const EXAMPLES: &str = "\
Examples:
  sealbus audit verify
  cp guard/audit/checkpoint /backup/checkpoint    remember today's state elsewhere, and next week:
  sealbus audit verify --remembered /backup/checkpoint

Recomputes every hash up to the signed root and checks that no position is missing or repeated.
With a checkpoint remembered elsewhere it also finds a log that was set back or rewritten with
the guard's own key. Exit code 4 if the log is not what it should be.";

/// Check the whole audit log against its signed checkpoint
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A checkpoint of the same log that was kept elsewhere
    #[arg(long, visible_alias = "since", value_name = "FILE")]
    remembered: Option<PathBuf>,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let key = note_key(&dir)?;
    let mut options = VerifyOptions::default();
    if let Some(path) = &args.remembered {
        let note = fs::read_to_string(path).map_err(|source| Failure::io("read", path, source))?;
        options = VerifyOptions::remembering(&note);
    }
    let log = &dir.config.audit_dir;
    let report = verify(log, &key, &options).map_err(|error| match error {
        VerifyError::Io(error) => unreadable(&dir, error),
        error => {
            let message = format!("audit log `{}` does not verify: {error}", log.display());
            let remedy = "keep the disk as it is for who investigates; compare with a backup and with \
                          checkpoints that others hold";
            Failure::told(Exit::Unverified, "audit_not_verified", message, remedy)
        }
    })?;
    let times = report.times.map(|(first, last)| (rfc3339(first), rfc3339(last)));
    let object = json!({
        "verified": true,
        "log": key.name(),
        "size": report.checkpoint.size,
        "root": Hex(report.checkpoint.root),
        "unsealed": report.unsealed,
        "epochs": report.epochs,
        "gaps": report.gaps,
        "kinds": report.kinds,
        "first": times.as_ref().map(|(first, _)| first),
        "last": times.as_ref().map(|(_, last)| last),
    });
    let mut lines = vec![
        format!("{} {} entries, none changed, none missing", paint(GOOD, "✓"), report.checkpoint.size),
        format!("  log      {}", key.name()),
        format!("  root     {}", Hex(report.checkpoint.root)),
    ];
    if let Some((first, last)) = times {
        lines.push(format!("  times    {first} to {last}"));
    }
    let kinds: Vec<_> = report.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    lines.push(format!("  entries  {}", kinds.join(", ")));
    lines.push(format!("  starts   {}", report.epochs.len()));
    if report.unsealed > 0 {
        lines.push(format!("  unsealed {} more, under no signature yet", report.unsealed));
    }
    for gap in &report.gaps {
        let to = gap.to.map_or_else(|| "?".to_owned(), |to| to.to_string());
        lines.push(format!(
            "  gap      {}.{} to {to}: the guard ended without closing the log",
            gap.epoch, gap.from
        ));
    }
    if args.remembered.is_some() {
        lines.push("  extends the remembered checkpoint".to_owned());
    }
    output.show(&object, lines.join("\n"))
}

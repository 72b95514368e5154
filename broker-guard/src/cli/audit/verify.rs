//! `sealbus audit verify`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    super::{
        failure::{Exit, Failure},
        output::{GOOD, Output, paint},
        when::rfc3339,
    },
    key::Whose,
};
use crate::audit::{
    export::{ExportError, verify_export},
    hex::Hex,
    note::NoteKey,
    verify::{Report, VerifyError, VerifyOptions, verify},
};

const EXAMPLES: &str = "\
Examples:
  sealbus audit verify
  cp guard/audit/checkpoint /backup/checkpoint    remember today's state elsewhere, and next week:
  sealbus audit verify --since /backup/checkpoint
  sealbus audit verify --export audit-2026-01 --key KEY    on any machine

Recomputes every hash up to the signed root and checks that no position is missing or repeated.
With a checkpoint remembered elsewhere it also finds a log that was set back or rewritten with
the guard's own key. Exit code 4 if the log is not what it should be.";

/// Check the whole audit log against its signed checkpoint
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A checkpoint of the same log that was kept elsewhere
    #[arg(long, visible_alias = "since", value_name = "FILE", conflicts_with = "export")]
    remembered: Option<PathBuf>,
    /// Check this export instead
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    /// Check this copy of the log's directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "export")]
    log: Option<PathBuf>,
    #[command(flatten)]
    whose: Whose,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let (key, dir) = args.whose.open()?;
    if let Some(export) = &args.export {
        let report = verify_export(export, &key).map_err(|error| match error {
            ExportError::Io(source) => Failure::io("read", export, source),
            error => refuted("export", export, &error),
        })?;
        return show(&key, &report, false, output);
    }
    let own = dir.map(|dir| dir.config.audit_dir);
    let Some(log) = args.log.as_ref().or(own.as_ref()) else {
        let message = "a key alone does not say what is to be checked";
        let remedy = "name a copy of the log with `--log DIR`, or an export with `--export DIR`";
        return Err(Failure::told(Exit::Failure, "no_log", message, remedy));
    };
    let mut options = VerifyOptions::default();
    if let Some(path) = &args.remembered {
        let note = fs::read_to_string(path).map_err(|source| Failure::io("read", path, source))?;
        options = VerifyOptions::remembering(&note);
    }
    let report = verify(log, &key, &options).map_err(|error| match error {
        VerifyError::Io(source) => Failure::io("read", log, source),
        error => refuted("audit log", log, &error),
    })?;
    show(&key, &report, args.remembered.is_some(), output)
}

fn refuted(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let message = format!("{what} `{}` does not verify: {error}", path.display());
    let remedy = "keep the disk as it is for who investigates; compare with a backup and with \
                  checkpoints that others hold";
    Failure::told(Exit::Unverified, "audit_not_verified", message, remedy)
}

fn show(key: &NoteKey, report: &Report, extends: bool, output: &Output) -> Result<(), Failure> {
    let times = report.times.map(|(first, last)| (rfc3339(first), rfc3339(last)));
    let (size, held) = (report.checkpoint.size, &report.held);
    let object = json!({
        "verified": true,
        "log": key.name(),
        "size": size,
        "root": Hex(report.checkpoint.root),
        "held": { "from": held.start, "to": held.end },
        "unsealed": report.unsealed,
        "epochs": report.epochs,
        "gaps": report.gaps,
        "pruned": report.pruned,
        "kinds": report.kinds,
        "first": times.as_ref().map(|(first, _)| first),
        "last": times.as_ref().map(|(_, last)| last),
    });
    let count = held.end.saturating_sub(held.start);
    let mut lines = vec![
        format!("{} {count} entries, none changed, none missing", paint(GOOD, "✓")),
        format!("  log      {}", key.name()),
        format!("  root     {}", Hex(report.checkpoint.root)),
    ];
    if count < size {
        lines.push(format!(
            "  held     entries {} to {} of {size}; of the others, hashes",
            held.start, held.end
        ));
    }
    if let Some((first, last)) = times {
        lines.push(format!("  times    {first} to {last}"));
    }
    let kinds: Vec<_> = report.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    lines.push(format!("  entries  {}", kinds.join(", ")));
    lines.push(format!("  starts   {}", report.epochs.len()));
    if report.unsealed > 0 {
        lines.push(format!("  unsealed {} more, under no signature yet", report.unsealed));
    }
    for pruned in &report.pruned {
        let exported =
            pruned.exported.map_or_else(|| "no export".to_owned(), |root| format!("export {root}"));
        lines.push(format!("  pruned   before {}, to {}; {exported}", pruned.before, rfc3339(pruned.newest)));
    }
    for gap in &report.gaps {
        let to = gap.to.map_or_else(|| "?".to_owned(), |to| to.to_string());
        lines.push(format!(
            "  gap      {}.{} to {to}: the guard ended without closing the log",
            gap.epoch, gap.from
        ));
    }
    if extends {
        lines.push("  extends the remembered checkpoint".to_owned());
    }
    output.show(&object, lines.join("\n"))
}

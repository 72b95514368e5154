//! `sealbus audit prune`.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use sealbus_envelope::time::Millis;
use serde_json::json;

use super::{
    super::{
        busdir::{BusArg, BusDir},
        failure::{Exit, Failure},
        output::{GOOD, Output, paint},
        when::rfc3339,
    },
    note_key, parse_time, unreadable,
};
use crate::{
    audit::{
        entry::{Body, Record},
        note::SignWith,
        prune::{Plan, PruneError, is_requested, pruned},
        store::{AuditLog, OpenError, Options},
    },
    clock::now,
    keyfile::GuardKeys,
    service::{STORE_FILE, log_name},
    store::Store,
};

const EXAMPLES: &str = "\
Examples:
  sealbus audit export --out audit-2026-q1 --to 90d
  sealbus audit prune --keep 90d --export audit-2026-q1

Removes bundles of 256 entries of which each is older. Their hashes stay, so that what remains, and
what was exported, can be proven as before; an entry of the log says what is gone and where it was
exported. The export must verify and hold all that would be removed. A running guard does it when
asked by this command, on its own machine and as its user; without one the command does it itself.";

/// How long a running guard may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked for whether it has: it answers by taking the request's file away, in silence.
const EVERY: Duration = Duration::from_millis(50);

/// Remove old entries from the log
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Keep what is younger: such as `90d`, or a time such as `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    keep: Millis,
    /// The export that holds what is to go
    #[arg(long, value_name = "DIR", required_unless_present = "without_export")]
    export: Option<PathBuf>,
    /// Remove it for good
    #[arg(long, conflicts_with = "export")]
    without_export: bool,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let log = &dir.config.audit_dir;
    let told = |error: PruneError| failure(&dir, error);
    let Some(mut plan) = Plan::make(log, args.keep).map_err(told)? else {
        return output.show(&json!({ "removed": 0 }), "Nothing is old enough to be removed");
    };
    if let Some(export) = &args.export {
        plan = plan.exported(log, &note_key(&dir)?, export).map_err(told)?;
    }
    match open(&dir)? {
        Some(guard) => here(guard, &plan, &dir)?,
        None => ask(&plan, &dir)?,
    }
    let removed = plan.before.saturating_sub(plan.from);
    let object = json!({ "removed": removed, "before": plan.before, "newest": rfc3339(plan.newest) });
    let text = format!(
        "{} {removed} entries are gone, to {}; the log begins with entry {}",
        paint(GOOD, "✓"),
        rfc3339(plan.newest),
        plan.before
    );
    output.show(&object, text)
}

/// Opens the log as the guard would. `None` if a guard has it open.
fn open(dir: &BusDir) -> Result<Option<AuditLog>, Failure> {
    let config = &dir.config;
    let mut options = Options::new(&log_name(config));
    // On a full disk this is what makes room; the guard sets its reserve aside again.
    options.reserve_bytes = 0;
    let keys = GuardKeys::load(config)?;
    let public = *keys.guard.public().as_bytes();
    let sign = move |text: &[u8]| keys.guard.sign_raw(text);
    if let Ok(store) = Store::open(&config.state_dir.join(STORE_FILE)) {
        let failed = |error: crate::store::StoreError| {
            let remedy = "see whether the state directory is whole and writable";
            Failure::told(Exit::Failure, "store", error.to_string(), remedy)
        };
        options.min_epoch = store.next_epoch().map_err(failed)?;
        options.remembered = store.signed_log().map_err(failed)?.map(|signed| (signed.size, signed.root));
    }
    match AuditLog::open(&config.audit_dir, options, Box::new(SignWith { public, sign })) {
        Ok(log) => Ok(Some(log)),
        Err(OpenError::Locked) => Ok(None),
        Err(error) => {
            let remedy = "see what is wrong with `sealbus audit verify`; nothing was removed";
            Err(Failure::told(Exit::Failure, "audit_log", error.to_string(), remedy))
        }
    }
}

fn here(mut log: AuditLog, plan: &Plan, dir: &BusDir) -> Result<(), Failure> {
    let told = |error: &dyn std::fmt::Display| {
        let remedy = "nothing was removed; see whether the disk is well";
        Failure::told(Exit::Failure, "audit_log", error.to_string(), remedy)
    };
    plan.check(&dir.config.audit_dir).map_err(|error| failure(dir, error))?;
    let record = Record { time: now(), body: Body::Pruned(plan.entry()) };
    log.append_batch(&[record]).map_err(|error| told(&error))?;
    // Closing makes it durable, and signs it.
    log.close().map_err(|error| told(&error))?;
    plan.carry_out(&dir.config.audit_dir).map(drop).map_err(|error| failure(dir, error))
}

/// Asks the guard that has the log open, and waits.
fn ask(plan: &Plan, dir: &BusDir) -> Result<(), Failure> {
    let log = &dir.config.audit_dir;
    plan.request(log).map_err(|source| Failure::io("write", log, source))?;
    let begun = Instant::now();
    while is_requested(log) && begun.elapsed() < PATIENCE {
        std::thread::sleep(EVERY);
    }
    let (before, _) = pruned(log).map_err(|source| Failure::io("read", log, source))?;
    if before >= plan.before {
        return Ok(());
    }
    let message = "the guard has not removed what it was asked to";
    let remedy = "its own log says why; ask again, for the log may have changed in between";
    Err(Failure::told(Exit::Failure, "not_pruned", message, remedy))
}

fn failure(dir: &BusDir, error: PruneError) -> Failure {
    match error {
        PruneError::Export(_) | PruneError::Foreign(_) | PruneError::NotExported { .. } => {
            let remedy = "nothing was removed; export what is to go with `sealbus audit export --to TIME`";
            Failure::told(Exit::Unverified, "export_refused", error.to_string(), remedy)
        }
        error => unreadable(dir, error),
    }
}

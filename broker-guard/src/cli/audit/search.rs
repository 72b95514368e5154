//! `sealbus audit search`.

use data_encoding::HEXLOWER_PERMISSIVE;
use sealbus_envelope::time::Millis;

use super::{
    super::{busdir::BusArg, failure::Failure, output::Output, when::rfc3339},
    line, parse_time, unreadable,
};
use crate::audit::{
    hex::Hex,
    prune::pruned,
    search::{Filter, search},
};

const EXAMPLES: &str = "\
Examples:
  sealbus audit search --agent alice --since 1h
  sealbus audit search --kind denied --reason above_clearance --json
  sealbus audit search --envelope 9f86d081884c7d659a2feaa0c55ad015

Kinds: start, stop, gap, admitted, denied, order, connection, session, key_granted,
policy_change, quarantine, checkpoint, pruned, held, approval, hold_ended, workflow.
Oldest first; conditions that are given must all hold.";

/// Find entries of the audit log
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// An agent's name, or its whole token
    #[arg(long)]
    agent: Option<String>,
    /// A reason code, such as `not_publisher`
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// A kind of entry
    #[arg(long, value_parser = ["start", "stop", "gap", "admitted", "denied", "order", "connection",
        "session", "key_granted", "policy_change", "quarantine", "checkpoint", "pruned", "held", "approval",
        "hold_ended", "workflow"])]
    kind: Option<String>,
    /// An envelope's id, 32 hexadecimal digits
    #[arg(long, value_name = "ID")]
    envelope: Option<Hex<16>>,
    /// The first digits of a digest: of an envelope, a parent, an order, evidence
    #[arg(long, value_name = "HEX", value_parser = parse_prefix)]
    digest: Option<Prefix>,
    /// Not before: a time such as `2026-01-31T12:00:00Z`, or how long ago, such as `90s`, `15m`, `2h`, `7d`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Millis>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Millis>,
    /// Stop after this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    bus: BusArg,
}

/// The first bytes of a digest.
#[derive(Debug, Clone)]
struct Prefix(Vec<u8>);

fn parse_prefix(text: &str) -> Result<Prefix, String> {
    HEXLOWER_PERMISSIVE
        .decode(text.as_bytes())
        .map(Prefix)
        .map_err(|_| "give an even number of hexadecimal digits".to_owned())
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let filter = Filter {
        envelope: args.envelope,
        digest_prefix: args.digest.as_ref().map(|prefix| prefix.0.clone()),
        agent: args.agent.clone(),
        reason: args.reason.clone(),
        kind: args.kind.clone(),
        since: args.since,
        until: args.until,
        from_leaf: 0,
    };
    let (bundle, _) = dir.bundle()?;
    let found = search(&dir.config.audit_dir, filter).map_err(|error| unreadable(&dir, error))?;
    let (before, newest) = pruned(&dir.config.audit_dir).map_err(|error| unreadable(&dir, error))?;
    if before > 0 && args.since.is_none_or(|since| since <= newest) {
        let until = rfc3339(newest);
        output.remark(format_args!("entries before {before}, to {until}, were removed: look in the export"));
    }
    for found in found.take(args.limit.unwrap_or(usize::MAX)) {
        let found = found.map_err(|error| unreadable(&dir, error))?;
        if output.is_json() {
            let entry = found.entry.to_json().map_err(|error| unreadable(&dir, error))?;
            // Already JSON; only the leaf number is missing.
            let rest = entry.strip_prefix('{').unwrap_or_default();
            output.text(format_args!("{{\"leaf\":{},{rest}", found.leaf))?;
        } else {
            output.text(line(found.leaf, &found.entry, Some(bundle.tables())))?;
        }
    }
    Ok(())
}

//! `sealbus status`: what the guard says of itself, over HTTP.

use std::net::SocketAddr;

use sealbus_envelope::time::Millis;

use super::{
    busdir::BusArg,
    failure::{Exit, Failure},
    output::{BAD, GOOD, Output, STRONG, paint, table},
    page::{self, AddressArg},
    when::{relative, rfc3339},
};
use crate::{clock::now, http::StatusReport};

const EXAMPLES: &str = "\
Examples:
  sealbus status
  sealbus status --json | jq .sessions
  sealbus status --address 10.0.0.7:9464

Exit code 1 if the guard does not answer or admits nothing.";

/// Show how the guard is: connections, policy, audit log
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    bus: BusArg,
    #[command(flatten)]
    address: AddressArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let address = args.address.read(&args.bus.config)?;
    let report = ask(address)?;
    if output.is_json() {
        output.object(&report)?;
    } else {
        output.text(text(&report, now()))?;
    }
    if report.ready { Ok(()) } else { Err(Failure::shown(Exit::Failure)) }
}

/// Asks the guard at `address`.
pub(crate) fn ask(address: SocketAddr) -> Result<StatusReport, Failure> {
    page::get(address, "/statusz")?.read(address, "/statusz")
}

fn text(report: &StatusReport, now: Millis) -> String {
    let ready = match &report.not_ready {
        None if report.ready => paint(GOOD, "ready").to_string(),
        why => {
            paint(BAD, format_args!("admits nothing: {}", why.as_deref().unwrap_or("starting"))).to_string()
        }
    };
    let until = Millis(report.status_valid_until);
    let expired = until <= now;
    let status = format!(
        "version {}, {} {} ({})",
        report.status_version,
        if expired { "expired" } else { "valid until" },
        rfc3339(until),
        relative(until, now)
    );
    let audit = match &report.audit.fault {
        None => format!(
            "{} entries, {} on disk, {} under the last checkpoint",
            report.audit.written, report.audit.synced, report.audit.sealed
        ),
        Some(fault) => paint(BAD, fault).to_string(),
    };
    let started = Millis(report.started);
    let mut lines = vec![
        format!("{}  {ready}", paint(STRONG, format_args!("guard of `{}`", report.bus))),
        format!("  sealbus      {}, epoch {}", report.version, report.epoch),
        format!("  started      {} ({})", rfc3339(started), relative(started, now)),
        format!("  nats-server  {}", report.server),
        format!("  policy       version {}", report.policy_version),
        format!("  status       {}", if expired { paint(BAD, status).to_string() } else { status }),
        format!("  audit log    {audit}"),
    ];
    if report.dropped > 0 {
        lines.push(format!("  dropped      {}", paint(BAD, report.dropped)));
    }
    if !report.quarantined.is_empty() {
        lines.push(format!("  quarantined  {}", paint(BAD, report.quarantined.join(", "))));
    }
    lines.push(format!("  sessions     {}", report.sessions.len()));
    let rows: Vec<Vec<String>> = report
        .sessions
        .iter()
        .map(|session| {
            let short: String = session.session.chars().take(12).collect();
            let (reads, keys) = (session.readings.to_string(), session.keys.to_string());
            vec![format!("  {}", session.agent), session.team.clone(), reads, keys, short]
        })
        .collect();
    if !rows.is_empty() {
        lines.push(format!("\n{}", table(&["  AGENT", "TEAM", "READS", "KEYS", "SESSION"], &rows)));
    }
    lines.join("\n")
}

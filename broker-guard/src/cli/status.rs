//! `sealbus status`: what the guard says of itself, over HTTP.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use sealbus_envelope::time::Millis;

use super::{
    busdir::BusArg,
    failure::{Exit, Failure},
    output::{BAD, GOOD, Output, STRONG, paint, table},
    when::{relative, rfc3339},
};
use crate::{clock::now, config::Config, http::StatusReport};

const EXAMPLES: &str = "\
Examples:
  sealbus status
  sealbus status --json | jq .sessions
  sealbus status --address 10.0.0.7:9464

Exit code 1 if the guard does not answer or admits nothing.";

const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 32 << 20;

/// Show how the guard is: connections, policy, audit log
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    bus: BusArg,
    /// Where the guard serves its status, instead of what the configuration says
    #[arg(long, value_name = "IP:PORT")]
    address: Option<SocketAddr>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let address = match args.address {
        Some(address) => address,
        None => Config::load(&args.bus.config)?.http_listen,
    };
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
    let silent = |source: std::io::Error| {
        let message = format!("no guard answers at http://{address}/statusz");
        let remedy = "start it with `sealbus guard`, or name where it serves its status with `--address`";
        Failure::because(Exit::Failure, "guard_unreachable", message, remedy, source)
    };
    let answer = get(address, "/statusz").map_err(silent)?;
    serde_json::from_slice(&answer).map_err(|error| silent(error.into()))
}

/// The body of the answer to one GET. HTTP/1.0, so that it is not chunked and ends with the connection.
fn get(address: SocketAddr, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let strange = || std::io::Error::other("the answer is not the guard's");
    let split = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or_else(strange)?;
    let (head, body) = answer.split_at(split);
    if !(head.starts_with(b"HTTP/1.0 200") || head.starts_with(b"HTTP/1.1 200")) {
        return Err(strange());
    }
    Ok(body.get(4..).unwrap_or_default().to_vec())
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

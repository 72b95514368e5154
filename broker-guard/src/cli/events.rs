//! `sealbus events`: what happens on the bus, live or as it was kept.

mod history;
mod line;
mod secret;
mod test;

use std::path::PathBuf;

use futures_util::StreamExt as _;
use sealbus_client::Credentials;
use sealbus_envelope::{identity::Role, time::Millis};
use serde_json::Value;

use super::{
    bare,
    busdir::BusArg,
    failure::{Exit, Failure},
    output::{FAINT, Output, paint},
    runtime, when,
};
use crate::{
    clock::now,
    events::{
        Kind,
        ocsf::{Severity, unmapped},
    },
};

const EXAMPLES: &str = "\
Examples:
  sealbus events --creds agents/oncall.creds
  sealbus events --creds agents/oncall.creds --kind denied --json | jq -r .unmapped.sealbus.envelope
  sealbus events --since 2h --severity medium        on the guard's machine: what was kept
  sealbus events --since 7d --file events.jsonl --agent mallory
  sealbus events test                                a test event to every webhook

Live, it needs a credential with the role `observer`: `sealbus init` writes agents/oncall.creds, and
`sealbus agent add NAME --team TEAM --role observer` makes more. Ctrl-C ends it. With --since it
reads what was kept: --file, else the file that sealbus.toml names under [events.jsonl], else the
stream SB_EVENTS with the guard's login. --json shows OCSF 1.5.0 as it was sent.";

/// Watch denials, connections, quarantine and changes as they happen, or read what was kept
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The observer's credentials file
    #[arg(long, env = "SEALBUS_CREDS", value_name = "FILE", required_unless_present = "since")]
    creds: Option<PathBuf>,
    #[command(flatten)]
    wanted: Wanted,
    /// Stop after this many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Read what was kept since: a time such as `2026-01-31T12:00:00Z`, or how long ago, such as `2h`
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    since: Option<Millis>,
    /// Read what was kept in this file and those it was rotated to
    #[arg(long, value_name = "FILE", requires = "since")]
    file: Option<PathBuf>,
    #[command(flatten)]
    bus: BusArg,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Test(test::Args),
    Secret(secret::Args),
}

/// Which events are shown.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// Only this kind, such as `denied`
    #[arg(long, value_parser = parse_kind)]
    kind: Option<Kind>,
    /// Only about this agent: its name, or its name on the bus
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only as grave as this or graver: informational, low, medium, high, critical
    #[arg(long, value_parser = parse_severity, value_name = "SEVERITY")]
    severity: Option<Severity>,
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| {
        let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.token()).collect();
        format!("there is no such kind; there are {}", kinds.join(", "))
    })
}

fn parse_when(text: &str) -> Result<Millis, String> {
    when::parse(text, now())
}

fn parse_severity(text: &str) -> Result<Severity, String> {
    Severity::parse(text).ok_or_else(|| "there are informational, low, medium, high and critical".to_owned())
}

impl Wanted {
    fn wants(&self, event: &Value) -> bool {
        let said = |key: &str| unmapped(event).and_then(|said| said.get(key)).and_then(Value::as_str);
        let severity = event.get("severity_id").and_then(Value::as_u64).unwrap_or(0);
        self.kind.is_none_or(|kind| said("kind") == Some(kind.token()))
            && self.severity.is_none_or(|least| severity >= u64::from(least as u8))
            && self.agent.as_deref().is_none_or(|name| {
                said("agent").is_some_and(|agent| {
                    agent == name || agent.rsplit_once('-').is_some_and(|(short, _)| short == name)
                })
            })
    }
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    match (&args.command, &args.since) {
        (Some(Command::Test(args)), _) => test::run(args, output),
        (Some(Command::Secret(args)), _) => secret::run(args, output),
        (None, Some(since)) => history::run(args, *since, output),
        (None, None) => live(args, output),
    }
}

fn live(args: &Args, output: &Output) -> Result<(), Failure> {
    // Required there: without `--since` and a command.
    let Some(path) = &args.creds else { return Ok(()) };
    let credentials = Credentials::load(path)?;
    let role = credentials.credential().claims().role;
    if role != Role::Observer {
        let message = format!(
            "credentials `{}` have the role `{}`, and events are for observers",
            path.display(),
            format!("{role:?}").to_lowercase()
        );
        let remedy =
            "use agents/oncall.creds, or make one: `sealbus agent add NAME --team TEAM --role observer`";
        return Err(Failure::told(Exit::Denied, "not_an_observer", message, remedy));
    }
    runtime()?.block_on(async {
        let (sender, mut states) = tokio::sync::mpsc::unbounded_channel();
        let bare = bare::connect(&credentials, sender).await?;
        let subject = credentials.bus().subjects().event(args.wanted.kind.map_or(">", Kind::token));
        let gone = |error: &dyn std::fmt::Display| {
            let message = format!("cannot subscribe `{subject}`: {error}");
            Failure::told(Exit::Failure, "subscribe", message, "see whether the bus is up: `sealbus status`")
        };
        let mut events = bare.client.subscribe(subject.clone()).await.map_err(|error| gone(&error))?;
        bare.client.flush().await.map_err(|error| gone(&error))?;
        output.remark(paint(FAINT, format_args!("watching {subject}; Ctrl-C ends")));
        let mut left = args.count.unwrap_or(u64::MAX);
        while left > 0 {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => break,
                Some(state) = states.recv() => {
                    if !matches!(state, async_nats::Event::Connected) {
                        output.remark(paint(FAINT, format_args!("connection: {state}")));
                    }
                }
                event = events.next() => {
                    let Some(event) = event else { break };
                    left -= u64::from(show(&event.payload, &args.wanted, output)?);
                }
            }
        }
        Ok(())
    })
}

/// Shows an event if it is wanted; whether it was.
fn show(payload: &[u8], wanted: &Wanted, output: &Output) -> Result<bool, Failure> {
    // The bus is written to by the guard alone, yet what comes from the network is parsed, not trusted.
    let Ok(event) = serde_json::from_slice::<Value>(payload) else {
        output.remark("an event that is not JSON was left out");
        return Ok(false);
    };
    if !wanted.wants(&event) {
        return Ok(false);
    }
    if output.is_json() {
        output.object(&event)?
    } else {
        output.text(line::line(&event))?
    }
    Ok(true)
}

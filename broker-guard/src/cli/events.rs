//! `sealbus events`: what happens on the bus, live.

use futures_util::StreamExt as _;
use sealbus_envelope::{identity::Role, time::Millis};
use serde_json::Value;

use super::{
    bare,
    failure::{Exit, Failure},
    output::{BAD, FAINT, GOOD, Output, paint},
    runtime,
    session::CredsArg,
    when::clock,
};

const EXAMPLES: &str = "\
Examples:
  sealbus events --creds agents/oncall.creds
  sealbus events --creds agents/oncall.creds --kind denied --json | jq -r .envelope

Needs a credential with the role `observer`: `sealbus init` writes agents/oncall.creds, and
`sealbus agent add NAME --team TEAM --role observer` makes more. Ctrl-C ends it.";

/// Watch denials, connections, quarantine and changes as they happen
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    creds: CredsArg,
    /// Only this kind, such as `denied`
    #[arg(long)]
    kind: Option<String>,
    /// Stop after this many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let credentials = args.creds.load()?;
    let role = credentials.credential().claims().role;
    if role != Role::Observer {
        let message = format!(
            "credentials `{}` have the role `{}`, and events are for observers",
            args.creds.path().display(),
            format!("{role:?}").to_lowercase()
        );
        let remedy =
            "use agents/oncall.creds, or make one: `sealbus agent add NAME --team TEAM --role observer`";
        return Err(Failure::told(Exit::Denied, "not_an_observer", message, remedy));
    }
    runtime()?.block_on(async {
        let (sender, mut states) = tokio::sync::mpsc::unbounded_channel();
        let bare = bare::connect(&credentials, sender).await?;
        let subject = credentials.bus().subjects().event(args.kind.as_deref().unwrap_or(">"));
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
                    show(&event.payload, output)?;
                    left -= 1;
                }
            }
        }
        Ok(())
    })
}

fn show(payload: &[u8], output: &Output) -> Result<(), Failure> {
    // The bus is written to by the guard alone, yet what comes from the network is parsed, not trusted.
    let Ok(event) = serde_json::from_slice::<Value>(payload) else {
        output.remark("an event that is not JSON was left out");
        return Ok(());
    };
    if output.is_json() { output.object(&event) } else { output.text(line(&event)) }
}

/// One event as one line.
pub(crate) fn line(event: &Value) -> String {
    let text = |key: &str| event.get(key).and_then(Value::as_str).map(super::session::printable);
    let kind = text("kind").unwrap_or_else(|| "?".to_owned());
    let style = match kind.as_str() {
        "denied" | "quarantine" | "change_refused" | "dropped" | "audit_unavailable" => BAD,
        "started" | "audit_recovered" => GOOD,
        _ => anstyle::Style::new(),
    };
    let time = event.get("time").and_then(Value::as_u64).map_or_else(String::new, |ms| clock(Millis(ms)));
    let mut parts = Vec::new();
    parts.extend(text("agent"));
    parts.extend(text("subject").map(|subject| format!("on {subject}")));
    parts.extend(text("label"));
    parts.extend(text("reason").map(|reason| paint(style, reason).to_string()));
    parts.extend(text("meaning").map(|meaning| format!("({meaning})")));
    parts.extend(event.get("count").and_then(Value::as_u64).filter(|n| *n > 1).map(|n| format!("× {n}")));
    parts.extend(text("detail"));
    parts.extend(text("envelope").map(|id| paint(FAINT, format_args!("sealbus why {id}")).to_string()));
    format!("{} {}  {}", paint(FAINT, time), paint(style, format_args!("{kind:<13}")), parts.join(" "))
}

//! `sealbus pub`.

use std::{
    fs,
    io::{IsTerminal as _, Read as _},
    path::PathBuf,
};

use sealbus_client::{Client, Event, Publish, Receipt, WhenPaused};
use sealbus_envelope::{label::Label, reason::Reason, wire::Parent};
use serde_json::json;

use super::{
    failure::{Exit, Failure},
    output::{BAD, GOOD, Output, paint},
    runtime,
    session::{self, CredsArg},
};
use crate::audit::hex::Hex;

const EXAMPLES: &str = "\
Examples:
  sealbus pub hello.world 'good morning' --creds agents/bob.creds
  sealbus pub report.final --file report.md --content-type text/markdown
  sealbus pub ask.analyst 'is it risky?' --label internal/deps/untrusted
  sealbus pub report.public --file summary.md --flow-grant publish-summary
  jq -c . finding.json | sealbus pub findings.risk - --confirm
  sealbus pub hello.world ping --count 100

A label is level[/compartment+compartment[/integrity]]; without one the rule's default applies,
joined with what the message derives from and what the agent was given to read.
Waits for the guard's verdict on the last message, so that a denial is told; with --confirm, for
each one. Exit code 3 if one was denied.";

/// Publish sealed messages
#[derive(Debug, clap::Args)]
#[command(name = "pub", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Logical subject
    subject: String,
    /// The payload; `-` or nothing reads stdin
    #[arg(conflicts_with = "file")]
    payload: Option<String>,
    /// Read the payload from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Label: level[/compartment+compartment[/integrity]]
    #[arg(long)]
    label: Option<String>,
    /// Publish under this rule, where several take the subject
    #[arg(long)]
    rule: Option<String>,
    /// Use this flow grant of the policy, to label it lower than what it derives from
    #[arg(long, value_name = "NAME")]
    flow_grant: Option<String>,
    /// Media type of the payload
    #[arg(long, value_name = "TYPE", default_value = "text/plain; charset=utf-8")]
    content_type: String,
    /// A message this one derives from, as `sealbus sub --json` shows it in `parent`; may be given several times
    #[arg(long = "parent", visible_alias = "parents", value_name = "DIGEST=LABEL")]
    parents: Vec<String>,
    /// How often to publish it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Wait for the guard's signed verdict on each message
    #[arg(long)]
    confirm: bool,
    /// While a person looks into its workflow: fail at once, or wait up to an hour
    #[arg(long, value_name = "WHAT", default_value = "fail", value_parser = ["fail", "wait"])]
    when_paused: String,
    #[command(flatten)]
    creds: CredsArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let payload = payload(args.payload.as_deref(), args.file.as_deref(), output)?;
    runtime()?.block_on(async {
        let client = args.creds.connect().await?;
        let mut publish = Publish::new(&args.subject, payload).content_type(&args.content_type);
        if args.when_paused == "wait" {
            publish = publish.when_paused(WhenPaused::Wait);
        }
        if let Some(label) = &args.label {
            publish = publish.label(session::label(&client, label)?);
        }
        if let Some(rule) = &args.rule {
            publish = publish.rule(rule);
        }
        if let Some(grant) = &args.flow_grant {
            publish = publish.flow_grant(grant);
        }
        publish = publish.parents(parents(&client, &args.parents)?);
        let outcome = send(args, &client, publish, output).await;
        let closed = client.close().await.map_err(session::failure);
        outcome.and(closed)
    })
}

async fn send(args: &Args, client: &Client, publish: Publish, output: &Output) -> Result<(), Failure> {
    let mut events = client.events();
    let mut admitted = None;
    for n in 1..=args.count {
        if args.confirm || n == args.count {
            let receipt = confirmed(client, publish.clone(), output).await?;
            if args.confirm {
                let decision = receipt.decision;
                let object = json!({
                    "subject": args.subject,
                    "n": n,
                    "admitted": true,
                    "digest": Hex(receipt.digest),
                    "epoch": decision.epoch,
                    "position": decision.position,
                    "policy_version": decision.policy_version,
                    "observed": decision.observed,
                    "guard_time": decision.time,
                });
                let text = format!(
                    "{} [#{n}] {} admitted at {}.{}, policy version {}{}",
                    paint(GOOD, "✓"),
                    args.subject,
                    decision.epoch,
                    decision.position,
                    decision.policy_version,
                    if decision.observed { "; it would be denied but for observe mode" } else { "" },
                );
                output.show(&object, text)?;
            }
            admitted = Some(receipt);
        } else {
            client.send(publish.clone()).await.map_err(session::failure)?;
        }
    }
    // The last one was judged, so all before it were.
    let mut refused = 0;
    let mut first = None;
    while let Ok(Some(event)) = tokio::time::timeout(std::time::Duration::ZERO, events.next()).await {
        match &event {
            // Of a key for a reader that has just left: no message is denied for it.
            Event::Denied { reason: Reason::NotSubscriber, .. } => continue,
            // Sent again, when people had let its workflow go on.
            Event::Denied { reason: Reason::WorkflowPaused, .. } if args.when_paused == "wait" => continue,
            Event::Denied { count, .. } => refused += u64::from(*count),
            Event::Unsent { .. } => refused += 1,
            _ => continue,
        }
        first.get_or_insert(event);
    }
    if !args.confirm {
        let digest = admitted.map(|receipt| Hex(receipt.digest));
        let object = json!({
            "subject": args.subject,
            "count": args.count,
            "denied": refused,
            "digest": digest,
        });
        let what = if args.count == 1 { "1 message".to_owned() } else { format!("{} messages", args.count) };
        output.show(&object, format_args!("Published {what} on {}", args.subject))?;
    }
    match first {
        None => Ok(()),
        Some(event) => {
            if !output.is_json() {
                output.remark(format_args!("{} {refused} not admitted; the first: {event}", paint(BAD, "✗")));
            }
            Err(Failure::shown(Exit::Denied))
        }
    }
}

/// Waits for the verdict; if people are asked first, that may be long, and is told.
async fn confirmed(client: &Client, publish: Publish, output: &Output) -> Result<Receipt, Failure> {
    let mut events = client.events();
    let sent = client.send_confirmed(publish);
    tokio::pin!(sent);
    loop {
        tokio::select! {
            receipt = &mut sent => return receipt.map_err(session::failure),
            Some(event) = events.next(), if !output.is_json() => {
                if matches!(event, Event::Held { .. }) {
                    output.remark(event);
                }
            }
        }
    }
}

/// The payload from the argument, a file or stdin.
pub(super) fn payload(
    argument: Option<&str>,
    file: Option<&std::path::Path>,
    output: &Output,
) -> Result<Vec<u8>, Failure> {
    if let Some(path) = file {
        return fs::read(path).map_err(|source| Failure::io("read", path, source));
    }
    match argument {
        Some(text) if text != "-" => Ok(text.as_bytes().to_vec()),
        _ => {
            let mut stdin = std::io::stdin().lock();
            if stdin.is_terminal() {
                output.remark("Reading the payload from the terminal; end with Ctrl-D.");
            }
            let mut bytes = Vec::new();
            stdin.read_to_end(&mut bytes).map_err(|source| {
                Failure::because(Exit::Failure, "stdin", "cannot read stdin", "see what is piped in", source)
            })?;
            Ok(bytes)
        }
    }
}

fn parents(client: &Client, texts: &[String]) -> Result<Vec<Parent>, Failure> {
    let read = |text: &String| -> Result<Parent, Failure> {
        let told = || {
            let message = format!("`{text}` is no parent");
            let remedy = "write DIGEST=LABEL: 64 hexadecimal digits and the parent's label, as `sealbus sub \
                          --json` shows them in `parent`";
            Failure::told(Exit::Config, "bad_parent", message, remedy)
        };
        let (digest, label) = text.split_once('=').ok_or_else(told)?;
        let digest: Hex<32> = digest.parse().map_err(|_| told())?;
        let label: Label = session::label(client, label)?;
        Ok(Parent { digest: digest.0, label })
    };
    texts.iter().map(read).collect()
}

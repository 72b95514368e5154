//! `sealbus reply`: answers requests, for trying things out and for small services.

use std::process::Stdio;

use sealbus_client::{Message, Request};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{
    failure::Failure,
    output::{BAD, FAINT, Output, STRONG, paint},
    runtime,
    session::{self, CredsArg},
    subscribe::body,
};

const EXAMPLES: &str = "\
Examples:
  sealbus reply ask.analyst --echo --creds agents/alice.creds
  sealbus reply ask.analyst --command 'wc -w'
  sealbus reply ask.analyst --command './answer.py' --count 10

The command runs in a shell, one request at a time; it gets the payload on stdin and
SEALBUS_SUBJECT, SEALBUS_FROM, SEALBUS_TEAM and SEALBUS_LABEL in its environment. What it writes
to stdout is the answer. If it fails, nothing is answered. Payloads may be hostile: the command
must not evaluate them.";

/// Answer requests
#[derive(Debug, clap::Args)]
#[command(visible_alias = "serve", after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("how").required(true).args(["echo", "command"]))]
pub(crate) struct Args {
    /// Logical subjects to answer on
    pattern: String,
    /// Answer with what was asked
    #[arg(long)]
    echo: bool,
    /// Answer with what this shell command writes
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// Stop after this many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    creds: CredsArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let client = args.creds.connect().await?;
        let mut requests = client.serve(&args.pattern).await.map_err(session::failure)?;
        let name = client.name();
        output.remark(paint(FAINT, format_args!("{name} answers on {}; Ctrl-C ends", args.pattern)));
        let mut n = 0;
        while n < args.count.unwrap_or(u64::MAX) {
            let request = tokio::select! {
                _ = tokio::signal::ctrl_c() => break,
                request = requests.next() => request,
            };
            let Some(request) = request else { break };
            n += 1;
            answer(n, args, request, output).await?;
        }
        drop(requests);
        client.close().await.map_err(session::failure)
    })
}

async fn answer(n: u64, args: &Args, request: Request, output: &Output) -> Result<(), Failure> {
    let asked = request.message().clone();
    let outcome = match &args.command {
        Some(command) => shell(command, &asked).await,
        None => Ok(asked.payload().to_vec()),
    };
    let outcome = match outcome {
        Ok(answer) => request.respond(answer).await.map(|_| ()).map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    let object = json!({
        "n": n,
        "subject": asked.subject(),
        "from": asked.sender(),
        "id": asked.id().to_string(),
        "answered": outcome.is_ok(),
        "error": outcome.as_ref().err(),
    });
    let told = match &outcome {
        Ok(()) => "answered".to_owned(),
        Err(why) => paint(BAD, format_args!("not answered: {why}")).to_string(),
    };
    let text = format!(
        "{} {} from {}: {told}\n{}\n",
        paint(STRONG, format_args!("[#{n}]")),
        paint(STRONG, asked.subject()),
        asked.sender_token(),
        body(asked.payload()),
    );
    output.show(&object, text)
}

async fn shell(command: &str, asked: &Message) -> Result<Vec<u8>, String> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .env("SEALBUS_SUBJECT", asked.subject())
        .env("SEALBUS_FROM", asked.sender())
        .env("SEALBUS_TEAM", asked.sender_team())
        .env("SEALBUS_LABEL", asked.label_text())
        // The agent's secret is not the command's business.
        .env_remove("SEALBUS_CREDS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("`/bin/sh` cannot be started: {error}"))?;
    let stdin = child.stdin.take();
    let payload = asked.payload().to_vec();
    // Fed beside reading: a command that writes before it has read all would wait for ever otherwise.
    let feed = tokio::spawn(async move {
        if let Some(mut stdin) = stdin {
            // A command need not read what it is asked.
            let _unread = stdin.write_all(&payload).await;
        }
    });
    let done = child.wait_with_output().await.map_err(|error| format!("the command was lost: {error}"))?;
    feed.abort();
    if done.status.success() {
        Ok(done.stdout)
    } else {
        Err(format!("the command ended with {}", done.status))
    }
}

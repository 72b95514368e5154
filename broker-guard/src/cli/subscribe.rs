//! `sealbus sub`.

use std::path::{Path, PathBuf};

use sealbus_client::{Client, Message, Subscribe};
use serde_json::{Value, json};

use super::{
    audit::delivery,
    failure::Failure,
    output::{FAINT, Output, STRONG, paint},
    runtime,
    session::{self, CredsArg, printable},
    when::rfc3339,
};
use crate::{audit::hex::Hex, keyfile::replace_public};

const EXAMPLES: &str = "\
Examples:
  sealbus sub 'hello.>' --creds agents/alice.creds
  sealbus sub 'findings.>' --json | jq -r .payload
  sealbus sub report.final --count 1 --raw > report.md
  sealbus sub 'deps.item.>' --queue analysts
  sealbus sub 'findings.>' --save evidence    and later: sealbus audit prove --delivery …

Only what the policy grants is delivered. Control characters in payloads are escaped unless
--raw or --json is given. Ctrl-C ends it.";

/// Receive and open messages
#[derive(Debug, clap::Args)]
#[command(name = "sub", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Logical subjects, with `*` for one token and `>` for the rest
    pattern: String,
    /// Share the work with others of this queue group
    #[arg(long, value_name = "GROUP")]
    queue: Option<String>,
    /// Under this rule only
    #[arg(long)]
    rule: Option<String>,
    /// Stop after this many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Write payloads only, as they are, a line end after each
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Keep each sealed envelope and its proof of admission in this directory, as evidence
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    #[command(flatten)]
    creds: CredsArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let client = args.creds.connect().await?;
        let mut subscribe = Subscribe::new(&args.pattern);
        if let Some(queue) = &args.queue {
            subscribe = subscribe.queue(queue);
        }
        if let Some(rule) = &args.rule {
            subscribe = subscribe.rule(rule);
        }
        let mut events = client.events();
        let mut messages = client.subscribe_with(subscribe).await.map_err(session::failure)?;
        let name = client.name();
        output.remark(paint(FAINT, format_args!("{name} subscribed to {}; Ctrl-C ends", args.pattern)));
        let mut n = 0;
        while n < args.count.unwrap_or(u64::MAX) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => break,
                Some(event) = events.next() => output.remark(paint(FAINT, session::event(&client, &event))),
                message = messages.next() => {
                    let Some(message) = message else { break };
                    n += 1;
                    if let Some(dir) = &args.save {
                        save(dir, &message)?;
                    }
                    show(n, &client, &message, args.raw, output)?;
                }
            }
        }
        client.close().await.map_err(session::failure)
    })
}

/// Keeps a delivery as it came: neither file says what is in the envelope.
fn save(dir: &Path, message: &Message) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|source| Failure::io("make", dir, source))?;
    let path = dir.join(message.id().to_string());
    replace_public(&path.with_extension(delivery::ENVELOPE), message.envelope())?;
    Ok(replace_public(&path.with_extension(delivery::ADMISSION), message.admission().as_bytes())?)
}

/// Shows one message.
pub(super) fn show(
    n: u64,
    client: &Client,
    message: &Message,
    raw: bool,
    output: &Output,
) -> Result<(), Failure> {
    if raw {
        let mut bytes = message.payload().to_vec();
        bytes.push(b'\n');
        return output.raw(&bytes);
    }
    if output.is_json() {
        return output.object(&object(n, client, message));
    }
    let id = message.id();
    output.text(format_args!(
        "{} {} from {}, {} {}\n{}\n",
        paint(STRONG, format_args!("[#{n}]")),
        paint(STRONG, message.subject()),
        message.sender_token(),
        message.label_text(),
        paint(FAINT, id),
        body(message.payload()),
    ))
}

/// The payload for a terminal.
pub(super) fn body(payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok(text) => printable(text.trim_end_matches('\n')),
        Err(_) => {
            let shown: Vec<u8> = payload.iter().copied().take(64).collect();
            let more = if payload.len() > shown.len() { "…" } else { "" };
            format!("{} bytes: {}{more}", payload.len(), data_encoding::HEXLOWER.encode(&shown))
        }
    }
}

/// A message for scripts.
pub(super) fn object(n: u64, client: &Client, message: &Message) -> Value {
    let label = client.show_label(message.label());
    let digest = Hex(message.digest());
    let mut object = json!({
        "n": n,
        "subject": message.subject(),
        "from": message.sender(),
        "token": message.sender_token(),
        "team": message.sender_team(),
        "rule": message.rule(),
        "label": label,
        "id": message.id().to_string(),
        "digest": digest,
        "parent": format!("{digest}={label}"),
        "parents": message.parents().iter().map(|parent| Hex(parent.digest)).collect::<Vec<_>>(),
        "issued_at": rfc3339(message.issued_at()),
        "content_type": message.content_type(),
        "policy_version": message.decision().policy_version,
        "epoch": message.decision().epoch,
        "position": message.decision().position,
    });
    if let Some(map) = object.as_object_mut() {
        match std::str::from_utf8(message.payload()) {
            Ok(text) => map.insert("payload".to_owned(), text.into()),
            Err(_) => {
                let text = data_encoding::BASE64.encode(message.payload());
                map.insert("payload_base64".to_owned(), text.into())
            }
        };
    }
    object
}

//! `sealbus request`.

use std::{path::PathBuf, time::Duration};

use sealbus_client::Publish;

use super::{
    failure::Failure,
    output::Output,
    publish::payload,
    runtime,
    session::{self, CredsArg, parse_duration},
    subscribe,
};

const EXAMPLES: &str = "\
Examples:
  sealbus request ask.analyst 'is openssl 1.0 risky?' --creds agents/merger.creds
  sealbus request ask.analyst --file question.json --timeout 30s --raw > answer.json

Works on subjects whose rule has `kind = \"request\"`; the guard picks one responder. Exit code
3 if it is denied or nobody may answer, 1 if no reply comes in time.";

/// Ask, and wait for the answer
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
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
    /// Media type of the payload
    #[arg(long, value_name = "TYPE", default_value = "text/plain; charset=utf-8")]
    content_type: String,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
    /// Write the answer only, as it is, and a line end
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    #[command(flatten)]
    creds: CredsArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let payload = payload(args.payload.as_deref(), args.file.as_deref(), output)?;
    runtime()?.block_on(async {
        let client = args.creds.connect().await?;
        let mut ask = Publish::new(&args.subject, payload).content_type(&args.content_type);
        if let Some(label) = &args.label {
            ask = ask.label(session::label(&client, label)?);
        }
        let reply = client.send_request(ask, args.timeout).await.map_err(session::failure)?;
        subscribe::show(1, &client, &reply, args.raw, output)?;
        client.close().await.map_err(session::failure)
    })
}

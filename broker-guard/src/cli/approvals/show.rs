//! `sealbus approvals show`: what exactly is approved, and what is in it for who may read it.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use sealbus_client::HeldMessage;
use sealbus_envelope::{
    control::{HeldHold, HeldReport},
    identity::BusId,
    time::Millis,
    wire::Decoded,
};
use serde_json::{Value, json};

use super::{Way, WayArg, digest, short, when};
use crate::{
    cli::{
        failure::{Exit, Failure},
        output::{BAD, GOOD, Output, STRONG, paint},
        runtime,
        session::{self, printable},
    },
    clock::now,
    keyfile::replace_public,
};

const EXAMPLES: &str = "\
Examples:
  sealbus approvals show 5f3a0c1d9b2e7a48
  sealbus approvals show 5f3a0c1d9b2e7a48 --open --creds ann.creds  open it on this machine
  sealbus approvals show 5f3a0c1d9b2e7a48 --out held.envelope       the sealed bytes, to keep

What is approved is the digest: these sealed bytes and no others. With --open you see what is in
them, if your agent is a named reader of the rule and the sender is still there to hand over its
key. Nobody else learns that you looked, but the guard counts what your agent was given to read.";

/// How long the key is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Show what waits for approval: who sent what, to whom, until when, who approved
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// At least 16 characters of the digest
    digest: String,
    /// Open it: needs `--creds` of an agent that is a named reader of the rule
    #[arg(long, requires = "creds")]
    open: bool,
    /// Write the sealed bytes to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    way: WayArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let way = args.way.open().await?;
        let outcome = show(args, &way, output).await;
        way.close().await;
        outcome
    })
}

async fn show(args: &Args, way: &Way, output: &Output) -> Result<(), Failure> {
    let report = way.find(&args.digest).await?;
    let sealed = way.sealed(digest(&report)?).await?;
    check(&report, &sealed, way.bus())?;
    if let Some(path) = &args.out {
        replace_public(path, &sealed)?;
    }
    let opened = match way {
        Way::Bus { client, .. } if args.open => {
            Some(client.open_held(&sealed, PATIENCE).await.map_err(session::failure)?)
        }
        _ => None,
    };
    let mut object = json!({ "held": report, "label": way.label(report.label) });
    if let (Some(map), Some(opened)) = (object.as_object_mut(), &opened) {
        map.insert("opened".to_owned(), content(opened));
    }
    output.show(&object, text(way, &report, opened.as_ref(), now()))
}

/// What is shown must be what is approved: the guard's words about it are compared with the sealed bytes.
pub(super) fn check(report: &HeldReport, sealed: &[u8], bus: BusId) -> Result<(), Failure> {
    let lie = |what: &str| {
        let message = format!("what the guard says of this envelope is not what stands in it: {what}");
        Failure::told(
            Exit::Unverified,
            "held_mismatch",
            message,
            "approve nothing; find out which guard answers",
        )
    };
    let decoded = Decoded::decode(sealed).map_err(|_| lie("its form"))?;
    let header = decoded.claimed();
    for (what, same) in [
        ("digest", data_encoding::HEXLOWER.encode(&decoded.digest()) == report.digest),
        ("bus", header.bus == bus),
        ("sender", header.sender == report.sender),
        ("session", header.session.to_string() == report.session),
        ("rule", header.rule == report.rule.as_str()),
        ("flow grant", header.flow_grant == report.flow_grant.as_ref().map(|name| name.as_str())),
        ("subject", header.subject == report.subject),
        ("label", header.label == report.label),
    ] {
        if !same {
            return Err(lie(what));
        }
    }
    Ok(())
}

/// The envelope as its header has it, which [`check`] compared.
pub(super) fn about(way: &Way, report: &HeldReport, now: Millis) -> String {
    let mut text = format!("{}\n", paint(STRONG, &report.digest));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<10} {value}");
    };
    line("sender", printable(&report.sender));
    line("session", report.session.clone());
    line("subject", printable(&report.subject));
    line("rule", report.rule.to_string());
    if let Some(grant) = &report.flow_grant {
        line("flow grant", grant.to_string());
    }
    line("label", way.label(report.label));
    line("size", format!("{} bytes, sealed", report.size));
    line("id", report.envelope.clone());
    line("sealed", when(report.sealed, now));
    line("received", when(report.received, now));
    line("until", when(report.until, now));
    text
}

fn text(way: &Way, report: &HeldReport, opened: Option<&HeldMessage>, now: Millis) -> String {
    let mut text = about(way, report, now);
    for hold in &report.holds {
        hold_text(&mut text, hold, now);
    }
    if let Some(opened) = opened {
        let _ = writeln!(
            text,
            "\n{} ({}, {} bytes; the sender's signature is good, no guard has admitted it)",
            paint(STRONG, "In it"),
            printable(opened.content_type()),
            opened.payload().len(),
        );
        match std::str::from_utf8(opened.payload()) {
            Ok(words) => text.push_str(&printable(words)),
            Err(_) => text.push_str(&data_encoding::BASE64.encode(opened.payload())),
        }
        text.push('\n');
    }
    let _ = write!(text, "\nsealbus approvals approve {} --key FILE    or: deny", short(&report.digest));
    text
}

fn hold_text(text: &mut String, hold: &HeldHold, now: Millis) {
    let missing = hold.missing();
    let (style, word) = if missing == 0 { (GOOD, "complete") } else { (BAD, "waits") };
    let _ = writeln!(
        text,
        "  {} {} of {} approved: {}",
        paint(STRONG, &hold.wanted_by),
        hold.approved.len(),
        hold.approvals,
        paint(style, word)
    );
    for list in &hold.lists {
        let people: Vec<String> = list
            .people
            .iter()
            .map(|person| {
                if hold.approved.contains(person) {
                    paint(GOOD, format!("{person} ✓")).to_string()
                } else {
                    person.to_string()
                }
            })
            .collect();
        let asked = if list.told {
            "asked".to_owned()
        } else {
            format!("asked {} if it still waits", super::super::when::relative(list.at, now))
        };
        let _ = writeln!(text, "    {:<12} {} ({asked})", list.name.as_str(), people.join(", "));
    }
}

fn content(opened: &HeldMessage) -> Value {
    let parents: Vec<String> =
        opened.parents().iter().map(|parent| data_encoding::HEXLOWER.encode(&parent.digest)).collect();
    json!({
        "content_type": opened.content_type(),
        "payload_base64": data_encoding::BASE64.encode(opened.payload()),
        "text": std::str::from_utf8(opened.payload()).ok(),
        "parents": parents,
    })
}

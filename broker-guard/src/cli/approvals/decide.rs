//! `sealbus approvals approve` and `deny`: a person's signature about one sealed envelope.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use sealbus_envelope::{
    approval::{Approval, SignedApproval},
    control::Submitted,
    hash::Hash,
    identity::{BusId, KeyKind, SigningKey},
};
use serde_json::json;

use super::{Way, WayArg, digest, show, whole_digest};
use crate::{
    cli::{
        failure::{Exit, Failure},
        output::{BAD, GOOD, Output, paint},
        runtime,
    },
    clock::now,
    keyfile::{read_seed, replace_public},
};

const APPROVE: &str = "\
Examples:
  sealbus approvals approve 5f3a0c1d9b2e7a48 --key ann.seed
  sealbus approvals approve 5f3a0c1d9b2e7a48 --key ann.seed --creds ann.creds   from any machine
  sealbus approvals approve DIGEST --key ann.seed --yes               in a script, all of the digest
  sealbus approvals approve DIGEST --key ann.seed --out ann.approval  to carry, without a network
  sealbus approvals submit ann.approval                               by anybody

Signs the digest: these sealed bytes on this bus, and no others. What the guard says of them is
compared with what stands in them, shown, and asked about first. When enough people have approved,
the message goes to its readers, who count the signatures again.";

const DENY: &str = "\
Examples:
  sealbus approvals deny 5f3a0c1d9b2e7a48 --key ann.seed
  sealbus approvals deny 5f3a0c1d9b2e7a48 --key ann.seed --creds ann.creds

One denial by an approver is enough. The sender is told.";

/// What both take.
#[derive(Debug, clap::Args)]
struct Decision {
    /// At least 16 characters of the digest; all of it with `--yes`, and for `--out` without a network
    digest: String,
    /// Your key: `sealbus approvals key` makes one
    #[arg(long, env = "SEALBUS_APPROVER_KEY", value_name = "FILE")]
    key: PathBuf,
    /// Write what was signed to this file, and bring it to no guard
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Sign without asking; needs all of the digest
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    way: WayArg,
}

/// Approve what waits, by a signature
#[derive(Debug, clap::Args)]
#[command(after_help = APPROVE)]
pub(crate) struct ApproveArgs {
    #[command(flatten)]
    decision: Decision,
}

/// Deny what waits, by a signature
#[derive(Debug, clap::Args)]
#[command(after_help = DENY)]
pub(crate) struct DenyArgs {
    #[command(flatten)]
    decision: Decision,
}

pub(crate) fn approve(args: &ApproveArgs, output: &Output) -> Result<(), Failure> {
    decide(&args.decision, true, output)
}

pub(crate) fn deny(args: &DenyArgs, output: &Output) -> Result<(), Failure> {
    decide(&args.decision, false, output)
}

fn decide(args: &Decision, approve: bool, output: &Output) -> Result<(), Failure> {
    if args.yes && whole_digest(&args.digest).is_none() {
        let message = "`--yes` signs without asking, so it needs all of the digest";
        return Err(Failure::told(Exit::Config, "usage", message, "`sealbus approvals show` tells it"));
    }
    let key = read_seed(&args.key, KeyKind::User)?;
    if let (Some(path), Some(digest)) = (&args.out, whole_digest(&args.digest)) {
        let signed = sign(args.way.bus_id()?, digest, approve, &key);
        return write(path, &signed, output);
    }
    runtime()?.block_on(async {
        let way = args.way.open().await?;
        let outcome = with(args, approve, &key, &way, output).await;
        way.close().await;
        outcome
    })
}

async fn with(
    args: &Decision,
    approve: bool,
    key: &SigningKey,
    way: &Way,
    output: &Output,
) -> Result<(), Failure> {
    let report = way.find(&args.digest).await?;
    let digest = digest(&report)?;
    // A guard that describes one thing and has another signed is found out here.
    show::check(&report, &way.sealed(digest).await?, way.bus())?;
    if !args.yes {
        output.remark(show::about(way, &report, now()));
        ask(approve, output)?;
    }
    let signed = sign(way.bus(), digest, approve, key);
    if let Some(path) = &args.out {
        return write(path, &signed, output);
    }
    tell(&way.submit(&signed).await?, approve, output)
}

/// Nobody signs what they have not seen: several that wait may look alike until one reads who sent them and where to.
fn ask(approve: bool, output: &Output) -> Result<(), Failure> {
    let word = if approve { "approve" } else { "deny" };
    if !std::io::stdin().is_terminal() {
        let message = format!("there is nobody to ask whether to {word} it");
        return Err(Failure::told(Exit::Config, "usage", message, "give `--yes` and all of the digest"));
    }
    output.remark(format!("Sign to {word} this? [y/N]"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|source| {
        Failure::because(
            Exit::Failure,
            "stdin",
            "cannot read stdin",
            "give `--yes` and all of the digest",
            source,
        )
    })?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::told(Exit::Failure, "not_signed", "nothing was signed", "answer `y` to sign"))
}

fn sign(bus: BusId, envelope: Hash, approve: bool, key: &SigningKey) -> SignedApproval {
    SignedApproval::sign(&Approval { bus, envelope, approve, time: now() }, key)
}

fn write(path: &Path, signed: &SignedApproval, output: &Output) -> Result<(), Failure> {
    replace_public(path, &signed.encode())?;
    let said = signed.approval();
    let envelope = data_encoding::HEXLOWER.encode(&said.envelope);
    let object = json!({
        "file": path,
        "envelope": envelope,
        "approve": said.approve,
        "key": signed.key().to_nkey(KeyKind::User),
    });
    let word = if said.approve { "approval" } else { "denial" };
    output.show(
        &object,
        format!(
            "{0}: signed {word} of {envelope}\nHand it in, or let anybody: sealbus approvals submit {0}",
            path.display()
        ),
    )
}

/// What became of it.
pub(super) fn tell(submitted: &Submitted, approve: bool, output: &Output) -> Result<(), Failure> {
    if let Some(reason) = submitted.refused {
        let what = submitted.what.as_deref().unwrap_or("approval");
        let message = format!("it does not count: {what}: {} [{reason}]", reason.meaning());
        return Err(Failure::told(Exit::Denied, reason.code(), message, reason.remedy()));
    }
    let person = submitted.person.as_ref().map_or_else(|| "you".to_owned(), ToString::to_string);
    let text = match (submitted.state.as_deref(), submitted.denied) {
        (Some("released"), _) => {
            format!("{} {person} approved; it goes to its readers now", paint(GOOD, "✓"))
        }
        (Some("denied"), _) if !approve => {
            format!("{} {person} denied it; its sender is told", paint(GOOD, "✓"))
        }
        (_, Some(reason)) => format!(
            "{} {person} approved, but it is denied: {} [{reason}]",
            paint(BAD, "✗"),
            reason.meaning()
        ),
        _ if submitted.again => {
            format!("{person} had approved it before; {} missing still", submitted.missing)
        }
        _ if submitted.missing == 0 => {
            format!(
                "{} {person} approved; it goes when the guard can log it and its workflow runs",
                paint(GOOD, "✓")
            )
        }
        _ => format!("{} {person} approved; {} missing still", paint(GOOD, "✓"), submitted.missing),
    };
    output.show(submitted, text)
}

//! `sealbus order`: signed orders from hand to hand, and to the guard; and how commands make them.

mod show;
mod sign;
mod submit;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use rand_core::UnwrapErr;
use sealbus_envelope::{
    identity::{KeyKind, PublicKey, Roots},
    order::{Draft, MAX_ORDER_MS, MAX_ORDER_REASON, Order, OrderId, OrderKind, SignedOrder, Target},
    reason::Refused,
};
use serde_json::{Value, json};

use super::{
    busdir::{BusArg, BusDir, OfflineArg},
    failure::{Exit, Failure},
    output::{GOOD, Output, STRONG, paint},
    page::{self, AddressArg},
    registry::Registry,
    session::printable,
    when::{relative, rfc3339},
};
use crate::{clock::now, http::ask::OrderAnswer, keyfile::replace_public};

/// Milliseconds in a minute.
const MINUTE: u64 = 60_000;
/// The most minutes for which an order is good.
const MAX_MINUTES: u64 = MAX_ORDER_MS / MINUTE;

/// Look at orders, add a signature, hand them to the guard
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Show(show::Args),
    Sign(sign::Args),
    Submit(submit::Args),
}

pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Show(args) => show::run(args, output),
        Command::Sign(args) => sign::run(args, output),
        Command::Submit(args) => submit::run(args, output),
    }
}

/// What every command that gives an order takes.
#[derive(Debug, clap::Args)]
pub(crate) struct OrderArgs {
    /// Why, for who reads the audit log
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// For how many minutes the order is good
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=MAX_MINUTES))]
    minutes: u64,
    /// Write the order to this file, and give it to no guard
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    address: AddressArg,
    #[command(flatten)]
    offline: OfflineArg,
}

/// What every command takes that gives an order about an agent.
#[derive(Debug, clap::Args)]
pub(crate) struct AgentOrder {
    /// Name of the agent
    pub(crate) agent: String,
    #[command(flatten)]
    order: OrderArgs,
    #[command(flatten)]
    bus: BusArg,
}

impl AgentOrder {
    /// See [`give`].
    pub(crate) fn give(&self, kind: OrderKind, output: &Output) -> Result<(), Failure> {
        match self.give_or_draft(kind, output)? {
            Some(carried_out) => carried_out.show(output),
            None => Ok(()),
        }
    }

    /// See [`give_or_draft`].
    pub(crate) fn give_or_draft(
        &self,
        kind: OrderKind,
        output: &Output,
    ) -> Result<Option<CarriedOut>, Failure> {
        let dir = self.bus.open()?;
        let target = agent(&dir, &self.agent)?;
        give_or_draft(&dir, kind, (&self.agent, target), &self.order, output)
    }
}

/// Makes an order and signs it with the policy keys at hand. If they are a quorum the guard gets
/// it, else a draft is written for the next holder.
pub(crate) fn give(
    dir: &BusDir,
    kind: OrderKind,
    target: (&str, Target),
    args: &OrderArgs,
    output: &Output,
) -> Result<(), Failure> {
    if let Some(carried_out) = give_or_draft(dir, kind, target, args, output)? {
        carried_out.show(output)?;
    }
    Ok(())
}

/// An order that a guard has carried out.
pub(crate) struct CarriedOut {
    /// Where that guard is.
    pub(crate) address: SocketAddr,
    object: Value,
    text: String,
}

impl CarriedOut {
    /// Tells it.
    pub(crate) fn show(&self, output: &Output) -> Result<(), Failure> {
        output.show(&self.object, &self.text)
    }
}

/// As [`give`], but what the guard has carried out is told by the caller. None if a draft was written.
fn give_or_draft(
    dir: &BusDir,
    kind: OrderKind,
    (name, target): (&str, Target),
    args: &OrderArgs,
    output: &Output,
) -> Result<Option<CarriedOut>, Failure> {
    let roots = &dir.config.roots;
    let issued = now();
    let order = Order {
        bus: roots.bus(),
        id: OrderId::generate(&mut UnwrapErr(getrandom::SysRng)),
        kind,
        target,
        reason: args.reason.clone(),
        issued,
        valid_until: issued.plus(args.minutes.saturating_mul(MINUTE)),
    };
    let mut draft = Draft::new(order, roots).map_err(|refused| {
        let message = format!("no such order can be made: {refused}");
        let remedy = format!("give a reason of 1 to {MAX_ORDER_REASON} bytes on one line");
        Failure::told(Exit::Config, "order_invalid", message, remedy)
    })?;
    for key in dir.offline(&args.offline).policy_keys_at_hand()? {
        // A policy may want the quorum on orders that one key could give.
        if draft.missing(roots) > 0 || draft.signers().count() < roots.quorum {
            draft.sign(&key, roots).map_err(unmade)?;
        }
    }
    let id: String = draft.order().id.to_string().chars().take(8).collect();
    let file = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{kind}-{name}-{id}.order")));
    if args.out.is_some() || draft.missing(roots) > 0 {
        replace_public(&file, &draft.encode())?;
        return tell(dir, &file, &draft, output).map(|()| None);
    }
    let submitted = submit(args.address.of(&dir.config), &draft);
    // Signatures are hard to come by: none is lost because a guard is down. But what a guard refused for good must not
    // lie about: it could be handed in when it makes a sense that nobody meant.
    if submitted.as_ref().is_err_and(|failure| failure.exit() != Exit::Denied) {
        replace_public(&file, &draft.encode())?;
        output.remark(format_args!("The signed order is in {0}: sealbus order submit {0}", file.display()));
    }
    submitted.map(Some)
}

fn unmade(refused: Refused) -> Failure {
    let message = format!("the order cannot be signed: {refused}");
    Failure::told(Exit::Failure, "order_unsigned", message, refused.reason.remedy())
}

/// Reads a draft or a signed order, and verifies every signature on it.
fn read(path: &Path, roots: &Roots) -> Result<Draft, Failure> {
    let bytes = std::fs::read(path).map_err(|source| Failure::io("read", path, source))?;
    Draft::decode(&bytes, roots).map_err(|refused| {
        let reason = refused.reason;
        let message =
            format!("`{}` is refused: {}: {} [{reason}]", path.display(), refused.what, reason.meaning());
        let remedy = "get it again from who made it; sign nothing that does not verify";
        Failure::told(Exit::Unverified, "order_unverified", message, remedy)
    })
}

/// Hands a complete order to the guard.
fn submit(address: SocketAddr, draft: &Draft) -> Result<CarriedOut, Failure> {
    let answer = page::post(address, "/orders", &draft.encode())?;
    let Ok(told) = serde_json::from_slice::<OrderAnswer>(&answer.body) else {
        let said = printable(String::from_utf8_lossy(&answer.body).trim());
        let message = format!("the guard at {address} took no order: {said} ({})", answer.code);
        return Err(Failure::told(Exit::Failure, "order_not_taken", message, "try again: `sealbus status`"));
    };
    let order = draft.order();
    if let Some(reason) = told.reason {
        let exit = if answer.code == 403 { Exit::Denied } else { Exit::Failure };
        let what = told.what.as_deref().map(printable).unwrap_or_default();
        let message = format!("the guard refused the order: {what}: {} [{reason}]", reason.meaning());
        return Err(Failure::told(exit, reason.code(), message, reason.remedy()));
    }
    let mut object = object(draft);
    if let Some(map) = object.as_object_mut() {
        map.insert("accepted".to_owned(), told.accepted.into());
    }
    let effect = match order.kind {
        OrderKind::ClearTaint => {
            "Its sessions end now; its floor falls in about two seconds, when every key that it stands for \
             is refused."
        }
        OrderKind::Pause => "Everything of it is denied from now on, until a person resumes it.",
        OrderKind::Resume => "It goes on; who waited for it sends now.",
        OrderKind::Quarantine | OrderKind::Revoke => {
            "It is off the bus; `sealbus quarantine show` says when every server has confirmed it."
        }
        OrderKind::Release => {
            "It may connect again. What was kept of it waits: `sealbus quarantine replay` or `discard`."
        }
        OrderKind::ReplayEvidence => "It is under way: `sealbus quarantine show` says how far.",
        _ => "",
    };
    let text = format!("{} {} of {}\n{effect}", paint(GOOD, "✓"), order.kind, paint(STRONG, &order.target));
    Ok(CarriedOut { address, object, text: text.trim_end().to_owned() })
}

/// An order as JSON.
fn object(draft: &Draft) -> Value {
    let order = draft.order();
    json!({
        "id": order.id.to_string(),
        "order": order.kind.code(),
        "target": order.target.to_string(),
        "agent": order.target.agent(),
        "identity": identity(&order.target),
        "reason": order.reason,
        "issued": rfc3339(order.issued),
        "valid_until": rfc3339(order.valid_until),
        "digest": data_encoding::HEXLOWER.encode(&draft.digest()),
        "signed_by": draft.signers().map(nkey).collect::<Vec<_>>(),
    })
}

/// What an order in a file says, and who must sign it next.
fn tell(dir: &BusDir, path: &Path, draft: &Draft, output: &Output) -> Result<(), Failure> {
    let roots = &dir.config.roots;
    let (order, missing, now) = (draft.order(), draft.missing(roots), now());
    let others: Vec<String> = roots
        .policy_keys
        .iter()
        .filter(|key| missing > 0 && draft.signers().all(|signer| signer != *key))
        .map(nkey)
        .collect();
    let mut object = object(draft);
    if let Some(map) = object.as_object_mut() {
        map.insert("file".to_owned(), json!(path));
        map.insert("missing".to_owned(), missing.into());
        map.insert("may_sign".to_owned(), json!(others));
    }
    let signed: Vec<String> = draft.signers().map(|key| format!("\n    {}", nkey(key))).collect();
    let path = path.display();
    let mut text = format!(
        "{path}: {} of {}\n  reason    {}\n  identity  {}\n  made      {} ({})\n  good until {} ({})\n  signed    {} of {}{}",
        paint(STRONG, order.kind),
        paint(STRONG, &order.target),
        printable(&order.reason),
        identity(&order.target).as_deref().unwrap_or("-"),
        rfc3339(order.issued),
        relative(order.issued, now),
        rfc3339(order.valid_until),
        relative(order.valid_until, now),
        signed.len(),
        order.kind.needed(roots),
        signed.concat(),
    );
    text = if order.valid_until <= now {
        format!("{text}\nIts time is over: make it again.")
    } else if missing == 0 {
        format!("{text}\n{} Complete. Hand it to the guard: sealbus order submit {path}", paint(GOOD, "✓"))
    } else {
        let others: Vec<_> = others.iter().map(|key| format!("\n    {key}")).collect();
        format!("{text}\n  {missing} more must sign, with: sealbus order sign {path}{}", others.concat())
    };
    output.show(&object, text)
}

/// The agent with this name, as an order names it.
fn agent(dir: &BusDir, name: &str) -> Result<Target, Failure> {
    let claims = Registry::read(dir)?.find(name)?.credential.clone();
    Ok(Target::Agent { token: claims.token().clone(), identity: claims.claims().identity.clone() })
}

fn identity(target: &Target) -> Option<String> {
    match target {
        Target::Agent { identity, .. } => Some(nkey(identity)),
        Target::Workflow(_) => None,
    }
}

fn nkey(key: &PublicKey) -> String {
    key.to_nkey(KeyKind::User)
}

/// Refuses an order that the guard would refuse for what it says.
fn complete(path: &Path, draft: &Draft, roots: &Roots) -> Result<(), Failure> {
    let told = |exit, refused: Refused| {
        let reason = refused.reason;
        let message = format!("`{}`: {}: {} [{reason}]", path.display(), refused.what, reason.meaning());
        Failure::told(exit, reason.code(), message, reason.remedy())
    };
    let missing = draft.missing(roots);
    if missing > 0 {
        let message = format!("`{}` lacks {missing} of {} signatures", path.display(), roots.quorum);
        let remedy = format!("give it to another key holder: sealbus order sign {}", path.display());
        return Err(Failure::told(Exit::Denied, "order_incomplete", message, remedy));
    }
    let signed = SignedOrder::verify(&draft.encode(), roots).map_err(|r| told(Exit::Unverified, r))?;
    signed.check_time(now()).map_err(|refused| told(Exit::Denied, refused))
}

//! `sealbus approvals revoke-key`: the next status statement names a key that a person approves with.

use std::fmt::Write as _;

use sealbus_envelope::{
    identity::{KeyKind, PublicKey},
    policy::Bundle,
};
use serde_json::json;

use super::people::{Approver, approvers, left};
use crate::cli::{
    busdir::{BusArg, BusDir, OfflineArg, revoke},
    failure::{Exit, Failure},
    locked::Locked,
    output::{BAD, Output, STRONG, paint},
    session::printable,
    when::rfc3339,
};

const EXAMPLES: &str = "\
Examples:
  sealbus approvals revoke-key ann
  sealbus approvals revoke-key ann --all                         every key she has
  sealbus approvals revoke-key UAMTSKV554XZ… --offline /media/keys/offline

What the key signed counts nothing any more, also under what waits now: the guard strikes it off,
and readers refuse what passed by it. Name the person's new key in the policy. A bare key need not
stand in the policy. For an agent's key: sealbus agent revoke.
Needs one signature of the status key; there is no command that takes a revocation back.";

/// Revoke an approver's key for good
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The person, as `sealbus approvals people` lists them, or a public key
    #[arg(value_name = "NAME|KEY")]
    who: String,
    /// Every key of that person
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    bus: BusArg,
    #[command(flatten)]
    offline: OfflineArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    // Agents are revoked under the same lock.
    let Locked { dir, bundle, registry, mut status } = Locked::open(&args.bus)?;
    let known = approvers(&bundle, &status);
    let named = if let Ok(key) = PublicKey::from_nkey(&args.who, KeyKind::User) {
        if known.iter().all(|one| one.key != key) {
            check_bare(&key, &dir, &bundle)?;
        }
        vec![key]
    } else {
        of_person(&args.who, args.all, &known)?
    };
    let agent = |key: &PublicKey| {
        registry.iter().find(|(_, entry)| entry.credential.claims().identity == *key).map(|(name, _)| name)
    };
    if let Some(name) = named.iter().find_map(agent) {
        let message = format!("this is the identity of the agent `{name}`");
        let remedy = format!("`sealbus agent revoke {name}`: it revokes the key, for approvals too");
        return Err(Failure::told(Exit::Config, "agents_key", message, remedy));
    }
    let fresh: Vec<PublicKey> = named.into_iter().filter(|key| !status.is_revoked(key)).collect();
    if fresh.is_empty() {
        let message = format!("`{}` is revoked already", printable(&args.who));
        return Err(Failure::told(Exit::Failure, "revoked_already", message, "nothing is left to do"));
    }
    let at = revoke(&dir, &bundle, &mut status, &fresh, &args.offline)?;

    let of = |key: &PublicKey| known.iter().filter(|one| one.key == *key).collect::<Vec<_>>();
    let short: Vec<_> = left(&bundle, &status).into_iter().filter(super::people::Left::too_few).collect();
    let revoked: Vec<_> = fresh
        .iter()
        .map(|key| json!({ "key": key.to_nkey(KeyKind::User), "name": of(key).first().map(|one| &one.name) }))
        .collect();
    let object = json!({
        "revoked": revoked,
        "revoked_at": rfc3339(at),
        "too_few": short,
        "status_version": status.version,
        "valid_until": rfc3339(status.valid_until),
        "status": dir.config.status,
    });
    let mut text = String::new();
    for key in &fresh {
        let whose = of(key)
            .first()
            .map_or_else(|| "no approver of this policy".to_owned(), |one| one.name.to_string());
        let _ = writeln!(text, "{} is revoked ({whose})", paint(STRONG, key.to_nkey(KeyKind::User)));
    }
    for hold in &short {
        let _ =
            writeln!(text, "{}: nothing gets through until the policy names others", paint(BAD, hold.text()));
    }
    let _ = write!(
        text,
        "Status statement {} in {}, valid until {}\nA guard that runs here takes it up by itself; copy the file to \
         every other guard.",
        status.version,
        dir.config.status.display(),
        rfc3339(status.valid_until),
    );
    output.show(&object, text)
}

/// The keys of a person. With several it must be said which: who asks twice must not revoke the one that is left.
fn of_person(name: &str, all: bool, known: &[Approver]) -> Result<Vec<PublicKey>, Failure> {
    let keys: Vec<&PublicKey> =
        known.iter().filter(|one| one.name.as_str() == name).map(|one| &one.key).collect();
    let told = |code, message, remedy| Err(Failure::told(Exit::Config, code, message, remedy));
    match keys.as_slice() {
        [] => told(
            "unknown_approver",
            format!(
                "`{}` is neither a person whom the policy in force asks, nor a public key",
                printable(name)
            ),
            "see `sealbus approvals people`; a key begins with `U`".to_owned(),
        ),
        [_, _, ..] if !all => {
            let keys: Vec<String> = keys.iter().map(|key| key.to_nkey(KeyKind::User)).collect();
            let remedy = format!("name the key, or give `--all`: {}", keys.join(", "));
            told("ambiguous", format!("`{name}` has {} keys", keys.len()), remedy)
        }
        keys => Ok(keys.iter().copied().cloned().collect()),
    }
}

/// A status statement has no power over what the bus rests on; who revokes such a key must not believe it was done.
fn check_bare(key: &PublicKey, dir: &BusDir, bundle: &Bundle) -> Result<(), Failure> {
    let roots = &dir.config.roots;
    let (what, remedy) = if roots.policy_keys.contains(key) {
        ("a policy key", "take it out of `policy_keys` at every guard and in every credentials file")
    } else if bundle.tables().status_key == *key {
        (
            "the status key",
            "make a new bus: `sealbus init`; whoever has this key can revoke, and let nobody in",
        )
    } else {
        return Ok(());
    };
    let message = format!("this is {what} of bus `{}`, which no status statement revokes", roots.name);
    Err(Failure::told(Exit::Config, "not_revocable", message, remedy))
}

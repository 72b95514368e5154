//! `sealbus policy rollback`: an old policy again, as a new and higher version.

use std::path::PathBuf;

use sealbus_envelope::policy::{Bundle, Records, Tables};
use serde_json::json;

use super::{
    super::{
        busdir::{BusArg, BusDir, OfflineArg},
        failure::{Exit, Failure},
        output::Output,
        registry::Registry,
        runtime,
    },
    bucket, issue,
};

const EXAMPLES: &str = "\
Examples:
  sealbus policy rollback 3
  sealbus policy rollback 3 --out draft.bundle    if the policy keys are in different hands
  sealbus policy publish                          for guards on other machines

Versions only go up, so this signs what version 3 said as the next version; `sealbus policy
history` lists what there is. The status key and the guards stay those in force, and labels that
were added since stay declared. It does not touch policy.toml: put the old text there too,
before you sign it the next time.";

/// Put an old policy back into force, as a new version
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The version whose content is to be in force again
    #[arg(value_name = "VERSION")]
    to: u64,
    /// Write a draft with the signatures of the keys at hand, and put nothing into force
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    bus: BusArg,
    #[command(flatten)]
    offline: OfflineArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let _lock = Registry::lock(&dir)?;
    let (in_force, _) = dir.bundle()?;
    let old = find(&dir, &in_force, args.to)?;
    let records = again(old.records(), in_force.tables());
    if records == *in_force.records() {
        let version = in_force.head().fields().version;
        let object = json!({ "policy": dir.config.policy, "version": version, "changed": false });
        let text = format!("Nothing changed: version {version} says what version {} said", args.to);
        return output.show(&object, text);
    }
    issue::issue(&dir, &args.offline, &in_force, records, args.out.as_deref(), output)?;
    if !output.is_json() {
        output.remark("policy.toml was not changed: put the old text there too, before you sign it again.");
    }
    Ok(())
}

/// What the old policy said, under the keys and with the labels of today. Names of labels are only ever
/// appended, so an old rule means the same with the longer lists.
fn again(old: &Records, now: &Tables) -> Records {
    let tables = Tables {
        levels: now.levels.clone(),
        compartments: now.compartments.clone(),
        integrity: now.integrity.clone(),
        status_key: now.status_key.clone(),
        guards: now.guards.clone(),
        ..old.tables.clone()
    };
    Records { tables, ..old.clone() }
}

/// An old version: kept here, or published. Verified wherever it was found.
fn find(dir: &BusDir, in_force: &Bundle, version: u64) -> Result<Bundle, Failure> {
    let current = in_force.head().fields().version;
    if version >= current {
        let message = format!("version {version} is not an old one: version {current} is in force");
        let remedy = "see `sealbus policy history`";
        return Err(Failure::told(Exit::Config, "not_an_old_version", message, remedy));
    }
    let archive = issue::archive(dir);
    let path = archive.path(version);
    let kept = archive.read(version).map_err(|source| Failure::io("read", &path, source))?;
    let bytes = match kept {
        Some(bytes) => bytes,
        None => runtime()?.block_on(published(dir, version))?,
    };
    let old =
        Bundle::verify(&bytes, &dir.config.roots).map_err(|refused| issue::unverified(&path, refused))?;
    if old.head().fields().version == version {
        return Ok(old);
    }
    let message = format!("what was kept as version {version} is version {}", old.head().fields().version);
    Err(Failure::told(Exit::Unverified, "policy_unverified", message, "restore the file from a backup"))
}

async fn published(dir: &BusDir, version: u64) -> Result<Vec<u8>, Failure> {
    let not_here = format!("version {version} is not kept in this bus directory");
    let bucket = bucket::open(dir).await.map_err(|failure| {
        let remedy = format!("bring its bundle to `{}`", issue::archive(dir).path(version).display());
        Failure::told(
            Exit::Failure,
            "no_such_version",
            format!("{not_here}, and {}", failure.to_text()),
            remedy,
        )
    })?;
    let stored = bucket.get(version).await.map_err(|error| bucket::failure(&error))?;
    stored.and_then(|stored| stored.bytes).ok_or_else(|| {
        let message = format!("{not_here}, nor was it published");
        Failure::told(Exit::Failure, "no_such_version", message, "see `sealbus policy history`")
    })
}

//! `sealbus policy history`: every version, who signed it and when, and where it is.

use std::collections::BTreeMap;

use sealbus_envelope::policy::Bundle;
use serde_json::{Value, json};

use super::{
    super::{
        busdir::{BusArg, BusDir},
        failure::Failure,
        output::{BAD, GOOD, Output, paint, table},
        registry::Registry,
        runtime,
        when::rfc3339,
    },
    bucket,
    changes::Changes,
    issue,
};

const EXAMPLES: &str = "\
Examples:
  sealbus policy history
  sealbus policy history --local --last 5
  sealbus policy history --json | jq '.versions[] | {version, issued, signed_by}'
  sealbus policy history --fetch

Lists the versions kept in `policies` of the bus directory and those published on the servers;
each is verified against the policy keys. CHANGES counts what a version adds (+), removes (-)
and changes (~) against the one before.";

/// Show every version of the policy, who signed it and when
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// At most so many versions, the newest
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
    /// Do not ask the servers
    #[arg(long)]
    local: bool,
    /// Keep what was published and is not here, and put the newest into the bus directory
    #[arg(long, conflicts_with = "local")]
    fetch: bool,
    #[command(flatten)]
    bus: BusArg,
}

/// A version, and where it was found.
#[derive(Default)]
struct Row {
    here: Option<Bundle>,
    published: Option<Bundle>,
    /// Something is there under this number that does not verify.
    spoilt: bool,
}

impl Row {
    fn bundle(&self) -> Option<&Bundle> {
        self.here.as_ref().or(self.published.as_ref())
    }
}

/// All of them, and what the bucket calls current.
#[derive(Default)]
struct Versions {
    rows: BTreeMap<u64, Row>,
    current: Option<u64>,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let (in_force, _) = dir.bundle()?;
    let mut versions = Versions::default();
    kept(&dir, &in_force, &mut versions)?;
    let mut unreachable = None;
    if !args.local {
        let asked = runtime()?.block_on(published(&dir, args.last, &mut versions));
        match asked {
            Err(failure) if args.fetch => return Err(failure),
            Err(failure) => unreachable = Some(failure.to_text()),
            Ok(()) => {}
        }
    }
    if args.fetch {
        fetch(&dir, &in_force, &versions)?;
    }
    if let Some(why) = unreachable.as_ref().filter(|_| !output.is_json()) {
        output.remark(format_args!("Only what is kept here: {why}"));
    }
    show(&versions, &dir.bundle()?.0, args.last, unreachable.as_deref(), output)
}

/// What is kept here.
fn kept(dir: &BusDir, in_force: &Bundle, versions: &mut Versions) -> Result<(), Failure> {
    let archive = issue::archive(dir);
    let told = |source| Failure::io("look into", archive.dir(), source);
    for version in archive.versions().map_err(told)? {
        let bytes = archive.read(version).map_err(told)?.unwrap_or_default();
        let row = versions.rows.entry(version).or_default();
        row.here = verified(dir, version, &bytes);
        row.spoilt = row.here.is_none();
    }
    let row = versions.rows.entry(in_force.head().fields().version).or_default();
    (row.here, row.spoilt) = (Some(in_force.clone()), false);
    Ok(())
}

/// What was published: the newest, down to as many as are asked for.
async fn published(dir: &BusDir, last: usize, versions: &mut Versions) -> Result<(), Failure> {
    let told = |error| bucket::failure(&error);
    let shelf = bucket::open(dir).await?;
    versions.current = shelf.current().await.map_err(told)?;
    let highest = versions.current.max(versions.rows.keys().next_back().copied()).unwrap_or(0);
    for version in (1..=highest).rev().take(last) {
        let Some(stored) = shelf.get(version).await.map_err(told)? else { continue };
        let row = versions.rows.entry(version).or_default();
        row.published = verified(dir, version, &stored.bytes.unwrap_or_default());
        row.spoilt |= row.published.is_none();
    }
    Ok(())
}

fn verified(dir: &BusDir, version: u64, bytes: &[u8]) -> Option<Bundle> {
    let bundle = Bundle::verify(bytes, &dir.config.roots).ok()?;
    (bundle.head().fields().version == version).then_some(bundle)
}

/// Keeps what was published here too.
fn fetch(dir: &BusDir, in_force: &Bundle, versions: &Versions) -> Result<(), Failure> {
    let _lock = Registry::lock(dir)?;
    let archive = issue::archive(dir);
    for (version, row) in &versions.rows {
        if let (None, Some(bundle)) = (&row.here, &row.published) {
            archive.keep(*version, &bundle.encode())?;
        }
    }
    let newest = versions.rows.values().rev().find_map(|row| row.published.as_ref());
    let newer = newest.filter(|newest| newest.head().fields().version > in_force.head().fields().version);
    if let Some(bundle) = newer {
        issue::refuse_renumbered(in_force.tables(), bundle.tables())?;
        issue::install(dir, in_force, bundle, None)?;
    }
    Ok(())
}

fn show(
    versions: &Versions,
    in_force: &Bundle,
    last: usize,
    unreachable: Option<&str>,
    output: &Output,
) -> Result<(), Failure> {
    let in_force = in_force.head().fields().version;
    let (mut rows, mut objects) = (Vec::new(), Vec::new());
    let mut before: Option<&Bundle> = None;
    for (version, row) in &versions.rows {
        let changes = match (before, row.bundle()) {
            (Some(old), Some(new)) => Some(Changes::between(old.records(), new.records())),
            _ => None,
        };
        rows.push(line(*version, row, changes.as_ref(), in_force, versions.current));
        objects.push(object(*version, row, changes.as_ref(), in_force, versions.current));
        before = row.bundle().or(before);
    }
    let newest = |all: Vec<Vec<String>>| all.into_iter().rev().take(last).collect::<Vec<_>>();
    let objects: Vec<Value> = objects.into_iter().rev().take(last).collect();
    let object = json!({
        "in_force": in_force,
        "published": versions.current,
        "bucket_error": unreachable,
        "versions": objects,
    });
    let head = ["VERSION", "ISSUED", "SIGNED BY", "RULES", "CHANGES", "DIGEST", ""];
    output.show(&object, table(&head, &newest(rows)))
}

fn object(version: u64, row: &Row, changes: Option<&Changes>, in_force: u64, current: Option<u64>) -> Value {
    let object = json!({
        "version": version,
        "in_force": version == in_force,
        "current": current == Some(version),
        "kept": row.here.is_some(),
        "published": row.published.is_some(),
        "spoilt": row.spoilt,
        "changes": changes,
    });
    let Some(bundle) = row.bundle() else { return object };
    let fields = bundle.head().fields();
    let more = [
        ("issued", json!(rfc3339(fields.issued))),
        ("digest", json!(issue::hex(&fields.root))),
        ("signed_by", json!(bundle.head().signers().map(issue::nkey).collect::<Vec<_>>())),
        ("rules", json!(bundle.rules().len())),
        ("grants", json!(bundle.grants().len())),
    ];
    more.into_iter().fold(object, |object, (key, value)| issue::with(object, key, value))
}

fn line(
    version: u64,
    row: &Row,
    changes: Option<&Changes>,
    in_force: u64,
    current: Option<u64>,
) -> Vec<String> {
    let mut remarks = Vec::new();
    if version == in_force {
        remarks.push(paint(GOOD, "in force").to_string());
    }
    if current == Some(version) {
        remarks.push("published, current".to_owned());
    } else if row.published.is_some() {
        remarks.push("published".to_owned());
    }
    if row.spoilt {
        remarks.push(paint(BAD, "does not verify").to_string());
    }
    let remarks = remarks.join("; ");
    let Some(bundle) = row.bundle() else {
        let none = || "?".to_owned();
        return vec![version.to_string(), none(), none(), none(), none(), none(), remarks];
    };
    let fields = bundle.head().fields();
    vec![
        version.to_string(),
        rfc3339(fields.issued),
        bundle.head().signers().map(issue::short).collect::<Vec<_>>().join(","),
        bundle.rules().len().to_string(),
        changes.map_or_else(|| "-".to_owned(), Changes::short),
        issue::hex(&fields.root).chars().take(12).collect(),
        remarks,
    ]
}

//! What can be seen without a server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sealbus_envelope::{identity::KeyKind, time::Millis};

use super::{
    super::{
        busdir::{BusDir, OFFLINE},
        failure::Failure,
        when::{DAY, relative},
    },
    Chart,
};
use crate::{
    clock::now,
    keyfile::{GuardKeys, read_secret, read_seed},
    natsserver::{LocateError, PINNED_VERSION, locate},
    policy::{self, bundle, bundle::ServiceKeys, source::PolicySource},
};

/// Less than this before its end, a credential is worth a word. In milliseconds.
const CREDENTIAL_SOON: u64 = 14 * DAY;
/// The same for the status statement.
const STATUS_SOON: u64 = 2 * DAY;

/// What later checks compare with.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) policy_version: Option<u64>,
    pub(super) status_version: Option<u64>,
}

pub(super) fn check(dir: &BusDir, chart: &mut Chart<'_>) -> Result<Facts, Failure> {
    let keys = guard_keys(dir, chart)?;
    secrets(dir, chart)?;
    let facts = signed(dir, keys.as_ref(), chart)?;
    if let Some(keys) = &keys {
        nats_conf(dir, keys, chart)?;
    }
    nats_server(chart)?;
    events(dir, chart)?;
    Ok(facts)
}

/// Where events go, as far as it can be seen without sending any.
fn events(dir: &BusDir, chart: &mut Chart<'_>) -> Result<(), Failure> {
    let settings = &dir.config.events;
    if let Some(jsonl) = &settings.jsonl {
        // The guard makes what is missing, up to the first directory that is there.
        let there = jsonl.path.ancestors().skip(1).find(|directory| directory.exists());
        let writable = there.is_some_and(|directory| {
            fs::metadata(directory).is_ok_and(|found| found.is_dir() && !found.permissions().readonly())
        });
        let shown = jsonl.path.display().to_string();
        if writable && !jsonl.path.is_dir() {
            chart.good("events file", shown)?;
        } else {
            let remedy = "name a file in a directory of the guard's user under [events.jsonl]";
            chart.wrong("events file", format!("{shown} cannot be written"), remedy)?;
        }
    }
    for webhook in &settings.webhooks {
        let what = format!("webhook {}", webhook.name);
        match webhook.open() {
            Ok(_) => chart.good(what, "ready; whether it answers: `sealbus events test`")?,
            Err(error) => {
                chart.wrong(what, error.to_string(), "the guard does not start until it is mended")?
            }
        }
    }
    Ok(())
}

fn guard_keys(dir: &BusDir, chart: &mut Chart<'_>) -> Result<Option<GuardKeys>, Failure> {
    match GuardKeys::load(&dir.config) {
        Ok(keys) => {
            let until = keys.credential.claims().validity.not_after;
            ending(
                chart,
                "guard's keys and credential",
                until,
                CREDENTIAL_SOON,
                "sign it again: `sealbus agent renew guard --days 365`",
            )?;
            Ok(Some(keys))
        }
        Err(error) => {
            chart.failed("guard's keys and credential", &error.into())?;
            Ok(None)
        }
    }
}

/// Good, with how long; worth a word shortly before its end.
fn ending(chart: &mut Chart<'_>, what: &str, until: Millis, soon: u64, remedy: &str) -> Result<(), Failure> {
    let detail = format!("valid until {}", relative(until, now()));
    let detail = detail.replace("until in ", "for ");
    if until.since(now()) < soon { chart.mind(what, detail, remedy) } else { chart.good(what, detail) }
}

/// Every secret in the bus directory is its owner's alone.
fn secrets(dir: &BusDir, chart: &mut Chart<'_>) -> Result<(), Failure> {
    let mut paths = Vec::new();
    for folder in
        [dir.root().join("guard"), dir.root().join("operator"), dir.agents(), dir.root().join(OFFLINE)]
    {
        paths.extend(entries(&folder).into_iter().filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("seed" | "creds"))
        }));
    }
    let mut open = 0;
    for path in &paths {
        if let Err(error) = read_secret(path) {
            open += 1;
            chart.failed("secret file", &error.into())?;
        }
    }
    if open == 0 {
        chart.good("secret files", format!("{}, each its owner's alone", paths.len()))?;
    }
    let offline = dir.root().join(OFFLINE);
    if entries(&offline).iter().any(|path| path.extension().is_some_and(|extension| extension == "seed")) {
        let detail = format!("{} is on this machine", offline.display());
        chart.mind("offline keys", detail, "in production move it to a medium that is kept elsewhere")?;
    }
    Ok(())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// Policy and status: signed, this guard's, not at their end.
fn signed(dir: &BusDir, keys: Option<&GuardKeys>, chart: &mut Chart<'_>) -> Result<Facts, Failure> {
    let mut facts = Facts::default();
    let bundle = match dir.bundle() {
        Ok((bundle, _)) => bundle,
        Err(failure) => {
            chart.failed("policy bundle", &failure)?;
            return Ok(facts);
        }
    };
    let version = bundle.head().fields().version;
    facts.policy_version = Some(version);
    chart.good("policy bundle", format!("version {version}, signed by the quorum"))?;
    if let Some(keys) = keys
        && !bundle.tables().guards.contains(keys.guard.public())
    {
        let detail = "the policy does not name this guard's key, so no agent would believe it";
        chart.wrong(
            "guard in the policy",
            detail,
            "put the guard's key back that the policy names, or sign a policy that names this one",
        )?;
    }
    let services =
        ServiceKeys { status: bundle.tables().status_key.clone(), guards: bundle.tables().guards.clone() };
    if let Ok(text) = fs::read_to_string(dir.policy()) {
        match policy::check(&PolicySource::new(dir.policy().display().to_string(), text)) {
            Ok(checked) => {
                let records = bundle::records(&checked.policy, &services, &dir.config.roots);
                if records == *bundle.records() {
                    chart.good("policy.toml", "says what is signed")?;
                } else {
                    let detail = "differs from what is signed and in force";
                    chart.mind("policy.toml", detail, "put it into force with `sealbus policy sign`")?;
                }
            }
            Err(findings) => {
                chart.wrong("policy.toml", findings.to_string(), "see `sealbus policy check`")?;
            }
        }
    }
    match dir.status(&bundle) {
        Ok(status) => {
            facts.status_version = Some(status.version);
            let what = format!("status statement {}", status.version);
            let remedy = "sign a new one: `sealbus agent renew-status`";
            if status.check_time(now()).is_err() {
                chart.wrong(what, "expired: agents grant no new keys", remedy)?;
            } else {
                ending(chart, &what, status.valid_until, STATUS_SOON, remedy)?;
            }
        }
        Err(failure) => chart.failed("status statement", &failure)?,
    }
    Ok(facts)
}

/// The server's configuration names the keys that the guard has.
fn nats_conf(dir: &BusDir, keys: &GuardKeys, chart: &mut Chart<'_>) -> Result<(), Failure> {
    let path = dir.root().join("nats").join("nats.conf");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let publisher = read_seed(&dir.config.keys.publisher, KeyKind::User).ok();
    if let Some(publisher) = publisher.map(|key| key.public().to_nkey(KeyKind::User))
        && !text.contains(&publisher)
    {
        let detail = format!("{} does not name the login for publishing policies", path.display());
        let remedy = format!("list `{publisher}` as deploy/ shows, or policies reach guards by file only");
        chart.mind("policy bucket", detail, &remedy)?;
    }
    for (what, key) in [
        ("the guard's login", keys.guard.public().to_nkey(KeyKind::User)),
        ("the callout issuer", keys.callout.public().to_nkey(KeyKind::Account)),
        ("the callout's sealing key", keys.xkey.key().public_key()),
        ("the system login", keys.system.public().to_nkey(KeyKind::User)),
    ] {
        if !text.contains(&key) {
            let detail = format!("{} does not name {what} of this guard", path.display());
            return chart.wrong(
                "nats.conf",
                detail,
                format!("it must have `{key}`; see what `sealbus init` writes"),
            );
        }
    }
    chart.good("nats.conf", "names this guard's keys")
}

fn nats_server(chart: &mut Chart<'_>) -> Result<(), Failure> {
    match locate() {
        Ok(binary) => chart.good(
            "nats-server on this machine",
            format!("{} at {}", binary.version(), binary.path().display()),
        ),
        // It may run elsewhere; the running one is asked for its version later.
        Err(LocateError::NotFound { .. }) => Ok(()),
        Err(error) => {
            let remedy = format!("install nats-server {PINNED_VERSION}");
            chart.wrong("nats-server on this machine", error.to_string(), remedy)
        }
    }
}

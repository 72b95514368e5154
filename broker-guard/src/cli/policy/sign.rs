//! `sealbus policy sign`: the policy file becomes the signed bundle that guards and agents enforce.

use sealbus_envelope::{
    identity::{DEFAULT_STATUS_MS, SigningKey},
    name::Name,
    policy::Tables,
};
use serde_json::json;

use super::{
    super::{
        busdir::{BusArg, OfflineArg, write_status},
        failure::{Exit, Failure},
        output::{GOOD, Output, paint},
        registry::Registry,
    },
    check,
};
use crate::{
    clock::now,
    keyfile::replace_public,
    policy::bundle::{self, ServiceKeys},
};

const EXAMPLES: &str = "\
Examples:
  sealbus policy sign
  sealbus policy sign --config /etc/sealbus --offline /media/keys/offline

Signs `policy.toml` of the bus directory with the policy keys, one version above the one in
force, and writes `policy.bundle`. A running guard takes it up by itself.";

/// Sign the policy and put it into force
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    bus: BusArg,
    #[command(flatten)]
    offline: OfflineArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let checked = check::read(&dir.policy(), output)?;
    let _lock = Registry::lock(&dir)?;
    let (in_force, _) = dir.bundle()?;
    let (tables, version) = (in_force.tables(), in_force.head().fields().version);
    let services = ServiceKeys { status: tables.status_key.clone(), guards: tables.guards.clone() };
    let next = bundle::records(&checked.policy, &services, &dir.config.roots);
    let path = dir.config.policy.clone();
    if next == *in_force.records() {
        let object = json!({ "policy": path, "version": version, "changed": false });
        let text = format!("Nothing changed: version {version} says the same and stays in force");
        return output.show(&object, text);
    }
    refuse_renumbered(tables, &next.tables)?;
    let offline = dir.offline(&args.offline);
    let keys = offline.policy_keys()?;
    // Read before anything is written, so that a key file at fault stops the whole command.
    let status =
        if offline.has_status() { Some((dir.status(&in_force)?, offline.status(&in_force)?)) } else { None };
    let signers: Vec<&SigningKey> = keys.iter().collect();
    let version = version + 1;
    let bundle = bundle::sign(&checked.policy, &services, version, now(), &signers, &dir.config.roots)
        .map_err(|error| Failure::bundle(&path, &error))?;
    replace_public(&path, &bundle.encode())?;
    // The bundle before the statement that names it: a statement ahead of its bundle would look like a
    // rolled-back policy to every agent.
    let status_version = match status {
        Some((mut status, key)) => {
            status.version += 1;
            status.policy_version = version;
            status.issued = now();
            status.valid_until = status.issued.plus(DEFAULT_STATUS_MS);
            write_status(&dir, &status, &key)?;
            Some(status.version)
        }
        None => None,
    };
    let object = json!({
        "policy": path,
        "version": version,
        "changed": true,
        "rules": bundle.rules().len(),
        "signatures": keys.len(),
        "status_version": status_version,
    });
    let text = format!(
        "{} policy version {version}: {} teams, {} rules, {} signature{}, in {}",
        paint(GOOD, "✓"),
        bundle.tables().teams.len(),
        bundle.rules().len(),
        keys.len(),
        if keys.len() == 1 { "" } else { "s" },
        path.display(),
    );
    output.show(&object, text)?;
    if status_version.is_none() && !output.is_json() {
        output.remark(
            "The status key is not here: run `sealbus agent renew-status` where it is, so that agents learn \
             of this version from the status statement too.",
        );
    }
    Ok(())
}

/// Labels on the wire are numbers: a name that moves would relabel everything that was ever sealed.
fn refuse_renumbered(old: &Tables, new: &Tables) -> Result<(), Failure> {
    let lists: [(&str, &[Name], &[Name]); 3] = [
        ("levels", &old.levels, &new.levels),
        ("compartments", &old.compartments, &new.compartments),
        ("integrity", &old.integrity, &new.integrity),
    ];
    for (what, old, new) in lists {
        if !new.starts_with(old) {
            let was: Vec<_> = old.iter().map(|name| format!("\"{name}\"")).collect();
            let message = format!("`{what}` no longer begins with the names that are in force");
            let remedy = format!("begin with [{}] in this order and append new names", was.join(", "));
            return Err(Failure::told(Exit::Config, "renumbered", message, remedy));
        }
    }
    Ok(())
}

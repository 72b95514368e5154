//! `sealbus agent list`.

use sealbus_envelope::{identity::Status, time::Millis};
use serde_json::{Value, json};

use super::super::{
    busdir::BusArg,
    failure::Failure,
    output::{Output, table},
    registry::{Entry, Registry, revoked_at},
    when::{relative, rfc3339},
};
use crate::clock::now;

const EXAMPLES: &str = "\
Examples:
  sealbus agent list
  sealbus agent list --json | jq -r 'select(.state != \"valid\").name'";

/// List every credential that was issued
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let (bundle, _) = dir.bundle()?;
    let status = dir.status(&bundle)?;
    let registry = Registry::read(&dir)?;
    let now = now();
    if output.is_json() {
        return registry.iter().try_for_each(|(_, entry)| output.object(&object(entry, &status, now)));
    }
    let rows: Vec<Vec<String>> = registry
        .iter()
        .map(|(name, entry)| {
            let claims = entry.credential.claims();
            vec![
                name.to_string(),
                claims.team.to_string(),
                format!("{:?}", claims.role).to_lowercase(),
                state(entry, &status, now).to_owned(),
                relative(claims.validity.not_after, now),
                claims.token().to_string(),
            ]
        })
        .collect();
    output.text(table(&["NAME", "TEAM", "ROLE", "STATE", "EXPIRES", "ON THE WIRE"], &rows))
}

/// `revoked`, `expired` or `valid`.
pub(super) fn state(entry: &Entry, status: &Status, now: Millis) -> &'static str {
    if revoked_at(status, entry).is_some() {
        "revoked"
    } else if entry.credential.check_time(now).is_err() {
        "expired"
    } else {
        "valid"
    }
}

/// One agent for scripts.
pub(super) fn object(entry: &Entry, status: &Status, now: Millis) -> Value {
    let claims = entry.credential.claims();
    json!({
        "name": claims.name,
        "token": claims.token(),
        "identity": claims.identity.to_nkey(sealbus_envelope::identity::KeyKind::User),
        "team": claims.team,
        "role": claims.role,
        "state": state(entry, status, now),
        "not_before": rfc3339(claims.validity.not_before),
        "expires": rfc3339(claims.validity.not_after),
        "revoked_at": revoked_at(status, entry).map(rfc3339),
        "reason": entry.reason,
    })
}

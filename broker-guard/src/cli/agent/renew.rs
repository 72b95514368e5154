//! `sealbus agent renew`: the same identity and rights, for longer.

use std::path::PathBuf;

use sealbus_client::Credentials;
use sealbus_envelope::identity::{Credential, Role};
use serde_json::json;

use super::super::{
    busdir::{BusArg, OfflineArg},
    failure::{Exit, Failure},
    init::{unissued, validity},
    locked::Locked,
    output::{Output, STRONG, paint},
    registry::revoked_at,
    when::rfc3339,
};
use crate::keyfile::{replace_public, replace_secret};

const EXAMPLES: &str = "\
Examples:
  sealbus agent renew guard --days 365            the guard's credential; then restart the guard
  sealbus agent renew alice --creds alice.creds   a file that was brought back from the agent

The identity key, team and clearance stay; only the expiry changes. The new credential is
written into the agent's file, which the agent takes up at its next start.";

/// Sign an agent's credential again before it expires
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the agent
    name: String,
    /// How long the new credential is good
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
    /// The agent's file, if it is not `agents/NAME.creds`
    #[arg(long, value_name = "FILE")]
    creds: Option<PathBuf>,
    #[command(flatten)]
    bus: BusArg,
    #[command(flatten)]
    offline: OfflineArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let Locked { dir, mut registry, status, .. } = Locked::open(&args.bus)?;
    let entry = registry.find(&args.name)?;
    if revoked_at(&status, entry).is_some() {
        let message = format!("`{}` is revoked for good", args.name);
        let remedy = "make a new agent under another name: `sealbus agent add`";
        return Err(Failure::told(Exit::Denied, "revoked", message, remedy));
    }
    let mut claims = entry.credential.claims().clone();
    claims.validity = validity(args.days);
    let issuer = dir.offline(&args.offline).issuer()?;
    let credential =
        Credential::issue(&claims, &issuer).map_err(|refused| unissued("credential", refused))?;
    let path = match claims.role {
        Role::Guard => {
            let path = dir.config.keys.credential.clone();
            replace_public(&path, credential.as_str().as_bytes())?;
            path
        }
        _ => {
            let default = || dir.agents().join(format!("{}.creds", args.name));
            let path = args.creds.clone().unwrap_or_else(default);
            let old = Credentials::load(&path)?;
            // Refused unless the file holds this agent's key.
            let key = sealbus_envelope::identity::SigningKey::from_seed(&old.identity().to_seed());
            let new = Credentials::new(dir.bus_block()?, credential.clone(), key)?;
            replace_secret(&path, &new.render())?;
            path
        }
    };
    registry.insert(credential);
    registry.save()?;
    let until = rfc3339(claims.validity.not_after);
    let object = json!({ "name": claims.name, "token": claims.token(), "expires": until, "file": path });
    let text = format!("{} is valid until {until}: {}", paint(STRONG, claims.token()), path.display());
    output.show(&object, text)
}

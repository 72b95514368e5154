//! `sealbus agent revoke`: the next status statement names the identity.

use sealbus_envelope::identity::KeyKind;
use serde_json::json;

use super::super::{
    busdir::{BusArg, OfflineArg, revoke},
    failure::{Exit, Failure},
    locked::Locked,
    output::{Output, STRONG, paint},
    registry::revoked_at,
    when::rfc3339,
};

const EXAMPLES: &str = "\
Examples:
  sealbus agent revoke alice --reason 'laptop stolen'
  sealbus agent revoke alice --offline /media/keys/offline

The guard takes up the new statement by itself, disconnects the agent and has keys rotated.
Needs one signature of the status key; there is no command that takes a revocation back.";

/// Revoke an agent for good
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the agent
    name: String,
    /// Why, for who reads `sealbus agent show`
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    bus: BusArg,
    #[command(flatten)]
    offline: OfflineArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let Locked { dir, bundle, mut registry, mut status } = Locked::open(&args.bus)?;
    let entry = registry.find(&args.name)?;
    let claims = entry.credential.claims().clone();
    if let Some(at) = revoked_at(&status, entry) {
        let message = format!("`{}` is revoked already, since {}", args.name, rfc3339(at));
        return Err(Failure::told(Exit::Failure, "revoked_already", message, "nothing is left to do"));
    }
    // The statement first: it is what counts. The registry only remembers why.
    let identity = std::slice::from_ref(&claims.identity);
    let at = revoke(&dir, &bundle, &mut status, identity, &args.offline)?;
    registry.set_reason(&args.name, args.reason.clone());
    registry.save()?;
    let object = json!({
        "name": claims.name,
        "token": claims.token(),
        "identity": claims.identity.to_nkey(KeyKind::User),
        "revoked_at": rfc3339(at),
        "reason": args.reason,
        "status_version": status.version,
        "valid_until": rfc3339(status.valid_until),
        "status": dir.config.status,
    });
    let text = format!(
        "{} is revoked: status statement {} in {}, valid until {}\nA guard that runs here takes it up by \
         itself; copy the file to every other guard.",
        paint(STRONG, claims.token()),
        status.version,
        dir.config.status.display(),
        rfc3339(status.valid_until),
    );
    output.show(&object, text)
}

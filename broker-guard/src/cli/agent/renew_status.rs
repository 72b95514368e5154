//! `sealbus agent renew-status`: the status statement again, with a new expiry.

use serde_json::json;

use super::super::{
    busdir::{BusArg, OfflineArg, write_status},
    failure::Failure,
    locked::Locked,
    output::Output,
    when::{DAY, rfc3339},
};
use crate::clock::now;

const EXAMPLES: &str = "\
Examples:
  sealbus agent renew-status
  sealbus agent renew-status --days 3 --offline /media/keys/offline

Past its expiry agents grant no new keys, because revocation cannot be ruled out. Run this more
often than the statement lasts, from where the status key is.";

/// Sign the status statement again before it expires
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How long it is good
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=90))]
    days: u64,
    #[command(flatten)]
    bus: BusArg,
    #[command(flatten)]
    offline: OfflineArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let Locked { dir, bundle, registry: _lock, mut status } = Locked::open(&args.bus)?;
    let key = dir.offline(&args.offline).status(&bundle)?;
    status.version += 1;
    status.policy_version = status.policy_version.max(bundle.head().fields().version);
    status.issued = now();
    status.valid_until = status.issued.plus(args.days * DAY);
    write_status(&dir, &status, &key)?;
    let object = json!({
        "status": dir.config.status,
        "status_version": status.version,
        "policy_version": status.policy_version,
        "revoked": status.revoked.len(),
        "valid_until": rfc3339(status.valid_until),
    });
    let text = format!(
        "Status statement {} in {}: {} revoked, valid until {}",
        status.version,
        dir.config.status.display(),
        status.revoked.len(),
        rfc3339(status.valid_until),
    );
    output.show(&object, text)
}

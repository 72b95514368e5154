//! The policy bucket, as who publishes policies reaches it.

use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions};
use sealbus_envelope::identity::KeyKind;

use super::super::{
    busdir::BusDir,
    failure::{Exit, Failure},
};
use crate::{
    bus::bucket::{Bucket, BucketError},
    keyfile::read_seed,
    natsserver::PUBLISHER_INBOX_PREFIX,
};

/// Connects with the publisher's login.
pub(super) async fn open(dir: &BusDir) -> Result<Bucket, Failure> {
    let (config, path) = (&dir.config, &dir.config.keys.publisher);
    if !path.exists() {
        let message = format!("there is no login for publishing policies, `{}`", path.display());
        let remedy = "name its directory with `publisher` under `[keys]` in sealbus.toml; a bus made before \
                      there was one needs a user nkey there, listed in nats.conf as deploy/ shows; or use `--local`";
        return Err(Failure::told(Exit::Config, "no_publisher", message, remedy));
    }
    let seed = read_seed(path, KeyKind::User)?;
    let options = ConnectOptions::with_nkey(seed.to_nkey_seed(KeyKind::User).to_string())
        .name("sealbus policy publish")
        .custom_inbox_prefix(PUBLISHER_INBOX_PREFIX)
        .connection_timeout(Duration::from_secs(5))
        .require_tls(config.requires_tls());
    let options = match &config.tls_ca {
        Some(ca) => options.add_root_certificates(ca.clone()),
        None => options,
    };
    let urls = config.urls.join(", ");
    let client = options.connect(config.urls.clone()).await.map_err(|error| match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => Failure::told(
            Exit::Denied,
            "login_refused",
            format!("{urls} does not let `{}` in", path.display()),
            "list its public key in nats.conf as deploy/ shows, and reload nats-server",
        ),
        _ => Failure::told(
            Exit::Failure,
            "bus_unreachable",
            format!("cannot connect to {urls}: {error}"),
            "see whether nats-server runs there, or use `--local`",
        ),
    })?;
    if !client.server_info().jetstream {
        let message = format!("{urls} has no JetStream, so there is no policy bucket");
        let remedy = "enable it in nats.conf (`jetstream { store_dir: … }`, and `jetstream: enabled` in the bus's \
                      account, as `sealbus init` writes it) and restart nats-server and guard; or use `--local` \
                      and bring policy.bundle to the guard";
        return Err(Failure::told(Exit::Failure, "no_jetstream", message, remedy));
    }
    Ok(Bucket::new(client))
}

/// What the bucket's error means here.
pub(super) fn failure(error: &BucketError) -> Failure {
    let remedy = match error {
        BucketError::Absent => {
            "start the guard, which makes the bucket; if it runs, add `jetstream: enabled` to the bus's account"
        }
        BucketError::Conflict => "look at `sealbus policy history`, then publish again",
        _ => "see nats-server's log, then publish again",
    };
    Failure::told(Exit::Failure, "policy_bucket", error.to_string(), remedy)
}

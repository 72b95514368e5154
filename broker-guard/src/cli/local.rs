//! A bus on this machine, for `sealbus dev` and `sealbus demo`: its directory, its nats-server.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use sealbus_envelope::identity::KeyKind;

use super::{
    busdir::{BusDir, OFFLINE},
    failure::{Exit, Failure},
    init::{self, generate},
    output::Output,
};
use crate::{
    keyfile::{GuardKeys, read_seed},
    natsserver::{
        AccountKey, BusKeys, CurveKey, ListenPort, LocateError, NatsConfig, NatsProcess, NatsServerBinary,
        PINNED_VERSION, UserKey, locate, locate_or_fetch,
    },
};

/// A nats-server that is fit; fetched if there is none.
pub(super) fn nats_server(output: &Output) -> Result<NatsServerBinary, Failure> {
    let found = match locate() {
        Err(LocateError::NotFound { .. }) => {
            output.remark(format_args!("Fetching nats-server {PINNED_VERSION} …"));
            locate_or_fetch()
        }
        found => found,
    };
    found.map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let remedy =
            format!("run deploy/fetch-nats-server.sh, or set NATS_SERVER to a nats-server {PINNED_VERSION}");
        Failure::told(Exit::Failure, "nats_server", format!("no nats-server: {error}{cause}"), remedy)
    })
}

/// A directory that is removed at the end.
pub(super) struct Temporary(PathBuf);

impl Temporary {
    /// A fresh one, with `what` in its name.
    pub(super) fn new(what: &str) -> Result<Self, Failure> {
        let mut random = [0; 6];
        let parent = std::env::temp_dir();
        getrandom::fill(&mut random)
            .map_err(|error| Failure::io("make", &parent, std::io::Error::other(error)))?;
        let dir = parent.join(format!("sealbus-{what}-{}", data_encoding::HEXLOWER.encode(&random)));
        init::private_dir(&dir)?;
        Ok(Self(dir))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `wanted`, or another port if that is taken; 0 for any.
pub(super) fn free_port(wanted: u16) -> Result<u16, Failure> {
    let bind =
        |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr());
    let address = bind(wanted).or_else(|_| bind(0)).map_err(|source| {
        let message = "there is no free port on 127.0.0.1";
        Failure::because(Exit::Failure, "no_port", message, "end what listens there", source)
    })?;
    Ok(address.port())
}

/// Starts the bus's nats-server as a child process.
pub(super) async fn start_server(bus: &BusDir, binary: NatsServerBinary) -> Result<NatsProcess, Failure> {
    let dir = bus.root().join("nats").join("run");
    NatsProcess::start(binary, dir, nats_config(bus)?).await.map_err(|error| {
        let remedy = "see whether its port is taken";
        Failure::told(Exit::Failure, "nats_server", error.to_string(), remedy)
    })
}

fn nats_config(bus: &BusDir) -> Result<NatsConfig, Failure> {
    let keys = GuardKeys::load(&bus.config)?;
    // The offline keys may have been moved away already; nobody needs break-glass here.
    let break_glass = read_seed(&bus.root().join(OFFLINE).join("break-glass.seed"), KeyKind::User)
        .unwrap_or_else(|_| generate());
    // A bus directory from before policies could be published has none.
    let publisher = read_seed(&bus.config.keys.publisher, KeyKind::User).unwrap_or_else(|_| generate());
    let account = keys.callout.public().to_nkey(KeyKind::Account);
    let mut conf = NatsConfig::development(BusKeys {
        guard: user(&keys.guard)?,
        system: user(&keys.system)?,
        break_glass: user(&break_glass)?,
        publisher: user(&publisher)?,
        callout_issuer: AccountKey::parse(&account).map_err(init::broken_key)?,
        callout_xkey: CurveKey::parse(&keys.xkey.key().public_key()).map_err(init::broken_key)?,
    });
    let url = bus.config.urls.first().map(String::as_str).unwrap_or_default();
    let address = url.parse::<async_nats::ServerAddr>().map_err(|source| {
        let message = format!("`{url}` is no address of a server");
        Failure::because(Exit::Config, "bus_url", message, "mend `urls` in sealbus.toml", source)
    })?;
    conf.port = ListenPort::Fixed(address.port());
    conf.jetstream = Some(init::jetstream(&init::absolute(&bus.root().join("nats").join("run"))?));
    conf.bus.account.clone_from(&bus.config.nats.account);
    conf.bus.prefix.clone_from(&bus.config.prefix);
    conf.system.account.clone_from(&bus.config.nats.system_account);
    Ok(conf)
}

fn user(key: &sealbus_envelope::identity::SigningKey) -> Result<UserKey, Failure> {
    UserKey::parse(&key.public().to_nkey(KeyKind::User)).map_err(init::broken_key)
}

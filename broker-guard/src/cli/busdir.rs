//! A bus directory: where `sealbus init` puts things and the other commands find them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use sealbus_client::credentials::{Bus, Ca};
use sealbus_envelope::{
    identity::{DEFAULT_STATUS_MS, KeyKind, MAX_REVOKED, PublicKey, Revocation, SigningKey, Status},
    policy::Bundle,
    time::Millis,
};

use super::failure::{Exit, Failure};
use crate::{
    archive::{self, Archive},
    clock::now,
    config::Config,
    keyfile::{self, read_seed},
    policy::{bundle, compile::CompiledPolicy},
};

pub(crate) const OFFLINE: &str = "offline";
pub(crate) const AGENTS: &str = "agents";
pub(crate) const POLICY: &str = "policy.toml";
pub(crate) const ISSUER_SEED: &str = "issuer.seed";
pub(crate) const STATUS_SEED: &str = "status.seed";

/// Which bus.
#[derive(Debug, Clone, Args)]
pub(crate) struct BusArg {
    /// The bus's configuration, or the directory it is in
    #[arg(long, short, env = "SEALBUS_CONFIG", default_value = "sealbus.toml", value_name = "FILE")]
    pub(crate) config: PathBuf,
}

impl BusArg {
    /// Reads the configuration.
    pub(crate) fn open(&self) -> Result<BusDir, Failure> {
        BusDir::open(&self.config)
    }
}

/// Where the offline keys are.
#[derive(Debug, Clone, Args)]
pub(crate) struct OfflineArg {
    /// Where the offline keys are; `offline` in the bus directory if not given
    #[arg(long, env = "SEALBUS_OFFLINE", value_name = "DIR")]
    pub(crate) offline: Option<PathBuf>,
}

/// An existing bus directory.
#[derive(Debug, Clone)]
pub(crate) struct BusDir {
    pub(crate) config: Config,
    root: PathBuf,
}

impl BusDir {
    /// Reads the configuration at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let config = Config::load(path)?;
        let root = config.path.parent().filter(|root| !root.as_os_str().is_empty());
        let root = root.unwrap_or(Path::new(".")).to_owned();
        Ok(Self { config, root })
    }

    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The policy's source.
    pub(crate) fn policy(&self) -> PathBuf {
        self.root.join(POLICY)
    }

    /// Where credentials files are written and the registry is.
    pub(crate) fn agents(&self) -> PathBuf {
        self.root.join(AGENTS)
    }

    /// The signed policy in force.
    pub(crate) fn bundle(&self) -> Result<(Bundle, CompiledPolicy), Failure> {
        let path = &self.config.policy;
        let bytes = fs::read(path).map_err(|source| {
            let message = format!("cannot read the policy bundle `{}`", path.display());
            let remedy = "restore the newest bundle that was signed, from a guard or a backup";
            Failure::because(Exit::Config, "policy_bundle", message, remedy, source)
        })?;
        bundle::load(&bytes, &self.config.roots, 0).map_err(|error| Failure::bundle(path, &error))
    }

    /// A version of the policy that is kept here, or the one in force.
    pub(crate) fn kept(&self, version: u64) -> Result<Bundle, Failure> {
        let (in_force, _) = self.bundle()?;
        if version == in_force.head().fields().version {
            return Ok(in_force);
        }
        let archive = Archive::new(self.root().join(archive::DIRECTORY));
        let told = |source| Failure::io("read", archive.dir(), source);
        let Some(bytes) = archive.read(version).map_err(told)? else {
            let message = format!("policy version {version} is not kept in `{}`", archive.dir().display());
            let remedy =
                "`sealbus policy history --fetch` brings published versions here; or name the bundle's file";
            return Err(Failure::told(Exit::Config, "unknown_version", message, remedy));
        };
        self.signed(&archive.dir().join(version.to_string()), &bytes)
    }

    /// A signed bundle of this bus, which came from `path`.
    pub(crate) fn signed(&self, path: &Path, bytes: &[u8]) -> Result<Bundle, Failure> {
        let loaded = bundle::load(bytes, &self.config.roots, 0);
        loaded.map(|(bundle, _)| bundle).map_err(|error| Failure::bundle(path, &error))
    }

    /// The status statement in force. It may have expired.
    pub(crate) fn status(&self, bundle: &Bundle) -> Result<Status, Failure> {
        let path = &self.config.status;
        let remedy = "sign a new one with `sealbus agent renew-status`";
        let bytes = fs::read(path).map_err(|source| {
            let message = format!("cannot read the status statement `{}`", path.display());
            Failure::because(Exit::Config, "status_statement", message, remedy, source)
        })?;
        Status::verify(&bytes, self.config.bus(), &bundle.tables().status_key).map_err(|refused| {
            let reason = refused.reason;
            let message =
                format!("status statement `{}` is refused: {} [{reason}]", path.display(), reason.meaning());
            let remedy = "restore the newest statement that was signed; it may hold revocations";
            Failure::told(Exit::Config, "status_statement", message, remedy)
        })
    }

    /// The block that goes into every credentials file.
    pub(crate) fn bus_block(&self) -> Result<Bus, Failure> {
        let config = &self.config;
        let bus = Bus::new(config.roots.clone(), config.urls.clone()).map_err(|problem| {
            let message = format!("configuration `{}`: {problem}", config.path.display());
            Failure::told(Exit::Config, "config_value", message, problem.remedy())
        })?;
        let bus = bus.with_subjects(config.subjects());
        let Some(ca) = &config.tls_ca else { return Ok(bus) };
        let pem = fs::read_to_string(ca).map_err(|source| Failure::io("read", ca, source))?;
        Ok(bus.with_ca(Ca::Pem(pem)))
    }

    /// The offline keys.
    pub(crate) fn offline(&self, place: &OfflineArg) -> Offline<'_> {
        let dir = place.offline.clone().unwrap_or_else(|| self.root.join(OFFLINE));
        Offline { dir, config: &self.config }
    }
}

/// Keys that should not be on a machine that is always on.
#[derive(Debug)]
pub(crate) struct Offline<'a> {
    dir: PathBuf,
    config: &'a Config,
}

impl Offline<'_> {
    /// The issuer's key.
    pub(crate) fn issuer(&self) -> Result<SigningKey, Failure> {
        let path = self.dir.join(ISSUER_SEED);
        let key = self.read(&path, KeyKind::Account)?;
        if *key.public() == self.config.roots.issuer { Ok(key) } else { Err(self.foreign(&path, "issuer")) }
    }

    /// The status key, which the policy names.
    pub(crate) fn status(&self, bundle: &Bundle) -> Result<SigningKey, Failure> {
        let path = self.dir.join(STATUS_SEED);
        let key = self.read(&path, KeyKind::User)?;
        if *key.public() == bundle.tables().status_key {
            Ok(key)
        } else {
            Err(self.foreign(&path, "status key"))
        }
    }

    /// Whether the status key is here.
    pub(crate) fn has_status(&self) -> bool {
        self.dir.join(STATUS_SEED).exists()
    }

    /// Policy keys, as many as the quorum asks for.
    pub(crate) fn policy_keys(&self) -> Result<Vec<SigningKey>, Failure> {
        let quorum = self.config.roots.quorum;
        let mut keys = self.all_policy_keys()?;
        keys.truncate(quorum);
        if keys.len() == quorum {
            return Ok(keys);
        }
        let message = format!(
            "`{}` holds {} of the {quorum} policy keys that must sign",
            self.dir.display(),
            keys.len()
        );
        let remedy = "bring the policy keys together as `policy-1.seed`, `policy-2.seed` …, or name their \
                      directory with `--offline DIR`; if they are in different hands, begin a draft with \
                      `sealbus policy sign --out draft.bundle`";
        Err(Failure::told(Exit::Config, "too_few_policy_keys", message, remedy))
    }

    /// Every policy key that is here, and at least one.
    pub(crate) fn policy_keys_at_hand(&self) -> Result<Vec<SigningKey>, Failure> {
        let keys = self.all_policy_keys()?;
        if !keys.is_empty() {
            return Ok(keys);
        }
        let message = format!("there is no policy key in `{}`", self.dir.display());
        let remedy = "bring it there as `policy-1.seed`, or name its directory with `--offline DIR`";
        Err(Failure::told(Exit::Config, "too_few_policy_keys", message, remedy))
    }

    fn all_policy_keys(&self) -> Result<Vec<SigningKey>, Failure> {
        let roots = &self.config.roots;
        let mut paths: Vec<_> = fs::read_dir(&self.dir)
            .map_err(|source| self.absent(&self.dir, source))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("policy-") && name.ends_with(".seed")
            })
            .collect();
        paths.sort();
        let mut keys: Vec<SigningKey> = Vec::new();
        for path in paths.iter().take(64) {
            let key = read_seed(path, KeyKind::User)?;
            if !roots.policy_keys.contains(key.public()) {
                return Err(self.foreign(path, "policy key"));
            }
            if keys.iter().all(|other| other.public() != key.public()) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    fn read(&self, path: &Path, kind: KeyKind) -> Result<SigningKey, Failure> {
        match fs::metadata(path) {
            Err(source) => Err(self.absent(path, source)),
            Ok(_) => Ok(read_seed(path, kind)?),
        }
    }

    fn absent(&self, path: &Path, source: std::io::Error) -> Failure {
        let message = format!("the offline key `{}` is not here", path.display());
        let remedy = "plug in the medium it was moved to and name its directory with `--offline DIR`";
        Failure::because(Exit::Config, "offline_key_absent", message, remedy, source)
    }

    fn foreign(&self, path: &Path, what: &str) -> Failure {
        let message = format!("`{}` is not the {what} of bus `{}`", path.display(), self.config.roots.name);
        let remedy = "see whether it belongs to another bus, or was swapped with another key";
        Failure::told(Exit::Config, "offline_key_foreign", message, remedy)
    }
}

/// Signs and writes the next status statement, which revokes these keys too. Returns since when.
pub(crate) fn revoke(
    dir: &BusDir,
    bundle: &Bundle,
    status: &mut Status,
    keys: &[PublicKey],
    place: &OfflineArg,
) -> Result<Millis, Failure> {
    if status.revoked.len().saturating_add(keys.len()) > MAX_REVOKED {
        let message = format!("a status statement holds {MAX_REVOKED} revocations at most");
        let remedy = "make a new issuer; credentials that expired need no revocation";
        return Err(Failure::told(Exit::Failure, "too_many_revocations", message, remedy));
    }
    let key = dir.offline(place).status(bundle)?;
    let at = now();
    status.revoked.extend(keys.iter().map(|identity| Revocation { identity: identity.clone(), at }));
    // As a statement that was read has them: whoever looks one up here relies on it.
    status.revoked.sort_by_key(|revoked| *revoked.identity.as_bytes());
    status.version += 1;
    status.policy_version = status.policy_version.max(bundle.head().fields().version);
    (status.issued, status.valid_until) = (at, at.plus(DEFAULT_STATUS_MS));
    write_status(dir, status, &key)?;
    Ok(at)
}

/// Signs and writes the next status statement.
pub(crate) fn write_status(dir: &BusDir, next: &Status, key: &SigningKey) -> Result<(), Failure> {
    let signed = next.sign(key).map_err(|refused| {
        let message = format!("no status statement can be signed: {refused}");
        Failure::told(Exit::Failure, "status_statement", message, refused.reason.remedy())
    })?;
    Ok(keyfile::replace_public(&dir.config.status, &signed)?)
}

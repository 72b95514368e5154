//! Why the store cannot be used, sorted by what the operator can do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use sealbus_envelope::reason::Reason;

/// Why the guard's store refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it open.
    #[error("store `{}` is in use by another guard; stop that one first, two must not share a store", .0.display())]
    Locked(PathBuf),
    /// The file is damaged or is no store.
    #[error(
        "store `{}` is damaged ({detail}); restore it from a copy, or move it away: the guard then begins anew, and \
         quarantines must be ordered again from the audit log", .path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A newer program wrote it.
    #[error("store `{}` has schema {found}, this program reads up to {known}; run the newer sealbus", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
        /// The highest schema that this program knows.
        known: u64,
    },
    /// There is no room.
    #[error("no room on the disk of store `{}`; free some, until then nothing that must be durable is done", .0.display())]
    DiskFull(PathBuf),
    /// Others may read it.
    #[error("store `{}` can be read by other users (mode {mode:03o}); run `chmod 600` on it", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A version went backwards: somebody serves old policy or status.
    #[error(
        "{what} version {offered} is below {seen}, which was in force before; find out who serves the old one"
    )]
    RolledBack {
        /// What the version is of.
        what: &'static str,
        /// The version offered.
        offered: u64,
        /// The highest version seen.
        seen: u64,
    },
    /// Anything else the disk or the operating system said.
    #[error("store `{}`: {detail}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was said.
        detail: String,
    },
}

impl StoreError {
    /// The stable reason to deny with while the error lasts.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::RolledBack { .. } => Reason::RolledBack,
            _ => Reason::GuardUnavailable,
        }
    }

    pub(super) fn redb(path: &Path, error: impl Into<redb::Error>) -> Self {
        let path = path.to_owned();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Self::Locked(path),
            redb::Error::Io(error) => Self::io(&path, &error),
            error @ (redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::RepairAborted
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }) => Self::Corrupt { path, detail: error.to_string() },
            error => Self::Io { path, detail: error.to_string() },
        }
    }

    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull(path)
            }
            // redb says this of a file that is not its own or ends early.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Self::Corrupt { path, detail: error.to_string() }
            }
            _ => Self::Io { path, detail: error.to_string() },
        }
    }

    pub(super) fn corrupt(path: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), detail: detail.into() }
    }
}

//! What can be wrong with a credentials file, and what to do about it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use sealbus_envelope::reason::{Reason, Refused};

/// What is wrong, without the place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// Others than the owner may read or write the file.
    #[error("others than its owner can use it (mode {mode:04o})")]
    Open {
        /// Permission bits.
        mode: u32,
    },
    /// It is a directory, a device or so.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is too large to be a credentials file.
    #[error("it is larger than any credentials file")]
    TooLarge,
    /// It is not UTF-8.
    #[error("it is not text")]
    NotText,
    /// There is a file already.
    #[error("there is a file of that name already")]
    Exists,
    /// The block is not there.
    #[error("the block is missing")]
    Missing,
    /// The block is there twice.
    #[error("the block is there twice")]
    Twice,
    /// The block has no end line.
    #[error("the block has no end line")]
    NoEnd,
    /// The credential does not verify against the bus in the same file.
    #[error("{0}")]
    Credential(#[source] Refused),
    /// The seed is no user seed.
    #[error("it is no nkey seed of a user")]
    Seed,
    /// The seed is not of the key that the credential names.
    #[error("the seed is of another key than the credential")]
    SeedMismatch,
    /// The bus block is not the JSON it must be.
    #[error("{0}")]
    Bus(String),
    /// A root of trust is no key, or the quorum cannot be met.
    #[error("{0}")]
    Roots(String),
    /// A server URL is missing or wrong.
    #[error("{0}")]
    Urls(String),
}

impl Problem {
    /// What to do about it, in one line.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Io(_) => "check the path and its permissions",
            Self::Open { .. } => {
                "run `chmod 600` on it; if others could read it, ask for a new one: `sealbus agent add`"
            }
            Self::NotAFile | Self::TooLarge | Self::NotText => "name the file that `sealbus agent add` wrote",
            Self::Exists => "choose another name, or remove the old file first",
            Self::Missing | Self::Twice | Self::NoEnd | Self::Seed | Self::SeedMismatch => {
                "use the file as `sealbus agent add` wrote it, or ask the operator for a new one"
            }
            Self::Credential(refused) => match refused.reason {
                Reason::WrongBus => "use credentials of this bus",
                _ => "ask the operator for a new one: `sealbus agent add`",
            },
            Self::Bus(_) | Self::Roots(_) => {
                "use the block as `sealbus agent add` wrote it, or ask the operator"
            }
            Self::Urls(_) => "write it as `nats://HOST:PORT` or `tls://HOST:PORT`",
        }
    }
}

/// Credentials that cannot be used: what is wrong, where, and what to do.
#[derive(Debug)]
pub struct CredentialsError {
    file: Option<PathBuf>,
    block: Option<&'static str>,
    problem: Problem,
}

impl CredentialsError {
    pub(super) const fn new(problem: Problem) -> Self {
        Self { file: None, block: None, problem }
    }

    pub(super) const fn in_block(block: &'static str, problem: Problem) -> Self {
        Self { file: None, block: Some(block), problem }
    }

    pub(super) fn in_file(self, file: &Path) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }

    #[cfg(test)]
    pub(super) fn into_parts(self) -> (Option<&'static str>, Problem) {
        (self.block, self.problem)
    }

    /// The file, if it came from one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The block, if the fault is in one.
    #[must_use]
    pub const fn block(&self) -> Option<&str> {
        self.block
    }

    /// What is wrong.
    #[must_use]
    pub const fn problem(&self) -> &Problem {
        &self.problem
    }

    /// What to do about it, in one line.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        self.problem.remedy()
    }
}

impl From<Problem> for CredentialsError {
    fn from(problem: Problem) -> Self {
        Self::new(problem)
    }
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "credentials file `{}`", file.display())?,
            None => f.write_str("credentials")?,
        }
        if let Some(block) = self.block {
            write!(f, ", block `{block}`")?;
        }
        write!(f, ": {}; {}", self.problem, self.remedy())
    }
}

impl std::error::Error for CredentialsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

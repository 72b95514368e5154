//! What a writer of the log chooses, and what it is answered.

use std::ops::Range;
use std::time::Duration;

use super::entry::EntryError;

/// How a log is kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The log's name in its checkpoints: `sealbus/<bus name>/<guard>`.
    pub name: String,
    /// The version of the program, for [`Body::Start`](super::entry::Body::Start).
    pub program: String,
    /// The lowest start epoch to use: one more than any the caller remembers from elsewhere, so that a log
    /// restored from a backup does not give a position twice. The log's own memory counts anyhow.
    pub min_epoch: u64,
    /// Bytes set aside for orders on a full disk.
    pub reserve_bytes: u64,
    /// Bytes after which a new write-ahead segment begins.
    pub segment_bytes: u64,
    /// How long entries nobody waits for may stay without fsync.
    pub sync_interval: Duration,
    /// The least time between two checkpoints.
    pub checkpoint_interval: Duration,
    /// How many entries may wait for a checkpoint before appending is refused.
    pub unsealed_max: u64,
}

impl Options {
    /// The defaults, for a log of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            min_epoch: 1,
            reserve_bytes: 4 * 1024 * 1024,
            segment_bytes: 64 * 1024 * 1024,
            sync_interval: Duration::from_millis(20),
            checkpoint_interval: Duration::from_millis(100),
            unsealed_max: 4_000_000,
        }
    }
}

/// Why entries were not logged. What is not logged must not be forwarded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// No room. Orders, quarantine and policy changes still go in; call [`AuditLog::try_recover`](super::store::AuditLog::try_recover) at times.
    #[error("the disk of the audit log is full: make room, the guard admits nothing meanwhile")]
    Full,
    /// The disk failed. The log must be opened anew.
    #[error("the audit log failed: {0}; check the disk and restart the guard")]
    Failed(String),
    /// Sealing is too far behind. Passes by itself, unless [`Progress::seal_fault`](super::shared::Progress::seal_fault) says otherwise.
    #[error("{0} audit entries wait to be sealed: the disk is too slow or sealing fails")]
    Behind(u64),
    /// One entry is longer than 65,535 bytes. None of the batch was logged.
    #[error("an audit entry of {0} bytes is too long: at most 65535 fit")]
    EntryTooLong(usize),
    /// The batch is longer than 32 MiB. None of it was logged.
    #[error("an audit batch is too long: append it in parts")]
    BatchTooLong,
    /// An entry cannot be encoded. None of the batch was logged.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// Whether the log can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Yes.
    Open,
    /// Only from the reserve: the disk is full.
    Full,
    /// No: it must be opened anew.
    Failed,
}

/// Where a batch stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The start epoch of the positions.
    pub epoch: u64,
    /// The positions within the epoch, in the order of the batch.
    pub positions: Range<u64>,
    /// The leaf numbers; the end is what [`SyncHandle::synced`](super::shared::SyncHandle::synced) wants.
    pub leaves: Range<u64>,
}

//! Removing entries whose time is over. Their hashes stay, so that what remains can still be proven, and the log
//! itself says what is gone.
//!
//! First an entry says so, on disk; then the file `pruned` says where entries begin; then bundles go. A crash in
//! between leaves bundles that nobody needs, and the next pruning removes them. Who removes bundles without such
//! an entry is found by [`verify`](super::verify::verify).

use std::fs;
use std::io;
use std::path::Path;

use sealbus_envelope::time::Millis;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, Hex, Pruned};
use super::export::{ExportError, verify_export};
use super::files::{Layout, read_if_there, sync_directory};
use super::note::{Checkpoint, NoteKey};
use super::path::TilePath;
use super::prove::{ProofError, prove_consistency};
use super::read::{RawEntries, ReadError};
use super::segment;
use super::tree::TILE_LEAVES;

const REQUEST_MAX: u64 = 4096;

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The file system refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The log cannot be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The export is not good.
    #[error("the export does not verify: {0}")]
    Export(#[from] ExportError),
    /// The export is of another history.
    #[error("the export is not of this log: {0}")]
    Foreign(#[from] ProofError),
    /// The export does not hold all that would be removed.
    #[error("the export holds entries {from} to {to}, and {wanted_from} to {wanted_to} would be removed")]
    NotExported {
        /// The first entry of the export.
        from: u64,
        /// The one after its last.
        to: u64,
        /// The first that would be removed.
        wanted_from: u64,
        /// The one after the last.
        wanted_to: u64,
    },
    /// The guard needs some of it.
    #[error("entries up to {asked} are asked for, and those from {limit} on must stay")]
    Needed {
        /// The end of what is asked for.
        asked: u64,
        /// The first entry that must stay.
        limit: u64,
    },
}

/// What may be removed, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The first entry that goes.
    pub from: u64,
    /// Entries below this number go: a whole number of bundles.
    pub before: u64,
    /// The time of the newest of them.
    pub newest: Millis,
    /// The root of the checkpoint of the export that holds them.
    pub exported: Option<Hex<32>>,
}

impl Plan {
    /// The bundles that are older than `keep` from end to end. `None` if there are none.
    ///
    /// # Errors
    /// [`PruneError`].
    pub fn make(directory: &Path, keep: Millis) -> Result<Option<Self>, PruneError> {
        let layout = Layout::new(directory);
        let (from, limit) = (layout.read_pruned()?.before, limit(&layout)?);
        let mut entries = RawEntries::open(directory, from)?;
        let (mut before, mut newest, mut highest) = (from, Millis(0), Millis(0));
        while let Some((leaf, bytes)) = entries.step()? {
            let entry = Entry::decode(bytes).map_err(|error| ReadError::Entry { leaf, error })?;
            let end = leaf.saturating_add(1);
            if entry.time >= keep || end > limit {
                break;
            }
            highest = highest.max(entry.time);
            if end.is_multiple_of(TILE_LEAVES) {
                (before, newest) = (end, highest);
            }
        }
        Ok((before > from).then_some(Self { from, before, newest, exported: None }))
    }

    /// The same, if the export in `export` verifies, is of this log and holds all that would go.
    ///
    /// # Errors
    /// [`PruneError`].
    pub fn exported(mut self, directory: &Path, key: &NoteKey, export: &Path) -> Result<Self, PruneError> {
        let report = verify_export(export, key)?;
        let old: &Checkpoint = &report.checkpoint;
        prove_consistency(directory, key, old.size)?.verify(old, key)?;
        if report.held.start > self.from || report.held.end < self.before {
            return Err(PruneError::NotExported {
                from: report.held.start,
                to: report.held.end,
                wanted_from: self.from,
                wanted_to: self.before,
            });
        }
        self.exported = Some(Hex(old.root));
        Ok(self)
    }

    /// Whether the plan can be carried out in the log as it is.
    ///
    /// # Errors
    /// [`PruneError::Needed`], [`PruneError::Io`].
    pub fn check(&self, directory: &Path) -> Result<(), PruneError> {
        let limit = limit(&Layout::new(directory))?;
        if self.before > limit || !self.before.is_multiple_of(TILE_LEAVES) {
            return Err(PruneError::Needed { asked: self.before, limit });
        }
        Ok(())
    }

    /// The entry that says so. It must be on disk before the plan is carried out.
    #[must_use]
    pub const fn entry(&self) -> Pruned {
        Pruned { before: self.before, newest: self.newest, exported: self.exported }
    }

    /// Removes what the plan says. The number of bundles that are gone.
    ///
    /// # Errors
    /// The file system's own; carried out again it goes on.
    pub fn carry_out(&self, directory: &Path) -> Result<u64, PruneError> {
        let layout = Layout::new(directory);
        let marked = layout.read_pruned()?;
        if marked.before < self.before {
            let mark = format!("{} {}\n", self.before, self.newest.0);
            layout.replace(&layout.pruned(), mark.as_bytes(), true)?;
        }
        let mut gone = 0;
        // from the beginning, for an earlier pruning may not have come to its end
        for index in 0..self.before / TILE_LEAVES {
            match fs::remove_file(layout.tile(TilePath::entries(index))) {
                Ok(()) => gone += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(gone)
    }

    /// Leaves the plan for the guard that has the log open.
    ///
    /// # Errors
    /// The file system's own.
    pub fn request(&self, directory: &Path) -> io::Result<()> {
        let layout = Layout::new(directory);
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        layout.replace(&layout.prune_request(), &bytes, false)
    }
}

/// Takes the request that was left, if there is one. Only who may write the log's own directory can leave one.
///
/// # Errors
/// The file system's own, also if the request cannot be read; it is gone then.
pub fn take_request(directory: &Path) -> io::Result<Option<Plan>> {
    let layout = Layout::new(directory);
    let (path, taken) = (layout.prune_request(), layout.prune_taken());
    if !path.exists() {
        return Ok(None);
    }
    fs::rename(&path, &taken)?;
    let Some(bytes) = read_if_there(&taken, REQUEST_MAX)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).or_else(|error| {
        fs::remove_file(&taken)?;
        Err(io::Error::new(io::ErrorKind::InvalidData, error))
    })
}

/// The request that was taken is done with, well or not.
///
/// # Errors
/// The file system's own.
pub fn finish_request(directory: &Path) -> io::Result<()> {
    let layout = Layout::new(directory);
    fs::remove_file(layout.prune_taken())?;
    sync_directory(&layout.temporary())
}

/// Whether a request waits or is being carried out.
#[must_use]
pub fn is_requested(directory: &Path) -> bool {
    let layout = Layout::new(directory);
    layout.prune_request().exists() || layout.prune_taken().exists()
}

/// Where entries begin, and the time of the newest that was removed; zeroes if none was.
///
/// # Errors
/// The file system's own.
pub fn pruned(directory: &Path) -> io::Result<(u64, Millis)> {
    let mark = Layout::new(directory).read_pruned()?;
    Ok((mark.before, mark.newest))
}

/// The first entry that must stay: what is not in segments any more, less a bundle that recovery reads.
fn limit(layout: &Layout) -> io::Result<u64> {
    let sealed = layout.read_checkpoint()?.as_deref().and_then(super::note::claimed_size).unwrap_or(0);
    let first = segment::list(layout)?.first().copied().unwrap_or(0);
    let end = sealed.min(first);
    Ok((end - end % TILE_LEAVES).saturating_sub(TILE_LEAVES))
}

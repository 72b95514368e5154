//! Checking a whole log offline, with nothing but its directory and the public key.
//!
//! Every leaf hash is computed anew from the entries, every tile compared with what was computed, the root
//! compared with the signed checkpoint, and the entries' own order checked. With a checkpoint remembered from
//! earlier this also finds a log that was set back or rewritten and signed again.
//!
//! ```
//! use sealbus_guard::audit::note::{CheckpointSigner, NoteKey};
//! use sealbus_guard::audit::store::{AuditLog, Options};
//! use sealbus_guard::audit::verify::{VerifyOptions, verify};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let guard = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
//! let key = NoteKey::new("sealbus/demo/guard-1", CheckpointSigner::public_key(&guard))?;
//! AuditLog::open(directory.path(), Options::new(key.name()), Box::new(guard))?.close()?;
//! let report = verify(directory.path(), &key, &VerifyOptions::default())?;
//! assert_eq!((report.checkpoint.size, report.unsealed), (2, 0), "a start and a stop");
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use sealbus_envelope::time::Millis;

use super::bundle;
use super::entry::{Body, Entry, Gap, Pruned, coding::EntryError};
use super::files::{Layout, read_tile, split_hashes};
use super::note::{Checkpoint, NoteError, NoteKey};
use super::order::{Order, OrderError};
use super::path::TilePath;
use super::prove::Tiles;
use super::read::{RawEntries, ReadError};
use super::recover::{BUNDLE_MAX, HASHES_MAX};
use super::tree::{Hash, NodeSource as _, TILE_LEAVES, TILE_WIDTH, TileId, TreeEdge, leaf_hash};

/// What else to check.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// A signed checkpoint of the same log, remembered from earlier or received from a witness: the log must
    /// be an extension of it.
    pub remembered: Option<String>,
}

impl VerifyOptions {
    /// Checks against this earlier checkpoint, a signed note.
    #[must_use]
    pub fn remembering(note: &str) -> Self {
        Self { remembered: Some(note.to_owned()) }
    }
}

/// What a verified log holds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The checkpoint all of this was checked against.
    pub checkpoint: Checkpoint,
    /// The entries that are here, of those under the checkpoint. Of the others only hashes are.
    pub held: Range<u64>,
    /// What was removed because its time was over, as the log itself states.
    pub pruned: Vec<Pruned>,
    /// The start epochs, in order.
    pub epochs: Vec<u64>,
    /// Positions that may be missing, as the log itself states.
    pub gaps: Vec<Gap>,
    /// How many entries of each kind, under the checkpoint.
    pub kinds: BTreeMap<&'static str, u64>,
    /// The lowest and highest time of an entry; none in an empty log.
    pub times: Option<(Millis, Millis)>,
    /// Entries after the checkpoint: readable and in order, but under no signature yet.
    pub unsealed: u64,
}

/// What is wrong with a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The file system refused something.
    #[error("the audit log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// There is no checkpoint.
    #[error("the log has no checkpoint: it is not an audit log, or it was removed")]
    NoCheckpoint,
    /// The checkpoint is not signed by the key.
    #[error("{0}")]
    Checkpoint(NoteError),
    /// The remembered checkpoint is not signed by the key, so it proves nothing.
    #[error("the remembered checkpoint is of no use: {0}")]
    Remembered(NoteError),
    /// The log is shorter than it once was.
    #[error("the log was set back: it has {size} entries, and had {remembered}")]
    Rollback {
        /// How many it had.
        remembered: u64,
        /// How many it has.
        size: u64,
    },
    /// The log signed two histories.
    #[error("the first {0} entries are not those that the remembered checkpoint was signed over")]
    Fork(u64),
    /// A file with entries or hashes is missing.
    #[error("`{0}` is missing")]
    Missing(String),
    /// Entries were removed, and no entry says so.
    #[error("entries before {0} are gone, and the log does not say that they were removed")]
    Unexplained(u64),
    /// A file has too few entries or hashes, or is no such file.
    #[error("`{0}` is cut or is not a tile")]
    Cut(String),
    /// An entry does not have the hash that its tile holds.
    #[error("entry {0}, or its hash, was changed")]
    Changed(u64),
    /// A tile above the leaves does not follow from those below.
    #[error("`{0}` does not follow from the tiles below it")]
    Tile(String),
    /// Entries and tiles agree with one another and not with the signature.
    #[error("the {0} entries are not those that the checkpoint was signed over")]
    Root(u64),
    /// An entry cannot be read.
    #[error("entry {leaf} cannot be read: {error}")]
    Entry {
        /// The leaf number.
        leaf: u64,
        /// What is wrong with it.
        #[source]
        error: EntryError,
    },
    /// The entries leave something out or repeat it.
    #[error("entry {leaf}: {error}")]
    Order {
        /// The leaf number.
        leaf: u64,
        /// How it is out of order.
        #[source]
        error: OrderError,
    },
    /// What follows the checkpoint cannot be read.
    #[error("after the checkpoint: {0}")]
    Unsealed(ReadError),
}

/// Verifies the log in `directory`. One bundle in memory at a time; the guard may go on writing.
///
/// # Errors
/// [`VerifyError`]: the first thing found wrong.
pub fn verify(directory: &Path, key: &NoteKey, options: &VerifyOptions) -> Result<Report, VerifyError> {
    let layout = Layout::new(directory);
    let remembered = options.remembered.as_deref().map(|note| Checkpoint::open(note, key));
    let remembered = remembered.transpose().map_err(VerifyError::Remembered)?;
    let begin = layout.read_pruned()?.before;
    let mut run = Run::open(layout, key, begin..u64::MAX)?;
    let size = run.report.checkpoint.size;
    if let Some(remembered) = remembered.as_ref().filter(|remembered| remembered.size > size) {
        return Err(VerifyError::Rollback { remembered: remembered.size, size });
    }
    run.remembered = remembered;
    run.sealed()?;
    run.unsealed(directory)?;
    if begin > 0 && run.report.pruned.iter().all(|pruned| pruned.before < begin) {
        return Err(VerifyError::Unexplained(begin));
    }
    Ok(run.report)
}

/// Verifies a directory that holds the entries of `leaves` only, and the hash tiles that prove them.
pub(crate) fn verify_part(
    directory: &Path,
    key: &NoteKey,
    leaves: Range<u64>,
) -> Result<Report, VerifyError> {
    let mut run = Run::open(Layout::new(directory), key, leaves)?;
    run.part = true;
    run.sealed()?;
    Ok(run.report)
}

struct Run {
    layout: Layout,
    remembered: Option<Checkpoint>,
    edge: TreeEdge,
    order: Order,
    tiles: Tiles,
    /// The entries that must be here.
    held: Range<u64>,
    /// Whether also the tiles of level 0 are only here for these.
    part: bool,
    report: Report,
}

impl Run {
    fn open(layout: Layout, key: &NoteKey, held: Range<u64>) -> Result<Self, VerifyError> {
        let note = layout.read_checkpoint()?.ok_or(VerifyError::NoCheckpoint)?;
        let checkpoint = Checkpoint::open(&note, key).map_err(VerifyError::Checkpoint)?;
        let order = if held.start == 0 { Order::default() } else { Order::resumed() };
        let tiles = Tiles::at(&layout, checkpoint.size);
        let report = Report {
            held: held.start.min(checkpoint.size)..held.end.min(checkpoint.size),
            checkpoint,
            pruned: Vec::new(),
            epochs: Vec::new(),
            gaps: Vec::new(),
            kinds: BTreeMap::new(),
            times: None,
            unsealed: 0,
        };
        let edge = TreeEdge::new();
        Ok(Self { layout, remembered: None, edge, order, tiles, held, part: false, report })
    }

    /// All that is under the checkpoint.
    fn sealed(&mut self) -> Result<(), VerifyError> {
        self.check_remembered()?;
        let size = self.report.checkpoint.size;
        while self.edge.size() < size {
            if self.held.contains(&self.edge.size()) {
                self.bundle(size)?;
            } else {
                self.hashes_only(size)?;
            }
        }
        self.partial_tiles()?;
        if self.edge.root() == self.report.checkpoint.root { Ok(()) } else { Err(VerifyError::Root(size)) }
    }

    /// The next 256 leaves, of which the entries are not here.
    fn hashes_only(&mut self, size: u64) -> Result<(), VerifyError> {
        let index = self.edge.size() / TILE_LEAVES;
        let path = TilePath::hashes(0, index);
        let width =
            usize::try_from(size.saturating_sub(self.edge.size())).unwrap_or(TILE_WIDTH).min(TILE_WIDTH);
        let mut full = Vec::new();
        let mut note = |id, hashes: &[Hash]| full.push((id, hashes.to_vec()));
        let tile = read_tile(&self.layout, path, width, HASHES_MAX)?;
        match tile {
            Some(bytes) => {
                let hashes = split_hashes(&bytes).filter(|hashes| hashes.len() >= width);
                for hash in hashes.ok_or_else(|| VerifyError::Cut(path.to_string()))?.iter().take(width) {
                    self.edge.push(*hash, &mut note);
                    self.check_remembered()?;
                }
            }
            None if self.part && width == TILE_WIDTH => {
                let above = TilePath::hashes(1, index / TILE_LEAVES);
                let root = self.tiles.node(8, index).map_err(|_| VerifyError::Missing(above.to_string()))?;
                self.edge.push_tile(root, &mut note);
            }
            None => return Err(VerifyError::Missing(path.to_string())),
        }
        full.iter().try_for_each(|(id, hashes)| self.compare(*id, hashes))
    }

    /// The next bundle of the `size` entries under the checkpoint.
    fn bundle(&mut self, size: u64) -> Result<(), VerifyError> {
        let first = self.edge.size();
        let path = TilePath::entries(first / TILE_LEAVES);
        let width = usize::try_from(size.saturating_sub(first)).unwrap_or(TILE_WIDTH).min(TILE_WIDTH);
        let bytes = self.tile(path, width, BUNDLE_MAX)?;
        let mut entries = bundle::entries(&bytes);
        let mut hashes = Vec::with_capacity(width);
        let mut full = Vec::new();
        for _ in 0..width {
            let entry =
                entries.next().and_then(Result::ok).ok_or_else(|| VerifyError::Cut(path.to_string()))?;
            let leaf = self.edge.size();
            let hash = leaf_hash(entry);
            hashes.push(hash);
            self.edge.push(hash, &mut |id, hashes: &[Hash]| full.push((id, hashes.to_vec())));
            self.check_remembered()?;
            let entry = Entry::decode(entry).map_err(|error| VerifyError::Entry { leaf, error })?;
            self.order.check(&entry).map_err(|error| VerifyError::Order { leaf, error })?;
            self.count(&entry);
        }
        // A changed entry usually fails to decode or to be in order; if it does not, its hash tells.
        if width == TILE_WIDTH && entries.next().is_some() {
            return Err(VerifyError::Cut(path.to_string()));
        }
        full.iter().try_for_each(|(id, hashes)| self.compare(*id, hashes))
    }

    /// Whether the tree, at the size of the remembered checkpoint, is the remembered one.
    fn check_remembered(&mut self) -> Result<(), VerifyError> {
        let size = self.edge.size();
        match self.remembered.take_if(|remembered| remembered.size == size) {
            Some(remembered) if remembered.root != self.edge.root() => Err(VerifyError::Fork(size)),
            _ => Ok(()),
        }
    }

    fn count(&mut self, entry: &Entry<'static>) {
        let kind = self.report.kinds.entry(entry.body.kind()).or_default();
        *kind = kind.saturating_add(1);
        let (low, high) = self.report.times.unwrap_or((entry.time, entry.time));
        self.report.times = Some((low.min(entry.time), high.max(entry.time)));
        match &entry.body {
            Body::Start(_) => self.report.epochs.push(entry.position.epoch),
            Body::Gap(gap) => self.report.gaps.push(gap.clone()),
            Body::Pruned(pruned) => self.report.pruned.push(*pruned),
            _ => {}
        }
    }

    fn partial_tiles(&self) -> Result<(), VerifyError> {
        self.edge.partial_tiles().try_for_each(|(id, hashes)| self.compare(id, hashes))
    }

    /// Compares a tile on disk with the hashes computed from the entries.
    fn compare(&self, id: TileId, computed: &[Hash]) -> Result<(), VerifyError> {
        let path = TilePath::hashes(id.level, id.index);
        let bytes = self.tile(path, computed.len(), HASHES_MAX)?;
        let (found, rest) = bytes.as_chunks::<32>();
        if found.len() < computed.len() || !rest.is_empty() {
            return Err(VerifyError::Cut(path.to_string()));
        }
        let Some(at) = found.iter().zip(computed).position(|(found, computed)| found != computed) else {
            return Ok(());
        };
        if id.level > 0 {
            return Err(VerifyError::Tile(path.to_string()));
        }
        let first = id.index.saturating_mul(TILE_LEAVES);
        Err(VerifyError::Changed(first.saturating_add(u64::try_from(at).unwrap_or(0))))
    }

    fn tile(&self, path: TilePath, width: usize, max: u64) -> Result<Vec<u8>, VerifyError> {
        read_tile(&self.layout, path, width, max)?.ok_or_else(|| VerifyError::Missing(path.to_string()))
    }

    /// What was logged after the checkpoint.
    fn unsealed(&mut self, directory: &Path) -> Result<(), VerifyError> {
        let size = self.report.checkpoint.size;
        let mut entries = RawEntries::open(directory, size).map_err(VerifyError::Unsealed)?;
        while let Some((leaf, bytes)) = entries.step().map_err(VerifyError::Unsealed)? {
            let entry = Entry::decode(bytes).map_err(|error| VerifyError::Entry { leaf, error })?;
            self.order.check(&entry).map_err(|error| VerifyError::Order { leaf, error })?;
            self.report.unsealed = self.report.unsealed.saturating_add(1);
            // on a full disk nothing is sealed, and pruning makes room
            if let Body::Pruned(pruned) = &entry.body {
                self.report.pruned.push(*pruned);
            }
        }
        Ok(())
    }
}

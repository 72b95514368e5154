//! From segments to tiles and checkpoints. Runs behind the writer and only over what is durable.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::bundle;
use super::files::{Layout, sync_files};
use super::note::{Checkpoint, CheckpointSigner, NoteError, NoteKey};
use super::path::TilePath;
use super::segment::{SegmentReader, Step};
use super::tree::{Hash, TILE_LEAVES, TreeEdge, leaf_hash};

/// Bytes of finished tiles held back before they are written.
const PENDING_MAX: usize = 4 * 1024 * 1024;

/// Why sealing failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Note(#[from] NoteError),
    /// The segments do not hold what they should.
    #[error("segment damage at leaf {leaf}: {what}")]
    Segment { leaf: u64, what: &'static str },
    /// The log does not have the root that its checkpoint states.
    #[error("the first {0} entries do not have the root that the signed checkpoint states")]
    Root(u64),
}

pub(crate) struct Sealer {
    layout: Layout,
    key: NoteKey,
    signer: Box<dyn CheckpointSigner>,
    edge: TreeEdge,
    /// The entries of the unfinished bundle.
    bundle: Vec<u8>,
    reader: Option<SegmentReader>,
    /// The first leaves of the segments on disk, as far as they have been read.
    segments: VecDeque<u64>,
    /// Finished tiles that are not written yet. A failed write leaves them here to be tried again.
    pending: VecDeque<(PathBuf, Vec<u8>)>,
    pending_bytes: usize,
    /// Files written since the last checkpoint.
    unsynced: Vec<PathBuf>,
    /// Directories of partial tiles that are full by now.
    outgrown: Vec<PathBuf>,
    /// Signed states that must be met on the way: sizes and roots.
    expected: Vec<(u64, Hash)>,
}

impl Sealer {
    /// A sealer at `edge`, which ends on a full bundle; it reads on from the segment that holds the next leaf.
    pub(crate) fn new(
        layout: Layout,
        key: NoteKey,
        signer: Box<dyn CheckpointSigner>,
        edge: TreeEdge,
    ) -> Self {
        Self {
            layout,
            key,
            signer,
            edge,
            bundle: Vec::new(),
            reader: None,
            segments: VecDeque::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            unsynced: Vec::new(),
            outgrown: Vec::new(),
            expected: Vec::new(),
        }
    }

    /// The tree must have this root at this size: a log never signs two histories.
    pub(crate) fn expect(&mut self, size: u64, root: Hash) -> Result<(), SealError> {
        self.expected.push((size, root));
        self.meet_expected()
    }

    fn meet_expected(&mut self) -> Result<(), SealError> {
        let size = self.edge.size();
        if !self.expected.iter().any(|(expected, _)| *expected == size) {
            return Ok(());
        }
        let root = self.edge.root();
        if self.expected.iter().any(|(expected, stated)| *expected == size && *stated != root) {
            return Err(SealError::Root(size));
        }
        self.expected.retain(|(expected, _)| *expected != size);
        Ok(())
    }

    /// Whether the state of this size was expected and has not been met.
    pub(crate) fn still_expects(&self, size: u64) -> bool {
        self.expected.iter().any(|(expected, _)| *expected == size)
    }

    /// How many entries have been taken in.
    pub(crate) fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Takes in one entry.
    pub(crate) fn push(&mut self, entry: &[u8]) -> Result<(), SealError> {
        let at = self.edge.size();
        bundle::push(&mut self.bundle, entry)
            .map_err(|_| SealError::Segment { leaf: at, what: "an entry is too long" })?;
        let (layout, outgrown) = (&self.layout, &mut self.outgrown);
        let mut full = Vec::new();
        self.edge.push(leaf_hash(entry), &mut |tile, hashes: &[Hash]| {
            let path = TilePath::hashes(tile.level, tile.index);
            outgrown.push(layout.root().join(path.partial_directory()));
            full.push((layout.tile(path), hashes.as_flattened().to_vec()));
        });
        if self.edge.size().is_multiple_of(TILE_LEAVES) {
            let path = TilePath::entries(at / TILE_LEAVES);
            self.outgrown.push(self.layout.root().join(path.partial_directory()));
            full.push((self.layout.tile(path), std::mem::take(&mut self.bundle)));
        }
        for (path, bytes) in full {
            self.pending_bytes = self.pending_bytes.saturating_add(bytes.len());
            self.pending.push_back((path, bytes));
        }
        self.meet_expected()
    }

    /// Takes in the durable entries up to leaf `upto`, which is the end of a frame.
    pub(crate) fn read_upto(&mut self, upto: u64) -> Result<(), SealError> {
        while self.edge.size() < upto {
            if self.pending_bytes > PENDING_MAX {
                self.write_pending()?;
            }
            self.read_frame()?;
        }
        Ok(())
    }

    fn read_frame(&mut self) -> Result<(), SealError> {
        let leaf = self.edge.size();
        let damage = |what| SealError::Segment { leaf, what };
        let Some(mut reader) = self.reader.take() else { return self.open_segment() };
        match reader.step()? {
            Step::Frame(header) => {
                if header.leaf != leaf {
                    return Err(damage("a frame is out of order"));
                }
                for entry in bundle::entries(reader.payload()) {
                    self.push(entry.map_err(|_| damage("a frame is cut"))?)?;
                }
                if self.edge.size() != header.end() {
                    return Err(damage("a frame's count is wrong"));
                }
                self.reader = Some(reader);
                Ok(())
            }
            Step::End if reader.first_leaf() != leaf && self.layout.segment(leaf).exists() => {
                self.open_segment()
            }
            Step::End | Step::Torn { .. } => {
                reader.rewind()?;
                self.reader = Some(reader);
                Err(damage("entries that were made durable are not there"))
            }
        }
    }

    fn open_segment(&mut self) -> Result<(), SealError> {
        let leaf = self.edge.size();
        let reader = SegmentReader::open(&self.layout.segment(leaf))?;
        let reader = reader.filter(|reader| reader.first_leaf() == leaf);
        self.reader = Some(reader.ok_or(SealError::Segment { leaf, what: "the segment has no preamble" })?);
        if self.segments.back() != Some(&leaf) {
            self.segments.push_back(leaf);
        }
        Ok(())
    }

    fn write_pending(&mut self) -> Result<(), SealError> {
        while let Some((path, bytes)) = self.pending.front() {
            write_tile(&self.layout, path, bytes)?;
            self.pending_bytes = self.pending_bytes.saturating_sub(bytes.len());
            if let Some((path, _)) = self.pending.pop_front() {
                self.unsynced.push(path);
            }
        }
        Ok(())
    }

    /// Makes the tiles durable, then publishes the checkpoint, then removes what it makes needless.
    pub(crate) fn checkpoint(&mut self) -> Result<(u64, Hash), SealError> {
        self.write_pending()?;
        self.write_partial()?;
        sync_files(self.layout.root(), &self.unsynced)?;
        self.unsynced.clear();
        let (size, root) = (self.edge.size(), self.edge.root());
        let checkpoint = Checkpoint { origin: self.key.name().to_owned(), size, root };
        let note = checkpoint.sign(&self.key, self.signer.as_ref())?;
        self.layout.replace(&self.layout.checkpoint(), note.as_bytes(), true)?;
        for directory in self.outgrown.drain(..) {
            // often there never was one; and a left-over directory does no harm
            drop(fs::remove_dir_all(directory));
        }
        self.remove_segments(size)?;
        Ok((size, root))
    }

    fn write_partial(&mut self) -> Result<(), SealError> {
        let mut tiles: Vec<(TilePath, usize, Vec<u8>)> = self
            .edge
            .partial_tiles()
            .map(|(id, hashes)| {
                (TilePath::hashes(id.level, id.index), hashes.len(), hashes.as_flattened().to_vec())
            })
            .collect();
        let size = self.edge.size();
        let width = usize::try_from(size % TILE_LEAVES).unwrap_or(0);
        tiles.push((TilePath::entries(size / TILE_LEAVES), width, self.bundle.clone()));
        for (path, width, bytes) in tiles {
            let Some(width) = u8::try_from(width).ok().filter(|width| *width > 0) else { continue };
            let path = self.layout.tile(path.partial(width));
            write_tile(&self.layout, &path, &bytes)?;
            self.unsynced.push(path);
        }
        Ok(())
    }

    /// A segment goes when all its entries are in full bundles, which are durable by now.
    fn remove_segments(&mut self, size: u64) -> Result<(), SealError> {
        let in_full_bundles = size - size % TILE_LEAVES;
        while self.segments.get(1).is_some_and(|end| *end <= in_full_bundles) {
            if let Some(first) = self.segments.front() {
                match fs::remove_file(self.layout.segment(*first)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
            self.segments.pop_front();
        }
        Ok(())
    }
}

fn write_tile(layout: &Layout, path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    match layout.replace(path, bytes, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            layout.replace(path, bytes, false)
        }
        done => done,
    }
}

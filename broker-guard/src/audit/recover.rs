//! Opening a log: find where it ends, cut off what a crash left unfinished, rebuild the edge of the tree.
//!
//! Nothing durable is ever cut: what a signed checkpoint covers must all be there and have its root, or the
//! log is not opened. Else one power failure at the right moment, or one edited file, could make the guard
//! sign a second history.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use super::bundle;
use super::entry::{Body, Entry, Position, coding::EntryError};
use super::files::{Layout, read_if_there, split_hashes, sync_directory};
use super::frame::Header;
use super::note::{Checkpoint, CheckpointSigner, NoteError, NoteKey};
use super::path::TilePath;
use super::prove::{ProofError, Tiles};
use super::seal::{SealError, Sealer};
use super::segment::{self, SegmentReader, Step};
use super::tree::{Hash, TILE_LEAVES, TILE_WIDTH, TreeEdge, empty_root, root_of};

/// Bytes of the largest full bundle.
pub(crate) const BUNDLE_MAX: u64 = 256 * (2 + 65_535);
/// Bytes of a full hash tile.
pub(crate) const HASHES_MAX: u64 = 256 * 32;

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file system refused something.
    #[error("the audit log cannot be opened: {0}")]
    Io(#[from] io::Error),
    /// Another process has it open.
    #[error("the audit log is in use by another process: stop that one first")]
    Locked,
    /// The name or key of the log is not usable, or its checkpoint is not signed by that key.
    #[error("{0}")]
    Note(#[from] NoteError),
    /// Durable entries are missing or changed.
    #[error(
        "the audit log is damaged at entry {leaf}: {what}; run `sealbus audit verify`, keep the directory as evidence; to start a new one, accept the loss with `sealbus audit accept-loss`"
    )]
    Damaged {
        /// The first entry concerned.
        leaf: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The entries are not those the last checkpoint was signed over.
    #[error(
        "the first {0} entries are not those of the signed checkpoint; run `sealbus audit verify`, keep the directory as evidence; to start a new one, accept the loss with `sealbus audit accept-loss`"
    )]
    Root(u64),
    /// The log is shorter than it once was.
    #[error(
        "the audit log was set back: it has {size} entries, and {remembered} were signed; put the newest copy back, or, if it is lost, say so with `sealbus audit accept-loss`"
    )]
    SetBack {
        /// How many entries were signed.
        remembered: u64,
        /// How many there are.
        size: u64,
    },
    /// The log is another than the one that was signed.
    #[error(
        "the first {0} audit entries are not those that were signed before: the log was replaced or rewritten; put the right one back, or, if it is lost, say so with `sealbus audit accept-loss`"
    )]
    Forked(u64),
    /// A tile that is needed cannot be read.
    #[error("{0}")]
    Tile(#[from] ProofError),
    /// The last entry cannot be read.
    #[error("the last audit entry cannot be read: {0}")]
    Entry(#[from] EntryError),
    /// The disk is full: without room for its first entry the guard does not start.
    #[error("the disk is full: make room for the audit log")]
    Full,
}

impl From<SealError> for OpenError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Io(error) => Self::Io(error),
            SealError::Note(error) => Self::Note(error),
            SealError::Segment { leaf, what } => Self::Damaged { leaf, what },
            SealError::Root(size) => Self::Root(size),
        }
    }
}

/// What a crash left unfinished, now removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) bytes: u64,
    /// The last position of the unfinished frame, if its header could be read.
    pub(crate) last: Option<Position>,
}

/// A log found on disk, cut back to its last whole frame.
pub(crate) struct Recovered {
    pub(crate) sealer: Sealer,
    /// How many entries it has.
    pub(crate) size: u64,
    /// How many of them the last checkpoint covers.
    pub(crate) sealed: u64,
    /// The root that it states.
    pub(crate) root: Hash,
    /// The position of the last entry.
    pub(crate) last: Option<Position>,
    /// Whether that entry says that the log was closed in order.
    pub(crate) clean: bool,
    pub(crate) torn: Option<Torn>,
}

/// Everything [`Recovered`] says about the segments.
#[derive(Default)]
struct Scan {
    first: u64,
    next: u64,
    last_entry: Option<Vec<u8>>,
    /// Segments and offsets of the frames that no checkpoint covers.
    unsealed: Vec<(u64, u64)>,
    tear: Option<Tear>,
}

struct Tear {
    segment: u64,
    /// Where whole frames end; `None` if the segment is not one at all.
    offset: Option<u64>,
    header: Option<Header>,
}

pub(crate) fn recover(
    layout: &Layout,
    key: &NoteKey,
    signer: Box<dyn CheckpointSigner>,
    remembered: Option<(u64, Hash)>,
) -> Result<Recovered, OpenError> {
    let checkpoint = match layout.read_checkpoint()? {
        Some(note) => Some(Checkpoint::open(&note, key)?),
        None => None,
    };
    let sealed = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
    let signed_root = checkpoint.as_ref().map_or_else(empty_root, |checkpoint| checkpoint.root);
    if let Some((size, root)) = remembered.filter(|(size, _)| (1..=sealed).contains(size))
        && (Tiles::at(layout, sealed).root(size)? != root)
    {
        return Err(OpenError::Forked(size));
    }
    let scan = scan(layout, sealed)?;
    if scan.first > sealed {
        return Err(OpenError::Damaged { leaf: sealed, what: "the checkpoint is older than the log" });
    }
    if scan.next < sealed {
        return Err(OpenError::Damaged { leaf: scan.next, what: "entries under the checkpoint are missing" });
    }
    let beyond = remembered.filter(|(size, _)| *size > sealed);
    if let Some((remembered, _)) = beyond.filter(|(size, _)| *size > scan.next) {
        return Err(OpenError::SetBack { remembered, size: scan.next });
    }
    let torn = scan.tear.as_ref().map(|tear| cut(layout, tear, scan.next)).transpose()?;
    persist(layout, &scan)?;

    let base = scan.first - scan.first % TILE_LEAVES;
    let mut sealer = Sealer::new(layout.clone(), key.clone(), signer, edge_at(layout, base)?);
    if let Some(checkpoint) = checkpoint {
        sealer.expect(checkpoint.size, checkpoint.root)?;
    }
    // A checkpoint that was set back alone: the entries are there, under their old root or under none.
    if let Some((size, root)) = beyond {
        sealer.expect(size, root).map_err(|_| OpenError::Forked(size))?;
    }
    let mut last_entry = None;
    if scan.first > 0 {
        let kept = read_bundle(layout, (scan.first - 1) / TILE_LEAVES)?;
        let wanted = usize::try_from(scan.first - base).unwrap_or(0);
        for entry in bundle::entries(&kept).take(wanted) {
            let entry =
                entry.map_err(|_| OpenError::Damaged { leaf: base, what: "an entry bundle is cut" })?;
            sealer.push(entry)?;
        }
        let before = usize::try_from((scan.first - 1) % TILE_LEAVES).unwrap_or(0);
        last_entry = bundle::entries(&kept).nth(before).and_then(Result::ok).map(<[u8]>::to_vec);
    }
    if sealer.size() != scan.first {
        return Err(OpenError::Damaged { leaf: sealer.size(), what: "an entry bundle is too short" });
    }
    sealer.read_upto(scan.next).map_err(|error| match (error, beyond) {
        (SealError::Root(size), Some((remembered, _))) if size == remembered => OpenError::Forked(size),
        (error, _) => error.into(),
    })?;
    if sealer.still_expects(sealed) {
        return Err(OpenError::Root(sealed));
    }
    if let Some((size, _)) = beyond.filter(|(size, _)| sealer.still_expects(*size)) {
        return Err(OpenError::Forked(size));
    }
    let last = match scan.last_entry.or(last_entry) {
        Some(bytes) => Some(Entry::decode(&bytes)?),
        None if scan.next > 0 => {
            return Err(OpenError::Damaged { leaf: scan.next - 1, what: "the last entry is missing" });
        }
        None => None,
    };
    Ok(Recovered {
        sealer,
        size: scan.next,
        sealed,
        root: signed_root,
        // a log without entries has given out no position that could be missing
        clean: last.as_ref().is_none_or(|entry| torn.is_none() && entry.body == Body::Stop),
        last: last.map(|entry| entry.position),
        torn,
    })
}

/// Reads all frames in order up to the end or the first thing that is not a frame.
fn scan(layout: &Layout, sealed: u64) -> Result<Scan, OpenError> {
    let segments = segment::list(layout)?;
    let mut scan = Scan::default();
    let Some(first) = segments.first() else { return Ok(scan) };
    (scan.first, scan.next) = (*first, *first);
    for segment in segments {
        let reader = SegmentReader::open(&layout.segment(segment))?;
        let reader = reader.filter(|reader| reader.first_leaf() == segment && segment == scan.next);
        let Some(mut reader) = reader else {
            scan.tear = Some(Tear { segment, offset: None, header: None });
            return Ok(scan);
        };
        let mut marked = false;
        loop {
            let offset = reader.offset();
            match reader.step()? {
                Step::Frame(header) if header.leaf == scan.next => {
                    scan.next = header.end();
                    let last = bundle::entries(reader.payload()).last().and_then(Result::ok);
                    scan.last_entry = last.map(<[u8]>::to_vec);
                    if scan.next > sealed && !marked {
                        scan.unsealed.push((segment, offset));
                        marked = true;
                    }
                }
                Step::Frame(_) => {
                    scan.tear = Some(Tear { segment, offset: Some(offset), header: None });
                    return Ok(scan);
                }
                Step::End => break,
                Step::Torn { header } => {
                    scan.tear = Some(Tear { segment, offset: Some(offset), header });
                    return Ok(scan);
                }
            }
        }
    }
    Ok(scan)
}

/// Removes what is behind the last whole frame. None of it was ever durable, or it is under no checkpoint.
fn cut(layout: &Layout, tear: &Tear, next: u64) -> Result<Torn, OpenError> {
    let mut bytes = 0u64;
    for segment in segment::list(layout)?.into_iter().filter(|segment| *segment >= tear.segment) {
        let path = layout.segment(segment);
        let length = fs::metadata(&path)?.len();
        match tear.offset.filter(|_| segment == tear.segment) {
            Some(offset) => {
                bytes = bytes.saturating_add(length.saturating_sub(offset));
                let file = OpenOptions::new().write(true).open(&path)?;
                file.set_len(offset)?;
                file.sync_all()?;
            }
            None => {
                bytes = bytes.saturating_add(length);
                fs::remove_file(&path)?;
            }
        }
    }
    sync_directory(&layout.wal())?;
    let last = tear.header.filter(|header| header.leaf == next).map(|header| header.last());
    Ok(Torn { bytes, last })
}

/// Writes the frames that no checkpoint covers once more, in place, and makes them durable.
///
/// After a failed fsync the kernel may hold pages that never reached the disk but count as written; a plain
/// fsync would then confirm what is not there. Written again they are dirty again.
fn persist(layout: &Layout, scan: &Scan) -> Result<(), OpenError> {
    for (segment, offset) in &scan.unsealed {
        let mut file = OpenOptions::new().read(true).write(true).open(layout.segment(*segment))?;
        let mut at = *offset;
        let mut chunk = Vec::new();
        loop {
            chunk.clear();
            file.seek(SeekFrom::Start(at))?;
            (&mut file).take(1024 * 1024).read_to_end(&mut chunk)?;
            if chunk.is_empty() {
                break;
            }
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&chunk)?;
            at = at.saturating_add(chunk.len() as u64);
        }
        file.sync_all()?;
    }
    if layout.wal().exists() { Ok(File::open(layout.wal())?.sync_all()?) } else { Ok(()) }
}

fn read_bundle(layout: &Layout, index: u64) -> Result<Vec<u8>, OpenError> {
    let leaf = index.saturating_mul(TILE_LEAVES);
    read_if_there(&layout.tile(TilePath::entries(index)), BUNDLE_MAX)?
        .ok_or(OpenError::Damaged { leaf, what: "an entry bundle is missing" })
}

/// The edge of the tree at `size`, a multiple of 256, from the full tiles below it.
fn edge_at(layout: &Layout, size: u64) -> Result<TreeEdge, OpenError> {
    let mut levels = Vec::new();
    let mut count = size;
    for level in 0u8..8 {
        if count == 0 {
            break;
        }
        let mut tile = Vec::new();
        if let Some(below) = level.checked_sub(1) {
            for index in count - count % TILE_LEAVES..count {
                let path = layout.tile(TilePath::hashes(below, index));
                let hashes = read_if_there(&path, HASHES_MAX)?.as_deref().and_then(split_hashes);
                let hashes = hashes.filter(|hashes| hashes.len() == TILE_WIDTH);
                let leaf = index.checked_shl(u32::from(level) * 8).unwrap_or(u64::MAX);
                let hashes =
                    hashes.ok_or(OpenError::Damaged { leaf, what: "a full tile is missing or cut" })?;
                tile.push(root_of(&hashes));
            }
        }
        levels.push(tile);
        count /= TILE_LEAVES;
    }
    TreeEdge::from_levels(levels, size)
        .ok_or(OpenError::Damaged { leaf: size, what: "the tiles do not fit the size" })
}

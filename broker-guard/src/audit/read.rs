//! Reading the entries of a log in order, while it may be written: sealed bundles first, then segments.
//!
//! One bundle or frame is in memory at a time.

use std::io;
use std::path::Path;

use super::bundle;
use super::entry::coding::EntryError;
use super::files::{Layout, read_tile};
use super::note::claimed_size;
use super::path::TilePath;
use super::recover::BUNDLE_MAX;
use super::segment::{self, SegmentReader, Step};
use super::tree::{TILE_LEAVES, TILE_WIDTH};

/// How often a reader looks again when the writer has moved something under its eyes.
const RETRIES: usize = 8;

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file system refused something.
    #[error("the audit log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Entries that should be there are not.
    #[error("entry {0} of the audit log is missing or cut: run `sealbus audit verify`")]
    Missing(u64),
    /// An entry is not one.
    #[error("entry {leaf} of the audit log cannot be read: {error}")]
    Entry {
        /// The leaf number.
        leaf: u64,
        /// What is wrong with it.
        #[source]
        error: EntryError,
    },
}

/// The bytes of all entries from some leaf on.
#[derive(Debug)]
pub(crate) struct RawEntries {
    layout: Layout,
    /// What the checkpoint says; only used to find the way.
    size: u64,
    next: u64,
    chunk: Vec<u8>,
    /// How far the chunk has been handed out, in bytes.
    at: usize,
    reader: Option<SegmentReader>,
    ended: bool,
}

impl RawEntries {
    pub(crate) fn open(directory: &Path, from: u64) -> Result<Self, ReadError> {
        let layout = Layout::new(directory);
        let size = claimed(&layout)?;
        let next = from.max(layout.read_pruned()?.before);
        Ok(Self { layout, size, next, chunk: Vec::new(), at: 0, reader: None, ended: false })
    }

    /// The next leaf number and its bytes, copied; whether a checkpoint covers it is for the caller to know.
    pub(crate) fn step(&mut self) -> Result<Option<(u64, &[u8])>, ReadError> {
        if self.at >= self.chunk.len() && (self.ended || !self.refill()?) {
            self.ended = true;
            return Ok(None);
        }
        let leaf = self.next;
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let entry = bundle::entries(rest).next().and_then(Result::ok).ok_or(ReadError::Missing(leaf))?;
        self.at = self.at.saturating_add(entry.len()).saturating_add(2);
        self.next = leaf.saturating_add(1);
        Ok(Some((leaf, entry)))
    }

    fn refill(&mut self) -> Result<bool, ReadError> {
        for _ in 0..RETRIES {
            if self.next < self.size {
                self.reader = None;
                if self.load_bundle()? {
                    return Ok(true);
                }
            } else if let Some(more) = self.load_frame()? {
                return Ok(more);
            }
            // the writer sealed and removed what we were about to read: its new checkpoint says where it went
            self.size = claimed(&self.layout)?;
            self.next = self.next.max(self.layout.read_pruned()?.before);
        }
        Err(ReadError::Missing(self.next))
    }

    fn load_bundle(&mut self) -> Result<bool, ReadError> {
        let index = self.next / TILE_LEAVES;
        let held = self.size.saturating_sub(index.saturating_mul(TILE_LEAVES));
        let width = usize::try_from(held).unwrap_or(TILE_WIDTH).min(TILE_WIDTH);
        let Some(bytes) = read_tile(&self.layout, TilePath::entries(index), width, BUNDLE_MAX)? else {
            return Ok(false);
        };
        self.chunk = bytes;
        self.skip(self.next % TILE_LEAVES)
    }

    /// Leaves out entries that have been handed out; `false` if nothing remains.
    fn skip(&mut self, entries: u64) -> Result<bool, ReadError> {
        self.at = 0;
        for _ in 0..entries {
            let rest = self.chunk.get(self.at..).unwrap_or_default();
            let Some(entry) = bundle::entries(rest).next() else { return Ok(false) };
            let entry = entry.map_err(|_| ReadError::Missing(self.next))?;
            self.at = self.at.saturating_add(entry.len()).saturating_add(2);
        }
        Ok(self.at < self.chunk.len())
    }

    /// `Some(false)` at the end of the log, `None` if the segment is gone.
    fn load_frame(&mut self) -> Result<Option<bool>, ReadError> {
        loop {
            let Some(mut reader) = self.reader.take() else {
                let Some(first) = segment::list(&self.layout)?.into_iter().rfind(|first| *first <= self.next)
                else {
                    return Ok((self.size == 0).then_some(false));
                };
                match open_if_there(&self.layout, first)? {
                    Some(reader) => self.reader = Some(reader),
                    None => return Ok(None),
                }
                continue;
            };
            match reader.step()? {
                Step::Frame(header) if header.end() <= self.next => self.reader = Some(reader),
                Step::Frame(header) => {
                    self.chunk.clear();
                    self.chunk.extend_from_slice(reader.payload());
                    self.reader = Some(reader);
                    let skip = self.next.checked_sub(header.leaf).ok_or(ReadError::Missing(self.next))?;
                    return self.skip(skip).map(Some);
                }
                Step::End if reader.first_leaf() != self.next => {
                    match open_if_there(&self.layout, self.next)? {
                        Some(next) => self.reader = Some(next),
                        None => return Ok(Some(false)),
                    }
                }
                // a frame that is being written now belongs to a later reading
                Step::End | Step::Torn { .. } => return Ok(Some(false)),
            }
        }
    }
}

fn open_if_there(layout: &Layout, first: u64) -> Result<Option<SegmentReader>, ReadError> {
    match SegmentReader::open(&layout.segment(first)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => Ok(opened?),
    }
}

/// The leaves that are in bundles, as the checkpoint says.
pub(crate) fn sealed_range(directory: &Path) -> Result<(u64, u64), ReadError> {
    let layout = Layout::new(directory);
    Ok((layout.read_pruned()?.before, claimed(&layout)?))
}

fn claimed(layout: &Layout) -> Result<u64, ReadError> {
    Ok(layout.read_checkpoint()?.as_deref().and_then(claimed_size).unwrap_or(0))
}

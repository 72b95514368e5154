//! Proofs that leave the house: one entry is in the log; the log of today extends the log of then.
//!
//! An inclusion proof is written in the form C2SP tlog-proof, with the entry as its extra data, so that one
//! text and the log's public key are all a third party needs.
//!
//! ```
//! use sealbus_guard::audit::note::{CheckpointSigner, NoteKey};
//! use sealbus_guard::audit::prove::{InclusionProof, prove_inclusion};
//! use sealbus_guard::audit::store::{AuditLog, Options};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let guard = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
//! let key = NoteKey::new("sealbus/demo/guard-1", CheckpointSigner::public_key(&guard))?;
//! AuditLog::open(directory.path(), Options::new(key.name()), Box::new(guard))?.close()?;
//! let text = prove_inclusion(directory.path(), &key, 0)?.to_text();
//! let proven = InclusionProof::parse(&text)?.verify(&key)?;
//! assert_eq!(proven.body.kind(), "start");
//! # Ok(())
//! # }
//! ```

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use data_encoding::BASE64;

use super::entry::{Entry, coding::EntryError};
use super::files::{Layout, read_tile, split_hashes};
use super::note::{Checkpoint, NoteError, NoteKey};
use super::path::TilePath;
use super::read::{RawEntries, ReadError};
use super::recover::HASHES_MAX;
use super::tree::{
    self, Hash, NodeSource, TILE_HEIGHT, TILE_LEAVES, TILE_WIDTH, leaf_hash, root_of, verify_consistency,
    verify_inclusion,
};

const FORM: &str = "c2sp.org/tlog-proof@v1";

/// Why a proof could not be made or is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The file system refused something.
    #[error("the audit log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The entry cannot be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The log has no checkpoint.
    #[error("the log has no checkpoint")]
    NoCheckpoint,
    /// A checkpoint is not signed by the key.
    #[error("{0}")]
    Note(#[from] NoteError),
    /// The entry, or the earlier size, is not under the checkpoint (yet).
    #[error("{asked} is beyond the {size} entries under the checkpoint: wait for the next one")]
    Beyond {
        /// The leaf or size asked for.
        asked: u64,
        /// The size of the checkpoint.
        size: u64,
    },
    /// A tile is missing or cut.
    #[error("`{0}` is missing or cut: run `sealbus audit verify`")]
    Tile(String),
    /// The text is not a proof.
    #[error("not a proof: {0}")]
    Form(&'static str),
    /// The hashes do not lead to the signed root.
    #[error("the proof is false: its hashes do not lead to the signed root")]
    False,
    /// What is proven to be in the log is not an entry.
    #[error("{0}")]
    Entry(#[from] EntryError),
}

/// That an entry is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The leaf number.
    pub leaf: u64,
    /// The bytes of the entry.
    pub entry: Vec<u8>,
    /// Sibling hashes, from the leaf's to the root's child.
    pub path: Vec<Hash>,
    /// The signed checkpoint, as a note.
    pub checkpoint: String,
}

/// That a log extends an earlier state of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// The earlier size.
    pub old: u64,
    /// The nodes of RFC 6962 §2.1.2.
    pub path: Vec<Hash>,
    /// The later signed checkpoint, as a note.
    pub checkpoint: String,
}

/// Proves that leaf number `leaf` is under the current checkpoint.
///
/// # Errors
/// [`ProofError`].
pub fn prove_inclusion(directory: &Path, key: &NoteKey, leaf: u64) -> Result<InclusionProof, ProofError> {
    let (mut tiles, note) = Tiles::open(directory, key)?;
    let size = tiles.size;
    if leaf >= size {
        return Err(ProofError::Beyond { asked: leaf, size });
    }
    let path = tree::inclusion_proof(&mut tiles, leaf, size)?;
    let mut entries = RawEntries::open(directory, leaf)?;
    let entry = entries.step()?.map(|(_, bytes)| bytes.to_vec()).ok_or(ReadError::Missing(leaf))?;
    Ok(InclusionProof { leaf, entry, path, checkpoint: note })
}

/// Proves that the log under the current checkpoint extends its own first `old` entries.
///
/// # Errors
/// [`ProofError`].
pub fn prove_consistency(directory: &Path, key: &NoteKey, old: u64) -> Result<ConsistencyProof, ProofError> {
    let (mut tiles, note) = Tiles::open(directory, key)?;
    let size = tiles.size;
    if old > size {
        return Err(ProofError::Beyond { asked: old, size });
    }
    let path = if old == 0 { Vec::new() } else { tree::consistency_proof(&mut tiles, old, size)? };
    Ok(ConsistencyProof { old, path, checkpoint: note })
}

impl InclusionProof {
    /// The proof as C2SP tlog-proof text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let head = format!("{FORM}\nextra {}\nindex {}\n", BASE64.encode(&self.entry), self.leaf);
        under(head, &self.path, &self.checkpoint)
    }

    /// Reads such a text. Nothing in it is believed yet.
    ///
    /// # Errors
    /// [`ProofError::Form`].
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let form = ProofError::Form;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(form("it has no checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(FORM) {
            return Err(form("its first line is not `c2sp.org/tlog-proof@v1`"));
        }
        let entry =
            lines.next().and_then(|line| line.strip_prefix("extra ")).ok_or(form("it has no entry"))?;
        let entry = BASE64.decode(entry.as_bytes()).map_err(|_| form("its entry is not base64"))?;
        let leaf =
            lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(form("it has no index"))?;
        let number: u64 = leaf.parse().map_err(|_| form("its index is not a number"))?;
        if number.to_string() != leaf {
            return Err(form("its index has leading zeroes or a sign"));
        }
        Ok(Self { leaf: number, entry, path: read_hashes(lines)?, checkpoint: checkpoint.to_owned() })
    }

    /// Checks the signature, the path and the entry; only then gives the entry.
    ///
    /// # Errors
    /// [`ProofError::Note`], [`ProofError::False`] or [`ProofError::Entry`].
    pub fn verify(&self, key: &NoteKey) -> Result<Entry<'static>, ProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        let leaf = leaf_hash(&self.entry);
        if !verify_inclusion(&leaf, self.leaf, checkpoint.size, &self.path, &checkpoint.root) {
            return Err(ProofError::False);
        }
        Ok(Entry::decode(&self.entry)?)
    }
}

/// A proof's head, and under it what both forms have: the hashes, an empty line, the checkpoint.
fn under(head: String, path: &[Hash], checkpoint: &str) -> String {
    let mut text = head;
    for hash in path {
        let _infallible = writeln!(text, "{}", BASE64.encode(hash));
    }
    text.push('\n');
    text.push_str(checkpoint);
    text
}

impl ConsistencyProof {
    /// The proof as text, in the form that C2SP tlog-witness sends to witnesses: the old size, the hashes, the
    /// new checkpoint.
    #[must_use]
    pub fn to_text(&self) -> String {
        under(format!("old {}\n", self.old), &self.path, &self.checkpoint)
    }

    /// Reads such a text. Nothing in it is believed yet.
    ///
    /// # Errors
    /// [`ProofError::Form`].
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let form = ProofError::Form;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(form("it has no checkpoint"))?;
        let mut lines = head.split('\n');
        let old =
            lines.next().and_then(|line| line.strip_prefix("old ")).ok_or(form("it has no old size"))?;
        let size: u64 = old.parse().map_err(|_| form("its old size is not a number"))?;
        if size.to_string() != old {
            return Err(form("its old size has leading zeroes or a sign"));
        }
        Ok(Self { old: size, path: read_hashes(lines)?, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that the proof's checkpoint extends `old`, and gives the later one.
    ///
    /// # Errors
    /// [`ProofError::Note`] or [`ProofError::False`].
    pub fn verify(&self, old: &Checkpoint, key: &NoteKey) -> Result<Checkpoint, ProofError> {
        let new = Checkpoint::open(&self.checkpoint, key)?;
        let holds = self.old == old.size
            && old.origin == new.origin
            && verify_consistency(old.size, &old.root, new.size, &new.root, &self.path);
        if holds { Ok(new) } else { Err(ProofError::False) }
    }
}

/// The hashes of a proof, one a line.
fn read_hashes<'t>(lines: impl Iterator<Item = &'t str>) -> Result<Vec<Hash>, ProofError> {
    let hash = |line: &str| BASE64.decode(line.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    // a path is never longer than the bits of a leaf number, and one more for consistency
    let path: Option<Vec<Hash>> = lines.take(66).map(hash).collect();
    path.filter(|path| path.len() <= 65).ok_or(ProofError::Form("a line is not a hash"))
}

/// The tiles of a log as a source of nodes. Keeps the tile it last read: a proof asks for neighbours.
#[derive(Debug)]
pub(crate) struct Tiles {
    layout: Layout,
    size: u64,
    last: Option<(u8, u64, Vec<Hash>)>,
}

impl Tiles {
    fn open(directory: &Path, key: &NoteKey) -> Result<(Self, String), ProofError> {
        let layout = Layout::new(directory);
        let note = layout.read_checkpoint()?.ok_or(ProofError::NoCheckpoint)?;
        let size = Checkpoint::open(&note, key)?.size;
        Ok((Self::at(&layout, size), note))
    }

    /// The tiles of the log as its checkpoint of this size covers them.
    pub(crate) fn at(layout: &Layout, size: u64) -> Self {
        Self { layout: layout.clone(), size, last: None }
    }

    /// The root over the first `size` entries.
    pub(crate) fn root(&mut self, size: u64) -> Result<Hash, ProofError> {
        tree::root_at(self, size)
    }

    fn load(&mut self, level: u8, index: u64) -> Result<&[Hash], ProofError> {
        if !matches!(&self.last, Some((at, tile, _)) if (*at, *tile) == (level, index)) {
            let path = TilePath::hashes(level, index);
            let whole = self.size.checked_shr(u32::from(level).saturating_mul(TILE_HEIGHT)).unwrap_or(0);
            let held = whole.saturating_sub(index.saturating_mul(TILE_LEAVES));
            let width = usize::try_from(held).unwrap_or(TILE_WIDTH).min(TILE_WIDTH);
            let hashes = read_tile(&self.layout, path, width, HASHES_MAX)?.as_deref().and_then(split_hashes);
            let hashes = hashes.filter(|hashes| hashes.len() >= width);
            self.last = Some((level, index, hashes.ok_or_else(|| ProofError::Tile(path.to_string()))?));
        }
        Ok(self.last.as_ref().map_or(&[], |(_, _, hashes)| hashes))
    }
}

impl NodeSource for Tiles {
    type Error = ProofError;

    fn node(&mut self, height: u32, index: u64) -> Result<Hash, ProofError> {
        let level = u8::try_from(height / TILE_HEIGHT).unwrap_or(u8::MAX);
        let within = height % TILE_HEIGHT;
        // the node is the root over 2^within neighbouring hashes of one tile
        let first = index << within;
        let (tile, offset) = (first / TILE_LEAVES, usize::try_from(first % TILE_LEAVES).unwrap_or(0));
        let hashes = self.load(level, tile)?;
        let hashes = hashes.get(offset..offset.saturating_add(1 << within));
        hashes.map(root_of).ok_or_else(|| ProofError::Tile(TilePath::hashes(level, tile).to_string()))
    }
}

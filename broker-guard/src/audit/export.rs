//! A part of the log on its own: entries of some days with all that proves them, for whoever keeps or checks them.
//!
//! An export is itself a log in C2SP form, of which only some entries are there: the checkpoint, all hash tiles
//! from level 1 on, and for the entries that it holds the bundles and the tiles of level 0. So every entry in it
//! can be proven, and one key is all that is needed to check it.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use sealbus_envelope::time::Millis;
use serde::{Deserialize, Serialize};

use super::bundle;
use super::entry::Entry;
use super::files::{Layout, private_directory, read_if_there, read_tile, sync_all_below};
use super::note::{Checkpoint, NoteKey};
use super::path::TilePath;
use super::read::{RawEntries, ReadError};
use super::recover::{BUNDLE_MAX, HASHES_MAX};
use super::tree::{TILE_LEAVES, TILE_WIDTH, partial_width};
use super::verify::{Report, VerifyError, verify_part};

/// The file that says what an export holds.
const MANIFEST: &str = "export.json";
/// The file with the log's public key, for convenience: who checks an export has the key from elsewhere.
const KEY: &str = "log.key";
const FORM: &str = "sealbus-audit-export";
const MANIFEST_MAX: u64 = 4096;

/// Why a part of the log was not exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The file system refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The log cannot be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// No entry is of that time.
    #[error("no entry under the checkpoint is of that time")]
    Empty,
    /// There is something already.
    #[error("there is something in the directory already: name one that does not exist")]
    NotEmpty,
    /// What was written does not verify, or is no export.
    #[error("{0}")]
    Verify(#[from] VerifyError),
    /// The directory is not an export.
    #[error("it is not an export of an audit log: {0}")]
    Form(&'static str),
}

/// What an export says of itself; nothing of it is believed.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    form: String,
    version: u8,
    log: String,
    from_leaf: u64,
    to_leaf: u64,
    size: u64,
}

/// Exports the entries of times from `from` (inclusive) to `to` (exclusive), and what stands between them, into
/// the new directory `out`, and verifies it. The guard may go on writing.
///
/// # Errors
/// [`ExportError`].
pub fn export(
    directory: &Path,
    key: &NoteKey,
    times: &Range<Millis>,
    out: &Path,
) -> Result<Report, ExportError> {
    let layout = Layout::new(directory);
    let note = layout.read_checkpoint()?.ok_or(VerifyError::NoCheckpoint)?;
    let size = Checkpoint::open(&note, key).map_err(VerifyError::Checkpoint)?.size;
    let leaves = leaves_of(directory, times, size)?.ok_or(ExportError::Empty)?;
    if fs::read_dir(out).is_ok_and(|mut files| files.next().is_some()) {
        return Err(ExportError::NotEmpty);
    }
    private_directory(out)?;
    let target = Layout::new(out);
    let copy = Copy { from: &layout, to: &target, size };
    for index in leaves.start / TILE_LEAVES..leaves.end.div_ceil(TILE_LEAVES) {
        copy.bundle(index)?;
        copy.hashes(0, index)?;
    }
    if partial_width(size, 0) > 0 {
        copy.hashes(0, size / TILE_LEAVES)?;
    }
    for level in 1u8..8 {
        let width = size >> (8 * u32::from(level));
        for index in 0..width.div_ceil(TILE_LEAVES) {
            copy.hashes(level, index)?;
        }
    }
    let manifest = Manifest {
        form: FORM.to_owned(),
        version: 1,
        log: key.name().to_owned(),
        from_leaf: leaves.start,
        to_leaf: leaves.end,
        size,
    };
    fs::write(target.checkpoint(), &note)?;
    fs::write(out.join(KEY), format!("{key}\n"))?;
    fs::write(out.join("README.md"), readme(key))?;
    fs::write(out.join(MANIFEST), serde_json::to_vec_pretty(&manifest).map_err(io::Error::other)?)?;
    sync_all_below(out)?;
    verify_export(out, key)
}

/// Verifies an export with nothing but the log's public key.
///
/// # Errors
/// [`ExportError::Verify`] with the first thing found wrong, or [`ExportError::Form`].
pub fn verify_export(directory: &Path, key: &NoteKey) -> Result<Report, ExportError> {
    let bytes = read_if_there(&directory.join(MANIFEST), MANIFEST_MAX)?;
    let bytes = bytes.ok_or(ExportError::Form("it has no file `export.json`"))?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|_| ExportError::Form("`export.json` cannot be read"))?;
    if manifest.form != FORM || manifest.version != 1 || manifest.log != key.name() {
        return Err(ExportError::Form("`export.json` is of another form or log, or of a newer sealbus"));
    }
    let leaves = manifest.from_leaf..manifest.to_leaf;
    let whole = leaves.end == manifest.size || leaves.end.is_multiple_of(TILE_LEAVES);
    if leaves.is_empty() || leaves.end > manifest.size || !leaves.start.is_multiple_of(TILE_LEAVES) || !whole
    {
        return Err(ExportError::Form("`export.json` states a range that no export has"));
    }
    let report = verify_part(directory, key, leaves)?;
    if report.checkpoint.size != manifest.size {
        return Err(ExportError::Form("`export.json` is of another checkpoint"));
    }
    Ok(report)
}

/// The leaves of a time, widened to whole bundles. Clocks step back, so every entry is looked at.
fn leaves_of(directory: &Path, times: &Range<Millis>, size: u64) -> Result<Option<Range<u64>>, ReadError> {
    let mut entries = RawEntries::open(directory, 0)?;
    let mut range: Option<Range<u64>> = None;
    while let Some((leaf, bytes)) = entries.step()?.filter(|(leaf, _)| *leaf < size) {
        let entry = Entry::decode(bytes).map_err(|error| ReadError::Entry { leaf, error })?;
        if times.contains(&entry.time) {
            let start = range.map_or(leaf, |range| range.start);
            range = Some(start..leaf.saturating_add(1));
        }
    }
    Ok(range.map(|range| {
        let start = range.start - range.start % TILE_LEAVES;
        start..range.end.next_multiple_of(TILE_LEAVES).min(size)
    }))
}

/// Copies tiles as they are under the checkpoint of this size, whatever the guard has added since.
struct Copy<'a> {
    from: &'a Layout,
    to: &'a Layout,
    size: u64,
}

impl Copy<'_> {
    fn bundle(&self, index: u64) -> Result<(), ExportError> {
        let (path, width) = (TilePath::entries(index), self.width(0, index));
        let bytes = self.read(path, width, BUNDLE_MAX)?;
        let mut cut = Vec::with_capacity(bytes.len());
        for entry in bundle::entries(&bytes).take(width) {
            let entry = entry.map_err(|_| VerifyError::Cut(path.to_string()))?;
            bundle::push(&mut cut, entry).map_err(|_| VerifyError::Cut(path.to_string()))?;
        }
        self.write(path, width, &cut)
    }

    fn hashes(&self, level: u8, index: u64) -> Result<(), ExportError> {
        let (path, width) = (TilePath::hashes(level, index), self.width(level, index));
        let mut bytes = self.read(path, width, HASHES_MAX)?;
        bytes.truncate(width.saturating_mul(32));
        self.write(path, width, &bytes)
    }

    fn width(&self, level: u8, index: u64) -> usize {
        let all = self.size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let held = all.saturating_sub(index.saturating_mul(TILE_LEAVES));
        usize::try_from(held).unwrap_or(TILE_WIDTH).min(TILE_WIDTH)
    }

    fn read(&self, path: TilePath, width: usize, max: u64) -> Result<Vec<u8>, ExportError> {
        let found = read_tile(self.from, path, width, max)?;
        Ok(found.ok_or_else(|| VerifyError::Missing(path.to_string()))?)
    }

    fn write(&self, path: TilePath, width: usize, bytes: &[u8]) -> Result<(), ExportError> {
        let path = u8::try_from(width).map_or(path, |width| path.partial(width));
        let target = self.to.tile(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(target, bytes)?)
    }
}

fn readme(key: &NoteKey) -> String {
    format!(
        "# Part of the audit log `{name}`\n\n\
         Check it with the log's public key, which you have from whom you trust, not from here:\n\n\
         \x20   sealbus audit verify --export . --key KEY\n\n\
         `log.key` is the key that it was written under: `{key}`\n\n\
         Without Sealbus: the forms are C2SP's. `checkpoint` is a tlog-checkpoint in a signed-note; `tile/` holds\n\
         tlog-tiles (SHA-256, RFC 6962 hashing): all hash tiles from level 1 on, and, for the entries that are\n\
         here, tiles of level 0 and entry bundles in `tile/entries/`. `export.json` says which leaves these are.\n\
         The hash of each entry leads through the tiles to the root in the checkpoint. An entry is one\n\
         MessagePack array `[version, unix milliseconds, epoch, number, what happened]`.\n",
        name = key.name(),
    )
}

//! The few things the log does with files: atomic replacement, durability, the reserve, tiles by path.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use sealbus_envelope::time::Millis;
use sha2::{Digest as _, Sha256};

use super::note::NOTE_MAX;
use super::path::TilePath;
use super::tree::{Hash, TILE_WIDTH};

/// Files whose durability is cheaper to ask for one by one than through the whole file system.
const FSYNC_EACH: usize = 16;

/// What the file `pruned` says. Believed only where an entry of the log says it too.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mark {
    /// The first entry that is there.
    pub(crate) before: u64,
    /// The time of the newest that is not.
    pub(crate) newest: Millis,
}

/// The places in a log's directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint")
    }
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
    pub(crate) fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }
    pub(crate) fn pruned(&self) -> PathBuf {
        self.root.join("pruned")
    }
    pub(crate) fn prune_request(&self) -> PathBuf {
        self.root.join("prune.request")
    }
    pub(crate) fn prune_taken(&self) -> PathBuf {
        self.temporary().join("prune.taken")
    }
    pub(crate) fn wal(&self) -> PathBuf {
        self.root.join("wal")
    }
    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }
    pub(crate) fn segment(&self, first_leaf: u64) -> PathBuf {
        self.wal().join(format!("{first_leaf:020}.wal"))
    }
    pub(crate) fn tile(&self, tile: TilePath) -> PathBuf {
        self.root.join(tile.to_string())
    }

    /// Makes the directories, for the guard's user alone: who sends what to whom is nobody else's business.
    pub(crate) fn create(&self) -> io::Result<()> {
        for directory in [self.root.clone(), self.wal(), self.temporary(), self.root.join("tile")] {
            if !directory.is_dir() {
                private_directory(&directory)?;
            }
        }
        Ok(())
    }

    /// The text of the checkpoint; `None` if there is none yet.
    pub(crate) fn read_checkpoint(&self) -> io::Result<Option<String>> {
        let file = match File::open(self.checkpoint()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(NOTE_MAX).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// Where entries begin; all zero if none was removed.
    pub(crate) fn read_pruned(&self) -> io::Result<Mark> {
        let Some(bytes) = read_if_there(&self.pruned(), 64)? else { return Ok(Mark::default()) };
        let text = String::from_utf8_lossy(&bytes);
        let mut numbers = text.split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(before)), Some(Ok(newest))) => Ok(Mark { before, newest: Millis(newest) }),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the file `pruned` cannot be read")),
        }
    }

    /// Writes a file under a temporary name and renames it, so that a reader sees it whole or not at all.
    pub(crate) fn replace(&self, target: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
        let name = target.file_name().unwrap_or_default();
        let temporary = self.temporary().join(name);
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, target)?;
        if durable && let Some(parent) = target.parent() {
            sync_directory(parent)?;
        }
        Ok(())
    }
}

#[cfg(unix)]
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Makes creations, renames and removals in a directory survive a power failure.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes many freshly written files durable: a few one by one, many by one call for the file system.
///
/// One by one, every new file costs a journal commit; through the file system, one commit pays for all but
/// also writes out what others left dirty there.
pub(crate) fn sync_files(root: &Path, files: &[PathBuf]) -> io::Result<()> {
    if files.len() > FSYNC_EACH && sync_file_system(root)? {
        return Ok(());
    }
    let mut directories = BTreeSet::new();
    for file in files {
        File::open(file)?.sync_all()?;
        // a new directory is only as durable as its own parent's entry for it
        let parents = file.ancestors().skip(1).take_while(|parent| parent.starts_with(root));
        directories.extend(parents.map(Path::to_owned));
    }
    directories.iter().try_for_each(|directory| sync_directory(directory))
}

/// Makes everything in a directory that was just written durable.
pub(crate) fn sync_all_below(root: &Path) -> io::Result<()> {
    let (mut files, mut directories) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = directories.pop() {
        for found in fs::read_dir(&directory)? {
            let path = found?.path();
            if path.is_dir() { directories.push(path) } else { files.push(path) }
        }
    }
    sync_files(root, &files)
}

#[cfg(target_os = "linux")]
fn sync_file_system(root: &Path) -> io::Result<bool> {
    rustix::fs::syncfs(File::open(root)?)?;
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Whether an error says that there is no room (rather than that the disk is broken).
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Sets disk space aside: `bytes` that no compressing or sparse file system can pretend to have.
pub(crate) fn make_reserve(layout: &Layout, bytes: u64) -> io::Result<()> {
    let path = layout.reserve();
    if fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
        return Ok(());
    }
    let fill = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let mut left = bytes;
        let mut block: Hash = Sha256::digest(b"sealbus reserve").into();
        let mut chunk = Vec::with_capacity(64 * 1024);
        while left > 0 {
            chunk.clear();
            while chunk.len() < 64 * 1024 {
                block = Sha256::digest(block).into();
                chunk.extend_from_slice(&block);
            }
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all(&chunk)?;
            left = left.saturating_sub(chunk.len() as u64);
        }
        file.sync_all()
    };
    fill().inspect_err(|_| drop(fs::remove_file(&path)))
}

/// Gives the reserved space back to the file system.
pub(crate) fn release_reserve(layout: &Layout) {
    // if it is not there it has been given back already
    drop(fs::remove_file(layout.reserve()));
}

/// A whole file of at most `max` bytes; `None` if it does not exist.
pub(crate) fn read_if_there(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The bytes of a tile that holds at least `width` items: the partial one, or the full one that replaced it.
pub(crate) fn read_tile(
    layout: &Layout,
    tile: TilePath,
    width: usize,
    max: u64,
) -> io::Result<Option<Vec<u8>>> {
    let partial = u8::try_from(width).ok().map(|width| layout.tile(tile.partial(width)));
    let full = layout.tile(tile);
    // The writer renames the full tile into place before it removes partial ones: looking for the full one
    // last, there is no moment at which both are missed.
    for path in partial.iter().chain([&full]) {
        if let Some(bytes) = read_if_there(path, max)? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Splits a hash tile; `None` if it is not a whole number of hashes, at most 256.
pub(crate) fn split_hashes(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && hashes.len() <= TILE_WIDTH).then(|| hashes.to_vec())
}

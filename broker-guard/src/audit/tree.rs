//! Merkle tree mathematics of the log: hashing, the growing right edge, inclusion and consistency proofs.
//!
//! Hashing is RFC 6962 §2.1 with SHA-256: a leaf is `H(0x00 ‖ entry)`, an inner node `H(0x01 ‖ left ‖
//! right)`. The prefixes stop an inner node from being passed off as an entry (second preimage). Proof
//! checking follows RFC 9162 §2.1.3.2 and §2.1.4.2. Nothing here reads a file or a clock.
//!
//! ```
//! use sealbus_guard::audit::tree::{self, TreeEdge, leaf_hash};
//! let mut edge = TreeEdge::new();
//! for entry in [b"a".as_slice(), b"b", b"c"] {
//!     edge.push(leaf_hash(entry), &mut |_, _| {});
//! }
//! let leaves = [leaf_hash(b"a"), leaf_hash(b"b"), leaf_hash(b"c")];
//! assert_eq!(edge.root(), tree::root_of(&leaves));
//! ```

use sha2::{Digest as _, Sha256};

/// A SHA-256 value: of a leaf, of an inner node, or of a whole tree.
pub type Hash = [u8; 32];

/// How many hashes or entries a full tile holds: tile height 8 (C2SP tlog-tiles).
pub const TILE_WIDTH: usize = 256;
/// The base-2 logarithm of [`TILE_WIDTH`].
pub const TILE_HEIGHT: u32 = 8;
/// The same as [`TILE_WIDTH`], for arithmetic on leaf numbers.
pub(crate) const TILE_LEAVES: u64 = 256;

/// The hash of one log entry, RFC 6962 §2.1.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0u8]).chain_update(entry).finalize().into()
}

/// The hash of an inner node, RFC 6962 §2.1.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1u8]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the empty tree: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Perfect subtrees, widest first, that together cover a run of leaves: what is needed to go on growing.
#[derive(Debug, Clone, Default)]
struct Frontier {
    peaks: Vec<Hash>,
    size: u64,
}

impl Frontier {
    fn push(&mut self, hash: Hash) {
        let mut hash = hash;
        let mut size = self.size;
        // one trailing one-bit of the size is one finished subtree of that height to merge with
        while size & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            size >>= 1;
        }
        self.peaks.push(hash);
        self.size = self.size.saturating_add(1);
    }
}

/// Joins perfect subtrees, widest first, into one root.
fn fold(peaks: &[Hash]) -> Hash {
    let mut right_to_left = peaks.iter().rev();
    let Some(first) = right_to_left.next() else { return empty_root() };
    right_to_left.fold(*first, |right, left| node_hash(left, &right))
}

/// The Merkle tree hash over nodes of equal height, RFC 6962 §2.1.
#[must_use]
pub fn root_of(hashes: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    for hash in hashes {
        frontier.push(*hash);
    }
    fold(&frontier.peaks)
}

/// The name of one hash tile: level (0 holds leaf hashes) and number within the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileId {
    /// 0 for leaf hashes; each hash of level `l + 1` is the root of a full tile of level `l`.
    pub level: u8,
    /// The number of the tile within its level.
    pub index: u64,
}

/// The growing right edge of the tree: the unfinished tile of every level.
///
/// Memory is at most 255 hashes a level, whatever the size of the log.
#[derive(Debug, Clone, Default)]
pub struct TreeEdge {
    levels: Vec<Vec<Hash>>,
    size: u64,
}

impl TreeEdge {
    /// The edge of an empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The edge of a tree of `size` leaves whose unfinished tiles are `levels`, lowest first.
    ///
    /// `None` if the widths do not belong to that size (`floor(size / 256^level) mod 256` each).
    #[must_use]
    pub fn from_levels(levels: Vec<Vec<Hash>>, size: u64) -> Option<Self> {
        let fits = levels.iter().enumerate().all(|(level, tile)| {
            u8::try_from(level).is_ok_and(|level| tile.len() == partial_width(size, level))
        });
        let covered = u8::try_from(levels.len()).is_ok_and(|level| leaves_below(size, level) == 0);
        (fits && covered).then_some(Self { levels, size })
    }

    /// How many leaves the tree has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds 256 leaves at once by the root over them; `false`, and nothing happens, unless the edge ends on a
    /// full tile.
    pub fn push_tile(&mut self, root: Hash, full: &mut impl FnMut(TileId, &[Hash])) -> bool {
        if !self.size.is_multiple_of(TILE_LEAVES) {
            return false;
        }
        if self.levels.is_empty() {
            self.levels.push(Vec::with_capacity(TILE_WIDTH));
        }
        self.size = self.size.saturating_add(TILE_LEAVES);
        self.carry(1, root, full);
        true
    }

    /// Adds a leaf; `full` is told of every tile this completes, lowest level first.
    pub fn push(&mut self, leaf: Hash, full: &mut impl FnMut(TileId, &[Hash])) {
        self.size = self.size.saturating_add(1);
        self.carry(0, leaf, full);
    }

    /// Adds a hash at a level, and to those above as tiles become full.
    fn carry(&mut self, lowest: u8, mut hash: Hash, full: &mut impl FnMut(TileId, &[Hash])) {
        for level in lowest.. {
            if self.levels.len() <= usize::from(level) {
                self.levels.push(Vec::with_capacity(TILE_WIDTH));
            }
            let Some(tile) = self.levels.get_mut(usize::from(level)) else { return };
            tile.push(hash);
            if tile.len() < TILE_WIDTH {
                return;
            }
            let index = leaves_below(self.size, level).saturating_sub(1) >> TILE_HEIGHT;
            full(TileId { level, index }, tile);
            hash = root_of(tile);
            tile.clear();
        }
    }

    /// The tiles that are not full yet, lowest level first; empty ones are left out.
    pub fn partial_tiles(&self) -> impl Iterator<Item = (TileId, &[Hash])> {
        (0u8..).zip(&self.levels).filter(|(_, tile)| !tile.is_empty()).map(|(level, tile)| {
            let index = leaves_below(self.size, level) >> TILE_HEIGHT;
            (TileId { level, index }, tile.as_slice())
        })
    }

    /// The root of the tree as it is now.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = Vec::new();
        for tile in self.levels.iter().rev() {
            let mut frontier = Frontier::default();
            for hash in tile {
                frontier.push(*hash);
            }
            peaks.append(&mut frontier.peaks);
        }
        fold(&peaks)
    }
}

/// How many whole subtrees of 256^level leaves fit into `size`.
fn leaves_below(size: u64, level: u8) -> u64 {
    size.checked_shr(u32::from(level).saturating_mul(TILE_HEIGHT)).unwrap_or(0)
}

/// The width of the unfinished tile at `level` in a tree of `size` leaves; 0 if there is none.
#[must_use]
pub fn partial_width(size: u64, level: u8) -> usize {
    usize::try_from(leaves_below(size, level) % TILE_LEAVES).unwrap_or(0)
}

/// Where a proof gets the roots of perfect subtrees from.
pub trait NodeSource {
    /// Why a node could not be had.
    type Error;
    /// The root of the perfect subtree over leaves `[index · 2^height, (index + 1) · 2^height)`.
    ///
    /// # Errors
    /// Whatever kept the source from answering.
    fn node(&mut self, height: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The largest power of two below `n` (which is 2 or more): where RFC 6962 splits a tree.
fn split(n: u64) -> u64 {
    1u64 << n.saturating_sub(1).checked_ilog2().unwrap_or(0)
}

/// The root over leaves `[lo, hi)`, where the range is one that RFC 6962's recursion visits.
fn range_root<S: NodeSource>(source: &mut S, lo: u64, hi: u64) -> Result<Hash, S::Error> {
    let n = hi.saturating_sub(lo);
    if n.is_power_of_two() {
        let height = n.trailing_zeros();
        return source.node(height, lo >> height);
    }
    if n == 0 {
        return Ok(empty_root());
    }
    let middle = lo.saturating_add(split(n));
    let left = range_root(source, lo, middle)?;
    let right = range_root(source, middle, hi)?;
    Ok(node_hash(&left, &right))
}

/// The root of the first `size` leaves.
///
/// # Errors
/// Those of the source.
pub fn root_at<S: NodeSource>(source: &mut S, size: u64) -> Result<Hash, S::Error> {
    range_root(source, 0, size)
}

/// The audit path of leaf `leaf` in the tree of `size` leaves, lowest sibling first (RFC 6962 §2.1.1).
///
/// The caller has checked `leaf < size`.
///
/// # Errors
/// Those of the source.
pub fn inclusion_proof<S: NodeSource>(source: &mut S, leaf: u64, size: u64) -> Result<Vec<Hash>, S::Error> {
    let (mut lo, mut hi) = (0u64, size);
    let mut path = Vec::new();
    while hi.saturating_sub(lo) > 1 {
        let middle = lo.saturating_add(split(hi.saturating_sub(lo)));
        if leaf < middle {
            path.push(range_root(source, middle, hi)?);
            hi = middle;
        } else {
            path.push(range_root(source, lo, middle)?);
            lo = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Evidence that the tree of `old` leaves is a prefix of the tree of `new` leaves (RFC 6962 §2.1.2).
///
/// The caller has checked `0 < old <= new`. Empty if the sizes are equal.
///
/// # Errors
/// Those of the source.
pub fn consistency_proof<S: NodeSource>(source: &mut S, old: u64, new: u64) -> Result<Vec<Hash>, S::Error> {
    let (mut lo, mut hi) = (0u64, new);
    let mut whole = true;
    let mut path = Vec::new();
    while old < hi {
        let middle = lo.saturating_add(split(hi.saturating_sub(lo)));
        if old <= middle {
            path.push(range_root(source, middle, hi)?);
            hi = middle;
        } else {
            path.push(range_root(source, lo, middle)?);
            lo = middle;
            whole = false;
        }
    }
    if !whole {
        path.push(range_root(source, lo, hi)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `path` proves that `leaf_hash` is leaf number `leaf` of the tree (RFC 9162 §2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf_hash: &Hash, leaf: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if leaf >= size {
        return false;
    }
    let (mut node, mut last) = (leaf, size.saturating_sub(1));
    let mut hash = *leaf_hash;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `path` proves that the tree (`old`, `old_root`) is a prefix of (`new`, `new_root`)
/// (RFC 9162 §2.1.4.2). Every tree extends the empty one, with an empty path.
#[must_use]
pub fn verify_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, path: &[Hash]) -> bool {
    if old == new {
        return path.is_empty() && old_root == new_root;
    }
    if old > new {
        return false;
    }
    if old == 0 {
        return path.is_empty() && *old_root == empty_root();
    }
    let mut path = path.iter();
    // a complete old tree is its own first node, and is left out of the path
    let first = if old.is_power_of_two() { Some(old_root) } else { path.next() };
    let Some(first) = first else { return false };
    let (mut node, mut last) = (old.saturating_sub(1), new.saturating_sub(1));
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut from_old, mut from_new) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            from_old = node_hash(sibling, &from_old);
            from_new = node_hash(sibling, &from_new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && from_old == *old_root && from_new == *new_root
}

#[cfg(test)]
mod tests;

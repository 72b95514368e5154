//! Merkle trees as in RFC 6962 section 2.1, with SHA-256, never truncated.
//!
//! ```
//! use sealbus_envelope::proof::merkle::{Tree, root_from_path};
//! # fn main() -> Result<(), sealbus_envelope::reason::Refused> {
//! let leaves = [[1; 32], [2; 32], [3; 32]];
//! let tree = Tree::build(leaves.iter().map(|digest| digest.as_slice()));
//! let path = tree.path(2).unwrap_or_default();
//! assert_eq!(root_from_path(&leaves[2], 2, 3, &path)?, tree.root());
//! # Ok(())
//! # }
//! ```

use sha2::{Digest as _, Sha256};

use crate::{
    hash::Hash,
    reason::{Reason, Refused},
};

/// The hash of a leaf: SHA-256(0x00 ‖ data).
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The hash of the empty tree: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// A whole tree in memory, every level kept, so that all paths cost one pass.
#[derive(Debug, Clone)]
pub struct Tree {
    /// `levels[0]` are the leaf hashes; an odd last node moves up unchanged.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// The tree over `leaves`, in their order.
    pub fn build<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut levels = vec![leaves.into_iter().map(leaf_hash).collect::<Vec<_>>()];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below
                .chunks(2)
                .filter_map(|pair| match pair {
                    [left, right] => Some(node_hash(left, right)),
                    [odd] => Some(*odd),
                    _ => None,
                })
                .collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// How many leaves it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.levels.last().and_then(|top| top.first()).copied().unwrap_or_else(empty_root)
    }

    /// The siblings from leaf `index` up to the root; `None` if there is no such leaf.
    #[must_use]
    pub fn path(&self, index: usize) -> Option<Vec<Hash>> {
        if index >= self.len() {
            return None;
        }
        let siblings = self.levels.iter().enumerate().filter_map(|(height, level)| {
            let at = index >> height;
            level.get(at ^ 1).copied()
        });
        Some(siblings.collect())
    }
}

/// The root that `leaf` (its data, not its hash) at `index` of `size` leads to along `path`
/// (RFC 9162 section 2.1.3.2, without the final comparison).
///
/// # Errors
/// `bad_proof` if the index is not below the size or the path has not exactly the length it must have:
/// then two different indexes could claim one path.
pub fn root_from_path(leaf: &[u8], index: u64, size: u64, path: &[Hash]) -> Result<Hash, Refused> {
    let bad = Refused::new(Reason::BadProof, "merkle path");
    if index >= size {
        return Err(bad);
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf_hash(leaf);
    for sibling in path {
        if last == 0 {
            return Err(bad);
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    if last == 0 { Ok(hash) } else { Err(bad) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;

    /// RFC 6962 section 2.1, word for word: slow and obviously right.
    fn mth(leaves: &[[u8; 1]]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => leaf_hash(one),
            many => {
                let k = 1 << (many.len() - 1).ilog2();
                node_hash(&mth(&many[..k]), &mth(&many[k..]))
            }
        }
    }

    /// RFC 6962 section 2.1.1, word for word.
    fn path(m: usize, leaves: &[[u8; 1]]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return vec![];
        }
        let k = 1 << (leaves.len() - 1).ilog2();
        let (inside, outside, m) =
            if m < k { (&leaves[..k], &leaves[k..], m) } else { (&leaves[k..], &leaves[..k], m - k) };
        let mut path = path(m, inside);
        path.push(mth(outside));
        path
    }

    #[test]
    fn every_tree_up_to_70_leaves_agrees_with_the_rfc() {
        let leaves: Vec<[u8; 1]> = (0..70).map(|n| [n]).collect();
        for size in 0..=leaves.len() {
            let leaves = &leaves[..size];
            let tree = Tree::build(leaves.iter().map(|leaf| leaf.as_slice()));
            assert_eq!(tree.root(), mth(leaves));
            assert_eq!(tree.path(size), None);
            for (index, leaf) in leaves.iter().enumerate() {
                let proof = tree.path(index).unwrap();
                assert_eq!(proof, path(index, leaves), "{index} of {size}");
                let root = root_from_path(leaf, index as u64, size as u64, &proof).unwrap();
                assert_eq!(root, tree.root());
            }
        }
    }

    #[test]
    fn a_path_of_another_length_or_index_never_leads_to_the_root() {
        let leaves: Vec<[u8; 1]> = (0..33).map(|n| [n]).collect();
        let tree = Tree::build(leaves.iter().map(|leaf| leaf.as_slice()));
        for (index, leaf) in leaves.iter().enumerate() {
            let mut proof = tree.path(index).unwrap();
            for other in (0..34u64).filter(|&other| other != index as u64) {
                let root = root_from_path(leaf, other, 33, &proof);
                assert!(root.is_err() || root.unwrap() != tree.root(), "{index} as {other}");
            }
            proof.push([0; 32]);
            assert!(root_from_path(leaf, index as u64, 33, &proof).is_err());
            proof.truncate(proof.len() - 2);
            assert!(root_from_path(leaf, index as u64, 33, &proof).is_err());
        }
    }
}

//! The tree against RFC 6962's definitions, written out as naively as the RFC writes them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

/// MTH of RFC 6962 §2.1, word for word.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        many => {
            let k = (many.len() - 1).ilog2();
            let (left, right) = many.split_at(1 << k);
            node_hash(&mth(left), &mth(right))
        }
    }
}

/// PATH of RFC 6962 §2.1.1, word for word.
fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let k = 1 << (leaves.len() - 1).ilog2();
    let (mut below, sibling) = if m < k {
        (path(m, &leaves[..k]), mth(&leaves[k..]))
    } else {
        (path(m - k, &leaves[k..]), mth(&leaves[..k]))
    };
    below.push(sibling);
    below
}

/// SUBPROOF of RFC 6962 §2.1.2, word for word.
fn subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if whole { Vec::new() } else { vec![mth(leaves)] };
    }
    let k = 1 << (leaves.len() - 1).ilog2();
    let (mut below, sibling) = if m <= k {
        (subproof(m, &leaves[..k], whole), mth(&leaves[k..]))
    } else {
        (subproof(m - k, &leaves[k..], false), mth(&leaves[..k]))
    };
    below.push(sibling);
    below
}

struct Leaves(Vec<Hash>);

impl NodeSource for Leaves {
    type Error = Infallible;
    fn node(&mut self, height: u32, index: u64) -> Result<Hash, Infallible> {
        let start = usize::try_from(index << height).unwrap();
        Ok(mth(&self.0[start..start + (1 << height)]))
    }
}

fn leaves(n: usize) -> Vec<Hash> {
    (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

#[test]
fn known_roots_of_the_certificate_transparency_test_tree() {
    // the eight entries and roots of the RFC 6962 reference implementation's test
    let entries: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut edge = TreeEdge::new();
    assert_eq!(
        data_encoding::HEXLOWER.encode(&edge.root()),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    for (entry, root) in entries.iter().zip(roots) {
        edge.push(leaf_hash(entry), &mut |_, _| {});
        assert_eq!(data_encoding::HEXLOWER.encode(&edge.root()), root);
    }
}

#[test]
fn a_full_tile_is_announced_once_at_each_level() {
    let mut edge = TreeEdge::new();
    let mut seen = Vec::new();
    for leaf in leaves(65_536 + 300) {
        edge.push(leaf, &mut |id, hashes| {
            assert_eq!(hashes.len(), TILE_WIDTH);
            seen.push(id);
        });
    }
    assert_eq!(seen.iter().filter(|id| id.level == 0).count(), 257);
    assert_eq!(seen.iter().filter(|id| id.level == 1).count(), 1);
    let partial: Vec<_> =
        edge.partial_tiles().map(|(id, hashes)| (id.level, id.index, hashes.len())).collect();
    assert_eq!(partial, [(0, 257, 44), (1, 1, 1), (2, 0, 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_edge_has_the_root_of_the_definition(n in 0usize..1200) {
        let leaves = leaves(n);
        let mut edge = TreeEdge::new();
        for leaf in &leaves {
            edge.push(*leaf, &mut |_, _| {});
        }
        prop_assert_eq!(edge.root(), mth(&leaves));
        prop_assert_eq!(root_of(&leaves), mth(&leaves));
        prop_assert_eq!(root_at(&mut Leaves(leaves), n as u64).unwrap(), edge.root());
    }

    #[test]
    fn an_edge_rebuilt_from_its_tiles_grows_alike(n in prop_oneof![0usize..1200, 65_500usize..66_100], more in 0usize..300) {
        let mut edge = TreeEdge::new();
        for leaf in leaves(n) {
            edge.push(leaf, &mut |_, _| {});
        }
        let mut again = TreeEdge::from_levels(edge.levels.clone(), n as u64).unwrap();
        for leaf in leaves(more) {
            edge.push(leaf, &mut |_, _| {});
            again.push(leaf, &mut |_, _| {});
        }
        prop_assert_eq!(edge.root(), again.root());
        prop_assert!(TreeEdge::from_levels(edge.levels.clone(), edge.size + 1).is_none());
    }

    #[test]
    fn inclusion_is_proven_and_a_changed_proof_is_refused((n, m) in (1usize..600).prop_flat_map(|n| (Just(n), 0..n)), flip in any::<prop::sample::Index>()) {
        let leaves = leaves(n);
        let root = mth(&leaves);
        let (size, leaf) = (n as u64, m as u64);
        let proof = inclusion_proof(&mut Leaves(leaves.clone()), leaf, size).unwrap();
        prop_assert_eq!(&proof, &path(m, &leaves));
        prop_assert!(verify_inclusion(&leaves[m], leaf, size, &proof, &root));
        prop_assert!(!verify_inclusion(&leaf_hash(b"other"), leaf, size, &proof, &root));
        prop_assert!(!verify_inclusion(&leaves[m], size, size, &proof, &root));
        let longer: Vec<Hash> = proof.iter().copied().chain([root]).collect();
        prop_assert!(!verify_inclusion(&leaves[m], leaf, size, &longer, &root));
        if !proof.is_empty() {
            let mut wrong = proof.clone();
            let at = flip.index(wrong.len());
            wrong[at][0] ^= 1;
            prop_assert!(!verify_inclusion(&leaves[m], leaf, size, &wrong, &root));
            prop_assert!(!verify_inclusion(&leaves[m], leaf, size, &proof[1..], &root));
        }
    }

    #[test]
    fn consistency_is_proven_and_a_changed_proof_is_refused((n, m) in (1usize..600).prop_flat_map(|n| (Just(n), 1..=n)), flip in any::<prop::sample::Index>()) {
        let leaves = leaves(n);
        let (old_root, new_root) = (mth(&leaves[..m]), mth(&leaves));
        let (new, old) = (n as u64, m as u64);
        let proof = consistency_proof(&mut Leaves(leaves.clone()), old, new).unwrap();
        prop_assert_eq!(&proof, &subproof(m, &leaves, true));
        prop_assert!(verify_consistency(old, &old_root, new, &new_root, &proof));
        let other = leaf_hash(b"another history");
        prop_assert!(!verify_consistency(old, &other, new, &new_root, &proof));
        prop_assert!(!verify_consistency(old, &old_root, new, &other, &proof));
        if !proof.is_empty() {
            let mut wrong = proof.clone();
            let at = flip.index(wrong.len());
            wrong[at][31] ^= 1;
            prop_assert!(!verify_consistency(old, &old_root, new, &new_root, &wrong));
            prop_assert!(!verify_consistency(old, &old_root, new, &new_root, &proof[1..]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whole_tiles_pushed_by_their_root_make_the_same_tree(tiles in 0usize..40, single in 0usize..300, jump in any::<u64>()) {
        let all = leaves(tiles * TILE_WIDTH + single);
        let (mut by_leaf, mut mixed) = (TreeEdge::new(), TreeEdge::new());
        let mut upper = (Vec::new(), Vec::new());
        for leaf in &all {
            by_leaf.push(*leaf, &mut |id, hashes| if id.level > 0 { upper.0.push((id, hashes.to_vec())) });
        }
        for (index, tile) in all.chunks(TILE_WIDTH).enumerate() {
            let mut note = |id: TileId, hashes: &[Hash]| if id.level > 0 { upper.1.push((id, hashes.to_vec())) };
            if tile.len() == TILE_WIDTH && jump >> (index % 64) & 1 == 1 {
                prop_assert!(mixed.push_tile(mth(tile), &mut note));
            } else {
                tile.iter().for_each(|leaf| mixed.push(*leaf, &mut note));
            }
        }
        prop_assert_eq!(mixed.size(), by_leaf.size());
        prop_assert_eq!(mixed.root(), mth(&all));
        prop_assert_eq!(upper.0, upper.1);
        prop_assert_eq!(mixed.push_tile([0; 32], &mut |_, _| {}), all.len().is_multiple_of(TILE_WIDTH));
    }
}

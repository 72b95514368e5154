"""Merkle trees and batch proofs (section 10)."""

import hashlib

from crypto import verify
from encoding import Reader, check, write_array, write_bin, write_uint


def leaf_hash(data):
    return hashlib.sha256(b"\0" + data).digest()


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def tree(leaves):
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return node(tree(leaves[:k]), tree(leaves[k:]))


def root_from_path(leaf, index, size, path):
    """RFC 9162 section 2.1.3.2; None if the path has not the length that size and index need."""
    if index >= size:
        return None
    fn, sn, r = index, size - 1, leaf_hash(leaf)
    for p in path:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            r = node(p, r)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node(r, p)
        fn, sn = fn >> 1, sn >> 1
    return r if sn == 0 else None


class Proof:
    @classmethod
    def decode(cls, data):
        r = Reader(data)
        r.array(4)
        proof = cls(r)
        r.end()
        return proof

    def __init__(self, r):
        self.size, self.index = r.uint(16), r.uint(16)
        path, self.signature = r.bin(limit=256), r.bin(64)
        check(1 <= self.size <= 256 and self.index < self.size and len(path) % 32 == 0, "bad_proof")
        self.path = [path[n : n + 32] for n in range(0, len(path), 32)]

    def verify(self, key, purpose, scope, digest):
        root = root_from_path(digest, self.index, self.size, self.path)
        check(root is not None, "bad_proof")
        text = write_array(write_bin(scope), write_uint(self.size), write_bin(root))
        verify(key, purpose, text, self.signature)

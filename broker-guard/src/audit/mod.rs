//! The audit log: an append-only Merkle tree on the guard's own disk.
pub mod bundle;
pub mod entry;
pub mod hex;
pub mod note;
pub mod path;
pub mod tree;

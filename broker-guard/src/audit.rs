//! The audit log: what the guard decided, in a form that cannot be changed afterwards without being found out.
//!
//! The log is an append-only Merkle tree on the guard's own disk, in the open forms of C2SP: `tlog-tiles` for
//! the tree and its entries, `tlog-checkpoint` and `signed-note` for the signed root, `tlog-proof` for a proof
//! about one entry. Any tool that reads these reads our logs.
//!
//! ```text
//! checkpoint               the latest signed size and root
//! tile/<level>/…           hashes, 256 to a file      tile/entries/…   entries, 256 to a file
//! wal/<first leaf>.wal     write-ahead segments       reserve          room for orders on a full disk
//! pruned                   where entries begin
//! ```
//!
//! | a reader wants to | and opens |
//! | --- | --- |
//! | write the log | [`store`] (waiting for the disk: [`shared`]) |
//! | know what is logged | [`entry`], [`hex`]; the order it must stand in: [`order`] |
//! | check a log | [`verify`] |
//! | find something | [`search`] |
//! | know whether parents are true | [`parents`] (pure) |
//! | convince someone else | [`prove`] |
//! | hand a part of it out, or remove one | [`export`], [`prune`] |
//! | know the forms | [`tree`], [`note`], [`bundle`], [`path`] (pure) |
//!
//! # What it promises
//! An entry is written with `write(2)` before [`store::AuditLog::append_batch`] returns: it survives `kill -9`.
//! After [`SyncHandle::synced`](store::SyncHandle::synced) it survives a power failure. After a checkpoint it
//! cannot be changed without the guard's key. With that key a whole new history can be signed: what stops this
//! is that others hold checkpoints and proofs of admission, and `verify` compares them. The tail that no
//! checkpoint covers yet (100 ms by default) is only as good as the disk. Positions that were given out are
//! never given again, and a position that is missing has a gap entry that says so.
//!
//! # Why no crate
//! The `tlog_tiles` and `signed_note` crates were looked at. They panic on inner errors, have neither entry
//! bundles nor a tree that grows at its right edge, and bring older versions of crates that stand here already
//! (`base64`, `thiserror`; `signed_note` signs with its own Ed25519). The forms are small and exactly
//! specified; here they are four pure files, tested against the definitions of RFC 6962 and published notes.

pub mod bundle;
pub mod entry;
pub mod export;
mod files;
mod frame;
pub mod hex;
mod lock;
pub mod note;
pub mod order;
pub mod parents;
pub mod path;
pub mod prove;
pub mod prune;
mod read;
mod recover;
mod seal;
pub mod search;
mod segment;
pub mod shared;
pub mod store;
pub mod tree;
pub mod verify;
mod workers;

#[cfg(test)]
mod tests;

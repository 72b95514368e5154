//! The log as a whole, on a real disk: what it keeps, what it refuses, what it finds out.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod concurrent;
mod crash;
mod kill;
mod proofs;
mod retention;
mod space;
mod tamper;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use sealbus_envelope::label::Label;
use sealbus_envelope::time::Millis;

use super::entry::{Admitted, Body, Denied, Hex, Order, Record};
use super::note::{CheckpointSigner as _, NoteKey};
use super::search::{Filter, Found, search};
use super::store::{AuditLog, OpenError, Options};

const NAME: &str = "sealbus/demo/guard-1";

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn key() -> NoteKey {
    NoteKey::new(NAME, signer().public_key()).unwrap()
}

/// Small segments, so that they turn over; a small reserve, so that tests are quick.
fn options() -> Options {
    let mut options = Options::new(NAME);
    options.reserve_bytes = 16 * 1024;
    options.segment_bytes = 32 * 1024;
    options
}

/// Checkpoints only when asked for.
fn sealed_on_request() -> Options {
    let mut options = options();
    options.checkpoint_interval = Duration::from_secs(3600);
    options
}

fn open(directory: &Path, options: Options) -> Result<AuditLog, OpenError> {
    AuditLog::open(directory, options, Box::new(signer()))
}

fn admission(i: u64) -> Record<'static> {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&i.to_be_bytes());
    Record {
        time: Millis(1_000_000 + i),
        body: Body::Admitted(Admitted {
            digest: Hex(digest),
            envelope: Hex([9; 16]),
            sender: "crawler-abcdefghij".into(),
            session: Hex([3; 32]),
            rule: "collect-web".into(),
            subject: "collect.web.raw".into(),
            label: Label::default(),
            flow_grant: None,
            parents: Vec::new().into(),
            policy_version: 1,
            guard_time: Millis(1_000_000 + i),
            confirm: false,
            observed: None,
        }),
    }
}

fn denial(count: u64) -> Record<'static> {
    Record {
        time: Millis(5),
        body: Body::Denied(Denied { reason: "no_rule".into(), count, ..Denied::default() }),
    }
}

fn order() -> Record<'static> {
    Record {
        time: Millis(6),
        body: Body::Order(Order {
            order: "revoke".into(),
            digest: Hex([1; 32]),
            target: "crawler-abcdefghij".into(),
            signers: Vec::new(),
            accepted: true,
            reason: None,
            id: None,
            why: None,
        }),
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Makes all that is written so far durable and sealed.
fn seal(log: &AuditLog) {
    let handle = log.sync_handle();
    block_on(handle.sealed(handle.progress().written)).unwrap();
}

fn everything(directory: &Path) -> Vec<Found> {
    search(directory, Filter::default()).unwrap().map(Result::unwrap).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A log of three epochs, closed in order, and where it is.
fn three_epochs(batches: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for epoch in 0..3 {
        let mut log = open(directory.path(), options()).unwrap();
        for batch in 0..batches {
            let from = (epoch * batches + batch) * 7;
            let records: Vec<_> = (from..from + 7).map(admission).collect();
            log.append_batch(&records).unwrap();
        }
        log.close().unwrap();
    }
    directory
}

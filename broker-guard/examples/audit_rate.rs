//! How fast the audit log takes entries: `cargo run --release --example audit_rate [directory]`.
//!
//! Prints the rate of `append_batch` alone (what the guard's checker pays), the time until all is durable and
//! sealed, and how long one confirmed entry waits for its fsync.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::time::{Duration, Instant};

use sealbus_envelope::label::Label;
use sealbus_envelope::time::Millis;
use sealbus_guard::audit::entry::{Admitted, Body, Hex, Record};
use sealbus_guard::audit::note::{CheckpointSigner as _, NoteKey};
use sealbus_guard::audit::store::{AuditLog, Options};
use sealbus_guard::audit::verify::{VerifyOptions, verify};

const BATCH: u32 = 256;
const BATCHES: u32 = 4_000;

fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os().nth(1).unwrap_or_else(|| std::env::temp_dir().into());
    let directory = tempfile::tempdir_in(parent)?;
    let guard = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let key = NoteKey::new("sealbus/rate/guard-1", guard.public_key())?;
    let mut log = AuditLog::open(directory.path(), Options::new(key.name()), Box::new(guard))?;
    let parents = [Hex([4; 32])];
    let record = |i: u32| Record {
        time: Millis(1_700_000_000_000),
        body: Body::Admitted(Admitted {
            digest: Hex([1; 32]),
            envelope: Hex([i.to_be_bytes()[3]; 16]),
            sender: "crawler-abcdefghij".into(),
            session: Hex([3; 32]),
            rule: "collect-web".into(),
            subject: "collect.web.raw".into(),
            label: Label::default(),
            flow_grant: None,
            parents: parents.as_slice().into(),
            policy_version: 7,
            guard_time: Millis(1_700_000_000_000),
            confirm: false,
            observed: None,
        }),
    };
    let (mut slowest, start) = (Duration::ZERO, Instant::now());
    for _ in 0..BATCHES {
        let batch: Vec<Record<'_>> = (0..BATCH).map(record).collect();
        let before = Instant::now();
        log.append_batch(&batch)?;
        slowest = slowest.max(before.elapsed());
    }
    let (written, entries) = (start.elapsed(), BATCH * BATCHES);
    let handle = log.sync_handle();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(handle.sealed(u64::from(entries)))?;
    let sealed = start.elapsed();
    let rate = |took: Duration| f64::from(entries) / took.as_secs_f64();
    println!("appended {entries} entries in batches of {BATCH}: {:.0} a second", rate(written));
    println!("slowest batch {slowest:?}; durable and sealed after {sealed:?}: {:.0} a second", rate(sealed));
    let mut waits: Vec<Duration> = (0..200)
        .map(|i| {
            let before = Instant::now();
            let end = log.append_batch(&[record(i)])?.leaves.end;
            runtime.block_on(handle.synced(end))?;
            Ok(before.elapsed())
        })
        .collect::<Result<_, Box<dyn Error>>>()?;
    waits.sort_unstable();
    println!("one confirmed entry waits {:?} (median of {})", waits.get(waits.len() / 2), waits.len());
    log.close()?;
    let before = Instant::now();
    let report = verify(directory.path(), &key, &VerifyOptions::default())?;
    println!("verified {} entries in {:?}", report.checkpoint.size, before.elapsed());
    Ok(())
}

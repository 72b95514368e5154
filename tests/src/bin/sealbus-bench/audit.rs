//! The audit log: entries a second, how long until they are durable and under a signed checkpoint, how long
//! unconfirmed entries wait behind the disk, verification and proofs; beside plain files that take the same bytes.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::{
    collections::BTreeSet,
    fs::File,
    io::Write as _,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sealbus_envelope::{identity::SigningKey, label::Label, time::Millis};
use sealbus_guard::audit::{
    entry::{Admitted, Body, Entry, Hex, Position, Record},
    note::{NoteKey, SignWith},
    prove::{prove_consistency, prove_inclusion},
    store::{AuditLog, Options},
    verify::{VerifyOptions, verify},
};

use crate::{
    environment::Environment,
    progress,
    report::{Report, Row},
    samples::{Samples, median},
};

const BATCH: usize = 256;
/// Writers that wait for their entry to be durable, at once.
const WAITERS: usize = 64;
const NAME: &str = "sealbus/bench/guard";

/// Entries a second and how long one call took, round by round.
#[derive(Default)]
struct Track {
    rates: Vec<f64>,
    calls: Samples,
}

impl Track {
    fn note(&mut self, entries: usize, taken: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        self.rates.push(entries as f64 / taken.as_secs_f64());
    }

    fn ratio_to(&self, base: &Self) -> f64 {
        let ratios: Vec<f64> = self.rates.iter().zip(&base.rates).map(|(own, base)| own / base).collect();
        median(&ratios)
    }

    fn row(&self, what: &str) -> Row {
        Row::new(what)
            .measured("entries_per_second", median(&self.rates))
            .measured("p50_us", self.calls.p50_us())
            .measured("p99_us", self.calls.p99_us())
    }
}

fn signer() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

fn open(directory: &Path, change: impl FnOnce(&mut Options)) -> AuditLog {
    let mut options = Options::new(NAME);
    change(&mut options);
    let signer = signer();
    let public = *signer.public().as_bytes();
    let sign = move |text: &[u8]| signer.sign_raw(text);
    AuditLog::open(directory, options, Box::new(SignWith { public, sign }))
        .expect("a log in the temporary directory")
}

/// An entry as the guard writes it for an envelope.
fn admission(n: u64) -> Record<'static> {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&n.to_be_bytes());
    Record {
        time: Millis(1_800_000_000_000),
        body: Body::Admitted(Admitted {
            digest: Hex(digest),
            envelope: Hex([9; 16]),
            sender: "crawler-abcdefghij".into(),
            session: Hex([3; 32]),
            rule: "collect-web".into(),
            subject: "collect.web.raw".into(),
            label: Label::default(),
            flow_grant: None,
            parents: vec![Hex([5; 32])].into(),
            policy_version: 12,
            guard_time: Millis(1_800_000_000_000),
            confirm: false,
            observed: None,
        }),
    }
}

/// The bytes that a plain file would get for them.
fn bytes_of(records: &[Record<'static>]) -> Vec<u8> {
    let encode = |record: &Record<'static>| {
        let position = Position { epoch: 1, n: 0 };
        Entry { time: record.time, position, body: record.body.clone() }.encode().expect("an entry")
    };
    records.iter().flat_map(encode).collect()
}

pub(crate) fn run(budget: Duration) -> Report {
    let mut report = Report::new("audit", Environment::take());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    let part = budget / 6;
    writing(&mut report, part);
    confirming(&mut report, part, &runtime);
    grouping(&mut report, part, &runtime);
    including(&mut report, part, &runtime);
    behind_the_disk(&mut report, part, &runtime);
    checking(&mut report, part);
    report.note(
        "One writer, files in the temporary directory. \"plain\" writes the same bytes without positions, \
         checksums, tree or signatures: one write a batch, and where it says so one fdatasync after each. \
         Times are of one call: a batch written, or durable, or under a signed checkpoint.",
    );
    report
}

/// Entries written, for nobody who waits. Sealing goes on behind.
fn writing(report: &mut Report, part: Duration) {
    progress::say("writing batches of 256");
    let place = tempfile::tempdir().expect("a directory");
    let records: Vec<_> = (0..BATCH as u64).map(admission).collect();
    let bytes = bytes_of(&records);
    let mut log = open(&place.path().join("log"), |_| {});
    let mut plain_file = File::create(place.path().join("plain")).expect("a file");
    let (mut own, mut plain) = (Track::default(), Track::default());
    let begun = Instant::now();
    while own.rates.is_empty() || begun.elapsed() < part {
        let round = Instant::now();
        for _ in 0..40 {
            own.calls.time(|| log.append_batch(&records).expect("room"));
        }
        own.note(40 * BATCH, round.elapsed());
        let round = Instant::now();
        for _ in 0..40 {
            plain.calls.time(|| plain_file.write_all(&bytes).expect("room"));
        }
        plain.note(40 * BATCH, round.elapsed());
        // sealing must keep up, or the log would rightly say that it does not
        let handle = log.sync_handle();
        while handle.progress().written - handle.progress().sealed > 1_000_000 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let ratio = own.ratio_to(&plain);
    report.push(own.row("log, batches of 256").measured("ratio_to_plain", ratio));
    report.push(plain.row("plain file, batches of 256"));
}

/// Each batch durable before the next.
fn confirming(report: &mut Report, part: Duration, runtime: &tokio::runtime::Runtime) {
    for batch in [1, BATCH] {
        progress::say(&format!("confirming batches of {batch}"));
        let place = tempfile::tempdir().expect("a directory");
        let records: Vec<_> = (0..batch as u64).map(admission).collect();
        let bytes = bytes_of(&records);
        let mut log = open(&place.path().join("log"), |_| {});
        let mut plain_file = File::create(place.path().join("plain")).expect("a file");
        let (mut own, mut plain) = (Track::default(), Track::default());
        let begun = Instant::now();
        while own.rates.is_empty() || begun.elapsed() < part / 2 {
            let round = Instant::now();
            for _ in 0..8 {
                own.calls.time(|| {
                    let appended = log.append_batch(&records).expect("room");
                    runtime.block_on(log.sync_handle().synced(appended.leaves.end)).expect("a disk");
                });
            }
            own.note(8 * batch, round.elapsed());
            let round = Instant::now();
            for _ in 0..8 {
                plain.calls.time(|| {
                    plain_file.write_all(&bytes).expect("room");
                    plain_file.sync_data().expect("a disk");
                });
            }
            plain.note(8 * batch, round.elapsed());
        }
        let ratio = own.ratio_to(&plain);
        report.push(
            own.row(&format!("log, {batch} at a time, each durable")).measured("ratio_to_plain", ratio),
        );
        report.push(plain.row(&format!("plain file, {batch} at a time, fdatasync each")));
    }
}

/// Many who wait, one fsync for all that wait.
fn grouping(report: &mut Report, part: Duration, runtime: &tokio::runtime::Runtime) {
    progress::say("group commit");
    let place = tempfile::tempdir().expect("a directory");
    let log = open(&place.path().join("log"), |_| {});
    let handle = log.sync_handle();
    let log = Arc::new(Mutex::new(log));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..WAITERS)
        .map(|_| {
            let (log, handle) = (Arc::clone(&log), handle.clone());
            runtime.spawn(async move {
                let (mut calls, mut syncs, mut entries) = (Samples::default(), BTreeSet::new(), 0usize);
                while entries == 0 || begun.elapsed() < part {
                    let call = Instant::now();
                    let appended = log.lock().expect("the log").append_batch(&[admission(1)]).expect("room");
                    handle.synced(appended.leaves.end).await.expect("a disk");
                    calls.push(call.elapsed());
                    syncs.insert(handle.progress().synced);
                    entries += 1;
                }
                (calls, syncs, entries)
            })
        })
        .collect();
    let (mut track, mut syncs, mut entries) = (Track::default(), BTreeSet::new(), 0);
    for task in tasks {
        let (calls, seen, count) = runtime.block_on(task).expect("a writer");
        track.calls.extend(&calls);
        syncs.extend(seen);
        entries += count;
    }
    track.note(entries, begun.elapsed());
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let group = entries as f64 / syncs.len().max(1) as f64;
    report.push(
        track
            .row(&format!("log, {WAITERS} writers, each waits until durable"))
            .measured("entries_per_fsync", group),
    );
}

/// From the write to a signed checkpoint that covers it.
fn including(report: &mut Report, part: Duration, runtime: &tokio::runtime::Runtime) {
    progress::say("time to inclusion");
    let place = tempfile::tempdir().expect("a directory");
    let mut log = open(&place.path().join("log"), |_| {});
    let handle = log.sync_handle();
    let (mut itself, mut asked) = (Samples::default(), Samples::default());
    let begun = Instant::now();
    while itself.len() == 0 || begun.elapsed() < part {
        itself.time(|| {
            let upto = log.append_batch(&[admission(1)]).expect("room").leaves.end;
            // Looked at, not waited for: who waits has it sealed sooner, and that is measured below.
            while handle.progress().sealed < upto {
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        asked.time(|| {
            let upto = log.append_batch(&[admission(1)]).expect("room").leaves.end;
            runtime.block_on(handle.sealed(upto)).expect("a disk");
        });
    }
    for (what, samples) in [("inclusion, by itself", itself), ("inclusion, asked for", asked)] {
        report.push(Row::new(what).measured("p50_us", samples.p50_us()).measured("p99_us", samples.p99_us()));
    }
}

/// How long a write that nobody confirms takes while the disk is made to work all the time, and while it rests.
fn behind_the_disk(report: &mut Report, part: Duration, runtime: &tokio::runtime::Runtime) {
    progress::say("unconfirmed writes behind fsync");
    let records: Vec<_> = (0..BATCH as u64).map(admission).collect();
    for (what, busy) in [("write of 256 while no fsync runs", false), ("write of 256 while fsync runs", true)]
    {
        let place = tempfile::tempdir().expect("a directory");
        let mut log = open(&place.path().join("log"), |options| {
            options.sync_interval = if busy { Duration::ZERO } else { Duration::from_secs(3_600) };
            options.checkpoint_interval = Duration::from_secs(3_600);
        });
        let handle = log.sync_handle();
        let mut samples = Samples::default();
        let begun = Instant::now();
        while samples.len() == 0 || begun.elapsed() < part / 2 {
            let appended = samples.time(|| log.append_batch(&records).expect("room"));
            if busy {
                handle.request(appended.leaves.end);
            }
            // 2,500 batches a second at most, as a busy guard has them
            std::thread::sleep(Duration::from_micros(400));
        }
        drop(runtime.block_on(handle.synced(handle.progress().written)));
        report.push(
            Row::new(what)
                .measured("p50_us", samples.p50_us())
                .measured("p99_us", samples.p99_us())
                .measured("max_us", samples.percentile_us(100.0)),
        );
    }
}

/// Verification of a whole log, proofs and their size.
fn checking(report: &mut Report, part: Duration) {
    progress::say("verification and proofs");
    let place = tempfile::tempdir().expect("a directory");
    let key = NoteKey::new(NAME, *signer().public().as_bytes()).expect("a key");
    let mut log = open(place.path(), |_| {});
    let batches = usize::try_from(part.as_millis() / 4).unwrap_or(usize::MAX).clamp(8, 800);
    for batch in 0..batches {
        let from = (batch * BATCH) as u64;
        log.append_batch(&(from..from + BATCH as u64).map(admission).collect::<Vec<_>>()).expect("room");
    }
    log.close().expect("a closed log");
    let mut track = Track::default();
    let mut size = 0;
    let begun = Instant::now();
    while track.rates.is_empty() || begun.elapsed() < part / 2 {
        let round = Instant::now();
        let verified = track.calls.time(|| verify(place.path(), &key, &VerifyOptions::default()));
        size = verified.expect("a good log").checkpoint.size;
        track.note(usize::try_from(size).unwrap_or(0), round.elapsed());
    }
    report.push(track.row("verification of a whole log").with("entries", size));
    let (mut inclusion, mut consistency, mut bytes) = (Samples::default(), Samples::default(), (0, 0));
    for n in 0..50 {
        let leaf = (n * 7_919) % size;
        let proof = inclusion.time(|| prove_inclusion(place.path(), &key, leaf).expect("a proof"));
        bytes.0 = bytes.0.max(proof.to_text().len());
        let proof = consistency.time(|| prove_consistency(place.path(), &key, leaf.max(1)).expect("a proof"));
        bytes.1 = bytes.1.max(proof.to_text().len());
    }
    for (what, samples, bytes) in
        [("inclusion proof, made", inclusion, bytes.0), ("consistency proof, made", consistency, bytes.1)]
    {
        report.push(
            Row::new(what)
                .measured("p50_us", samples.p50_us())
                .measured("p99_us", samples.p99_us())
                .with("entries", size)
                .with("proof_bytes", bytes),
        );
    }
}

//! Searching and verifying while the guard writes; waiting for the disk.

use super::*;
use crate::audit::store::{AppendError, Status, SyncError};
use crate::audit::verify::{VerifyOptions, verify};

#[test]
fn readers_see_a_whole_log_at_every_moment() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options();
    options.checkpoint_interval = Duration::from_millis(1);
    let mut log = open(directory.path(), options).unwrap();
    seal(&log);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut rounds, mut last) = (0, 0);
            while !done.load(std::sync::atomic::Ordering::Relaxed) || rounds < 3 {
                let report = verify(directory.path(), &key(), &VerifyOptions::default()).unwrap();
                assert!(report.checkpoint.size >= last);
                last = report.checkpoint.size;
                let leaves: Vec<u64> = everything(directory.path()).iter().map(|found| found.leaf).collect();
                assert!(leaves.len() as u64 >= last);
                assert!(leaves.iter().copied().eq(0..leaves.len() as u64));
                rounds += 1;
            }
        });
        for i in 0..400 {
            log.append_batch(&(0..1 + i % 29).map(admission).collect::<Vec<_>>()).unwrap();
        }
        seal(&log);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn a_confirmed_entry_waits_for_the_disk_and_others_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options();
    options.sync_interval = Duration::from_secs(3600);
    let mut log = open(directory.path(), options).unwrap();
    let handle = log.sync_handle();
    let first = log.append_batch(&[admission(0)]).unwrap();
    block_on(handle.synced(first.leaves.end)).unwrap();
    let second = log.append_batch(&[admission(1)]).unwrap();
    assert_eq!(handle.progress().written, second.leaves.end);
    assert!(handle.progress().synced < second.leaves.end, "nobody asked");
    block_on(handle.synced(second.leaves.end)).unwrap();
    assert_eq!(handle.progress().synced, second.leaves.end);
    log.close().unwrap();
    assert_eq!(block_on(handle.synced(second.leaves.end + 99)), Err(SyncError::Closed));
    assert!(handle.progress().sealed > second.leaves.end, "closing seals");
}

#[test]
fn after_a_failed_fsync_nothing_is_confirmed_or_appended() {
    // no file system here fails an fsync on request, so the fault is put where the fsync thread puts it
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path(), options()).unwrap();
    log.fail_sync_for_test("input/output error");
    let waited = block_on(log.sync_handle().synced(u64::MAX));
    assert!(matches!(waited, Err(SyncError::Failed(_))));
    assert!(matches!(log.append_batch(&[order()]), Err(AppendError::Failed(_))));
    assert!(matches!(log.try_recover(), Err(AppendError::Failed(_))));
    assert_eq!(log.status(), Status::Failed);
    drop(log);
    open(directory.path(), options()).unwrap();
}

#[test]
fn a_filter_finds_by_each_of_its_fields() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path(), options()).unwrap();
    log.append_batch(&(0..600).map(admission).collect::<Vec<_>>()).unwrap();
    seal(&log);
    log.append_batch(&[denial(3), order()]).unwrap();
    let count = |filter: Filter| search(directory.path(), filter).unwrap().map(Result::unwrap).count();
    let prefix = Some(5u64.to_be_bytes().to_vec());
    assert_eq!(count(Filter { digest_prefix: prefix, ..Filter::default() }), 1);
    assert_eq!(count(Filter { reason: Some("no_rule".to_owned()), ..Filter::default() }), 1);
    assert_eq!(count(Filter { agent: Some("crawler".to_owned()), ..Filter::default() }), 601);
    assert_eq!(count(Filter { agent: Some("crawler-abcdefghij".to_owned()), ..Filter::default() }), 601);
    assert_eq!(count(Filter { kind: Some("order".to_owned()), ..Filter::default() }), 1);
    assert_eq!(count(Filter { envelope: Some(Hex([9; 16])), ..Filter::default() }), 600);
    let (since, until) = (Some(Millis(1_000_010)), Some(Millis(1_000_020)));
    assert_eq!(count(Filter { since, until, ..Filter::default() }), 10);
    assert_eq!(count(Filter { from_leaf: 601, ..Filter::default() }), 2);
}

//! A full disk: admissions stop, orders go on, and it passes.

use std::process::Command;

use super::*;
use crate::audit::entry::GapCause;
use crate::audit::store::{AppendError, Status};
use crate::audit::verify::{VerifyOptions, verify};

const DIRECTORY: &str = "SEALBUS_TEST_AUDIT_DIRECTORY";

/// Runs a test of this file as a child, behind `wrapper` (a shell script that gets the command as `"$@"`).
fn as_child(wrapper: &[&str], test: &str, directory: &Path) -> bool {
    let (program, arguments) = wrapper.split_first().unwrap();
    let status = Command::new(program)
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("audit::tests::space::{test}"), "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .status();
    status.unwrap().success()
}

fn fill(log: &mut AuditLog) {
    for i in 0..100_000 {
        match log.append_batch(&[admission(i), admission(i)]) {
            Ok(_) => {}
            Err(AppendError::Full) => return,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the disk never filled");
}

#[test]
#[ignore = "run by a test below as its child, on a file system of three megabytes"]
fn on_a_small_disk() {
    let disk = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let directory = disk.join("audit");
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![1; 1_500_000]).unwrap();
    let mut options = options();
    options.reserve_bytes = 256 * 1024;
    let mut log = open(&directory, options.clone()).unwrap();
    fill(&mut log);
    assert_eq!(log.status(), Status::Full);
    assert!(matches!(log.append_batch(&[admission(0)]), Err(AppendError::Full)), "nothing is admitted");
    for _ in 0..200 {
        log.append_batch(&[order()]).unwrap();
    }
    assert!(matches!(log.try_recover(), Err(AppendError::Full)), "there is no room yet");
    log.append_batch(&[order()]).unwrap();
    fs::remove_file(&ballast).unwrap();
    log.try_recover().unwrap();
    assert_eq!(log.status(), Status::Open);
    log.append_batch(&[admission(1)]).unwrap();
    log.close().unwrap();
    let report = verify(&directory, &key(), &VerifyOptions::default()).unwrap();
    assert_eq!(report.kinds.get("order"), Some(&201));
    assert!(!report.gaps.is_empty() && report.gaps.iter().all(|gap| gap.cause == GapCause::WriteFailed));

    // full from the start: the guard does not start, and does so once there is room
    let mut block = vec![2; 1_000_000];
    for number in 0.. {
        if fs::write(disk.join(format!("ballast-{number}")), &block).is_err() {
            block.truncate(block.len() / 2);
        }
        if block.len() < 4096 {
            break;
        }
    }
    options.reserve_bytes = 1024 * 1024;
    assert!(matches!(open(&directory, options), Err(OpenError::Full)));
}

#[test]
fn a_full_disk_stops_admissions_and_not_orders() {
    let disk = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@""#;
    let possible =
        Command::new("unshare").args(["-Urm", "true"]).status().is_ok_and(|status| status.success());
    if !possible {
        // the file size limit below shows the same with fewer steps
        eprintln!("skipped: this system lets no user mount a small file system of its own");
        return;
    }
    let path = disk.path().to_str().unwrap();
    assert!(as_child(&["unshare", "-Urm", "sh", "-c", script, path], "on_a_small_disk", disk.path()));
}

#[test]
#[ignore = "run by a test below as its child, under a file size limit"]
fn under_a_file_size_limit() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let mut options = options();
    options.segment_bytes = u64::MAX;
    let mut log = open(&directory, options).unwrap();
    fill(&mut log);
    assert_eq!(log.status(), Status::Full);
    log.append_batch(&[order()]).unwrap();
    log.try_recover().unwrap();
    log.append_batch(&[admission(1)]).unwrap();
    fill(&mut log);
    log.append_batch(&[order()]).unwrap();
    log.try_recover().unwrap();
    log.close().unwrap();
    let report = verify(&directory, &key(), &VerifyOptions::default()).unwrap();
    assert_eq!(report.gaps.len(), 2);
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    // 256 blocks of 512 bytes or of 1 KiB, by the shell; without the trap the signal would end the writer
    let script = r#"trap "" XFSZ; ulimit -f 256; exec "$0" "$@""#;
    assert!(as_child(&["sh", "-c", script], "under_a_file_size_limit", directory.path()));
}

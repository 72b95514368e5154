//! The file: rotated, mended, killed, full.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use super::*;
use crate::events::{
    ocsf::Severity,
    queue::Record,
    sink::jsonl::{Jsonl, older},
};

const PATH: &str = "SEALBUS_TEST_EVENTS_FILE";

fn record(n: u64) -> Arc<Record> {
    let event = Event::new(Kind::Denied, NOON).detail("x".repeat(300));
    let json = serde_json::to_vec(&ocsf::write(&event, &source(), n)).unwrap().into();
    Arc::new(Record { uid: n.to_string(), kind: Kind::Denied, severity: Severity::Low, time: NOON, json })
}

/// The numbers of the events in a file, each line of which must be whole.
fn numbers(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line in {}", path.display());
    let number = |line: &str| serde_json::from_str::<Value>(line).unwrap()["metadata"]["sequence"].as_u64();
    text.lines().map(|line| number(line).unwrap()).collect()
}

#[test]
fn a_file_is_its_owners_rotated_and_never_grows_past_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/events.jsonl");
    let size = record(1).json.len() as u64 + 1;
    let mut file = Jsonl::new(path.clone(), 3 * size + 2, 2);
    for n in 1..=11 {
        file.append(&[record(n)]).unwrap();
    }
    assert_eq!(numbers(&path), [10, 11]);
    assert_eq!(numbers(&older(&path, 1)), [7, 8, 9]);
    assert_eq!(numbers(&older(&path, 2)), [4, 5, 6]);
    assert!(!older(&path, 3).exists());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    // Somebody else moves it away: the next event is in a new file.
    fs::rename(&path, dir.path().join("moved")).unwrap();
    file.append(&[record(12)]).unwrap();
    assert_eq!((numbers(&path), numbers(&dir.path().join("moved"))), (vec![12], vec![10, 11]));
}

#[test]
fn half_a_line_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let half = record(3).json.len() / 2;
    for (left, whole) in [(half, vec![1, 2]), (0, vec![1, 2])] {
        let mut text = Vec::new();
        for n in 1..=2 {
            text.extend_from_slice(&record(n).json);
            text.push(b'\n');
        }
        text.extend_from_slice(record(3).json.get(..left).unwrap());
        fs::write(&path, text).unwrap();
        Jsonl::new(path.clone(), 1 << 20, 1).append(&[record(4)]).unwrap();
        assert_eq!(numbers(&path), [whole, vec![4]].concat());
    }
    // Nothing but half a line, longer than one look at the end.
    fs::write(&path, vec![b'x'; 200_000]).unwrap();
    Jsonl::new(path.clone(), 1 << 20, 1).append(&[record(5)]).unwrap();
    assert_eq!(numbers(&path), [5]);
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The writer, when this test binary runs itself: writes until it is killed or may write no more.
#[test]
#[ignore = "run by the tests below as their child"]
fn writer() {
    let path = PathBuf::from(std::env::var_os(PATH).unwrap());
    let first = if path.exists() { numbers_of_whole_lines(&path).last().map_or(1, |n| n + 1) } else { 1 };
    let mut file = Jsonl::new(path, 1 << 30, 1);
    for n in (first..).step_by(3) {
        match file.append(&[record(n), record(n + 1), record(n + 2)]) {
            Ok(()) => println!("wrote {}", n + 2),
            Err(error) => return println!("failed {error}"),
        }
    }
}

fn numbers_of_whole_lines(path: &Path) -> Vec<u64> {
    let lines = fs::read_to_string(path).unwrap();
    let number = |line: &str| serde_json::from_str::<Value>(line).ok()?["metadata"]["sequence"].as_u64();
    lines.lines().filter_map(number).collect()
}

#[test]
fn what_was_written_before_a_kill_is_there_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let mut told = 0;
    for round in 0..12 {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "events::tests::file::writer", "--ignored", "--nocapture"])
            .env(PATH, &path)
            .stdout(Stdio::piped())
            .spawn();
        let mut child = Killed(child.unwrap());
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut seen = 0;
        for line in lines {
            let Some(n) = line.strip_prefix("wrote ") else { continue };
            told = n.parse().unwrap();
            seen += 1;
            if seen == 1 + round % 5 {
                drop(child.0.kill());
            }
        }
        assert!(seen > 0);
        let there = numbers_of_whole_lines(&path);
        assert_eq!(
            there.iter().copied().take_while(|n| *n <= told).count() as u64,
            told,
            "something is gone"
        );
    }
    Jsonl::new(path.clone(), 1 << 30, 1).append(&[record(0)]).unwrap();
    let there: BTreeSet<u64> = numbers(&path).into_iter().collect();
    assert!((1..=told).all(|n| there.contains(&n)));
}

/// A disk that is full in the middle of a line: the shell limits how large a file may get, and ignores the signal
/// that would come with it.
#[test]
fn a_full_disk_leaves_whole_lines_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 20; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "events::tests::file::writer", "--ignored", "--nocapture"])
        .env(PATH, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = said.lines().find(|line| line.starts_with("failed ")).unwrap();
    assert!(failed.contains("events.jsonl"), "{failed}");
    let wrote =
        said.lines().filter_map(|line| line.strip_prefix("wrote ")?.parse::<u64>().ok()).next_back().unwrap();
    // There is room again.
    Jsonl::new(path.clone(), 1 << 30, 1).append(&[record(0)]).unwrap();
    let there = numbers(&path);
    assert!((1..=wrote).all(|n| there.contains(&n)), "{wrote}: {there:?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_gets_what_it_missed_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("blocked");
    fs::File::create(&blocked).unwrap().write_all(b"no directory").unwrap();
    let path = blocked.join("events.jsonl");
    let courier = Courier::Jsonl(Jsonl::new(path.clone(), 1 << 20, 1));
    let (herald, metrics) = herald(vec![("jsonl", Filter::default(), Bound::default(), courier)]);
    for _ in 0..5 {
        herald.report(&Event::new(Kind::Denied, NOON));
    }
    while !metrics.render().contains("sealbus_sink_up{sink=\"jsonl\"} 0") {
        tokio::task::yield_now().await;
    }
    fs::remove_file(&blocked).unwrap();
    herald.stop(Duration::from_secs(30)).await;
    assert_eq!(numbers(&path), [1, 2, 3, 4, 5]);
    let text = metrics.render();
    assert!(text.contains("sealbus_sink_delivered_total{sink=\"jsonl\"} 5"), "{text}");
}

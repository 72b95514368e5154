//! `kill -9` in the middle of writing, many times over.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::audit::entry::Position;
use crate::audit::verify::{VerifyOptions, verify};

/// How often the writer is killed.
const ROUNDS: u64 = 30;
const DIRECTORY: &str = "SEALBUS_TEST_AUDIT_DIRECTORY";

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The writer, when this test binary runs itself: logs until it is killed, and says what it has logged.
#[test]
#[ignore = "run by the test below as its child"]
fn writer() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let mut log = open(&directory, options()).unwrap();
    for i in 0.. {
        let appended = log.append_batch(&(0..1 + i % 13).map(admission).collect::<Vec<_>>()).unwrap();
        for n in appended.positions {
            println!("logged {} {n}", appended.epoch);
        }
    }
}

#[test]
fn what_was_logged_before_the_kill_is_there_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut told = BTreeSet::new();
    for round in 0..ROUNDS {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "audit::tests::kill::writer", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = Killed(child.unwrap());
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let logged = lines.map_while(Result::ok).filter(|line| line.starts_with("logged "));
        // a different number each round; the writer runs on while the signal is on its way
        let patience = usize::try_from(1 + round * round * 7 % 400).unwrap();
        let mut count = 0;
        for line in logged {
            let mut numbers = line.split(' ').skip(1).map(|number| number.parse::<u64>().unwrap());
            let position = Position { epoch: numbers.next().unwrap(), n: numbers.next().unwrap() };
            assert!(told.insert(position), "{position} was given twice");
            count += 1;
            if count == patience {
                child.0.kill().unwrap();
            }
        }
        assert!(count >= patience, "the writer stopped by itself in round {round}");
        drop(child);
    }
    drop(open(directory.path(), options()).unwrap());
    let report = verify(directory.path(), &key(), &VerifyOptions::default()).unwrap();
    assert_eq!(report.epochs.len() as u64, ROUNDS + 1);
    let found: BTreeSet<Position> =
        everything(directory.path()).iter().map(|found| found.entry.position).collect();
    assert_eq!(told.difference(&found).next(), None, "logged before the kill and gone after it");
}

//! `kill -9` in the middle of writing, sealing and recovering, many times over.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::*;
use crate::audit::entry::Position;
use crate::audit::verify::{VerifyOptions, verify};

/// How often the writer is killed.
const ROUNDS: u64 = 220;
const DIRECTORY: &str = "SEALBUS_TEST_AUDIT_DIRECTORY";

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Small segments and a checkpoint whenever there is something to sign: a kill hits sealing and the turning over
/// of segments as often as writing.
fn busy() -> Options {
    let mut options = options();
    options.checkpoint_interval = Duration::ZERO;
    options.reserve_bytes = 4096;
    options
}

/// The writer, when this test binary runs itself: logs until it is killed, and says what it has logged.
#[test]
#[ignore = "run by the test below as its child"]
fn writer() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let mut log = open(&directory, busy()).unwrap();
    println!("opened {}", log.epoch());
    let confirmed = log.sync_handle();
    for i in 0.. {
        let appended = log.append_batch(&(0..1 + i % 13).map(admission).collect::<Vec<_>>()).unwrap();
        if i % 5 == 0 {
            block_on(confirmed.synced(appended.leaves.end)).unwrap();
        }
        for n in appended.positions {
            println!("logged {} {n}", appended.epoch);
        }
    }
}

/// The same numbers in every run, spread over a range.
fn spread(round: u64, over: u64) -> u64 {
    round.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_right(29) % over
}

#[test]
fn what_was_logged_before_the_kill_is_there_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut told = BTreeSet::new();
    let (mut opened, mut early) = (0, 0);
    for round in 0..ROUNDS {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "audit::tests::kill::writer", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = Killed(child.unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        // every third is killed while it starts and recovers, the others after so many entries
        let patience = if round % 3 == 2 {
            let until = Instant::now() + Duration::from_micros(spread(round, 40_000));
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            drop(child.0.kill());
            0
        } else {
            spread(round, 150)
        };
        let (mut count, mut started) = (0, false);
        for line in &mut lines {
            started |= line.starts_with("opened ");
            let Some(line) = line.strip_prefix("logged ") else { continue };
            let mut numbers = line.split(' ').map(|number| number.parse::<u64>().unwrap());
            let position = Position { epoch: numbers.next().unwrap(), n: numbers.next().unwrap() };
            assert!(told.insert(position), "{position} was given twice");
            count += 1;
            if count > patience {
                // it runs on while the signal is on its way, and so do the lines
                drop(child.0.kill());
            }
        }
        assert!(count > patience || patience == 0, "the writer stopped by itself in round {round}");
        opened += u64::from(started);
        early += u64::from(!started);
    }
    assert!(early >= 10 && opened >= 100, "{early} killed before they had recovered, {opened} after");
    drop(open(directory.path(), busy()).unwrap());
    let report = verify(directory.path(), &key(), &VerifyOptions::default()).unwrap();
    assert!(report.epochs.len() as u64 > opened, "every start that was told of is in the log");
    let found: BTreeSet<Position> =
        everything(directory.path()).iter().map(|found| found.entry.position).collect();
    assert_eq!(told.difference(&found).next(), None, "logged before the kill and gone after it");
}

//! The two threads behind the writer: one makes segments durable, one seals what is durable.
//!
//! They are apart so that a slow checkpoint never delays a confirmed verdict.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::files::sync_directory;
use super::seal::Sealer;
use super::shared::{Shared, State};

/// How long sealing rests after it failed.
const SEAL_RETRY: Duration = Duration::from_secs(1);

/// Starts the fsync thread: group commit, at once if somebody waits, else every `interval`.
pub(crate) fn spawn_sync(
    shared: Arc<Shared>,
    wal: PathBuf,
    interval: Duration,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("audit-sync".to_owned()).spawn(move || {
        let mut state = shared.lock();
        let mut last = Instant::now().checked_sub(interval).unwrap_or_else(Instant::now);
        loop {
            let behind = state.progress.written > state.progress.synced;
            if state.progress.fault.is_some() || (state.closing && !behind) {
                break;
            }
            let due = interval.saturating_sub(last.elapsed());
            let asked = state.requested > state.progress.synced || state.closing;
            if !behind {
                state.sync_idle = true;
                state = shared.to_sync.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.sync_idle = false;
            } else if !asked && !due.is_zero() {
                state = shared.to_sync.wait_timeout(state, due).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                let (target, files) = (state.progress.written, state.files.clone());
                drop(state);
                let outcome = make_durable(&files, &wal);
                last = Instant::now();
                state = shared.lock();
                settle(&mut state, target, files.len(), outcome);
                shared.announce(&state);
                shared.to_seal.notify_one();
            }
        }
        state.sync_ended = true;
        shared.announce(&state);
        shared.to_seal.notify_one();
    })
}

fn make_durable(files: &[Arc<File>], wal: &std::path::Path) -> io::Result<()> {
    files.iter().try_for_each(|file| file.sync_data())?;
    // more than one file means that one is new, and its name must be as durable as its bytes
    if files.len() > 1 { sync_directory(wal) } else { Ok(()) }
}

fn settle(state: &mut State, target: u64, files: usize, outcome: io::Result<()>) {
    match outcome {
        Ok(()) => {
            state.progress.synced = target;
            // the newest file stays: it is still written to
            state.files.drain(..files.saturating_sub(1));
        }
        // The kernel reports a failed write-back once and forgets the pages: after a failed fsync a later one
        // that succeeds proves nothing. So this is final.
        Err(error) => state.progress.fault = Some(error.to_string()),
    }
}

/// Starts the sealing thread: tiles and a checkpoint for what is durable, at most one each `interval`.
pub(crate) fn spawn_seal(
    shared: Arc<Shared>,
    mut sealer: Sealer,
    interval: Duration,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("audit-seal".to_owned()).spawn(move || {
        let mut next = Instant::now();
        let mut last_try = false;
        let mut state = shared.lock();
        loop {
            let (synced, sealed) = (state.progress.synced, state.progress.sealed);
            let behind = synced > sealed;
            let ending = state.sync_ended;
            if ending && (!behind || last_try) {
                break;
            }
            let rest = next.saturating_duration_since(Instant::now());
            let asked = ending || (state.seal_requested > sealed && state.progress.seal_fault.is_none());
            if !behind || (state.seal_paused && !ending) {
                state = shared.to_seal.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else if !asked && !rest.is_zero() {
                state = shared.to_seal.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
            } else {
                last_try = ending;
                drop(state);
                let outcome = sealer.read_upto(synced).and_then(|()| sealer.checkpoint());
                next = Instant::now() + if outcome.is_ok() { interval } else { SEAL_RETRY };
                state = shared.lock();
                match outcome {
                    Ok((size, root)) => {
                        state.progress.sealed = size;
                        state.progress.root = root;
                        state.progress.seal_fault = None;
                    }
                    Err(error) => {
                        tracing::error!(%error, "the audit log could not be sealed; its entries are safe");
                        state.progress.seal_fault = Some(error.to_string());
                    }
                }
                shared.announce(&state);
            }
        }
        state.progress.closed = true;
        shared.announce(&state);
    })
}

//! The log as the guard writes it: [`AuditLog`].
//!
//! ```
//! use sealbus_envelope::time::Millis;
//! use sealbus_guard::audit::entry::{Body, Denied, Record};
//! use sealbus_guard::audit::store::{AuditLog, Options};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let guard = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
//! let mut log = AuditLog::open(directory.path(), Options::new("sealbus/demo/guard-1"), Box::new(guard))?;
//! let denied = Denied { reason: "no_rule".into(), count: 1, ..Denied::default() };
//! let appended = log.append_batch(&[Record { time: Millis(1_000), body: Body::Denied(denied) }])?;
//! assert_eq!((appended.epoch, appended.positions), (1, 1..2), "position 0 is the start of the log");
//! let synced = log.sync_handle();
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! synced.synced(appended.leaves.end).await?; // only now may a confirmed verdict go out
//! # Ok::<(), sealbus_guard::audit::shared::SyncError>(())
//! # })?;
//! log.close()?;
//! # Ok(())
//! # }
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sealbus_envelope::time::Millis;

use crate::clock::now;

use super::entry::{
    Body, Gap, GapCause, Position, Record, Start,
    coding::{self, EntryError},
};
use super::files::{Layout, is_full, make_reserve, release_reserve, sync_directory};
use super::frame::{self, HEADER, PAYLOAD_MAX, PREAMBLE};
use super::lock::Lock;
use super::note::{CheckpointSigner, NoteKey};
pub use super::recover::OpenError;
use super::recover::{Recovered, recover};
pub use super::shared::{Progress, SyncError, SyncHandle};
use super::shared::{Shared, State};
use super::tree::Hash;
use super::workers::{spawn_seal, spawn_sync};

/// How a log is kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The log's name in its checkpoints: `sealbus/<bus name>/<guard>`.
    pub name: String,
    /// The version of the program, for [`Body::Start`].
    pub program: String,
    /// The lowest start epoch to use: one more than any the caller remembers from elsewhere, so that a log
    /// restored from a backup does not give a position twice. The log's own memory counts anyhow.
    pub min_epoch: u64,
    /// A signed state of this log that the caller remembers from elsewhere: the log must have it, or it was set
    /// back or replaced, and is not opened.
    pub remembered: Option<(u64, Hash)>,
    /// Bytes set aside for orders on a full disk.
    pub reserve_bytes: u64,
    /// Bytes after which a new write-ahead segment begins.
    pub segment_bytes: u64,
    /// How long entries nobody waits for may stay without fsync.
    pub sync_interval: Duration,
    /// The least time between two checkpoints.
    pub checkpoint_interval: Duration,
    /// How many entries may wait for a checkpoint before appending is refused.
    pub unsealed_max: u64,
}

impl Options {
    /// The defaults, for a log of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            min_epoch: 1,
            remembered: None,
            reserve_bytes: 4 * 1024 * 1024,
            segment_bytes: 64 * 1024 * 1024,
            sync_interval: Duration::from_millis(20),
            checkpoint_interval: Duration::from_millis(100),
            unsealed_max: 4_000_000,
        }
    }
}

/// Why entries were not logged. What is not logged must not be forwarded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// No room. Orders, quarantine and policy changes still go in; call [`AuditLog::try_recover`] at times.
    #[error("the disk of the audit log is full: make room, the guard admits nothing meanwhile")]
    Full,
    /// The disk failed. The log must be opened anew.
    #[error("the audit log failed: {0}; check the disk and restart the guard")]
    Failed(String),
    /// Sealing is too far behind. Passes by itself, unless [`Progress::seal_fault`] says otherwise.
    #[error("{0} audit entries wait to be sealed: the disk is too slow or sealing fails")]
    Behind(u64),
    /// One entry is longer than 65,535 bytes. None of the batch was logged.
    #[error("an audit entry of {0} bytes is too long: at most 65535 fit")]
    EntryTooLong(usize),
    /// The batch is longer than 32 MiB. None of it was logged.
    #[error("an audit batch is too long: append it in parts")]
    BatchTooLong,
    /// An entry cannot be encoded. None of the batch was logged.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// Whether the log can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Yes.
    Open,
    /// Only from the reserve: the disk is full.
    Full,
    /// No: it must be opened anew.
    Failed,
}

/// Where a batch stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The start epoch of the positions.
    pub epoch: u64,
    /// The positions within the epoch, in the order of the batch.
    pub positions: Range<u64>,
    /// The leaf numbers; the end is what [`SyncHandle::synced`] wants.
    pub leaves: Range<u64>,
}

/// The guard's log, open for writing. One writer; readers need no lock.
#[derive(Debug)]
pub struct AuditLog {
    layout: Layout,
    options: Options,
    /// Held, not read: the operating system releases it with the process.
    _lock: Lock,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    epoch: u64,
    next_n: u64,
    next_leaf: u64,
    segment: Segment,
    status: Status,
    fault: String,
    /// Positions that were given out and not written.
    lost: Option<Range<u64>>,
    frame: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    first_leaf: u64,
    /// Bytes up to the end of the last whole frame.
    length: u64,
}

impl AuditLog {
    /// Opens the log in `directory`, or makes a new one; recovers it if its last writer crashed.
    ///
    /// When this returns, the entry that opens the new epoch is durable. Blocking.
    ///
    /// # Errors
    /// [`OpenError`]; the guard must not start then.
    pub fn open(
        directory: &Path,
        options: Options,
        signer: Box<dyn CheckpointSigner>,
    ) -> Result<Self, OpenError> {
        let key = NoteKey::new(&options.name, signer.public_key())?;
        let layout = Layout::new(directory);
        layout.create()?;
        let lock = Lock::take(&layout)?;
        for left_over in fs::read_dir(layout.temporary())? {
            fs::remove_file(left_over?.path())?;
        }
        let found = recover(&layout, &key, signer, options.remembered)?;
        make_reserve(&layout, options.reserve_bytes).map_err(full_or_io)?;

        let segment = start_segment(&layout, found.size).map_err(full_or_io)?;
        let mut state = State::default();
        state.progress.sealed = found.sealed;
        state.progress.root = found.root;
        state.files.push(Arc::clone(&segment.file));
        let after = found.last.map_or(1, |last| last.epoch.saturating_add(1));
        let mut log = Self {
            epoch: after.max(options.min_epoch),
            layout,
            options,
            _lock: lock,
            shared: Shared::new(state),
            threads: Vec::new(),
            next_n: 0,
            next_leaf: found.size,
            segment,
            status: Status::Open,
            fault: String::new(),
            lost: None,
            frame: Vec::new(),
        };
        let first = log.first_records(&found);
        log.write(&first).map_err(|error| match error {
            AppendError::Full => OpenError::Full,
            other => OpenError::Io(io::Error::other(other.to_string())),
        })?;
        log.segment.file.sync_all()?;
        sync_directory(&log.layout.wal())?;
        sync_directory(log.layout.root())?;
        log.shared.lock().progress.synced = log.next_leaf;
        log.start_threads(found)?;
        Ok(log)
    }

    fn first_records(&self, found: &Recovered) -> Vec<Record<'static>> {
        let time = now();
        let program = self.options.program.clone().into();
        let start = Start { previous: found.last, clean: found.clean, program };
        let mut records = vec![Record { time, body: Body::Start(start) }];
        if !found.clean {
            let (epoch, from) = found.last.map_or((0, 0), |last| (last.epoch, last.n.saturating_add(1)));
            let to = found.torn.and_then(|torn| torn.last).filter(|to| to.epoch == epoch).map(|to| to.n);
            let torn_bytes = found.torn.map_or(0, |torn| torn.bytes);
            let gap = Gap { epoch, from, to, torn_bytes, cause: GapCause::Crash };
            records.push(Record { time, body: Body::Gap(gap) });
        }
        records
    }

    fn start_threads(&mut self, found: Recovered) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        self.threads.push(spawn_sync(shared, self.layout.wal(), self.options.sync_interval)?);
        let shared = Arc::clone(&self.shared);
        self.threads.push(spawn_seal(shared, found.sealer, self.options.checkpoint_interval)?);
        Ok(())
    }

    /// Logs a batch: all of it or nothing. When this returns the entries survive the death of the process.
    ///
    /// Positions are those returned; a caller does not guess them before.
    ///
    /// # Errors
    /// [`AppendError`]; then nothing of the batch may be forwarded.
    pub fn append_batch(&mut self, records: &[Record<'_>]) -> Result<Appended, AppendError> {
        let vital = records.iter().all(|record| record.body.may_use_reserve());
        self.check_state(vital)?;
        match self.write(records) {
            // an order that finds the disk full goes into the room that this very failure has released
            // (in a new segment, in case it is the file that may grow no more)
            Err(AppendError::Full) if vital => match self.rotate() {
                Ok(()) => self.write(records),
                Err(error) => Err(self.refuse(&error)),
            },
            outcome => outcome,
        }
    }

    fn check_state(&mut self, vital: bool) -> Result<(), AppendError> {
        let (sealed, fault) = {
            let state = self.shared.lock();
            (state.progress.sealed, state.progress.fault.clone())
        };
        if let Some(fault) = fault {
            self.fail(fault);
        }
        match self.status {
            Status::Failed => return Err(AppendError::Failed(self.fault.clone())),
            Status::Full if !vital => return Err(AppendError::Full),
            Status::Full | Status::Open => {}
        }
        let waiting = self.next_leaf.saturating_sub(sealed);
        if waiting > self.options.unsealed_max && !vital {
            return Err(AppendError::Behind(waiting));
        }
        Ok(())
    }

    /// Encodes the records, behind the gap entry if positions were lost, as one frame and writes it.
    fn write(&mut self, records: &[Record<'_>]) -> Result<Appended, AppendError> {
        self.frame.clear();
        self.frame.resize(HEADER, 0);
        let first = Position { epoch: self.epoch, n: self.next_n };
        let mut at = first;
        let gap = self.lost.as_ref().map(|lost| Gap {
            epoch: self.epoch,
            from: lost.start,
            to: Some(lost.end.saturating_sub(1)),
            torn_bytes: 0,
            cause: GapCause::WriteFailed,
        });
        if let Some(gap) = gap {
            let time = records.first().map_or_else(now, |record| record.time);
            encode(&mut self.frame, time, at, &Body::Gap(gap))?;
            at.n = at.n.saturating_add(1);
        }
        let own = at.n;
        for record in records {
            encode(&mut self.frame, record.time, at, &record.body)?;
            at.n = at.n.saturating_add(1);
        }
        let count = at.n.saturating_sub(first.n);
        let leaf = self.next_leaf.saturating_add(own.saturating_sub(first.n));
        let appended = Appended {
            epoch: self.epoch,
            positions: own..at.n,
            leaves: leaf..self.next_leaf.saturating_add(count),
        };
        if count == 0 {
            return Ok(appended);
        }
        let length = self.frame.len().saturating_sub(HEADER);
        let count = u32::try_from(count).ok().filter(|_| length <= PAYLOAD_MAX);
        let count = count.ok_or(AppendError::BatchTooLong)?;
        frame::finish(&mut self.frame, count, self.next_leaf, first);
        // from here on the positions are spent, whether the disk takes them or not
        self.next_n = at.n;
        if let Err(error) = self.write_frame() {
            let from = self.lost.take().map_or(first.n, |lost| lost.start);
            self.lost = Some(from..at.n);
            return Err(self.refuse(&error));
        }
        self.lost = None;
        self.next_leaf = appended.leaves.end;
        let mut state = self.shared.lock();
        state.progress.written = self.next_leaf;
        if state.sync_idle {
            self.shared.to_sync.notify_one();
        }
        Ok(appended)
    }

    fn write_frame(&mut self) -> io::Result<()> {
        if self.segment.length >= self.options.segment_bytes {
            self.rotate()?;
        }
        (&*self.segment.file).write_all(&self.frame)?;
        self.segment.length = self.segment.length.saturating_add(self.frame.len() as u64);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.segment.first_leaf == self.next_leaf {
            return Ok(());
        }
        self.segment = start_segment(&self.layout, self.next_leaf)?;
        self.shared.lock().files.push(Arc::clone(&self.segment.file));
        Ok(())
    }

    /// After a failed write: removes the part of the frame that may be there, and says how it stands.
    fn refuse(&mut self, error: &io::Error) -> AppendError {
        if let Err(cut) = self.segment.file.set_len(self.segment.length) {
            self.fail(format!("{error}; and the unfinished write could not be removed: {cut}"));
        } else if is_full(error) {
            if self.status == Status::Open {
                tracing::error!("the disk of the audit log is full: nothing is admitted until there is room");
            }
            self.status = Status::Full;
            self.shared.lock().seal_paused = true;
            release_reserve(&self.layout);
            return AppendError::Full;
        } else {
            self.fail(error.to_string());
        }
        AppendError::Failed(self.fault.clone())
    }

    fn fail(&mut self, fault: String) {
        if self.status != Status::Failed {
            tracing::error!(%fault, "the audit log failed: nothing is admitted");
            self.status = Status::Failed;
            self.fault = fault;
        }
    }

    /// After [`AppendError::Full`]: sets the reserve aside again and writes the gap; then appending goes on.
    ///
    /// Blocking (it writes [`Options::reserve_bytes`]); call it every few seconds while full.
    ///
    /// # Errors
    /// [`AppendError::Full`] if there is still too little room, [`AppendError::Failed`].
    pub fn try_recover(&mut self) -> Result<(), AppendError> {
        self.check_state(true)?;
        if self.status == Status::Open {
            return Ok(());
        }
        // Room must be there for the reserve and for going on besides. A new segment, because the old one may
        // be as long as this file system lets a file be.
        let outcome = make_reserve(&self.layout, self.options.reserve_bytes).and_then(|()| self.rotate());
        if let Err(error) = outcome {
            return Err(self.refuse(&error));
        }
        self.write(&[])?;
        self.status = Status::Open;
        tracing::info!("the disk of the audit log has room again");
        self.shared.lock().seal_paused = false;
        self.shared.to_seal.notify_one();
        Ok(())
    }

    /// Whether the log can be written.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// The start epoch of this opening.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// For waiting until entries are durable.
    #[must_use]
    pub fn sync_handle(&self) -> SyncHandle {
        SyncHandle::new(Arc::clone(&self.shared))
    }

    /// Closes the log in order: last entry, fsync, checkpoint. Blocking.
    ///
    /// # Errors
    /// [`AppendError`] if that could not be done; the next start then finds a crash.
    pub fn close(mut self) -> Result<(), AppendError> {
        let stopped = self.append_batch(&[Record { time: now(), body: Body::Stop }]);
        self.end_threads();
        stopped?;
        match &self.shared.lock().progress {
            Progress { fault: Some(fault), .. } | Progress { seal_fault: Some(fault), .. } => {
                Err(AppendError::Failed(fault.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Puts a failed fsync where the fsync thread would.
    #[cfg(test)]
    pub(crate) fn fail_sync_for_test(&self, fault: &str) {
        let mut state = self.shared.lock();
        state.progress.fault = Some(fault.to_owned());
        self.shared.announce(&state);
    }

    fn end_threads(&mut self) {
        self.shared.lock().closing = true;
        self.shared.to_sync.notify_one();
        for thread in self.threads.drain(..) {
            // a panic in the thread has been reported by its own hook
            drop(thread.join());
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.end_threads();
    }
}

fn encode(frame: &mut Vec<u8>, time: Millis, at: Position, body: &Body<'_>) -> Result<(), AppendError> {
    let start = frame.len();
    frame.extend_from_slice(&[0, 0]);
    coding::encode_into(frame, time, at, body)?;
    let length = frame.len().saturating_sub(start).saturating_sub(2);
    let prefix = u16::try_from(length).map_err(|_| AppendError::EntryTooLong(length))?;
    if let Some(place) = frame.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
        *place = prefix.to_be_bytes();
    }
    Ok(())
}

fn start_segment(layout: &Layout, first_leaf: u64) -> io::Result<Segment> {
    let file = OpenOptions::new().append(true).create(true).open(layout.segment(first_leaf))?;
    // an attempt that found no room, or was killed, may have left a piece
    file.set_len(0)?;
    (&file).write_all(&frame::preamble(first_leaf))?;
    Ok(Segment { file: Arc::new(file), first_leaf, length: PREAMBLE as u64 })
}

fn full_or_io(error: io::Error) -> OpenError {
    if is_full(&error) { OpenError::Full } else { OpenError::Io(error) }
}

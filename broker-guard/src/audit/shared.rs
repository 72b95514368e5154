//! What the writer, the fsync thread, the sealing thread and those who wait for them share.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::tree::Hash;

/// Why waiting for the disk ended without the disk having answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// An fsync failed. What was not confirmed before may be lost: the log must be opened anew.
    #[error("the audit log could not be made durable: {0}; check the disk and restart the guard")]
    Failed(String),
    /// The log was closed first.
    #[error("the audit log was closed")]
    Closed,
}

/// How far the log is, in leaves, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Entries written: they survive the guard's death.
    pub written: u64,
    /// Entries made durable: they survive a power failure.
    pub synced: u64,
    /// Entries under a signed checkpoint.
    pub sealed: u64,
    /// The root over those entries, as the checkpoint states it.
    pub root: Hash,
    /// Why the last attempt to seal failed; sealing is tried again, nothing is lost meanwhile.
    pub seal_fault: Option<String>,
    /// Why the log can be written no more.
    pub fault: Option<String>,
    /// Whether the log was closed.
    pub closed: bool,
}

impl Progress {
    /// How a wait for `upto` entries ends; `None` if it goes on.
    fn outcome(&self, done: fn(&Self) -> u64, upto: u64) -> Option<Result<(), SyncError>> {
        if done(self) >= upto {
            return Some(Ok(()));
        }
        match &self.fault {
            Some(fault) => Some(Err(SyncError::Failed(fault.clone()))),
            None if self.closed => Some(Err(SyncError::Closed)),
            None => None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) progress: Progress,
    /// Somebody waits for this much to be durable.
    pub(crate) requested: u64,
    /// Somebody waits for this much to be sealed.
    pub(crate) seal_requested: u64,
    /// No more will be written.
    pub(crate) closing: bool,
    /// The fsync thread has ended.
    pub(crate) sync_ended: bool,
    /// The fsync thread sleeps until woken. Otherwise the writer saves the wake-up.
    pub(crate) sync_idle: bool,
    /// The disk is full: what the reserve gave back is for orders, not for tiles.
    pub(crate) seal_paused: bool,
    /// Segments with bytes that are perhaps not durable, oldest first; the last is being written.
    pub(crate) files: Vec<Arc<File>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Wakes the fsync thread.
    pub(crate) to_sync: Condvar,
    /// Wakes the sealing thread.
    pub(crate) to_seal: Condvar,
    announced: watch::Sender<Progress>,
}

impl Shared {
    pub(crate) fn new(state: State) -> Arc<Self> {
        let announced = watch::Sender::new(state.progress.clone());
        Arc::new(Self {
            state: Mutex::new(state),
            to_sync: Condvar::new(),
            to_seal: Condvar::new(),
            announced,
        })
    }

    /// The state. A panic elsewhere cannot leave it half changed, so a poisoned lock is still good.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait.
    pub(crate) fn announce(&self, state: &State) {
        self.announced.send_replace(state.progress.clone());
    }
}

/// Asks for durability and waits for it, away from the hot path. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SyncHandle {
    shared: Arc<Shared>,
}

impl SyncHandle {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// How far the log is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.lock().progress.clone()
    }

    /// Asks for the next group commit at once instead of within [`Options::sync_interval`]; returns at once.
    ///
    /// `upto` is the end of [`Appended::leaves`].
    ///
    /// [`Options::sync_interval`]: super::store::Options::sync_interval
    /// [`Appended::leaves`]: super::store::Appended::leaves
    pub fn request(&self, upto: u64) {
        let mut state = self.shared.lock();
        if state.requested < upto {
            state.requested = upto;
            self.shared.to_sync.notify_one();
        }
    }

    /// Waits until the first `upto` entries survive a power failure, asking for it.
    ///
    /// # Errors
    /// [`SyncError`]: then no confirmation may be given.
    pub async fn synced(&self, upto: u64) -> Result<(), SyncError> {
        self.request(upto);
        self.wait(upto, |progress| progress.synced).await
    }

    /// Waits until a signed checkpoint covers the first `upto` entries, asking for it.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn sealed(&self, upto: u64) -> Result<(), SyncError> {
        {
            let mut state = self.shared.lock();
            state.seal_requested = state.seal_requested.max(upto);
            self.shared.to_seal.notify_one();
        }
        self.request(upto);
        self.wait(upto, |progress| progress.sealed).await
    }

    /// Waits until the log is closed, by whatever ended it.
    pub async fn closed(&self) {
        let mut announced = self.shared.announced.subscribe();
        // An error says that nobody can announce anything any more.
        let _ = announced.wait_for(|progress| progress.closed).await;
    }

    async fn wait(&self, upto: u64, done: fn(&Progress) -> u64) -> Result<(), SyncError> {
        let mut announced = self.shared.announced.subscribe();
        loop {
            if let Some(outcome) = announced.borrow_and_update().outcome(done, upto) {
                return outcome;
            }
            announced.changed().await.map_err(|_| SyncError::Closed)?;
        }
    }
}

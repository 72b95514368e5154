//! What keeps a second writer out of a log's directory.

use std::fs::{File, TryLockError};

use super::{files::Layout, recover::OpenError};

/// The directory is this process's until this is dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    pub(super) fn take(layout: &Layout) -> Result<Self, OpenError> {
        let file = File::create(layout.lock())?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

impl Drop for Lock {
    /// Closing the file is not enough: a process that another thread is just starting holds a copy of it until
    /// it runs its program, and the log could not be opened again meanwhile.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn a_copy_in_a_process_being_started_holds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        layout.create().unwrap();
        let lock = Lock::take(&layout).unwrap();
        assert!(matches!(Lock::take(&layout), Err(OpenError::Locked)));
        let copy = lock.0.try_clone().unwrap();
        drop(lock);
        Lock::take(&layout).unwrap();
        drop(copy);
    }
}

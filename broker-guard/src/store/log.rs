//! How far the audit log was signed: who puts back an older copy of it, or starts it anew, is found out even if
//! everything in it fits together.

use serde::{Deserialize, Serialize};

use super::{LOG, Store, StoreError};

const SIGNED: &str = "signed";
const LOST: &str = "lost";

/// A signed state of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedLog {
    /// How many entries it had.
    pub size: u64,
    /// The root over them.
    pub root: [u8; 32],
}

impl Store {
    /// Remembers that the log was signed at this size. A smaller one than is remembered changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remember_log(&self, signed: &SignedLog) -> Result<(), StoreError> {
        let known = self.signed_log()?;
        if known.is_some_and(|known| known.size >= signed.size) {
            return Ok(());
        }
        let bytes = self.encode(signed)?;
        self.write(|tx| {
            tx.open_table(LOG)?.insert(SIGNED, bytes.as_slice())?;
            Ok(())
        })
    }

    /// The longest signed state that is remembered: the log must have it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn signed_log(&self) -> Result<Option<SignedLog>, StoreError> {
        self.log_state(SIGNED)
    }

    /// Accepts that what is remembered is lost: the next start takes the log as it is, and binds what is lost
    /// into it. `None` if nothing is remembered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn accept_log_loss(&self) -> Result<Option<SignedLog>, StoreError> {
        let Some(lost) = self.signed_log()? else { return Ok(None) };
        let bytes = self.encode(&lost)?;
        self.write(|tx| {
            let mut table = tx.open_table(LOG)?;
            table.insert(LOST, bytes.as_slice())?;
            table.remove(SIGNED)?;
            Ok(())
        })?;
        Ok(Some(lost))
    }

    /// A loss that was accepted and that the log does not tell of yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn lost_log(&self) -> Result<Option<SignedLog>, StoreError> {
        self.log_state(LOST)
    }

    /// The log tells of the loss now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn log_loss_told(&self) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.open_table(LOG)?.remove(LOST)?;
            Ok(())
        })
    }

    fn log_state(&self, key: &str) -> Result<Option<SignedLog>, StoreError> {
        let bytes = self.read(|tx| Ok(tx.open_table(LOG)?.get(key)?.map(|bytes| bytes.value().to_vec())))?;
        bytes.map(|bytes| self.decode(&bytes)).transpose()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_longest_signed_log_is_remembered_until_its_loss_is_accepted_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("guard.redb")).unwrap();
        let at = |size| SignedLog { size, root: [7; 32] };
        assert_eq!((store.signed_log().unwrap(), store.accept_log_loss().unwrap()), (None, None));
        store.remember_log(&at(9)).unwrap();
        store.remember_log(&at(3)).unwrap();
        assert_eq!(store.signed_log().unwrap(), Some(at(9)));
        assert_eq!(store.accept_log_loss().unwrap(), Some(at(9)));
        assert_eq!((store.signed_log().unwrap(), store.lost_log().unwrap()), (None, Some(at(9))));
        store.log_loss_told().unwrap();
        assert_eq!(store.lost_log().unwrap(), None);
    }
}

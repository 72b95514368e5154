//! What the guard must remember across restarts, in one file on its own disk: how often it started, who is in
//! quarantine, what agents were given to read, the highest policy and status versions it has seen, and which
//! connection is whose.
//!
//! It lives here and not on the broker, which is among the hostile (a server that could roll back a quarantine
//! would). Each call is one transaction: what it says is done is on disk when it returns, and a guard that is
//! killed in the middle finds the state before or after, never between. Calls block on the disk; asynchronous
//! code runs them on a blocking thread.
//!
//! ```
//! use sealbus_guard::store::{Mark, Store};
//! let dir = tempfile::tempdir()?;
//! let store = Store::open(&dir.path().join("guard.redb"))?;
//! assert_eq!(store.next_epoch()?, 1);
//! store.raise(Mark::Policy, 7)?;
//! assert!(store.raise(Mark::Policy, 6).is_err(), "an old policy is noticed");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod baselines;
mod error;
pub mod evidence;
mod floors;
mod holds;
mod log;
mod orders;
#[cfg(test)]
mod tests;
mod workflows;

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use sealbus_envelope::{
    identity::{PublicKey, SessionId},
    name::AgentToken,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use error::StoreError;
pub use log::SignedLog;

use crate::{
    bus::auth::zone::Place,
    quarantine::state::{Known, Record},
};

/// The schema that this program writes.
pub const SCHEMA: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const QUARANTINE: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("quarantine");
const CONNECTIONS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("connections");

const ANOMALY: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("anomaly");
const FLOORS: TableDefinition<'_, (&[u8], &str), &[u8]> = TableDefinition::new("floors");
const CLEARED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("cleared");
const LOG: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("log");
const ORDERS: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("orders");

const HELD: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("held");

const SCHEMA_KEY: &str = "schema";
const EPOCH_KEY: &str = "epoch";

/// A version that only ever rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// The policy bundle's.
    Policy,
    /// The status statement's.
    Status,
    /// The highest policy version that was in the policy bucket, and good.
    Published,
}

impl Mark {
    const fn key(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Status => "status",
            Self::Published => "published",
        }
    }
}

/// A connection that the guard let in: the servers themselves do not tell whose a connection is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredConnection {
    /// The server, by the id that it draws at each start.
    pub server: String,
    /// The server's number for the connection.
    pub client: u64,
    /// Whose it is.
    pub agent: AgentToken,
    /// The identity key's bytes.
    pub identity: [u8; 32],
    /// Its session.
    pub session: SessionId,
    /// The credential it showed.
    pub credential: String,
    /// The session certificate it showed.
    #[serde(with = "serde_bytes")]
    pub certificate: Vec<u8>,
    /// SHA-256 of the permissions it was given.
    pub permissions: [u8; 32],
    /// Where it is.
    pub place: Place,
}

/// The store. One process has it open at a time.
#[derive(Debug)]
pub struct Store {
    /// `None` after a fault from which it could not be opened again yet.
    db: RwLock<Option<Database>>,
    path: PathBuf,
}

impl Store {
    /// Opens the store, or begins one, readable by this user alone.
    ///
    /// # Errors
    /// [`StoreError`]: in use, damaged, of a newer schema, readable by others, no room.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self { db: RwLock::new(Some(open_database(path)?)), path: path.to_owned() };
        let found = store.write(|tx| {
            tx.open_table(QUARANTINE)?;
            tx.open_table(CONNECTIONS)?;
            tx.open_table(ANOMALY)?;
            tx.open_table(FLOORS)?;
            tx.open_table(CLEARED)?;
            tx.open_table(ORDERS)?;
            tx.open_table(LOG)?;
            tx.open_table(HELD)?;
            tx.open_table(workflows::WORKFLOWS)?;
            Self::make_evidence(tx)?;
            let mut meta = tx.open_table(META)?;
            let found = meta.get(SCHEMA_KEY)?.map(|schema| schema.value());
            if found.is_none() {
                meta.insert(SCHEMA_KEY, SCHEMA)?;
            }
            Ok(found)
        })?;
        match found {
            Some(found) if found > SCHEMA => {
                Err(StoreError::Newer { path: store.path, found, known: SCHEMA })
            }
            _ => Ok(store),
        }
    }

    /// Counts one more start of the guard, durably, and returns its number, from 1. Positions in the audit log
    /// begin with it: two starts never share one.
    ///
    /// # Errors
    /// [`StoreError`]; the guard must then not start.
    pub fn next_epoch(&self) -> Result<u64, StoreError> {
        let next = self.write(|tx| {
            let mut meta = tx.open_table(META)?;
            let last = meta.get(EPOCH_KEY)?.map_or(0, |epoch| epoch.value());
            let next = last.checked_add(1);
            if let Some(next) = next {
                meta.insert(EPOCH_KEY, next)?;
            }
            Ok(next)
        })?;
        next.ok_or_else(|| StoreError::corrupt(&self.path, "the start epoch is at its end"))
    }

    /// The highest version of `mark` that was in force, 0 if none was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn highest(&self, mark: Mark) -> Result<u64, StoreError> {
        self.read(|tx| Ok(tx.open_table(META)?.get(mark.key())?.map_or(0, |version| version.value())))
    }

    /// Remembers that `version` is in force.
    ///
    /// # Errors
    /// [`StoreError::RolledBack`] if a higher one was; any other [`StoreError`].
    pub fn raise(&self, mark: Mark, version: u64) -> Result<(), StoreError> {
        let seen = self.write(|tx| {
            let mut meta = tx.open_table(META)?;
            let seen = meta.get(mark.key())?.map_or(0, |version| version.value());
            if version > seen {
                meta.insert(mark.key(), version)?;
            }
            Ok(seen)
        })?;
        if version < seen {
            return Err(StoreError::RolledBack { what: mark.key(), offered: version, seen });
        }
        Ok(())
    }

    /// Writes an agent's quarantine record.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_quarantine(&self, identity: &PublicKey, record: &Record) -> Result<(), StoreError> {
        let bytes = self.encode(record)?;
        self.write(|tx| {
            tx.open_table(QUARANTINE)?.insert(identity.as_bytes(), bytes.as_slice())?;
            Ok(())
        })
    }

    /// Every agent that was ever in quarantine.
    ///
    /// # Errors
    /// [`StoreError`], also if a single record cannot be read: leaving it out would set its agent free.
    pub fn quarantine(&self) -> Result<Vec<Known>, StoreError> {
        let rows = self.read(|tx| {
            let table = tx.open_table(QUARANTINE)?;
            let rows =
                table.iter()?.map(|row| row.map(|(key, value)| (*key.value(), value.value().to_vec())));
            rows.collect::<Result<Vec<_>, _>>().map_err(Into::into)
        })?;
        let known = rows.into_iter().map(|(identity, bytes)| {
            let identity = PublicKey::from_bytes(&identity)
                .map_err(|refused| StoreError::corrupt(&self.path, refused.to_string()))?;
            Ok(Known { identity, record: self.decode(&bytes)? })
        });
        known.collect()
    }

    /// Applies what happened to connections since the last call: in one transaction, `gone` after `came`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn update_connections(
        &self,
        came: &[StoredConnection],
        gone: &[(String, u64)],
    ) -> Result<(), StoreError> {
        let came: Vec<_> =
            came.iter().map(|c| Ok((c, self.encode(c)?))).collect::<Result<_, StoreError>>()?;
        self.write(|tx| {
            let mut table = tx.open_table(CONNECTIONS)?;
            for (connection, bytes) in &came {
                table.insert((connection.server.as_str(), connection.client), bytes.as_slice())?;
            }
            for (server, client) in gone {
                table.remove((server.as_str(), *client))?;
            }
            Ok(())
        })
    }

    /// Every connection remembered. Which of them still live, only the servers know.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn connections(&self) -> Result<Vec<StoredConnection>, StoreError> {
        let rows = self.read(|tx| {
            let table = tx.open_table(CONNECTIONS)?;
            let rows = table.iter()?.map(|row| row.map(|(_, value)| value.value().to_vec()));
            rows.collect::<Result<Vec<_>, _>>().map_err(Into::into)
        })?;
        rows.iter().map(|bytes| self.decode(bytes)).collect()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write<T>(&self, act: impl Fn(&redb::WriteTransaction) -> Result<T, Failed>) -> Result<T, StoreError> {
        self.with(|db| {
            let tx = db.begin_write().map_err(|e| Failed(e.into()))?;
            let result = act(&tx)?;
            tx.commit().map_err(|e| Failed(e.into()))?;
            Ok(result)
        })
    }

    fn read<T>(&self, act: impl Fn(&redb::ReadTransaction) -> Result<T, Failed>) -> Result<T, StoreError> {
        self.with(|db| act(&db.begin_read().map_err(|e| Failed(e.into()))?))
    }

    /// Runs a transaction. After one fault of the disk redb refuses all that follows, even when the disk has
    /// room again; so the file is then opened anew, which finds the state before the transaction that failed.
    fn with<T>(&self, act: impl Fn(&Database) -> Result<T, Failed>) -> Result<T, StoreError> {
        {
            let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
            match db.as_ref().map(&act) {
                Some(Ok(result)) => return Ok(result),
                Some(Err(Failed(error @ (redb::Error::Io(_) | redb::Error::PreviousIo)))) => {
                    tracing::error!(%error, "the guard's store failed and is opened anew");
                }
                Some(Err(Failed(error))) => return Err(StoreError::redb(&self.path, error)),
                None => {}
            }
        }
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        // Closed first, or it would be in use.
        *db = None;
        let opened = db.insert(open_database(&self.path)?);
        act(opened).map_err(|Failed(error)| StoreError::redb(&self.path, error))
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, StoreError> {
        rmp_serde::to_vec(value).map_err(|error| StoreError::corrupt(&self.path, error.to_string()))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, StoreError> {
        rmp_serde::from_slice(bytes).map_err(|error| StoreError::corrupt(&self.path, error.to_string()))
    }
}

/// Any of redb's errors on the way to a [`StoreError`].
struct Failed(redb::Error);

impl From<TableError> for Failed {
    fn from(error: TableError) -> Self {
        Self(error.into())
    }
}

impl From<redb::StorageError> for Failed {
    fn from(error: redb::StorageError) -> Self {
        Self(error.into())
    }
}

fn open_database(path: &Path) -> Result<Database, StoreError> {
    let file = open_private(path)?;
    let backend = redb::backends::FileBackend::new(file).map_err(|e| StoreError::redb(path, e))?;
    Database::builder().create_with_backend(backend).map_err(|e| StoreError::redb(path, e))
}

/// Opens or creates the file for this user alone. It holds no key, but it tells who is watched.
fn open_private(path: &Path) -> Result<fs::File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|error| StoreError::io(path, &error))?;
    #[cfg(unix)]
    {
        let metadata = file.metadata().map_err(|error| StoreError::io(path, &error))?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Exposed { path: path.to_owned(), mode });
        }
    }
    Ok(file)
}

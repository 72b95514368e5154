//! How an entry is written: the bytes that are logged and hashed, and the JSON that people search.
//!
//! An entry is one MessagePack array `[version, time, epoch, n, body]` (positional: the hot path writes one
//! per admitted envelope, at a few hundred bytes and well under a microsecond). The same types serialise to
//! JSON with hexadecimal digests, which is how the command shows and searches them.
//!
//! ```
//! use sealbus_envelope::time::Millis;
//! use sealbus_guard::audit::entry::{Body, Entry, Order, Position};
//! let body = Body::Order(Order {
//!     order: "release".into(),
//!     digest: [7; 32].into(),
//!     target: "reader-1".into(),
//!     signers: vec!["UALICE".into()],
//!     accepted: true,
//!     reason: None,
//!     id: None,
//!     why: Some("the finding was a false alarm".into()),
//! });
//! let entry = Entry { time: Millis(1_700_000_000_000), position: Position { epoch: 4, n: 12 }, body };
//! let bytes = entry.encode()?;
//! assert_eq!(Entry::decode(&bytes)?, entry);
//! assert!(entry.to_json()?.contains(r#""epoch":4,"n":12"#));
//! # Ok::<(), sealbus_guard::audit::entry::coding::EntryError>(())
//! ```

use std::io::Cursor;

use sealbus_envelope::time::Millis;
use serde::{Deserialize, Serialize};

use super::{Body, Entry, Position};

/// The version of the entry coding, first in every entry.
pub const VERSION: u8 = 1;

/// Why an entry was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The bytes are not an entry.
    #[error("not an audit entry: {0}")]
    Form(String),
    /// Something follows the entry.
    #[error("an audit entry is followed by {0} stray bytes")]
    Trailing(usize),
    /// A later version of Sealbus wrote this.
    #[error("the audit entry has version {0}, newer than this program reads: update sealbus")]
    Version(u8),
    /// The entry cannot be coded; with these types only an out-of-memory reaches this.
    #[error("the audit entry cannot be encoded: {0}")]
    Encode(String),
}

/// The array on disk.
#[derive(Serialize)]
struct Wire<'e, 'a>(u8, Millis, u64, u64, &'e Body<'a>);

/// The object in JSON.
#[derive(Serialize)]
struct Json<'e, 'a> {
    time: Millis,
    epoch: u64,
    n: u64,
    #[serde(flatten)]
    body: BodyJson<'e, 'a>,
}

/// `{"admitted": {…}}`, also for the kind without fields.
#[derive(Serialize)]
#[serde(untagged)]
enum BodyJson<'e, 'a> {
    Fields(&'e Body<'a>),
    Bare { stop: Empty },
}

#[derive(Serialize)]
struct Empty {}

/// Writes one entry behind `out`, without allocating for the record.
pub(crate) fn encode_into(
    out: &mut Vec<u8>,
    time: Millis,
    position: Position,
    body: &Body<'_>,
) -> Result<(), EntryError> {
    let wire = Wire(VERSION, time, position.epoch, position.n, body);
    rmp_serde::encode::write(out, &wire).map_err(|error| EntryError::Encode(error.to_string()))
}

impl Entry<'_> {
    /// The bytes that are logged and hashed.
    ///
    /// # Errors
    /// [`EntryError::Encode`].
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        let mut out = Vec::with_capacity(512);
        encode_into(&mut out, self.time, self.position, &self.body)?;
        Ok(out)
    }

    /// One line of JSON: `{"time":…,"epoch":…,"n":…,"admitted":{…}}`.
    ///
    /// # Errors
    /// [`EntryError::Encode`].
    pub fn to_json(&self) -> Result<String, EntryError> {
        let body = match &self.body {
            Body::Stop => BodyJson::Bare { stop: Empty {} },
            body => BodyJson::Fields(body),
        };
        let Position { epoch, n } = self.position;
        serde_json::to_string(&Json { time: self.time, epoch, n, body })
            .map_err(|error| EntryError::Encode(error.to_string()))
    }
}

impl Entry<'static> {
    /// Reads one entry.
    ///
    /// # Errors
    /// [`EntryError::Form`], [`EntryError::Trailing`] or [`EntryError::Version`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        // the version is read first, so that a newer form is named as such rather than as nonsense
        match bytes {
            [0x95, version @ 0..=0x7f, ..] if *version > VERSION => {
                return Err(EntryError::Version(*version));
            }
            _ => {}
        }
        let mut reader = rmp_serde::Deserializer::new(Cursor::new(bytes));
        let (version, time, epoch, n, body): (u8, Millis, u64, u64, Body<'static>) =
            Deserialize::deserialize(&mut reader).map_err(|error| EntryError::Form(error.to_string()))?;
        if version != VERSION {
            return Err(EntryError::Version(version));
        }
        let read = usize::try_from(reader.get_ref().position()).unwrap_or(usize::MAX);
        match bytes.len().saturating_sub(read) {
            0 => Ok(Self { time, position: Position { epoch, n }, body }),
            stray => Err(EntryError::Trailing(stray)),
        }
    }
}

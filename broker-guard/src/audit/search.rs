//! Finding entries, in a closed log or in one that is being written.
//!
//! A search believes what it reads: run [`verify`](super::verify) first where that matters.
//!
//! ```
//! use sealbus_envelope::time::Millis;
//! use sealbus_guard::audit::entry::{Body, Denied, Record};
//! use sealbus_guard::audit::search::{Filter, search};
//! use sealbus_guard::audit::store::{AuditLog, Options};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let guard = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
//! let mut log = AuditLog::open(directory.path(), Options::new("sealbus/demo/guard-1"), Box::new(guard))?;
//! for reason in ["no_rule", "stale_key"] {
//!     let denied = Denied { reason: reason.into(), count: 1, ..Denied::default() };
//!     log.append_batch(&[Record { time: Millis(1_000), body: Body::Denied(denied) }])?;
//! }
//! let filter = Filter { reason: Some("stale_key".to_owned()), ..Filter::default() };
//! let found: Result<Vec<_>, _> = search(directory.path(), filter)?.collect();
//! assert_eq!(found?.len(), 1, "what is not sealed yet is found too");
//! # Ok(())
//! # }
//! ```

use std::path::Path;

use sealbus_envelope::time::Millis;

use super::entry::{Body, Entry, Hex, Position, Text};
pub use super::read::ReadError;
use super::read::{RawEntries, sealed_range};

/// What to look for. Conditions that are set must all hold; a kind of entry that does not know a field that
/// is asked for does not match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The envelope's id.
    pub envelope: Option<Hex<16>>,
    /// The first bytes of a digest: of the envelope, of one of its parents, of an order, of evidence.
    pub digest_prefix: Option<Vec<u8>>,
    /// An agent: the whole token, or its name without the short id. Senders, readers, connections, sessions,
    /// quarantine.
    pub agent: Option<String>,
    /// The stable reason code.
    pub reason: Option<String>,
    /// The kind, as [`Body::kind`] names it.
    pub kind: Option<String>,
    /// The earliest time, inclusive.
    pub since: Option<Millis>,
    /// The latest time, exclusive.
    pub until: Option<Millis>,
    /// The first leaf to look at.
    pub from_leaf: u64,
}

/// An entry that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its leaf number: what an inclusion proof is asked for by.
    pub leaf: u64,
    /// The entry.
    pub entry: Entry<'static>,
}

/// Searches the log in `directory`, oldest entry first, one bundle in memory at a time.
///
/// # Errors
/// [`ReadError`], here or from the iterator; after an error it ends.
pub fn search(directory: &Path, filter: Filter) -> Result<Search, ReadError> {
    let entries = RawEntries::open(directory, filter.from_leaf)?;
    Ok(Search { entries, filter, failed: false })
}

/// The entry at a position, such as a proof of admission states: found by halving, since positions only rise.
/// `None` if the log has none there.
///
/// # Errors
/// [`ReadError`].
pub fn locate(directory: &Path, position: Position) -> Result<Option<Found>, ReadError> {
    let at = |leaf| -> Result<Option<Found>, ReadError> {
        let mut entries = RawEntries::open(directory, leaf)?;
        let Some((leaf, bytes)) = entries.step()? else { return Ok(None) };
        let entry = Entry::decode(bytes).map_err(|error| ReadError::Entry { leaf, error })?;
        Ok(Some(Found { leaf, entry }))
    };
    // sealed entries can be reached one by one; those behind are few
    let (mut low, mut high) = sealed_range(directory)?;
    while low < high {
        let middle = low.midpoint(high);
        match at(middle)? {
            Some(found) if found.entry.position == position => return Ok(Some(found)),
            Some(found) if found.entry.position < position => low = middle.saturating_add(1),
            _ => high = middle,
        }
    }
    for found in search(directory, Filter { from_leaf: low, ..Filter::default() })? {
        let found = found?;
        if found.entry.position >= position {
            return Ok(Some(found).filter(|found| found.entry.position == position));
        }
    }
    Ok(None)
}

/// See [`search`].
#[derive(Debug)]
pub struct Search {
    entries: RawEntries,
    filter: Filter,
    failed: bool,
}

impl Search {
    fn step(&mut self) -> Result<Option<Found>, ReadError> {
        while let Some((leaf, bytes)) = self.entries.step()? {
            let entry = Entry::decode(bytes).map_err(|error| ReadError::Entry { leaf, error })?;
            if self.filter.matches(&entry) {
                return Ok(Some(Found { leaf, entry }));
            }
        }
        Ok(None)
    }
}

impl Iterator for Search {
    type Item = Result<Found, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

impl Filter {
    /// Whether an entry is what is looked for.
    #[must_use]
    pub fn matches(&self, entry: &Entry<'_>) -> bool {
        let body = &entry.body;
        self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time < until)
            && self.kind.as_deref().is_none_or(|kind| body.kind() == kind)
            && self.reason.as_deref().is_none_or(|reason| reason_of(body) == Some(reason))
            && self.envelope.is_none_or(|envelope| envelope_of(body) == Some(envelope))
            && self.agent.as_deref().is_none_or(|agent| agents_of(body).any(|token| names(token, agent)))
            && self
                .digest_prefix
                .as_deref()
                .is_none_or(|prefix| digests_of(body).any(|digest| digest.0.starts_with(prefix)))
    }
}

/// Whether `token` (`name-shortid`) is or is of `agent`.
fn names(token: &str, agent: &str) -> bool {
    token == agent || token.rsplit_once('-').is_some_and(|(name, _)| name == agent)
}

fn reason_of<'b>(body: &'b Body<'_>) -> Option<&'b str> {
    match body {
        Body::Admitted(admitted) => admitted.observed.as_deref(),
        Body::Denied(denied) => Some(&denied.reason),
        Body::Order(order) => order.reason.as_deref(),
        Body::Connection(connection) => connection.reason.as_deref(),
        Body::Quarantine(quarantine) => Some(&quarantine.reason),
        Body::Workflow(workflow) => workflow.reason.as_deref(),
        _ => None,
    }
}

fn envelope_of(body: &Body<'_>) -> Option<Hex<16>> {
    match body {
        Body::Admitted(admitted) => Some(admitted.envelope),
        Body::Denied(denied) => denied.envelope,
        _ => None,
    }
}

fn agents_of<'b>(body: &'b Body<'_>) -> impl Iterator<Item = &'b str> {
    let (first, second): (Option<&Text<'_>>, Option<&Text<'_>>) = match body {
        Body::Admitted(admitted) => (Some(&admitted.sender), None),
        Body::Denied(denied) => (denied.sender.as_ref(), None),
        Body::Order(order) => (Some(&order.target), None),
        Body::Connection(connection) => (connection.agent.as_ref(), None),
        Body::Session(session) => (Some(&session.agent), None),
        Body::KeyGranted(granted) => (Some(&granted.sender), Some(&granted.reader)),
        Body::Quarantine(quarantine) => (Some(&quarantine.agent), None),
        Body::Workflow(workflow) => (workflow.agent.as_ref(), Some(&workflow.workflow)),
        _ => (None, None),
    };
    first.into_iter().chain(second).map(AsRef::as_ref)
}

fn digests_of<'b>(body: &'b Body<'_>) -> impl Iterator<Item = &'b Hex<32>> {
    let (one, many): (Option<&Hex<32>>, &[Hex<32>]) = match body {
        Body::Admitted(admitted) => (Some(&admitted.digest), &admitted.parents),
        Body::Denied(denied) => (denied.digest.as_ref(), &[]),
        Body::Order(order) => (Some(&order.digest), &[]),
        Body::PolicyChange(change) => (Some(&change.digest), &[]),
        Body::Quarantine(quarantine) => (None, &quarantine.evidence),
        Body::Workflow(workflow) => (workflow.evidence.as_ref(), &[]),
        _ => (None, &[]),
    };
    one.into_iter().chain(many)
}

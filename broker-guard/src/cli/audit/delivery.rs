//! A delivery that a reader saved: the sealed envelope and the guard's proof of admission.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sealbus_envelope::{
    hash::Hash,
    identity::{BusId, PublicKey},
    proof::admission::Admission,
    wire::Decoded,
};

use super::super::failure::{Exit, Failure};
use crate::audit::{
    entry::{Body, Position},
    note::NoteKey,
    search::Found,
};

/// What the file names of a saved delivery end with.
pub(crate) const ENVELOPE: &str = "envelope";
pub(crate) const ADMISSION: &str = "admission";

/// An envelope that the guard verifiably said it admitted.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) digest: Hash,
    pub(crate) admission: Admission,
}

/// The digest of the envelope in a file.
pub(crate) fn digest_of(path: &Path) -> Result<(BusId, Hash), Failure> {
    let bytes = fs::read(path).map_err(|source| Failure::io("read", path, source))?;
    let decoded = Decoded::decode(&bytes).map_err(|refused| {
        let message = format!("`{}` is not a sealed envelope: {refused}", path.display());
        let remedy = "give the bytes of the delivery as they came; `sealbus sub --save DIR` keeps them";
        Failure::told(Exit::Failure, "bad_envelope", message, remedy)
    })?;
    Ok((decoded.claimed().bus, decoded.digest()))
}

impl Delivery {
    /// Reads envelope and proof of admission, and checks that the guard behind `key` signed it.
    pub(crate) fn read(path: &Path, admission: Option<&Path>, key: &NoteKey) -> Result<Self, Failure> {
        let (bus, digest) = digest_of(path)?;
        let beside: PathBuf = path.with_extension(ADMISSION);
        let admission = admission.unwrap_or(&beside);
        let text = fs::read_to_string(admission).map_err(|source| Failure::io("read", admission, source))?;
        let guard = PublicKey::from_bytes(&key.public());
        let checked = Admission::decode(text.trim()).and_then(|read| {
            read.verify(bus, &digest, &guard?)?;
            read.check_admitted()?;
            Ok(read)
        });
        let admission = checked.map_err(|refused| {
            let message = format!(
                "`{}` is not this guard's proof that it admitted `{}`: {refused}",
                admission.display(),
                path.display()
            );
            let remedy = "see whether the two files belong together, and to this bus";
            Failure::told(Exit::Unverified, "admission_false", message, remedy)
        })?;
        Ok(Self { digest, admission })
    }

    /// Where its entry must stand.
    pub(crate) const fn position(&self) -> Position {
        Position { epoch: self.admission.decision.epoch, n: self.admission.decision.position }
    }

    /// The entry found there must be about this envelope and say what the guard signed. If not, the guard
    /// admitted what its log does not have: the reader holds evidence against it.
    pub(crate) fn check(&self, found: Option<Found>) -> Result<Found, Failure> {
        let decision = &self.admission.decision;
        let position = self.position();
        let fault = match found {
            None => format!("the log has no entry at position {position}"),
            Some(found) => match &found.entry.body {
                Body::Admitted(entry)
                    if entry.digest.0 == self.digest
                        && entry.policy_version == decision.policy_version
                        && entry.guard_time == decision.time
                        && entry.observed.is_some() == decision.observed =>
                {
                    return Ok(found);
                }
                _ => format!("the entry at position {position} says something else"),
            },
        };
        let message = format!("the guard signed that it admitted this envelope, and {fault}");
        let remedy = "keep both files: they are evidence that entries were removed, set back or never written; \
                      see whether this is the right log and not an old copy, then `sealbus audit verify`";
        Err(Failure::told(Exit::Unverified, "entry_missing", message, remedy))
    }
}

//! What all records of a bundle share: a version, a size limit, names and patterns.

use crate::{
    label::{Clearance, Compartments, Level},
    name::{MAX_NAME, Name},
    reason::{Reason, Refused},
    subject::{MAX_SUBJECT, Pattern},
    wire::codec::Reader,
};

/// The longest record, in bytes.
pub const MAX_RECORD: usize = 256 * 1024;
pub(super) const VERSION: u8 = 1;

pub(super) fn reader<'a>(bytes: &'a [u8], what: &'static str) -> Result<Reader<'a>, Refused> {
    if bytes.len() > MAX_RECORD {
        Err(Refused::new(Reason::TooLarge, what))
    } else {
        Ok(Reader::new(bytes, what))
    }
}

pub(super) fn version(r: &mut Reader<'_>, what: &'static str) -> Result<(), Refused> {
    if r.uint()? == u64::from(VERSION) { Ok(()) } else { Err(Refused::new(Reason::UnsupportedVersion, what)) }
}

pub(super) fn read_names(r: &mut Reader<'_>, max: u8) -> Result<Vec<Name>, Refused> {
    let count = r.array_len(usize::from(max))?;
    (0..count).map(|_| Name::parse(r.str(MAX_NAME)?)).collect()
}

/// A level and compartments, as two elements.
pub(super) fn clearance(r: &mut Reader<'_>, what: &'static str) -> Result<Clearance, Refused> {
    let bad = Refused::new(Reason::BadLabel, what);
    let level = u8::try_from(r.uint()?).ok().and_then(|n| Level::new(n).ok()).ok_or(bad)?;
    Ok(Clearance { level, compartments: Compartments::from_bits(r.uint()?) })
}

pub(super) fn pattern(r: &mut Reader<'_>) -> Result<Pattern, Refused> {
    Pattern::parse(r.str(MAX_SUBJECT)?)
}

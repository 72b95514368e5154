//! `[evidence]`: how much the bus's stream keeps of agents that are off the bus.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{
    ConfigError, Place,
    events::{BYTES, ranged},
};
use crate::quarantine::custody::StreamLimits;

/// Less holds not even what is kept of one agent.
const MIN_BYTES: u64 = 1 << 20;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvidence {
    stream: Option<bool>,
    max_bytes: Option<Spanned<u64>>,
    max_messages: Option<Spanned<u64>>,
    max_days: Option<Spanned<u64>>,
}

/// Checks `[evidence]`. None if there is to be no stream.
pub(super) fn settings(at: &Place<'_>, raw: RawEvidence) -> Result<Option<StreamLimits>, ConfigError> {
    let default = StreamLimits::default();
    let max_days = ranged(at, raw.max_days, 90, 1..=3_650, "a number of days from 1 to 3650")?;
    let limits = StreamLimits {
        max_bytes: ranged(at, raw.max_bytes, default.max_bytes, MIN_BYTES..=1 << 50, BYTES)?,
        max_messages: ranged(
            at,
            raw.max_messages,
            default.max_messages,
            1_000..=1 << 40,
            "a number of messages of 1000 or more",
        )?,
        max_age: Duration::from_hours(24 * max_days),
    };
    Ok((raw.stream != Some(false)).then_some(limits))
}

//! Times: whole milliseconds since the Unix epoch, always an argument, never read from a clock here.
//!
//! ```
//! use sealbus_envelope::time::{Millis, Validity};
//! let session = Validity::starting(Millis(1_000), 500);
//! assert_eq!(session.not_after, Millis(1_500));
//! assert_eq!(Millis(1_000).since(Millis(1_500)), 0, "differences stop at zero");
//! ```

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// The time `ms` milliseconds later; stays at the end of time rather than wrap round to the beginning.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The time `ms` milliseconds earlier, not before the epoch.
    #[must_use]
    pub const fn minus(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The whole seconds, as JWT claims count.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The time `seconds` after the epoch.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }
}

/// From when until when something is valid: `not_before <= t < not_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Validity {
    /// First instant of validity.
    pub not_before: Millis,
    /// First instant after validity.
    pub not_after: Millis,
}

impl Validity {
    /// `lifetime` milliseconds from `start`.
    #[must_use]
    pub const fn starting(start: Millis, lifetime: u64) -> Self {
        Self { not_before: start, not_after: start.plus(lifetime) }
    }
}

//! The rate check: the generic cell rate algorithm (ITU-T I.371), one number a limit.
//!
//! ```
//! use sealbus_envelope::{policy::Rate, time::Millis};
//! use sealbus_guard::check::rate::Limiter;
//! let mut limiter = Limiter::new(Rate { per_second: 10, burst: 2 });
//! let now = Millis(1_000);
//! assert!(limiter.admit(now) && limiter.admit(now) && !limiter.admit(now));
//! assert!(limiter.admit(now.plus(100)), "a tenth of a second later there is room for one more");
//! ```

use sealbus_envelope::{policy::Rate, time::Millis};

/// One limit on one sender. A clock that steps back costs the sender nothing and gives it nothing.
#[derive(Debug, Clone)]
pub struct Limiter {
    /// Microseconds that one message uses up.
    interval: u64,
    /// Microseconds that may be used up ahead of time.
    tolerance: u64,
    /// When the bucket is empty again, in microseconds since the epoch.
    theoretical: u64,
}

impl Limiter {
    /// A limiter with its whole burst unused.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let interval = 1_000_000 / u64::from(rate.per_second.max(1));
        Self {
            interval,
            tolerance: interval.saturating_mul(u64::from(rate.burst.max(1)).saturating_sub(1)),
            theoretical: 0,
        }
    }

    /// Whether one more message is within the rate; if so, it is counted.
    pub fn admit(&mut self, now: Millis) -> bool {
        let now = now.0.saturating_mul(1_000);
        let theoretical = self.theoretical.max(now);
        if theoretical - now > self.tolerance {
            return false;
        }
        self.theoretical = theoretical.saturating_add(self.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_allow(per_second in 1u32..2000, burst in 1u32..500, steps in prop::collection::vec(0u64..50, 1..400)) {
            let mut limiter = Limiter::new(Rate { per_second, burst });
            let (mut now, start, mut admitted) = (Millis(5_000), 5_000, 0u64);
            for step in steps {
                now = now.plus(step);
                admitted += u64::from(limiter.admit(now));
                // Rounding the interval down to whole microseconds lets through at most one part in 500.
                let allowed = u64::from(burst) + (now.0 - start) * u64::from(per_second) * 1_003 / 1_000_000 + 1;
                prop_assert!(admitted <= allowed, "{admitted} > {allowed}");
            }
        }
    }
}

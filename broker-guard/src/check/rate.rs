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

use std::collections::HashMap;

use sealbus_envelope::{name::AgentToken, policy::Rate, time::Millis};

/// One limit on one sender. A clock that steps back costs the sender nothing and gives it nothing.
#[derive(Debug, Clone)]
pub struct Limiter {
    /// Nanoseconds that one unit uses up.
    interval: u64,
    /// Nanoseconds that may be used up ahead of time.
    tolerance: u64,
    /// When the bucket is empty again, in nanoseconds since the epoch.
    theoretical: u64,
    /// The last time seen, to tell a step back.
    last: u64,
}

impl Limiter {
    /// A limiter with its whole burst unused.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let interval = 1_000_000_000 / u64::from(rate.per_second.max(1));
        Self {
            interval,
            tolerance: interval.saturating_mul(u64::from(rate.burst.max(1)).saturating_sub(1)),
            theoretical: 0,
            last: 0,
        }
    }

    /// Whether one more message is within the rate; if so, it is counted.
    pub fn admit(&mut self, now: Millis) -> bool {
        let within = self.allowance(now) > 0;
        if within {
            self.spend(1, now);
        }
        within
    }

    /// How many units there are to spend at `now`.
    pub fn allowance(&mut self, now: Millis) -> u64 {
        let ahead = self.ahead(now);
        match self.tolerance.checked_sub(ahead) {
            Some(left) => (left / self.interval.max(1)).saturating_add(1),
            None => 0,
        }
    }

    /// Spends units, more than the allowance if it must be: what was not known before it was done is paid
    /// for after.
    pub fn spend(&mut self, units: u64, now: Millis) {
        self.ahead(now);
        self.theoretical = self.theoretical.saturating_add(self.interval.saturating_mul(units));
    }

    /// Whether nothing is lost if the limiter is forgotten and made anew.
    pub fn is_idle(&mut self, now: Millis) -> bool {
        self.ahead(now) == 0
    }

    fn ahead(&mut self, now: Millis) -> u64 {
        let now = now.0.saturating_mul(1_000_000);
        let back = self.last.saturating_sub(now);
        self.theoretical = self.theoretical.saturating_sub(back).max(now);
        self.last = now;
        self.theoretical - now
    }
}

/// The most agents that one [`AgentLimits`] tells apart. An agent has one name, so only a hostile server can
/// get here; past it all further names share one limit.
pub const MAX_AGENTS: usize = 65_536;

/// The same limit for each of many agents. Holds only what is in use: an idle limit is a new one.
#[derive(Debug)]
pub struct AgentLimits {
    rate: Rate,
    limits: HashMap<AgentToken, Limiter>,
    others: Limiter,
}

impl AgentLimits {
    /// No agent has used any of its limit yet.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, limits: HashMap::new(), others: Limiter::new(rate) }
    }

    /// The agent's limit.
    pub fn of(&mut self, agent: &AgentToken) -> &mut Limiter {
        if self.limits.len() >= MAX_AGENTS && !self.limits.contains_key(agent) {
            return &mut self.others;
        }
        // The clone is of a reference count.
        self.limits.entry(agent.clone()).or_insert_with(|| Limiter::new(self.rate))
    }

    /// Forgets the limits that nobody uses.
    pub fn prune(&mut self, now: Millis) {
        self.limits.retain(|_, limiter| !limiter.is_idle(now));
    }

    /// How many limits are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.limits.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
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
                // Rounding the interval down to whole nanoseconds lets through at most one part in 500,000.
                let allowed = u64::from(burst) + (now.0 - start) * u64::from(per_second) / 999 + 1;
                prop_assert!(admitted <= allowed, "{admitted} > {allowed}");
            }
        }

        #[test]
        fn a_clock_that_steps_back_neither_costs_nor_gives(steps in prop::collection::vec((0u64..50, 0u64..7_200_000), 1..200)) {
            let rate = Rate { per_second: 100, burst: 5 };
            let (mut steady, mut jumpy) = (Limiter::new(rate), Limiter::new(rate));
            let (mut now, mut behind) = (Millis(1_000_000_000), 0);
            prop_assert_eq!(steady.admit(now), jumpy.admit(now));
            for (step, back) in steps {
                now = now.plus(step);
                // The step back hides the time that passed meanwhile, so the jumpy one is at most as generous.
                behind += back;
                let (a, b) = (steady.admit(now), jumpy.admit(now.minus(behind)));
                prop_assert!(a || !b, "the step back gave something");
            }
            // And after its whole burst's time it is as good as new.
            let later = now.minus(behind).plus(60);
            prop_assert!((0..5).all(|_| jumpy.admit(later)));
        }
    }

    #[test]
    fn rates_above_a_million_still_limit() {
        let mut limiter = Limiter::new(Rate { per_second: 4_000_000, burst: 3 });
        let now = Millis(1_000);
        assert!(limiter.admit(now) && limiter.admit(now) && limiter.admit(now) && !limiter.admit(now));
    }

    #[test]
    fn a_debt_is_paid_off_before_anything_more() {
        let mut limiter = Limiter::new(Rate { per_second: 10, burst: 10 });
        assert_eq!(limiter.allowance(Millis(1_000)), 10);
        limiter.spend(30, Millis(1_000));
        assert!(!limiter.admit(Millis(3_000)));
        assert!(limiter.admit(Millis(3_100)));
    }

    #[test]
    fn names_past_the_bound_share_one_limit_and_idle_ones_are_forgotten() {
        let mut limits = AgentLimits::new(Rate { per_second: 1, burst: 1 });
        let name = |n: usize| {
            let id: String =
                (0..10).map(|d| char::from(b'a' + u8::try_from(n >> (3 * d) & 7).unwrap())).collect();
            AgentToken::parse(&format!("a-{id}")).unwrap()
        };
        for n in 0..MAX_AGENTS + 10 {
            limits.of(&name(n)).admit(Millis(0));
        }
        assert_eq!(limits.len(), MAX_AGENTS);
        assert!(!limits.of(&name(MAX_AGENTS + 20)).admit(Millis(0)), "the shared limit is used up");
        limits.prune(Millis(1_000));
        assert!(limits.is_empty());
        assert!(limits.of(&name(MAX_AGENTS + 20)).admit(Millis(1_000)));
    }
}

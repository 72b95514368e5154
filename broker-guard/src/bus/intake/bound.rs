//! How much of an agent the intake lets through: what the policy allows it, with much headroom.
//!
//! The checks of the policy's own rates come later and are told to the sender one by one. This bound is there
//! for what must not get that far, so honest agents never meet it. Pure: no IO, no clock.

use sealbus_envelope::{control::verb, policy::Rate, time::Millis};

use crate::check::rate::Limiter;

/// How far above what the policy allows an agent may be before its messages are dropped unread: who sends twice
/// as fast for a while is still told so, but what is far too much at once is not read to the end.
const fn with_headroom(rate: Rate) -> Rate {
    Rate { per_second: rate.per_second.saturating_mul(2), burst: rate.burst.saturating_add(rate.burst / 4) }
}
/// Who said no hello yet has no right to publish; what it sends is only read so that it can be told.
const STRANGER: Rate = Rate { per_second: 200, burst: 400 };
/// Kilobytes that go with any rate: a large message now and then gets as far as being refused by name.
const LEAST_KIB: Rate = Rate { per_second: 4_096, burst: 8_192 };
/// In units of [`control_cost`]: what the core allows too, but a burst of half, so that a flood ends sooner.
const CONTROL: Rate = Rate { per_second: 4_000, burst: 100_000 };
/// Hellos, which are the dearest, besides: a client says one when it connects, and a restart of thirty that share an
/// agent's name at once is as much as anybody does.
const HELLO: Rate = Rate { per_second: 4, burst: 32 };
/// What is dropped before the agent is cut: 200 small messages at once, or 50 a second.
const PATIENCE: Rate = Rate { per_second: 50, burst: 200 };
/// Junk that is let through, whatever the policy allows: nobody honest sends any. A hostile server may, but
/// then the agent is only cut, which such a server can do by itself.
const JUNK: Rate = Rate { per_second: 10, burst: 100 };
/// A rate above this is none: limits count in whole nanoseconds.
const UNLIMITED: u32 = 100_000_000;
/// The most that a message counts when turns are shared.
const MOST: u64 = 1_024;

/// The bound of one agent, as rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Envelopes; none if the policy sets no limit.
    pub messages: Option<Rate>,
    /// Kilobytes of envelopes; none if the policy sets no limit.
    pub kib: Option<Rate>,
}

impl Bound {
    /// The bound of agents that the guard does not know yet.
    pub const STRANGER: Self = Self { messages: Some(STRANGER), kib: Some(LEAST_KIB) };

    /// The bound of an agent with these rules, each with its rate, if it has one, and its largest envelope in
    /// bytes.
    #[must_use]
    pub fn of(rules: impl IntoIterator<Item = (Option<Rate>, u32)>) -> Self {
        let nothing = Rate { per_second: 0, burst: 0 };
        let (mut messages, mut kib) = (nothing, nothing);
        for (rate, max_bytes) in rules {
            let Some(rate) = rate else { return Self { messages: None, kib: None } };
            let size = max_bytes.div_ceil(1_024);
            messages.per_second = messages.per_second.saturating_add(rate.per_second);
            messages.burst = messages.burst.saturating_add(rate.burst);
            kib.per_second = kib.per_second.saturating_add(rate.per_second.saturating_mul(size));
            kib.burst = kib.burst.saturating_add(rate.burst.saturating_mul(size));
        }
        let with = |rate: Rate, least: Rate| {
            let room = with_headroom(rate);
            let limit = Rate {
                per_second: room.per_second.max(least.per_second),
                burst: room.burst.max(least.burst),
            };
            (limit.per_second <= UNLIMITED).then_some(limit)
        };
        Self { messages: with(messages, STRANGER), kib: with(kib, LEAST_KIB) }
    }
}

/// What is left of a bound.
#[derive(Debug, Clone)]
pub(super) struct Allowance {
    bound: Bound,
    messages: Option<Limiter>,
    kib: Option<Limiter>,
    control: Limiter,
    hello: Limiter,
    patience: Limiter,
    junk: Limiter,
}

impl Allowance {
    pub(super) fn new(bound: Bound) -> Self {
        Self {
            bound,
            messages: bound.messages.map(Limiter::new),
            kib: bound.kib.map(Limiter::new),
            control: Limiter::new(CONTROL),
            hello: Limiter::new(HELLO),
            patience: Limiter::new(PATIENCE),
            junk: Limiter::new(JUNK),
        }
    }

    /// With another bound. The same bound changes nothing: who says hello again gets no second burst.
    pub(super) fn rebind(&mut self, bound: Bound) {
        if self.bound != bound {
            let Self { control, hello, patience, junk, .. } = self.clone();
            *self = Self { control, hello, patience, junk, ..Self::new(bound) };
        }
    }

    /// As if nothing had been used of it.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.bound);
    }

    /// Charges an envelope; false if it is too much.
    pub(super) fn envelope(&mut self, bytes: usize, now: Millis) -> bool {
        let size = kib(bytes);
        let room = |limit: &mut Option<Limiter>, units| {
            limit.as_mut().is_none_or(|limit| limit.allowance(now) >= units)
        };
        let within = room(&mut self.messages, 1) && room(&mut self.kib, size);
        if within {
            if let Some(limit) = &mut self.messages {
                limit.spend(1, now);
            }
            if let Some(limit) = &mut self.kib {
                limit.spend(size, now);
            }
        }
        within
    }

    /// Charges a control message with this verb and cost; false if it is too much.
    pub(super) fn control(&mut self, verb: &str, cost: u64, now: Millis) -> bool {
        let is_hello = verb == verb::HELLO;
        let within = self.control.allowance(now) >= cost.min(u64::from(CONTROL.burst))
            && (!is_hello || self.hello.allowance(now) > 0);
        if within {
            self.control.spend(cost, now);
            if is_hello {
                self.hello.spend(1, now);
            }
        }
        within
    }

    /// Notes that a message was dropped; true if that was one too many.
    pub(super) fn dropped(&mut self, bytes: usize, now: Millis) -> bool {
        is_too_much(&mut self.patience, bytes, now)
    }

    /// Notes that a message that was let through was junk; true if that was one too many.
    pub(super) fn junk(&mut self, bytes: usize, now: Millis) -> bool {
        is_too_much(&mut self.junk, bytes, now)
    }

    /// Whether nothing is lost if it is forgotten.
    pub(super) fn is_idle(&mut self, now: Millis) -> bool {
        let idle = |limit: &mut Option<Limiter>| limit.as_mut().is_none_or(|limit| limit.is_idle(now));
        idle(&mut self.messages)
            && idle(&mut self.kib)
            && self.control.is_idle(now)
            && self.hello.is_idle(now)
            && self.patience.is_idle(now)
            && self.junk.is_idle(now)
    }
}

/// Large messages count for more, so that as few megabytes are too many as small messages are.
fn is_too_much(limit: &mut Limiter, bytes: usize, now: Millis) -> bool {
    let weight = 1 + kib(bytes) / 32;
    let room = limit.allowance(now);
    limit.spend(weight, now);
    room == 0
}

fn kib(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(1_024)).unwrap_or(u64::MAX)
}

/// What an envelope counts when turns are shared: checking one costs the same, hashing goes by size.
pub(super) fn envelope_cost(bytes: usize) -> u64 {
    (1 + kib(bytes)).min(MOST)
}

/// What a control message costs the guard, about, in hundredths of a millisecond: a hello is five signatures
/// and a welcome.
pub(super) fn control_cost(verb: &str, bytes: usize) -> u64 {
    let verb = match verb {
        verb::HELLO => 500,
        verb::READER => 20,
        verb::OPEN | verb::GRANT => 10,
        _ => 2,
    };
    (verb + kib(bytes).saturating_mul(4)).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_000_000);

    #[test]
    fn what_the_policy_allows_at_once_is_let_through_whatever_its_size() {
        for (per_second, burst, max_bytes) in
            [(1, 1, 1_024), (100, 200, 65_536), (10_000, 20_000, 1 << 20), (1_000_000, 1_000_000, 1 << 20)]
        {
            let rate = Rate { per_second, burst };
            let mut allowance = Allowance::new(Bound::of([(Some(rate), max_bytes)]));
            let size = usize::try_from(max_bytes).unwrap_or(usize::MAX);
            assert!((0..burst).all(|_| allowance.envelope(size, NOW)), "{rate:?} of {max_bytes} bytes");
        }
    }

    #[test]
    fn a_rule_without_a_rate_is_no_limit() {
        let rate = Rate { per_second: 1, burst: 1 };
        let bound = Bound::of([(Some(rate), 1_024), (None, 1_024)]);
        assert_eq!(bound, Bound { messages: None, kib: None });
    }

    #[test]
    fn a_quarter_beyond_the_burst_it_is_too_much() {
        let rate = Rate { per_second: 1_000, burst: 2_000 };
        let mut allowance = Allowance::new(Bound::of([(Some(rate), 1_024)]));
        assert_eq!((0..10_000).filter(|_| allowance.envelope(100, NOW)).count(), 2_500);
    }
}

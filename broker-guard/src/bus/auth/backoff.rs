//! Who flooded is let in again only after a while: a second, then four, sixteen, a minute; after a quiet
//! while it begins anew. Never longer, because a hostile server may have flooded in the agent's name, and kept
//! in memory only: nothing of it outlives the guard. Pure: no IO, no clock.

use std::collections::HashMap;

use sealbus_envelope::{name::AgentToken, time::Millis};

/// The first wait, in milliseconds.
pub const FIRST_MS: u64 = 1_000;
/// How many times as long the next one is. Each return of a flooder costs the others some milliseconds, so the
/// returns must thin out fast; an honest agent that was cut once by mistake does not flood a second time.
pub const GROWTH: u64 = 4;
/// The longest.
pub const LONGEST_MS: u64 = 60_000;
/// How long after a wait was over it counts for the next.
pub const MEMORY_MS: u64 = 120_000;
/// The most agents that are held back. There are as many only if a server makes them up; who comes later is
/// cut all the same, and can come back at once.
pub const MAX_AGENTS: usize = 65_536;

#[derive(Debug, Clone, Copy)]
struct Held {
    since: Millis,
    wait_ms: u64,
    /// Whether it was let into the lobby to hear of this wait.
    told: bool,
}

impl Held {
    /// A clock that steps back makes a wait twice as long at most.
    const fn is_over(&self, now: Millis) -> bool {
        now.since(self.since) >= self.wait_ms || self.since.since(now) > self.wait_ms
    }

    const fn is_forgotten(&self, now: Millis) -> bool {
        self.is_over(now) && now.since(self.since) >= self.wait_ms + MEMORY_MS
            || self.since.since(now) > self.wait_ms
    }
}

/// The agents that are held back.
#[derive(Debug, Default)]
pub struct Backoff(HashMap<AgentToken, Held>);

impl Backoff {
    /// Holds an agent back from now on, longer each time; how long, in milliseconds. While it is held back
    /// already nothing changes: what was on its way is not another flood.
    pub fn hold(&mut self, agent: &AgentToken, now: Millis) -> u64 {
        if let Some(held) = self.0.get_mut(agent) {
            if held.is_over(now) {
                let wait_ms =
                    if held.is_forgotten(now) { FIRST_MS } else { (held.wait_ms * GROWTH).min(LONGEST_MS) };
                *held = Held { since: now, wait_ms, told: false };
            }
            return held.wait_ms;
        }
        if self.0.len() >= MAX_AGENTS {
            self.prune(now);
        }
        if self.0.len() < MAX_AGENTS {
            self.0.insert(agent.clone(), Held { since: now, wait_ms: FIRST_MS, told: false });
        }
        FIRST_MS
    }

    /// Whether an agent is held back.
    #[must_use]
    pub fn holds(&self, agent: &AgentToken, now: Millis) -> bool {
        self.0.get(agent).is_some_and(|held| !held.is_over(now))
    }

    /// Whether an agent that is held back is to hear why in the lobby: once each time. Further attempts are
    /// refused without a word, or the lobby would be the place to flood from.
    pub fn tell(&mut self, agent: &AgentToken) -> bool {
        self.0.get_mut(agent).is_some_and(|held| !std::mem::replace(&mut held.told, true))
    }

    /// Forgets who has been quiet; how many are held back now.
    pub fn prune(&mut self, now: Millis) -> usize {
        self.0.retain(|_, held| !held.is_forgotten(now));
        self.0.values().filter(|held| !held.is_over(now)).count()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn agent() -> AgentToken {
        AgentToken::parse("mallory-abcdefghij").unwrap()
    }

    #[test]
    fn each_flood_costs_four_times_as_long_up_to_a_minute_and_a_quiet_while_forgives() {
        let (mut backoff, agent, mut now) = (Backoff::default(), agent(), Millis(1_000_000));
        let mut waits = vec![];
        for _ in 0..5 {
            let wait = backoff.hold(&agent, now);
            assert!(backoff.holds(&agent, now) && backoff.holds(&agent, now.plus(wait - 1)));
            assert_eq!(
                backoff.hold(&agent, now.plus(wait - 1)),
                wait,
                "what was on its way is no other flood"
            );
            now = now.plus(wait);
            assert!(!backoff.holds(&agent, now));
            waits.push(wait / 1_000);
        }
        assert_eq!(waits, [1, 4, 16, 60, 60]);
        assert_eq!(backoff.hold(&agent, now.plus(MEMORY_MS)), FIRST_MS);
        assert_eq!(backoff.prune(now.plus(MEMORY_MS)), 1);
        assert_eq!(backoff.prune(now.plus(MEMORY_MS * 3)), 0);
        assert!(backoff.0.is_empty());
    }

    #[test]
    fn it_is_told_once_each_time() {
        let (mut backoff, agent, now) = (Backoff::default(), agent(), Millis(1_000_000));
        assert!(!backoff.tell(&agent));
        let wait = backoff.hold(&agent, now);
        assert!(backoff.tell(&agent) && !backoff.tell(&agent));
        backoff.hold(&agent, now.plus(wait));
        assert!(backoff.tell(&agent));
    }

    proptest! {
        #[test]
        fn nobody_waits_longer_than_a_minute(steps in prop::collection::vec((any::<bool>(), 0u64..200_000), 1..200)) {
            let (mut backoff, agent, mut now) = (Backoff::default(), agent(), Millis(1 << 40));
            for (flood, step) in steps {
                now = now.plus(step);
                if flood {
                    prop_assert!(backoff.hold(&agent, now) <= LONGEST_MS);
                }
                prop_assert!(!backoff.holds(&agent, now.plus(LONGEST_MS)));
            }
        }
    }
}

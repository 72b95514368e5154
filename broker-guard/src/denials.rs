//! Denials in numbers: the first few of a kind each second stand alone, the rest are counted together, so
//! that who floods the guard does not flood the log, the events and its own box as well.

use std::collections::HashMap;

use sealbus_envelope::{
    name::AgentToken,
    reason::{Reason, Refused},
    time::Millis,
};

use crate::check::Denial;

/// How many denials of one agent and reason stand alone each second.
pub const ALONE_PER_SECOND: u32 = 10;
/// The most kinds that are counted at once; past it all else is one kind.
const MAX_KINDS: usize = 10_000;

type Kind = (Option<AgentToken>, Reason);

#[derive(Debug)]
struct Window {
    since: Millis,
    alone: u32,
    /// The last denial that was only counted, and how many it stands for.
    counted: Option<(Denial, u64)>,
}

/// Counts denials by agent and reason.
#[derive(Debug, Default)]
pub struct Denials {
    windows: HashMap<Kind, Window>,
}

impl Denials {
    /// Notes a denial: given back if it is to be reported now, with how many it stands for (one).
    pub fn note(&mut self, denial: Denial, now: Millis) -> Option<(Denial, u64)> {
        let mut kind = (denial.agent.clone(), denial.refused.reason);
        let mut denial = denial;
        if self.windows.len() >= MAX_KINDS && !self.windows.contains_key(&kind) {
            // Of many agents and reasons, so that none of them may stand for the rest.
            kind = (None, Reason::Overloaded);
            denial = Denial::bare(Refused::new(Reason::Overloaded, "denials"));
        }
        let window = self.windows.entry(kind).or_insert(Window { since: now, alone: 0, counted: None });
        if now.since(window.since) >= 1_000 {
            window.since = now;
            window.alone = 0;
        }
        if window.alone < ALONE_PER_SECOND {
            window.alone += 1;
            return Some((denial, 1));
        }
        let count = window.counted.take().map_or(0, |(_, count)| count);
        window.counted = Some((denial, count + 1));
        None
    }

    /// How many kinds were seen of late.
    #[must_use]
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// What was counted and not reported, once a second; forgets the kinds that have become quiet.
    pub fn flush(&mut self, now: Millis) -> Vec<(Denial, u64)> {
        let counted = self.windows.values_mut().filter_map(|window| window.counted.take()).collect();
        self.windows.retain(|_, window| now.since(window.since) < 1_000);
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_in_counting() {
        let (mut denials, mut reported) = (Denials::default(), 0);
        for n in 0..5_000 {
            let denial = Denial::bare(Refused::new(Reason::BadSignature, "test"));
            reported += denials.note(denial, Millis(n / 2)).map_or(0, |(_, count)| count);
        }
        assert_eq!(reported, 30, "ten in each of the three seconds begun");
        reported += denials.flush(Millis(2_500)).iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!(reported, 5_000);
        assert!(denials.flush(Millis(9_999)).is_empty());
    }
}

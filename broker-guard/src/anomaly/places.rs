//! Where an agent's sessions are.

use sealbus_envelope::time::Millis;
use serde::{Deserialize, Serialize};

/// The most sessions at once, and places, that are told apart.
const MOST: usize = 8;
/// A place is news for so long: an agent that moves is used to it after a day.
const NEWS_MS: u64 = 24 * 3_600_000;
/// Sessions that live side by side for less are a restart that overlaps.
const OVERLAP_MS: u64 = 120_000;
/// A session that said nothing for so long may be gone without a word.
const LIVELY_MS: u64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Live {
    session: u64,
    place: u64,
    since: Millis,
    heard: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Place {
    place: u64,
    since: Millis,
}

/// Sessions that live, and places that are known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Places {
    known: Vec<Place>,
    #[serde(skip)]
    live: Vec<Live>,
}

impl Places {
    /// A session begins. Tells whether that is odd: another lives elsewhere, and this place is new.
    pub(super) fn connected(&mut self, session: u64, place: u64, now: Millis, free: bool) -> bool {
        self.left(session);
        let news = self.is_news(place, now);
        let elsewhere = self.live.iter().any(|live| live.place != place);
        if self.live.len() >= MOST {
            self.live.remove(0);
        }
        self.live.push(Live { session, place, since: now, heard: Millis(0) });
        if !self.known.iter().any(|known| known.place == place) {
            if self.known.len() >= MOST {
                self.known.remove(0);
            }
            let since = if free { Millis(0) } else { now };
            self.known.push(Place { place, since });
        }
        elsewhere && news && !free
    }

    fn is_news(&self, place: u64, now: Millis) -> bool {
        let known = self.known.iter().find(|known| known.place == place);
        known.is_none_or(|known| now.since(known.since) < NEWS_MS)
    }

    pub(super) fn left(&mut self, session: u64) {
        self.live.retain(|live| live.session != session);
    }

    /// A session spoke after another. Tells whether two places, one of them new, speak in turn for longer than a
    /// restart takes.
    pub(super) fn heard(&mut self, session: u64, now: Millis, free: bool) -> bool {
        let Some(live) = self.live.iter_mut().find(|live| live.session == session) else { return false };
        live.heard = now;
        let live = *live;
        let beside = |other: &&Live| {
            other.place != live.place
                && now.since(other.heard) < LIVELY_MS
                && now.since(other.since.max(live.since)) > OVERLAP_MS
        };
        let other = self.live.iter().find(beside).copied();
        !free && other.is_some_and(|other| self.is_news(other.place, now) || self.is_news(live.place, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: u64 = 1;
    const AWAY: u64 = 2;

    #[test]
    fn a_second_place_is_odd_and_two_that_speak_in_turn_more_so() {
        let mut places = Places::default();
        assert!(!places.connected(1, HOME, Millis(0), true));
        assert!(!places.connected(2, HOME, Millis(10), false), "another session from the same place");
        places.left(2);
        let later = |ms: u64| Millis(100_000_000 + ms);
        assert!(places.connected(3, AWAY, later(0), false));
        assert!(!places.heard(1, later(1_000), false));
        assert!(!places.heard(3, later(2_000), false), "it may be a restart");
        assert!(!places.heard(1, later(130_000), false), "the other has not spoken lately");
        assert!(places.heard(3, later(131_000), false));
        places.left(3);
        assert!(!places.heard(1, later(132_000), false));
    }

    #[test]
    fn who_moves_is_not_in_two_places() {
        let mut places = Places::default();
        places.connected(1, HOME, Millis(0), true);
        places.left(1);
        assert!(!places.connected(2, AWAY, Millis(1_000_000_000), false));
        assert!(!places.connected(3, HOME, Millis(1_100_000_000), false), "a fleet that was always so");
    }
}

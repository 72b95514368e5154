//! Keys that are to rotate: which, from when they are refused, and when their senders hear of it.

use std::collections::HashSet;

use sealbus_envelope::{
    control::{self, kind},
    reason::{Reason, Refused},
    time::Millis,
};

use super::Sessions;
use crate::{effect::Effects, roster::OwnedKey};

/// A reader that leaves of its own accord makes senders rotate a key at most once in this time: else one that
/// comes and goes would have every sender seal to every reader once a second.
const ROTATE_EVERY_MS: u64 = 10_000;
/// After a reader lost its right, this long may envelopes under a key that it holds still be under way.
pub(super) const STALE_AFTER_MS: u64 = 2_000;

#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    reason: Reason,
    at: Millis,
}

impl Sessions {
    /// Keys that somebody holds who lost the right to: told at the next tick, refused two seconds later.
    pub(super) fn rotate_now(&mut self, keys: Vec<OwnedKey>, reason: Reason, now: Millis) {
        for key in keys {
            if let Some(sending) = self.roster.key_mut(key) {
                sending.stale_from.get_or_insert(now.plus(STALE_AFTER_MS));
                self.due.insert(key, Due { reason, at: now });
            }
        }
    }

    /// Keys that somebody holds who reads them no longer, though it might.
    pub(super) fn rotate_in_time(&mut self, keys: Vec<OwnedKey>, now: Millis) {
        for key in keys {
            if let Some(sending) = self.roster.key(key).filter(|_| !self.roster.is_superseded(key)) {
                let at = now.max(sending.opened.plus(ROTATE_EVERY_MS));
                self.due.entry(key).or_insert(Due { reason: Reason::StaleKey, at });
            }
        }
    }

    /// The keys of what waits for people, as it stands now.
    pub fn pin(&mut self, keys: HashSet<OwnedKey>) {
        self.pinned = keys;
    }

    /// Tells senders which keys to rotate.
    pub(super) fn tell_due(&mut self, now: Millis, effects: &mut Effects) -> Result<(), Refused> {
        for (owned, due) in std::mem::take(&mut self.due) {
            let (id, key) = owned;
            // The sender may have left, or rotated it meanwhile.
            let Some(session) = self.roster.get(id).filter(|session| session.keys.contains_key(&key)) else {
                continue;
            };
            if self.roster.is_superseded(owned) {
                continue;
            }
            // Who looked at what waits for people, and went, must not take its key from the next who looks.
            let looked_at = due.reason == Reason::StaleKey && self.pinned.contains(&owned);
            if due.at > now || looked_at {
                self.due.insert(owned, due);
            } else {
                effects.tell(
                    session.agent(),
                    id,
                    kind::REKEY,
                    &control::Rekey { key, reason: due.reason },
                )?;
            }
        }
        Ok(())
    }
}

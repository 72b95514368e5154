//! Which sequence numbers were seen under one key (the sliding window of RFC 4303 section 3.4.3, wider).

use crate::reason::{Reason, Refused};

const WORDS: usize = 16;

/// Remembers the last 1,024 sequence numbers up to the highest seen. What is older counts as seen: to let
/// it pass would be to let it pass twice.
///
/// ```
/// use sealbus_envelope::reader::ReplayWindow;
/// let mut window = ReplayWindow::default();
/// assert!(window.insert(5).is_ok() && window.insert(3).is_ok());
/// assert!(window.insert(5).is_err(), "seen before");
/// assert!(window.insert(5 + ReplayWindow::WIDTH).is_ok() && window.check(5).is_err(), "too old to know");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplayWindow {
    highest: Option<u64>,
    /// Bit `s % 1024` is set if sequence `s`, within the window, was seen.
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// How many sequence numbers it spans.
    pub const WIDTH: u64 = 64 * WORDS as u64;

    /// A window that takes `next` and above only: for a key that was in use before.
    #[must_use]
    pub const fn starting_at(next: u64) -> Self {
        match next.checked_sub(1) {
            None => Self { highest: None, seen: [0; WORDS] },
            Some(highest) => Self { highest: Some(highest), seen: [u64::MAX; WORDS] },
        }
    }

    /// Refuses a sequence number that was seen or is too old to know.
    ///
    /// # Errors
    /// `replay`.
    pub fn check(&self, sequence: u64) -> Result<(), Refused> {
        let replay = Err(Refused::new(Reason::Replay, "header.sequence"));
        match self.highest {
            Some(highest) if sequence <= highest => {
                let (word, bit) = place(sequence);
                let seen = self.seen.get(word).is_none_or(|word| word & bit != 0);
                if highest - sequence >= Self::WIDTH || seen { replay } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Marks a sequence number as seen.
    ///
    /// # Errors
    /// `replay` if it was, or is too old to know.
    pub fn insert(&mut self, sequence: u64) -> Result<(), Refused> {
        self.check(sequence)?;
        match self.highest {
            // Everything between is unseen. A jump of a window or more clears all, in at most 16 steps.
            Some(highest) if sequence > highest => {
                if sequence - highest >= Self::WIDTH {
                    self.seen = [0; WORDS];
                } else {
                    (highest + 1..=sequence).for_each(|between| self.set(between, false));
                }
                self.highest = Some(sequence);
            }
            None => self.highest = Some(sequence),
            Some(_) => {}
        }
        self.set(sequence, true);
        Ok(())
    }

    /// The highest sequence number seen.
    #[must_use]
    pub const fn highest(&self) -> Option<u64> {
        self.highest
    }

    fn set(&mut self, sequence: u64, seen: bool) {
        let (word, bit) = place(sequence);
        if let Some(word) = self.seen.get_mut(word) {
            if seen { *word |= bit } else { *word &= !bit }
        }
    }
}

/// The word and the bit of a sequence number.
fn place(sequence: u64) -> (usize, u64) {
    let at = sequence % ReplayWindow::WIDTH;
    (usize::try_from(at / 64).unwrap_or(WORDS), 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_set(start in prop::option::of(0u64..3000), steps in prop::collection::vec(0u64..5000, 0..400), near in prop::collection::vec(0u64..40, 0..200)) {
            let mut window = start.map_or_else(ReplayWindow::default, ReplayWindow::starting_at);
            let mut set: HashSet<u64> = (0..start.unwrap_or(0)).collect();
            let mut highest = start.and_then(|next| next.checked_sub(1));
            for sequence in steps.into_iter().chain(near) {
                let old = highest.is_some_and(|highest: u64| highest >= sequence && highest - sequence >= ReplayWindow::WIDTH);
                let fresh = !old && !set.contains(&sequence);
                prop_assert_eq!(window.check(sequence).is_ok(), fresh);
                prop_assert_eq!(window.insert(sequence).is_ok(), fresh);
                if fresh {
                    set.insert(sequence);
                    highest = highest.max(Some(sequence));
                }
            }
        }
    }

    #[test]
    fn the_end_of_the_numbers_does_not_overflow() {
        let mut window = ReplayWindow::default();
        assert!(window.insert(0).is_ok());
        assert!(window.insert(u64::MAX).is_ok());
        assert!(window.insert(u64::MAX).is_err());
        assert!(window.insert(u64::MAX - 1).is_ok());
        assert!(window.insert(0).is_err());
        assert!(ReplayWindow::starting_at(u64::MAX).insert(u64::MAX).is_ok());
    }
}

//! The order entries must stand in: positions rise by one, and every exception is itself an entry.
//!
//! A log can be correctly hashed and signed and still leave something out, if the guard that wrote it did.
//! These rules make an omission visible, since positions are also in the proofs of admission that readers
//! hold. Pure.
//!
//! ```
//! use sealbus_envelope::time::Millis;
//! use sealbus_guard::audit::entry::{Body, Entry, Position, Start};
//! use sealbus_guard::audit::order::Order;
//! let start = Start { previous: None, clean: true, program: "0.1.0".into() };
//! let at = |n, body| Entry { time: Millis(0), position: Position { epoch: 1, n }, body };
//! let mut order = Order::default();
//! order.check(&at(0, Body::Start(start)))?;
//! assert!(order.check(&at(2, Body::Stop)).is_err(), "position 1 is missing");
//! # Ok::<(), sealbus_guard::audit::order::OrderError>(())
//! ```

use super::entry::{Body, Entry, Gap, GapCause, Position, Start};

/// How an entry is out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// A position was left out, repeated or stepped back.
    #[error("position {found} follows {after}, with no gap entry to explain it")]
    Position {
        /// The position before.
        after: Position,
        /// The position found.
        found: Position,
    },
    /// A log, and every epoch, begins with a start entry.
    #[error("position {0} begins an epoch without a start entry")]
    NoStart(Position),
    /// A start entry that does not say what came before it.
    #[error("the start entry at {0} does not agree with the entry before it")]
    FalseStart(Position),
    /// After a crash the second entry states what may be missing.
    #[error("the gap entry that must stand at {0} is missing or false")]
    FalseGap(Position),
}

/// Checks entries one after the other.
#[derive(Debug, Clone, Default)]
pub struct Order {
    last: Option<Position>,
    stopped: bool,
    /// The gap that the next entry must state: epoch and first position.
    due: Option<Position>,
    /// Entries before the first are not here.
    resumed: bool,
}

impl Order {
    /// For entries from the middle of a log: the first is taken as it is.
    #[must_use]
    pub fn resumed() -> Self {
        Self { resumed: true, ..Self::default() }
    }

    /// The next entry, in the order of the log.
    ///
    /// # Errors
    /// [`OrderError`].
    pub fn check(&mut self, entry: &Entry<'_>) -> Result<(), OrderError> {
        let found = entry.position;
        let due = self.due.take();
        if std::mem::take(&mut self.resumed) {
            if let Body::Start(Start { previous: Some(before), clean: false, .. }) = &entry.body {
                self.due = Some(Position { epoch: before.epoch, n: before.n.saturating_add(1) });
            }
            self.last = Some(found);
            self.stopped = entry.body == Body::Stop;
            return Ok(());
        }
        match (&entry.body, self.last) {
            (Body::Start(start), last) => self.start(start, last, found)?,
            (_, None) => return Err(OrderError::NoStart(found)),
            (_, Some(last)) if found.epoch != last.epoch => return Err(OrderError::NoStart(found)),
            (Body::Gap(gap), Some(last)) => check_gap(gap, due, last, found)?,
            (_, Some(_)) if due.is_some() => return Err(OrderError::FalseGap(found)),
            (_, Some(last)) => {
                if self.stopped || last.n.checked_add(1) != Some(found.n) {
                    return Err(OrderError::Position { after: last, found });
                }
            }
        }
        self.last = Some(found);
        self.stopped = entry.body == Body::Stop;
        Ok(())
    }

    fn start(
        &mut self,
        start: &Start<'_>,
        last: Option<Position>,
        found: Position,
    ) -> Result<(), OrderError> {
        let rises = found.n == 0 && last.is_none_or(|last| found.epoch > last.epoch);
        let clean = self.stopped || last.is_none();
        if !rises || start.previous != last || start.clean != clean {
            return Err(OrderError::FalseStart(found));
        }
        if !clean {
            self.due = last.map(|last| Position { epoch: last.epoch, n: last.n.saturating_add(1) });
        }
        Ok(())
    }
}

fn check_gap(gap: &Gap, due: Option<Position>, last: Position, found: Position) -> Result<(), OrderError> {
    let next = last.n.saturating_add(1);
    let holds = match due {
        Some(due) => {
            gap.cause == GapCause::Crash
                && (gap.epoch, gap.from) == (due.epoch, due.n)
                && gap.to.is_none_or(|to| to >= gap.from)
                && found.n == next
        }
        None => {
            gap.cause == GapCause::WriteFailed
                && (gap.epoch, gap.from) == (found.epoch, next)
                && gap.to.is_some_and(|to| to >= gap.from && to.checked_add(1) == Some(found.n))
        }
    };
    if holds { Ok(()) } else { Err(OrderError::FalseGap(found)) }
}

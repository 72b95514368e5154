//! What only ever rises: policy versions and the guards' lease epochs.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    hash::Hash,
    proof::admission::Decision,
    reason::{Reason, Refused},
    subject::Partition,
    time::Millis,
};

/// How long after a newer policy came into force an admission under the older is still good: 30 seconds.
pub const POLICY_GRACE_MS: u64 = 30_000;
/// How many policy versions a reader remembers.
const REMEMBERED: usize = 16;

/// The policy versions that a reader has verified, with the time each came into force.
///
/// ```
/// use sealbus_envelope::{reader::PolicyHistory, time::Millis};
/// # fn main() -> Result<(), sealbus_envelope::reason::Refused> {
/// let mut history = PolicyHistory::default();
/// history.enter(1, [1; 32], Millis(0))?;
/// history.enter(2, [2; 32], Millis(100_000))?;
/// assert!(history.check(1, &[1; 32], Millis(130_000)).is_ok(), "on its way when version 2 came");
/// assert!(history.check(1, &[1; 32], Millis(130_001)).is_err());
/// assert!(history.enter(1, [1; 32], Millis(200_000)).is_err(), "versions only rise");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyHistory {
    /// Ascending by version.
    entered: Vec<(u64, Hash, Millis)>,
}

impl PolicyHistory {
    /// Records a verified bundle head. `since` is the guard's time when this reader learned of it, not when
    /// the bundle was made: a bundle may be signed days before it is published.
    ///
    /// # Errors
    /// `rolled_back` if a higher version was entered before, or the same version with another digest.
    pub fn enter(&mut self, version: u64, digest: Hash, since: Millis) -> Result<(), Refused> {
        match self.entered.last() {
            Some(&(newest, known, _)) if version < newest || (version == newest && digest != known) => {
                return Err(Refused::new(Reason::RolledBack, "policy version"));
            }
            Some(&(newest, ..)) if version == newest => return Ok(()),
            _ => {}
        }
        if self.entered.len() >= REMEMBERED {
            self.entered.remove(0);
        }
        self.entered.push((version, digest, since));
        Ok(())
    }

    /// The newest version.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        self.entered.last().map(|&(version, ..)| version)
    }

    /// Checks the policy that an admission names: the newest, or one whose successor came into force no
    /// more than 30 seconds before the admission.
    ///
    /// # Errors
    /// `no_policy` if none was entered; `new_policy` if it is newer than the newest: fetch it and check
    /// again; `bad_admission` if the digest is not that version's; `old_policy`.
    pub fn check(&self, version: u64, digest: &Hash, at: Millis) -> Result<(), Refused> {
        let newest = self.newest().ok_or(Refused::new(Reason::NoPolicy, "policy"))?;
        if version > newest {
            return Err(Refused::new(Reason::NewPolicy, "admission.policy"));
        }
        let old = Refused::new(Reason::OldPolicy, "admission.policy");
        let mut from = self.entered.iter().skip_while(|&&(known, ..)| known < version);
        let (_, known, _) = from.next().filter(|&&(known, ..)| known == version).ok_or(old)?;
        if known != digest {
            return Err(Refused::new(Reason::BadAdmission, "admission.policy"));
        }
        match from.next() {
            Some(&(_, _, since)) if at > since.plus(POLICY_GRACE_MS) => Err(old),
            _ => Ok(()),
        }
    }
}

/// The highest lease epoch seen of each partition's guard: a guard that lost its lease must not admit.
#[derive(Debug)]
pub struct EpochFloor([AtomicU64; Partition::COUNT as usize]);

impl Default for EpochFloor {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Partition::COUNT as usize])
    }
}

impl EpochFloor {
    /// Notes an epoch that a verified admission or heartbeat names.
    ///
    /// # Errors
    /// `old_epoch` if a higher one was noted before.
    pub fn note(&self, partition: Partition, epoch: u64) -> Result<(), Refused> {
        let old = Refused::new(Reason::OldEpoch, "admission.epoch");
        let floor = self.0.get(usize::from(partition.number())).ok_or(old)?;
        if floor.fetch_max(epoch, Ordering::Relaxed) > epoch { Err(old) } else { Ok(()) }
    }

    /// Refuses an admission of an epoch below the highest noted.
    pub(super) fn check(&self, decision: &Decision) -> Result<(), Refused> {
        let bad = Refused::new(Reason::BadAdmission, "admission.partition");
        self.note(Partition::new(decision.partition).ok_or(bad)?, decision.epoch)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_version_is_good_until_its_own_successor_and_not_the_newest_replaced_it() {
        let mut history = PolicyHistory::default();
        let at = |n| history_check(&history_of(3), n);
        fn history_of(n: u64) -> PolicyHistory {
            let mut history = PolicyHistory::default();
            for version in 1..=n {
                history.enter(version, [0; 32], Millis(version * 100_000)).unwrap();
            }
            history
        }
        fn history_check(history: &PolicyHistory, at: u64) -> bool {
            history.check(1, &[0; 32], Millis(at)).is_ok()
        }
        assert!(at(230_000) && !at(230_001) && !at(330_000));
        assert_eq!(history.check(1, &[0; 32], Millis(0)).unwrap_err().reason, Reason::NoPolicy);
        history = history_of(40);
        assert_eq!(history.check(24, &[0; 32], Millis(0)).unwrap_err().reason, Reason::OldPolicy);
        assert_eq!(history.check(41, &[0; 32], Millis(0)).unwrap_err().reason, Reason::NewPolicy);
        assert_eq!(history.check(40, &[1; 32], Millis(0)).unwrap_err().reason, Reason::BadAdmission);
        assert_eq!(history.enter(40, [1; 32], Millis(0)).unwrap_err().reason, Reason::RolledBack);
    }

    #[test]
    fn epochs_rise_in_each_partition_apart() {
        let floor = EpochFloor::default();
        let [a, b] = [1, 2].map(|n| Partition::new(n).unwrap());
        floor.note(a, 5).unwrap();
        floor.note(b, 1).unwrap();
        floor.note(a, 5).unwrap();
        assert_eq!(floor.note(a, 4).unwrap_err().reason, Reason::OldEpoch);
    }
}

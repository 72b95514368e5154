//! What is held until people approve it: who approved so far, who is to be asked next, when it is too late.
//!
//! An approval is a person's signature over one sealed envelope's digest, so who brings it does not matter. Different
//! people are counted, by name as well as by key; one denial is enough; no answer denies. The hold that counts is the
//! one of the policy in force, since that is what readers count by; if it holds no longer, the one that the envelope
//! was held under.

mod held;

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use sealbus_envelope::{
    approval::SignedApproval,
    hash::Hash,
    identity::{SessionId, Status},
    keys::KeyId,
    name::{AgentToken, Name},
    policy::{ApproverList, MAX_APPROVALS},
    reader::ReplayWindow,
    reason::{Reason, Refused},
    time::Millis,
};

use crate::policy::compile::CompiledPolicy;

use self::held::people;
pub use self::held::{End, Held, MIN_LIFETIME_MS, Wanted, WantedBy, strike, wanted};

/// The most envelopes of one sender that are held at once, and how many bytes of them.
pub const MAX_OF_SENDER: (usize, usize) = (256, 16 << 20);
/// The most that are held at once, and how many bytes of them.
pub const MAX_IN_ALL: (usize, usize) = (4_096, 128 << 20);
/// The most that end in one tick because their time is over; the others end in the next ones. The guard waits for log
/// and disk meanwhile, and when they end is for their senders to choose, who may make them all end at once.
pub const MAX_OVER: usize = 256;

/// What an approval that counts means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// The same person had said so before.
    Again,
    /// One more; so many are missing still, and at none it may go.
    Counts {
        /// How many are missing.
        missing: u8,
    },
    /// An approver says no.
    Denies,
}

/// A list of people who are to be told now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Of which envelope.
    pub digest: Hash,
    /// What wants it.
    pub by: WantedBy,
    /// The list.
    pub list: Name,
    /// Its people.
    pub people: Vec<Name>,
    /// Whether others were asked before and did not answer.
    pub escalated: bool,
}

/// What time brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Lists to tell.
    pub asked: Vec<Asked>,
    /// Envelopes whose time is over, and why: at most [`MAX_OVER`].
    pub over: Vec<(Hash, End)>,
    /// Envelopes that have all approvals.
    pub complete: Vec<Hash>,
}

#[derive(Debug)]
struct Waiting {
    held: Held,
    bytes: Bytes,
    /// Lists that were told, in the order of when they are.
    told: usize,
    /// When the next list is told; none if all were. Thousands wait, and each second asks them all.
    ask_at: Option<Millis>,
}

/// What waits under one key.
#[derive(Debug, Default)]
struct UnderKey {
    count: usize,
    /// The highest sequence number that went on to readers since the first of these waits.
    passed: u64,
}

impl Waiting {
    /// The lists whose turn has come since it was last asked.
    fn ask(&mut self, now: Millis) -> Vec<Asked> {
        if self.ask_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let held = &self.held;
        let wanted = held.wanted.iter();
        let mut lists: Vec<(&WantedBy, &ApproverList)> =
            wanted.flat_map(|Wanted { by, hold }| hold.lists.iter().map(move |list| (by, list))).collect();
        lists.sort_by_key(|(_, list)| list.after_ms);
        let at = |list: &ApproverList| held.received.plus(u64::from(list.after_ms));
        let due = lists.iter().filter(|(_, list)| at(list) <= now).count();
        let asked = |(by, list): &(&WantedBy, &ApproverList)| Asked {
            digest: held.digest,
            by: WantedBy::clone(by),
            list: list.name.clone(),
            people: list.people.iter().map(|(name, _)| name.clone()).collect(),
            escalated: list.after_ms > 0,
        };
        let asked: Vec<Asked> = lists.iter().take(due).skip(self.told).map(asked).collect();
        self.ask_at = lists.get(due).map(|(_, list)| at(list));
        self.told = self.told.max(due);
        asked
    }
}

/// All that is held.
#[derive(Debug, Default)]
pub struct Holds {
    waiting: HashMap<Hash, Waiting>,
    /// By when they came: what is listed first is what waits longest.
    order: BTreeSet<(Millis, Hash)>,
    of_sender: HashMap<AgentToken, (usize, usize)>,
    of_key: HashMap<(SessionId, KeyId), UnderKey>,
    bytes: usize,
}

impl Holds {
    /// Whether one more envelope of this size fits: a person decides slowly, and a sender writes fast.
    ///
    /// # Errors
    /// `hold_full`; `policy_invalid` if it wants more approvals than can go along with it.
    pub fn check_room(&self, agent: &AgentToken, size: usize, wanted: &[Wanted]) -> Result<(), Refused> {
        let (count, bytes) = self.of_sender.get(agent).copied().unwrap_or_default();
        if count >= MAX_OF_SENDER.0 || bytes.saturating_add(size) > MAX_OF_SENDER.1 {
            return Err(Refused::new(Reason::HoldFull, "sender"));
        }
        if self.waiting.len() >= MAX_IN_ALL.0 || self.bytes.saturating_add(size) > MAX_IN_ALL.1 {
            return Err(Refused::new(Reason::HoldFull, "guard"));
        }
        let most: u32 = wanted.iter().map(|wanted| u32::from(wanted.hold.approvals)).sum();
        if most > u32::from(MAX_APPROVALS) {
            return Err(Refused::new(Reason::PolicyInvalid, "hold"));
        }
        Ok(())
    }

    /// Holds an envelope. What was on disk is taken without asking for room.
    pub fn insert(&mut self, held: Held, bytes: Bytes) {
        if self.waiting.contains_key(&held.digest) {
            return;
        }
        let of_sender = self.of_sender.entry(held.agent.clone()).or_default();
        *of_sender = (of_sender.0 + 1, of_sender.1 + bytes.len());
        self.bytes += bytes.len();
        self.of_key.entry((held.session, held.key)).or_default().count += 1;
        self.order.insert((held.received, held.digest));
        let ask_at = Some(held.received);
        self.waiting.insert(held.digest, Waiting { held, bytes, told: 0, ask_at });
    }

    /// Takes an envelope out: it is decided.
    pub fn remove(&mut self, digest: &Hash) -> Option<(Held, Bytes)> {
        let Waiting { held, bytes, .. } = self.waiting.remove(digest)?;
        self.order.remove(&(held.received, held.digest));
        self.discount(&held, bytes.len());
        Some((held, bytes))
    }

    fn discount(&mut self, held: &Held, size: usize) {
        self.bytes = self.bytes.saturating_sub(size);
        if let Some(of_sender) = self.of_sender.get_mut(&held.agent) {
            *of_sender = (of_sender.0.saturating_sub(1), of_sender.1.saturating_sub(size));
            if of_sender.0 == 0 {
                self.of_sender.remove(&held.agent);
            }
        }
        let key = (held.session, held.key);
        if let Some(under) = self.of_key.get_mut(&key) {
            under.count = under.count.saturating_sub(1);
            if under.count == 0 {
                self.of_key.remove(&key);
            }
        }
    }

    /// What an approval means, without taking it: it is to be durable first.
    ///
    /// # Errors
    /// `not_held`; `approval_invalid` if its signer is no approver of what the envelope waits for.
    pub fn judge(&self, signed: &SignedApproval) -> Result<Judged, Refused> {
        let approval = signed.approval();
        let held = self.get(&approval.envelope).ok_or(Refused::new(Reason::NotHeld, "approval.envelope"))?;
        held.person(signed.key()).ok_or(Refused::new(Reason::ApprovalInvalid, "approval.key"))?;
        if !approval.approve {
            return Ok(Judged::Denies);
        }
        // One person is one, whichever of their keys signs: what no hold counts is not kept either.
        let mut with = held.clone();
        with.approvals.push(signed.clone());
        let counts = |held: &Held| -> usize {
            held.wanted.iter().map(|wanted| people(&wanted.hold, &held.approvals).len()).sum()
        };
        if counts(&with) == counts(held) {
            return Ok(Judged::Again);
        }
        Ok(Judged::Counts { missing: with.missing() })
    }

    /// Takes an approval that counts.
    pub fn approve(&mut self, signed: SignedApproval) -> Option<&Held> {
        let waiting = self.waiting.get_mut(&signed.approval().envelope)?;
        waiting.held.approvals.push(signed);
        Some(&waiting.held)
    }

    /// Whom to ask now about one envelope.
    pub fn ask(&mut self, digest: &Hash, now: Millis) -> Vec<Asked> {
        self.waiting.get_mut(digest).map(|waiting| waiting.ask(now)).unwrap_or_default()
    }

    /// What is due at this time: whom to ask, what is too late, what may go. The oldest first.
    pub fn tick(&mut self, now: Millis) -> Due {
        let mut due = Due::default();
        for (_, digest) in &self.order {
            let Some(waiting) = self.waiting.get_mut(digest) else { continue };
            let (until, end) = waiting.held.until();
            if now >= until {
                if due.over.len() < MAX_OVER {
                    due.over.push((*digest, end));
                }
                continue;
            }
            if waiting.held.missing() == 0 {
                due.complete.push(*digest);
                continue;
            }
            due.asked.extend(waiting.ask(now));
        }
        due
    }

    /// Another policy or status is in force: what it wants approved, of people whose keys are good, is what counts
    /// from now on. What it no longer holds goes on waiting for the people it was held for; they had been told of it.
    pub fn follow(&mut self, policy: &CompiledPolicy, status: &Status) {
        for waiting in self.waiting.values_mut() {
            let held = &mut waiting.held;
            let mut wanted = wanted(policy, held.rule.as_str(), held.flow_grant.as_ref().map(Name::as_str));
            if wanted.is_empty() {
                wanted.clone_from(&held.wanted);
            }
            strike(&mut wanted, status);
            if wanted != held.wanted {
                held.wanted = wanted;
                (waiting.told, waiting.ask_at) = (0, Some(held.received));
            }
        }
    }

    /// An envelope went on to readers: those held under its key are behind it now. Each admission asks, so it must not
    /// cost more the more a sender has waiting.
    pub fn passed(&mut self, session: SessionId, key: KeyId, sequence: u64) {
        if let Some(under) = self.of_key.get_mut(&(session, key)) {
            under.passed = under.passed.max(sequence);
        }
    }

    /// Whether readers would take it for a replay: so many of its key went past it that they no longer know.
    #[must_use]
    pub fn is_overtaken(&self, digest: &Hash) -> bool {
        let Some(held) = self.get(digest) else { return false };
        let under = self.of_key.get(&(held.session, held.key));
        under.is_some_and(|under| under.passed.saturating_sub(held.sequence) >= ReplayWindow::WIDTH)
    }

    /// What is held with this digest.
    #[must_use]
    pub fn get(&self, digest: &Hash) -> Option<&Held> {
        self.waiting.get(digest).map(|waiting| &waiting.held)
    }

    /// Its sealed bytes.
    #[must_use]
    pub fn bytes(&self, digest: &Hash) -> Option<&Bytes> {
        self.waiting.get(digest).map(|waiting| &waiting.bytes)
    }

    /// The digests of what an agent has waiting.
    #[must_use]
    pub fn of_agent(&self, agent: &AgentToken) -> Vec<Hash> {
        if !self.of_sender.contains_key(agent) {
            return Vec::new();
        }
        self.iter().filter(|(held, _)| held.agent == *agent).map(|(held, _)| held.digest).collect()
    }

    /// The keys that something waits under, and their sessions.
    pub fn keys(&self) -> impl Iterator<Item = (SessionId, KeyId)> + '_ {
        self.of_key.keys().copied()
    }

    /// All of it, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Held, &Bytes)> {
        let waiting = self.order.iter().filter_map(|(_, digest)| self.waiting.get(digest));
        waiting.map(|waiting| (&waiting.held, &waiting.bytes))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the oldest came.
    #[must_use]
    pub fn oldest(&self) -> Option<Millis> {
        self.order.first().map(|(received, _)| *received)
    }
}

#[cfg(test)]
mod tests;

//! What is held until people approve it: who approved so far, who is to be asked next, when it is too late.
//!
//! An approval is a person's signature over one sealed envelope's digest, so who brings it does not matter. Different
//! people are counted, by name as well as by key; one denial is enough; no answer denies. The hold that counts is the
//! one of the policy in force, since that is what readers count by; if it holds no longer, the one that the envelope
//! was held under.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use sealbus_envelope::{
    approval::SignedApproval,
    control::{HeldHold, HeldReport, ListState},
    hash::{Hash, hex},
    identity::{PublicKey, SessionId, Status},
    keys::KeyId,
    label::Label,
    name::{AgentToken, Name},
    policy::{ApproverList, Hold, MAX_APPROVALS},
    reader::ReplayWindow,
    reason::{Reason, Refused},
    time::Millis,
    wire::{EnvelopeId, Header},
};

use crate::policy::compile::CompiledPolicy;

/// The most envelopes of one sender that are held at once, and how many bytes of them.
pub const MAX_OF_SENDER: (usize, usize) = (256, 16 << 20);
/// The most that are held at once, and how many bytes of them.
pub const MAX_IN_ALL: (usize, usize) = (4_096, 128 << 20);
/// The most that end in one tick because their time is over; the others end in the next ones. The guard waits for log
/// and disk meanwhile, and when they end is for their senders to choose, who may make them all end at once.
pub const MAX_OVER: usize = 256;
/// What is of use to its sender for no longer than this, in milliseconds, does not wait: nobody decides so fast, and it
/// would only keep log and disk busy.
pub const MIN_LIFETIME_MS: u64 = 5_000;

/// What wants an approval.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum WantedBy {
    /// The rule that the envelope goes under.
    Rule(Name),
    /// The flow grant that it names.
    Grant(Name),
}

impl WantedBy {
    /// In words: `rule NAME` or `flow grant NAME`.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Rule(name) => format!("rule {name}"),
            Self::Grant(name) => format!("flow grant {name}"),
        }
    }
}

/// A hold, and what wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What.
    pub by: WantedBy,
    /// How many, whom, until when.
    pub hold: Hold,
}

/// What the policy wants approved of an envelope under this rule and with this flow grant.
#[must_use]
pub fn wanted(policy: &CompiledPolicy, rule: &str, grant: Option<&str>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    if let Some(rule) = policy.rule(rule)
        && let Some(hold) = &rule.hold
    {
        wanted.push(Wanted { by: WantedBy::Rule(rule.name.clone()), hold: Hold::clone(hold) });
    }
    if let Some(grant) = grant.and_then(|name| policy.grant(name))
        && let Some(hold) = &grant.record.approval
    {
        wanted.push(Wanted { by: WantedBy::Grant(grant.record.name.clone()), hold: hold.clone() });
    }
    wanted
}

/// Takes away whose keys the status statement revokes: who stole one approves nothing with it, nor did before it was
/// told of. If too few are left, nothing comes through until the policy names others.
pub fn strike(wanted: &mut [Wanted], status: &Status) {
    for list in wanted.iter_mut().flat_map(|wanted| &mut wanted.hold.lists) {
        list.people.retain(|(_, key)| !status.is_revoked(key));
    }
}

/// Why an envelope stops waiting when its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The people's time is over.
    Deadline,
    /// The sender's time-to-live is over before that.
    Lifetime,
}

impl End {
    /// The reason that its sender hears.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Deadline => Reason::ApprovalExpired,
            Self::Lifetime => Reason::Expired,
        }
    }
}

/// An envelope that waits, with all that it needs to be judged again when its sender is gone and the guard another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its digest.
    pub digest: Hash,
    /// Its id.
    pub id: EnvelopeId,
    /// Who sent it, as the broker attested.
    pub agent: AgentToken,
    /// In which session.
    pub session: SessionId,
    /// Under which rule.
    pub rule: Name,
    /// With which flow grant.
    pub flow_grant: Option<Name>,
    /// On which logical subject.
    pub subject: String,
    /// Its label.
    pub label: Label,
    /// The key it is sealed with.
    pub key: KeyId,
    /// Its sequence number under that key.
    pub sequence: u64,
    /// When its sender sealed it.
    pub sealed: Millis,
    /// How long its sender gave it, in milliseconds from then.
    pub ttl_ms: u32,
    /// Whether its sender wants the verdict.
    pub confirm: bool,
    /// When the guard got it.
    pub received: Millis,
    /// The policy under which it passed every check.
    pub policy: Hash,
    /// The sender's credential as it was then.
    pub credential: String,
    /// The sender's session certificate.
    pub certificate: Vec<u8>,
    /// What it waits for: at least one.
    pub wanted: Vec<Wanted>,
    /// What people approved, in the order it came; each of different keys.
    pub approvals: Vec<SignedApproval>,
}

impl Held {
    /// An envelope that has just passed every check.
    #[must_use]
    pub fn new(
        header: &Header<'_>,
        digest: Hash,
        agent: AgentToken,
        (rule, flow_grant): (Name, Option<Name>),
        (credential, certificate): (String, Vec<u8>),
        (policy, wanted): (Hash, Vec<Wanted>),
        now: Millis,
    ) -> Self {
        Self {
            digest,
            id: header.id,
            agent,
            session: header.session,
            rule,
            flow_grant,
            subject: header.subject.to_owned(),
            label: header.label,
            key: header.key,
            sequence: header.sequence,
            sealed: header.issued_at,
            ttl_ms: header.ttl_ms,
            confirm: header.flags.confirm(),
            received: now,
            policy,
            credential,
            certificate,
            wanted,
            approvals: Vec::new(),
        }
    }

    /// When it is denied if it was not approved: the shortest deadline of its holds, or when the sender's
    /// time-to-live is over if that is sooner. Nobody may be handed what its sender called of no use any more.
    #[must_use]
    pub fn until(&self) -> (Millis, End) {
        let deadline = self.wanted.iter().map(|wanted| wanted.hold.deadline_ms).min().unwrap_or(0);
        let deadline = self.received.plus(u64::from(deadline));
        let lifetime = self.sealed.plus(u64::from(self.ttl_ms));
        if lifetime < deadline { (lifetime, End::Lifetime) } else { (deadline, End::Deadline) }
    }

    /// Whether its sender gave people time to look at it at all.
    ///
    /// # Errors
    /// `expired`.
    pub fn check_lifetime(&self, now: Millis) -> Result<(), Refused> {
        match self.until() {
            (until, End::Lifetime) if until < now.plus(MIN_LIFETIME_MS) => {
                Err(Refused::new(Reason::Expired, "hold"))
            }
            _ => Ok(()),
        }
    }

    /// The name of the person whose key this is.
    #[must_use]
    pub fn person(&self, key: &PublicKey) -> Option<&Name> {
        self.wanted.iter().find_map(|wanted| wanted.hold.person(key))
    }

    /// How many approvals are missing, of the hold that misses most.
    #[must_use]
    pub fn missing(&self) -> u8 {
        let missing = |wanted: &Wanted| {
            let given = people(&wanted.hold, &self.approvals).len();
            wanted.hold.approvals.saturating_sub(u8::try_from(given).unwrap_or(u8::MAX))
        };
        self.wanted.iter().map(missing).max().unwrap_or(u8::MAX)
    }

    /// The most approvals that any of its holds wants.
    #[must_use]
    pub fn needed(&self) -> u8 {
        self.wanted.iter().map(|wanted| wanted.hold.approvals).max().unwrap_or(0)
    }

    /// The fewest approvals that satisfy all its holds, to go along with it: those that count for several first.
    #[must_use]
    pub fn proof(&self) -> Vec<SignedApproval> {
        let counts = |approval: &&SignedApproval| {
            self.wanted.iter().filter(|wanted| wanted.hold.person(approval.key()).is_some()).count()
        };
        let mut offered: Vec<&SignedApproval> = self.approvals.iter().collect();
        offered.sort_by_key(|approval| std::cmp::Reverse(counts(approval)));
        let mut chosen: Vec<SignedApproval> = Vec::new();
        for approval in offered {
            let of_use = self.wanted.iter().any(|wanted| {
                let now = people(&wanted.hold, &chosen).len();
                let with: Vec<_> = chosen.iter().chain([approval]).cloned().collect();
                now < usize::from(wanted.hold.approvals) && people(&wanted.hold, &with).len() > now
            });
            if of_use {
                chosen.push(approval.clone());
            }
        }
        chosen
    }

    /// Who approved, as the policy names them.
    #[must_use]
    pub fn approved_by(&self) -> Vec<Name> {
        let mut names: Vec<Name> =
            self.approvals.iter().filter_map(|approval| self.person(approval.key()).cloned()).collect();
        names.dedup();
        names
    }

    /// What approvers see of it: nothing of what is in it.
    #[must_use]
    pub fn report(&self, size: usize, now: Millis) -> HeldReport {
        let hold = |wanted: &Wanted| HeldHold {
            wanted_by: wanted.by.text(),
            approvals: wanted.hold.approvals,
            approved: people(&wanted.hold, &self.approvals).into_iter().cloned().collect(),
            lists: wanted
                .hold
                .lists
                .iter()
                .map(|list| {
                    let at = self.received.plus(u64::from(list.after_ms));
                    let people = list.people.iter().map(|(name, _)| name.clone()).collect();
                    ListState { name: list.name.clone(), at, told: at <= now, people }
                })
                .collect(),
        };
        HeldReport {
            digest: hex(&self.digest),
            envelope: self.id.to_string(),
            sender: self.agent.to_string(),
            session: self.session.to_string(),
            rule: self.rule.clone(),
            flow_grant: self.flow_grant.clone(),
            subject: self.subject.clone(),
            label: self.label,
            size: u64::try_from(size).unwrap_or(u64::MAX),
            sealed: self.sealed,
            received: self.received,
            until: self.until().0,
            holds: self.wanted.iter().map(hold).collect(),
        }
    }
}

/// The different people of a hold who approved: told apart by name as well as by key, as readers tell them apart.
fn people<'h>(hold: &'h Hold, approvals: &[SignedApproval]) -> Vec<&'h Name> {
    let mut names: Vec<&Name> = Vec::new();
    let mut keys: Vec<&PublicKey> = Vec::new();
    for approval in approvals {
        if let Some(person) = hold.person(approval.key())
            && !names.contains(&person)
            && !keys.contains(&approval.key())
        {
            names.push(person);
            keys.push(approval.key());
        }
    }
    names
}

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

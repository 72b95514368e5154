//! One envelope that waits: for whom, until when, and who approved it so far.

use sealbus_envelope::{
    approval::SignedApproval,
    control::{HeldHold, HeldReport, ListState},
    hash::{Hash, hex},
    identity::{PublicKey, SessionId, Status},
    keys::KeyId,
    label::Label,
    name::{AgentToken, Name},
    policy::Hold,
    reason::{Reason, Refused},
    time::Millis,
    wire::{EnvelopeId, Header},
};

use crate::policy::compile::CompiledPolicy;

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
pub(super) fn people<'h>(hold: &'h Hold, approvals: &[SignedApproval]) -> Vec<&'h Name> {
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

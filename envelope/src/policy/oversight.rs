//! Human oversight as signed records: how people watch over a workflow, and what waits for their approval.

use std::fmt;

use crate::{
    identity::PublicKey,
    name::{MAX_NAME, Name},
    reason::{Reason, Refused},
    wire::codec::{Reader, Writer},
};

/// The most lists of approvers that one hold names.
pub const MAX_LISTS: usize = 8;
/// The most people on one list.
pub const MAX_PEOPLE: usize = 32;
/// The most approvals that a hold can want.
pub const MAX_APPROVALS: u8 = 16;
/// The longest that something is held, in milliseconds: a day. Readers must still have the key by then.
pub const MAX_HOLD_MS: u32 = 24 * 3_600_000;

/// How people watch over a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Oversight {
    /// A fixed workflow with tight limits: a deviation pauses all of it until a person resumes it.
    Directed,
    /// Latitude, a full log of what was done, and a periodic review.
    OpenEnded,
}

impl Oversight {
    /// The word in policy files and reports.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Directed => "directed",
            Self::OpenEnded => "open-ended",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Directed => 1,
            Self::OpenEnded => 2,
        }
    }

    pub(super) fn write(mode: Option<Self>, w: &mut Writer) {
        w.uint(mode.map_or(0, Self::number));
    }

    pub(super) fn read(r: &mut Reader<'_>, what: &'static str) -> Result<Option<Self>, Refused> {
        match r.uint()? {
            0 => Ok(None),
            1 => Ok(Some(Self::Directed)),
            2 => Ok(Some(Self::OpenEnded)),
            _ => Err(Refused::new(Reason::BadEncoding, what)),
        }
    }
}

/// People who may approve, and from when on they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ApproverList {
    /// The list's name in the policy.
    pub name: Name,
    /// How long after the envelope came these people are told: escalation, in milliseconds. They may decide sooner.
    pub after_ms: u32,
    /// Each person's name and the key that signs for them.
    pub people: Vec<(Name, PublicKey)>,
}

/// What is held until people approve it.
///
/// It stands whole in the record that wants it, so that a *reader* checks the approvals against the signed policy
/// too: a guard cannot let a held envelope pass alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hold {
    /// How many different people must approve.
    pub approvals: u8,
    /// How long they have, in milliseconds from the guard's receipt; no answer denies.
    pub deadline_ms: u32,
    /// Who may, in the order in which they are asked.
    pub lists: Vec<ApproverList>,
}

impl Hold {
    /// The name of the person whose key this is: the one beside it where it first stands.
    #[must_use]
    pub fn person(&self, key: &PublicKey) -> Option<&Name> {
        let people = self.lists.iter().flat_map(|list| &list.people);
        people.into_iter().find(|(_, of)| of == key).map(|(name, _)| name)
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.array(3).uint(self.approvals).uint(self.deadline_ms).array(self.lists.len());
        for list in &self.lists {
            w.array(3).str(list.name.as_str()).uint(list.after_ms).array(list.people.len());
            for (name, key) in &list.people {
                w.array(2).str(name.as_str()).bin(key.as_bytes());
            }
        }
    }

    /// No approval wanted, nobody to give it, or no time for it would be no hold at all.
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Refused> {
        r.array(3)?;
        let approvals = u8::try_from(r.uint()?).unwrap_or(u8::MAX);
        let deadline_ms = r.small()?;
        let count = r.array_len(MAX_LISTS)?;
        let mut lists = Vec::with_capacity(count);
        for _ in 0..count {
            r.array(3)?;
            let (name, after_ms) = (Name::parse(r.str(MAX_NAME)?)?, r.small()?);
            let count = r.array_len(MAX_PEOPLE)?;
            let mut people = Vec::with_capacity(count);
            for _ in 0..count {
                r.array(2)?;
                people.push((Name::parse(r.str(MAX_NAME)?)?, PublicKey::from_bytes(&r.bin_array()?)?));
            }
            lists.push(ApproverList { name, after_ms, people });
        }
        let hold = Self { approvals, deadline_ms, lists };
        let sound = (1..=MAX_APPROVALS).contains(&approvals)
            && (1..=MAX_HOLD_MS).contains(&deadline_ms)
            && hold.different_people() >= usize::from(approvals);
        if sound { Ok(hold) } else { Err(Refused::new(Reason::PolicyInvalid, "hold")) }
    }

    /// How many people there are: names that keys stand for. One person with two keys is one, and so are two names on
    /// one key.
    #[must_use]
    pub fn different_people(&self) -> usize {
        let people = self.lists.iter().flat_map(|list| &list.people);
        let mut names: Vec<_> = people.filter_map(|(_, key)| self.person(key)).collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    }
}

/// In words: `2 of ann, bob, carol within 15 min`.
impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of ", self.approvals)?;
        let mut said: Vec<&Name> = Vec::new();
        for (name, _) in self.lists.iter().flat_map(|list| &list.people) {
            if !said.contains(&name) {
                f.write_str(if said.is_empty() { "" } else { ", " })?;
                f.write_str(name.as_str())?;
                said.push(name);
            }
        }
        match self.deadline_ms {
            ms if ms % 60_000 == 0 => write!(f, " within {} min", ms / 60_000),
            ms if ms % 1_000 == 0 => write!(f, " within {} s", ms / 1_000),
            ms => write!(f, " within {ms} ms"),
        }
    }
}

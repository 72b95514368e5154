//! What guards, senders and approvers say to each other about envelopes that wait for approval.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    hash::Hash,
    label::Label,
    name::Name,
    reason::{Reason, Refused},
    time::Millis,
    wire::EnvelopeId,
};

/// The most held envelopes that one answer lists.
pub const MAX_HELD_LISTED: usize = 64;

/// `held` downwards: what you sent passed every check and is on the guard's disk, and waits until people approve it.
/// The verdict follows if it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldNotice {
    /// The envelope's digest: what an approval binds.
    #[serde(with = "serde_bytes")]
    pub digest: Hash,
    /// Its id.
    pub id: EnvelopeId,
    /// Its logical subject.
    pub subject: String,
    /// How many approvals it waits for.
    pub approvals: u8,
    /// The guard's clock.
    pub time: Millis,
    /// When it is denied if they have not come, by the guard's clock.
    pub until: Millis,
}

/// `approval` upwards: what a person signed. Whoever carries it need not be trusted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubmitApproval {
    /// A [`SignedApproval`](crate::approval::SignedApproval).
    pub approval: ByteBuf,
}

/// `approval` downwards: what became of it. Also what the guard's page answers, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The digest of the envelope that it is about, in hexadecimal; empty if it could not be read.
    pub envelope: String,
    /// Why it does not count, if it does not.
    pub refused: Option<Reason>,
    /// Which part gave the reason.
    pub what: Option<String>,
    /// Who signed it, as the policy names them.
    pub person: Option<Name>,
    /// Whether that person had said the same before.
    pub again: bool,
    /// What the envelope is now: `waiting`, `released`, `denied`.
    pub state: Option<String>,
    /// Why it is denied, if it is: its approvals may be complete and the policy no longer allow it.
    pub denied: Option<Reason>,
    /// How many approvals are missing still.
    pub missing: u8,
}

impl Submitted {
    /// It does not count. `envelope` is the digest in hexadecimal, empty if it could not be read.
    #[must_use]
    pub fn refused(envelope: String, refused: Refused) -> Self {
        Self {
            envelope,
            refused: Some(refused.reason),
            what: Some(refused.what.to_owned()),
            person: None,
            again: false,
            state: None,
            denied: None,
            missing: 0,
        }
    }
}

/// `held` upwards: asks what is held under rules that this session's agent is a named reader of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskHeld {
    /// The session's own number for the question.
    pub id: u32,
    /// Only this one, with its sealed bytes.
    pub digest: Option<ByteBuf>,
}

/// `handed`: the guard's answer to `held`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handed {
    /// The session's number for the question.
    pub id: u32,
    /// Why there is no answer, if there is none.
    pub refused: Option<Reason>,
    /// What is held: the oldest first, at most [`MAX_HELD_LISTED`].
    pub list: HeldList,
    /// The sealed envelope, the sender's bytes untouched, if one was asked for.
    pub envelope: Option<ByteBuf>,
}

/// What is held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldList {
    /// One each.
    pub held: Vec<HeldReport>,
    /// How many more there are.
    pub more: u32,
}

/// What the guard knows of a held envelope: who, under what, until when, who approved. Nothing of what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldReport {
    /// The envelope's digest, in hexadecimal: what is approved.
    pub digest: String,
    /// Its id, in hexadecimal.
    pub envelope: String,
    /// The sender, as subjects name it.
    pub sender: String,
    /// The sender's session, in hexadecimal.
    pub session: String,
    /// The rule.
    pub rule: Name,
    /// The flow grant that it names.
    pub flow_grant: Option<Name>,
    /// The logical subject.
    pub subject: String,
    /// The label.
    pub label: Label,
    /// Its size, in bytes.
    pub size: u64,
    /// When the sender sealed it, by its clock.
    pub sealed: Millis,
    /// When the guard got it.
    pub received: Millis,
    /// When it is denied if it was not approved.
    pub until: Millis,
    /// What it waits for: each must be satisfied.
    pub holds: Vec<HeldHold>,
}

impl HeldReport {
    /// How many approvals are missing, of all that it waits for.
    #[must_use]
    pub fn missing(&self) -> u8 {
        self.holds.iter().map(HeldHold::missing).max().unwrap_or(0)
    }
}

/// One thing that a held envelope waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldHold {
    /// What wants it: `rule NAME` or `flow grant NAME`.
    pub wanted_by: String,
    /// How many different people must approve.
    pub approvals: u8,
    /// Who did.
    pub approved: Vec<Name>,
    /// Who may, in the order in which they are asked.
    pub lists: Vec<ListState>,
}

impl HeldHold {
    /// How many approvals are missing.
    #[must_use]
    pub fn missing(&self) -> u8 {
        self.approvals.saturating_sub(u8::try_from(self.approved.len()).unwrap_or(u8::MAX))
    }
}

/// A list of approvers, and whether they were asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListState {
    /// Its name in the policy.
    pub name: Name,
    /// When it is asked.
    pub at: Millis,
    /// Whether it was.
    pub told: bool,
    /// Its people.
    pub people: Vec<Name>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::control::{decode, encode};

    #[test]
    fn what_is_said_of_held_envelopes_reads_back_from_its_own_form() {
        let notice = HeldNotice {
            digest: [1; 32],
            id: EnvelopeId::from_bytes([2; 16]),
            subject: "a.b".into(),
            approvals: 2,
            time: Millis(3),
            until: Millis(4),
        };
        assert_eq!(decode::<HeldNotice>(&encode(&notice).unwrap()).unwrap(), notice);
        let duty = Name::parse("duty").unwrap();
        let list = ListState { name: duty.clone(), at: Millis(5), told: true, people: vec![duty.clone()] };
        let hold = HeldHold {
            wanted_by: "rule r".into(),
            approvals: 2,
            approved: vec![duty.clone()],
            lists: vec![list],
        };
        let report = HeldReport {
            digest: "00".into(),
            envelope: "11".into(),
            sender: "a-b".into(),
            session: "22".into(),
            rule: duty.clone(),
            flow_grant: None,
            subject: "a.b".into(),
            label: Label::BOTTOM,
            size: 7,
            sealed: Millis(1),
            received: Millis(2),
            until: Millis(3),
            holds: vec![hold],
        };
        assert_eq!(report.missing(), 1);
        let list = HeldList { held: vec![report], more: 0 };
        let handed = Handed { id: 1, refused: None, list, envelope: Some(ByteBuf::from([1])) };
        let read: Handed = decode(&encode(&handed).unwrap()).unwrap();
        assert_eq!((read.list, read.envelope), (handed.list, handed.envelope));
        let submitted = Submitted {
            envelope: "00".into(),
            refused: Some(Reason::NotHeld),
            what: None,
            person: Some(duty),
            again: false,
            state: Some("waiting".into()),
            denied: None,
            missing: 1,
        };
        assert_eq!(decode::<Submitted>(&encode(&submitted).unwrap()).unwrap(), submitted);
        decode::<AskHeld>(&encode(&AskHeld { id: 1, digest: None }).unwrap()).unwrap();
        decode::<SubmitApproval>(&encode(&SubmitApproval { approval: ByteBuf::from([1]) }).unwrap()).unwrap();
    }
}

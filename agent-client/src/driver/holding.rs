//! What waits for people, from the session's side: its own messages, and what an approver asks the guard for.

use std::{collections::HashMap, time::Duration};

use sealbus_envelope::{
    control::{AskHeld, Handed, HeldNotice, SubmitApproval, Submitted, verb},
    hash::{Hash, hex},
    name::Name,
    time::Millis,
};
use serde_bytes::ByteBuf;
use tokio::sync::oneshot;

use super::Driver;
use crate::{error::Result, events::Event, held::Undecided, publish::Receipt, sync};

/// Questions to the guard that wait for their answers.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    next: u32,
    held: HashMap<u32, oneshot::Sender<Handed>>,
    approvals: Vec<(String, oneshot::Sender<Submitted>)>,
}

impl Asking {
    pub(crate) fn handed(&mut self, handed: Handed) {
        if let Some(done) = self.held.remove(&handed.id) {
            let _gave_up = done.send(handed);
        }
    }

    /// Answers come in the order of what was brought, and name the envelope if they could read it.
    pub(crate) fn submitted(&mut self, submitted: Submitted) {
        let same = self.approvals.iter().position(|(envelope, _)| *envelope == submitted.envelope);
        let unread = submitted.envelope.is_empty() && !self.approvals.is_empty();
        if let Some(place) = same.or(unread.then_some(0)) {
            let (_, done) = self.approvals.remove(place);
            let _gave_up = done.send(submitted);
        }
    }

    /// Forgets questions that nobody waits for any more.
    pub(crate) fn forget(&mut self) {
        self.held.retain(|_, done| !done.is_closed());
        self.approvals.retain(|(_, done)| !done.is_closed());
    }
}

/// Until when a notice can say that a message waits, if people have so long; none if nobody has to approve it.
fn latest(notice: &HeldNotice, people: Duration) -> Option<Millis> {
    let people = u64::try_from(people.as_millis()).unwrap_or(u64::MAX);
    (people > 0).then(|| notice.until.min(notice.time.plus(people)))
}

impl Driver {
    pub(super) fn ask_held(&mut self, digest: Option<Hash>, done: oneshot::Sender<Handed>) {
        let id = self.asking.next;
        self.asking.next = id.wrapping_add(1);
        self.asking.held.insert(id, done);
        let digest = digest.map(|digest| ByteBuf::from(digest.to_vec()));
        self.control.say(verb::HELD, &AskHeld { id, digest });
    }

    pub(super) fn bring_approval(
        &mut self,
        approval: Vec<u8>,
        digest: Hash,
        done: oneshot::Sender<Submitted>,
    ) {
        self.asking.approvals.push((hex(&digest), done));
        self.control.say(verb::APPROVAL, &SubmitApproval { approval: ByteBuf::from(approval) });
    }

    /// A message of ours waits for people. Its content is let go of, and its room in the outbox: people are slow.
    ///
    /// Nobody signed the notice. A server that makes one up must not have a caller wait a day where the policy holds
    /// nothing, nor longer than it gives people.
    pub(super) fn on_held(&self, mut notice: HeldNotice) {
        let mut verdicts = sync::lock(&self.shared.verdicts);
        if let Some(message) = verdicts.get(&notice.digest) {
            let view = sync::get(&self.shared.view);
            let grant = message.flow_grant.as_ref().map(Name::as_str);
            let people = view.map(|view| view.held_under(message.slot.rule.as_str(), grant));
            let Some(until) = people.and_then(|people| latest(&notice, people)) else { return };
            notice.until = until;
        }
        let waiting = verdicts.remove(&notice.digest);
        drop(verdicts);
        if let Some(message) = waiting
            && let Some(confirm) = message.confirm
        {
            let undecided = Undecided { confirm };
            sync::lock(&self.shared.held).insert(notice.digest, undecided);
            if let Some(held) = message.held {
                let _gave_up = held.send(notice.clone());
            }
        }
        let HeldNotice { digest, subject, approvals, until, .. } = notice;
        self.shared.events.send(Event::Held { digest, subject, approvals, until });
    }

    /// Who waits for what people decide about this message, if it was held.
    pub(super) fn decided(&self, digest: &Hash) -> Option<oneshot::Sender<Result<Receipt>>> {
        sync::lock(&self.shared.held).remove(digest).map(|undecided| undecided.confirm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_no_more_than_the_policy_gives_people() {
        let notice = |until| HeldNotice {
            digest: [1; 32],
            id: sealbus_envelope::wire::EnvelopeId::from_bytes([1; 16]),
            subject: "pay.now".to_owned(),
            approvals: 1,
            time: Millis(1_000),
            until: Millis(until),
        };
        let minute = Duration::from_secs(60);
        assert_eq!(latest(&notice(31_000), minute), Some(Millis(31_000)));
        assert_eq!(latest(&notice(86_401_000), minute), Some(Millis(61_000)));
        assert_eq!(latest(&notice(31_000), Duration::ZERO), None, "nobody has to approve it");
    }
}

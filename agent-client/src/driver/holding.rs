//! What waits for people, from the session's side: its own messages, and what an approver asks the guard for.

use std::collections::HashMap;

use sealbus_envelope::{
    control::{AskHeld, Handed, HeldNotice, SubmitApproval, Submitted, verb},
    hash::{Hash, hex},
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
    pub(super) fn on_held(&self, notice: HeldNotice) {
        let waiting = sync::lock(&self.shared.verdicts).remove(&notice.digest);
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

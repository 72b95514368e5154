//! What approvers ask for: what waits, its sealed bytes, and what they bring over the bus.

use bytes::Bytes;
use sealbus_envelope::{
    approval::SignedApproval,
    control::{AskHeld, Handed, HeldList, HeldReport, MAX_HELD_LISTED, encode, kind},
    hash::Hash,
    identity::SessionId,
    name::AgentToken,
    reason::{Reason, Refused},
    time::Millis,
};
use serde_bytes::ByteBuf;

use super::Desk;
use crate::{bus::egress::Outgoing, oversight::holds::Held};

/// What a handed-out envelope takes besides its own bytes.
const HANDED_OVERHEAD: usize = 4_096;

impl Desk {
    /// What is held, the oldest first.
    #[must_use]
    pub fn held_reports(&self, now: Millis) -> Vec<HeldReport> {
        self.holds.iter().map(|(held, bytes)| held.report(bytes.len(), now)).collect()
    }

    /// The sealed bytes of something held.
    #[must_use]
    pub fn held_bytes(&self, digest: &Hash) -> Option<Bytes> {
        self.holds.bytes(digest).cloned()
    }

    /// A session brought an approval.
    pub(in crate::bus::desk) fn approval_brought(
        &mut self,
        agent: &AgentToken,
        session: SessionId,
        approval: &[u8],
        now: Millis,
    ) {
        let submitted = self.approve(SignedApproval::verify(approval, self.bus), now);
        if let Ok(payload) = encode(&submitted) {
            let told = Outgoing::tell(&self.wire, agent, session, kind::APPROVAL, payload);
            self.todo.publish.push(told);
        }
    }

    /// A session asks what is held of what its agent may read.
    pub(in crate::bus::desk) fn tell_held(
        &mut self,
        agent: &AgentToken,
        session: SessionId,
        ask: &AskHeld,
        now: Millis,
    ) {
        let handed = self.hand(session, ask, now).unwrap_or_else(|refused| Handed {
            id: ask.id,
            refused: Some(refused.reason),
            list: HeldList::default(),
            envelope: None,
        });
        if let Ok(payload) = encode(&handed) {
            self.todo.publish.push(Outgoing::tell(&self.wire, agent, session, kind::HANDED, payload));
        }
    }

    fn hand(&self, session: SessionId, ask: &AskHeld, now: Millis) -> Result<Handed, Refused> {
        let live =
            self.sessions.roster().get(session).ok_or(Refused::new(Reason::UnknownSession, "session"))?;
        let policy = &self.sessions.in_force().policy;
        let readable =
            |held: &Held| policy.may_receive(&live.principal, held.rule.as_str(), held.label).map(|_| ());
        let Some(digest) = &ask.digest else {
            let mut list = HeldList::default();
            for (held, bytes) in self.holds.iter().filter(|(held, _)| readable(held).is_ok()) {
                if list.held.len() < MAX_HELD_LISTED {
                    list.held.push(held.report(bytes.len(), now));
                } else {
                    list.more = list.more.saturating_add(1);
                }
            }
            return Ok(Handed { id: ask.id, refused: None, list, envelope: None });
        };
        let missing = Refused::new(Reason::NotHeld, "digest");
        let digest = Hash::try_from(digest.as_slice()).map_err(|_| missing)?;
        let held = self.holds.get(&digest).ok_or(missing)?;
        // Who may not read it hears no more than who asks for what is not there.
        readable(held).map_err(|_| missing)?;
        let bytes = self.holds.bytes(&digest).ok_or(missing)?;
        if bytes.len().saturating_add(HANDED_OVERHEAD) > self.sessions.max_payload() {
            return Err(Refused::new(Reason::TooLarge, "held envelope"));
        }
        let list = HeldList { held: vec![held.report(bytes.len(), now)], more: 0 };
        Ok(Handed { id: ask.id, refused: None, list, envelope: Some(ByteBuf::from(bytes.to_vec())) })
    }
}

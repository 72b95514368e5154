//! Orders, once they are known to be good: what they do to the guard's working state.

use sealbus_envelope::{
    hash::Hash,
    identity::KeyKind,
    order::{Order, SignedOrder},
    reason::{Reason, Refused},
    time::Millis,
};

use super::Desk;
use crate::{
    audit::entry::{self, Body, Record},
    bus::egress::Outgoing,
    events::{Event, Kind},
};

impl Desk {
    /// Writes in the log that an order is carried out. To be on disk before it is: the number is what
    /// [`SyncHandle::synced`](crate::audit::store::SyncHandle::synced) wants.
    ///
    /// # Errors
    /// `audit_unavailable`.
    pub fn record_order(&mut self, order: &SignedOrder, now: Millis) -> Result<u64, Refused> {
        let record = Record { time: now, body: entry_of(order, None) };
        let appended = self.append_or_note(&[record], now);
        Ok(appended.ok_or(Refused::new(Reason::AuditUnavailable, "audit log"))?.leaves.end)
    }

    /// Writes in the log that a signed order was refused.
    pub fn record_refused_order(&mut self, order: &SignedOrder, refused: Refused, now: Millis) {
        self.record(entry_of(order, Some(refused.reason)), now);
    }

    /// Writes in the log that something was refused which nobody entitled to it signed as it is.
    pub fn record_no_order(&mut self, digest: Hash, refused: Refused, now: Millis) {
        let body = Body::Order(entry::Order {
            order: "unknown".into(),
            digest: digest.into(),
            target: "".into(),
            signers: vec![],
            accepted: false,
            reason: Some(refused.reason.code().into()),
            id: None,
            why: None,
        });
        self.record(body, now);
    }

    /// Clears an agent's floor: uses up the order and sets the floor apart on disk, then ends the agent's
    /// sessions and has the keys rotate that it may hold. The floor falls at a later tick, when they are stale.
    ///
    /// # Errors
    /// `order_invalid` if it concerns no agent, `order_replayed`, `store_unavailable`; then nothing changes.
    pub fn clear_taint(&mut self, order: &Order, now: Millis) -> Result<(), Refused> {
        let unavailable = Refused::new(Reason::StoreUnavailable, "store");
        let Some(agent) = order.target.agent() else {
            return Err(Refused::new(Reason::OrderInvalid, "order.target"));
        };
        // What rose must be on disk to be set apart.
        if !self.save_floors() {
            return Err(unavailable);
        }
        let cleared = self.sessions.clear_of(agent, now);
        match self.store.begin_clear(order, agent, &cleared, now) {
            Ok(true) => {}
            Ok(false) => return Err(Refused::new(Reason::OrderReplayed, "order.id")),
            Err(error) => {
                tracing::error!(%error, %agent, "a floor cannot be cleared");
                return Err(unavailable);
            }
        }
        self.sessions.begin_clear(agent, cleared, now, &mut self.effects);
        self.carry_out(now);
        Ok(())
    }

    /// Forgets the floors whose last keys are stale. One that the disk does not forget goes on counting.
    pub(super) fn finish_clears(&mut self, now: Millis) {
        for agent in self.sessions.cleared(now) {
            if let Err(error) = self.store.finish_clear(&agent) {
                tracing::error!(%error, %agent, "a floor cannot be cleared yet");
                continue;
            }
            // A floor notice always encodes, so there is no error to lose here.
            let _ = self.sessions.finish_clear(&agent, &mut self.effects);
            self.carry_out(now);
            let event =
                Event::new(Kind::Order, now).about(&agent).detail("clear_taint: the floor is cleared");
            self.todo.publish.push(Outgoing::event(&self.wire, &event));
        }
    }
}

fn entry_of(order: &SignedOrder, refused: Option<Reason>) -> Body<'static> {
    let Order { id, kind, target, reason, .. } = order.order();
    Body::Order(entry::Order {
        order: kind.code().into(),
        digest: order.digest().into(),
        target: target.to_string().into(),
        signers: order.signers().map(|key| key.to_nkey(KeyKind::User).into()).collect(),
        accepted: refused.is_none(),
        reason: refused.map(|reason| reason.code().into()),
        id: Some((*id.as_bytes()).into()),
        why: Some(reason.clone().into()),
    })
}

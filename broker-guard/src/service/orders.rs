//! Orders that came in over HTTP: judged, logged, carried out, told.

use std::{collections::HashMap, time::Instant};

use sealbus_envelope::{
    order::{OrderId, OrderKind, SignedOrder},
    reason::{Reason, Refused},
    time::Millis,
};

use super::{response::signers, running::Guard};
use crate::{
    clock::now,
    events::{Event, Kind},
    http::ask::{Ask, NoOrder, OrderAnswer},
    quarantine::state::Change,
};

/// Of what is refused, one a second is logged and told, after a few at once. All of it that comes to
/// the loop is counted.
const TOLD_AT_ONCE: u64 = 10;
const TOLD_EVERY_MS: u64 = 1_000;

/// How much of what is refused may be told: who can reach the page could fill the log otherwise, with junk or
/// with one order that was good once.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// When the last one that was told is paid for.
    paid: Millis,
}

impl Telling {
    fn may_tell(&mut self, now: Millis) -> bool {
        let paid = self.paid.max(now.minus(TOLD_AT_ONCE * TOLD_EVERY_MS)).plus(TOLD_EVERY_MS);
        let may = paid <= now;
        if may {
            self.paid = paid;
        }
        may
    }
}

/// How long an order that was logged and could not be carried out is not tried again.
const TRIED_MS: u64 = 10_000;

/// Orders that were logged and then failed. They are good still, and whoever has one could have it logged, on disk,
/// as often as the page can be asked: so each is tried again only after a while.
#[derive(Debug, Default)]
pub(super) struct Tried(HashMap<OrderId, Millis>);

impl Tried {
    fn failed(&mut self, order: OrderId, now: Millis) {
        self.0.retain(|_, at| now.since(*at) < TRIED_MS);
        self.0.insert(order, now);
    }

    fn failed_at(&self, order: OrderId) -> Option<Millis> {
        self.0.get(&order).copied()
    }

    fn may_try(&self, order: OrderId, now: Millis) -> bool {
        self.0.get(&order).is_none_or(|at| now.since(*at) >= TRIED_MS)
    }
}

impl Guard {
    pub(super) async fn asked(&mut self, ask: Ask) {
        let began = Instant::now();
        match ask {
            Ask::Floors(answer) => {
                let sessions = self.desk.sessions();
                // Fails only when nobody waits for the answer any more.
                let _ = answer.send(sessions.floors().report(sessions.in_force().policy.tables()));
            }
            Ask::Approve { approval, answer } => return self.approval(*approval, answer).await,
            Ask::NoApproval { approval, refused } => self.no_approval(approval.as_deref(), refused).await,
            Ask::NoOrder(none) => self.no_order(none, now()).await,
            Ask::Held(answer) => self.tell_held(answer),
            Ask::HeldBytes(digest, answer) => self.hand_held(&digest, answer),
            Ask::Workflows(answer) => {
                let _ = answer.send(self.desk.workflow_report());
            }
            Ask::Quarantine(answer) => self.quarantine_report(answer),
            Ask::Order { order, answer } => {
                let told = self.order(&order, now()).await;
                let _ = answer.send(told);
                return;
            }
        }
        self.asks.answered_page(began);
    }

    async fn order(&mut self, order: &SignedOrder, now: Millis) -> OrderAnswer {
        let what = order.order();
        let Err(refused) = self.execute(order, now).await else {
            let signers = order.signers().count();
            tracing::warn!(order = %what.id, kind = %what.kind, target = %what.target, signers, "an order is carried out");
            self.metrics.order(None);
            let detail = format!("{} {}, signed by {signers}: {}", what.kind, what.id, what.reason);
            self.event(asked(order, now).detail(detail)).await;
            self.carry_out().await;
            return OrderAnswer::accepted(order);
        };
        self.metrics.order(Some(refused.reason));
        // Its entry says that it is carried out, so the next one says that it was not, whatever else was told.
        let logged = self.tried.failed_at(what.id) == Some(now);
        let tell = self.telling.may_tell(now);
        if logged || tell {
            self.desk.record_refused_order(order, refused, now);
        }
        if tell {
            let detail = format!("{} {} is refused", what.kind, what.id);
            self.order_refused(asked(order, now).detail(detail), refused).await;
        }
        OrderAnswer::refused(Some(order), refused)
    }

    /// What nobody entitled to it has signed: whatever it says may be made up, so none of it is repeated.
    async fn no_order(&mut self, none: NoOrder, now: Millis) {
        let NoOrder { refused, digest } = none;
        self.metrics.order(Some(refused.reason));
        if self.telling.may_tell(now) {
            self.desk.record_no_order(digest, refused, now);
            self.order_refused(Event::new(Kind::Order, now), refused).await;
        }
    }

    async fn order_refused(&mut self, event: Event, refused: Refused) {
        tracing::warn!(%refused, agent = event.agent, "an order is refused");
        let mut event = event.because(refused.reason);
        event.what = Some(refused.what.to_owned());
        self.event(event).await;
        self.carry_out().await;
    }

    /// Logged first, on disk: what an order changes is never without its entry. A guard that dies in between
    /// has carried out nothing, and takes the order again.
    async fn execute(&mut self, order: &SignedOrder, now: Millis) -> Result<(), Refused> {
        order.check_time(now)?;
        order.check_quorum(self.desk.sessions().in_force().policy.supervision())?;
        let id = order.order().id;
        match self.store.is_carried_out(id) {
            Ok(false) => {}
            Ok(true) => return Err(Refused::new(Reason::OrderReplayed, "order.id")),
            Err(error) => {
                tracing::error!(%error, order = %id, "whether the order was carried out before is not known");
                return Err(Refused::new(Reason::StoreUnavailable, "store"));
            }
        }
        self.makes_sense(order.order())?;
        if !self.tried.may_try(id, now) {
            return Err(Refused::new(Reason::StoreUnavailable, "order.id"));
        }
        let logged = self.desk.record_order(order, now)?;
        if let Err(error) = self.desk.sync_handle().synced(logged).await {
            tracing::error!(%error, order = %id, "no order is carried out without the log on disk");
            self.tried.failed(id, now);
            return Err(Refused::new(Reason::AuditUnavailable, "audit log"));
        }
        let done = self.act(order, now).await;
        if done.is_err() {
            self.tried.failed(id, now);
        }
        done
    }

    async fn act(&mut self, order: &SignedOrder, now: Millis) -> Result<(), Refused> {
        match order.order().kind {
            OrderKind::ClearTaint => self.desk.clear_taint(order.order(), now),
            OrderKind::Pause => self.desk.pause_workflow(order.order(), now),
            OrderKind::Resume => self.desk.resume_workflow(order.order(), now),
            OrderKind::Quarantine => self.order_change(order, Change::Quarantine, now).await,
            OrderKind::Release => self.order_change(order, Change::Release, now).await,
            OrderKind::Revoke => self.order_change(order, Change::Revoke, now).await,
            OrderKind::ReplayEvidence | OrderKind::DiscardEvidence => self.order_evidence(order, now).await,
            // A kind that a newer library knows and this guard does not.
            _ => Err(Refused::new(Reason::OrderUnknown, "order.kind")),
        }
    }
}

/// The event of an order: what it asks for, about whom, and who signed it.
fn asked(order: &SignedOrder, now: Millis) -> Event {
    let what = order.order();
    let event = Event::new(Kind::Order, now).ordered(what.kind, &signers(order));
    match what.target.agent() {
        Some(agent) => event.about(agent),
        None => event,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_failed_is_tried_again_after_a_while() {
        let mut tried = Tried::default();
        let (order, other) = (OrderId::from_bytes([1; 16]), OrderId::from_bytes([2; 16]));
        let now = Millis(1_000_000);
        assert!(tried.may_try(order, now));
        tried.failed(order, now);
        assert!(!tried.may_try(order, now.plus(TRIED_MS - 1)) && tried.may_try(other, now));
        assert!(tried.may_try(order, now.plus(TRIED_MS)));
        tried.failed(other, now.plus(TRIED_MS));
        assert_eq!(tried.0.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn a_flood_of_junk_is_told_in_part() {
        let mut telling = Telling::default();
        let now = Millis(1_000_000);
        let told = (0..100).filter(|_| telling.may_tell(now)).count();
        assert_eq!(told, 10);
        assert!(!telling.may_tell(now.plus(999)) && telling.may_tell(now.plus(1_000)));
    }
}

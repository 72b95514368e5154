//! What the guard does about agents: quarantines, floods, connections that were judged.

use std::sync::Arc;

use sealbus_envelope::{
    identity::{KeyKind, PublicKey},
    name::AgentToken,
    order::{Order, OrderKind, SignedOrder, Target},
    reason::{Reason, Refused},
    time::Millis,
};
use tokio::sync::oneshot;

use crate::{
    bus::{auth::Outcome, authority::Judged},
    clock::now,
    events::{Event, Kind},
    quarantine::{
        cut::{Enforced, SECOND_LOOK, cut_off},
        enforce::{Changed, EnforceError},
        evidence::Response,
        report::{AgentReport, ConnectionReport},
        state::{Cause, Change, Ordered, State, Trigger},
    },
    store::StoreError,
};

use super::running::Guard;

impl Guard {
    /// Does what an agent's behaviour calls for.
    pub(super) async fn respond(&mut self, agent: &AgentToken, response: Response) {
        let session = self.desk.sessions().roster().of_agent(agent.as_str()).next();
        let known = session.map(|session| session.credential.claims().identity.clone());
        // Who floods without ever saying hello is on no roster, but let in it was.
        let Some(identity) = known.or_else(|| self.auth.identity_of(agent)) else { return };
        match response {
            Response::Nothing => {}
            Response::Disconnect => {
                let (auth, agent) = (self.auth.clone(), agent.clone());
                tokio::spawn(async move { auth.cut_flood(&agent).await });
            }
            Response::Watch(cause) => self.watch(&identity, agent, Change::Watch, cause).await,
            Response::Calm => {
                let cause = Cause::found(Trigger::Calm, Refused::new(Reason::Anomalous, "score"), &[]);
                self.watch(&identity, agent, Change::Calm, cause).await;
            }
            Response::Quarantine(cause) => self.quarantine(&identity, agent, cause).await,
        }
    }

    /// An agent is suspected, or no longer: durable, logged, told.
    async fn watch(&mut self, identity: &PublicKey, agent: &AgentToken, change: Change, cause: Cause) {
        let time = now();
        let changed = if change == Change::Watch {
            let ceiling = self.desk.sessions().ceiling_of(agent);
            self.enforcer.watch(identity, agent, cause, ceiling, time).await
        } else {
            self.enforcer.change(identity, agent, change, cause, time).await
        };
        match changed {
            Ok(Some(changed)) => {
                match changed.record.state {
                    State::Watched => self.desk.watch(agent, changed.record.ceiling),
                    _ => self.desk.calm(agent),
                }
                self.tell_change(&changed, time).await;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%agent, %error, "whether the agent is watched is not durable"),
        }
    }

    async fn tell_change(&mut self, changed: &Changed, time: Millis) {
        self.desk.record(changed.to_audit(), time);
        self.event(changed.to_event(time)).await;
    }

    /// The order is fixed: durable, then off the roster with its keys going stale, then the log and the event,
    /// then the connections, then a look at the servers and another.
    async fn quarantine(&mut self, identity: &PublicKey, agent: &AgentToken, cause: Cause) {
        let time = now();
        match self.enforcer.change(identity, agent, Change::Quarantine, cause, time).await {
            Ok(Some(changed)) => self.cut(changed, time).await,
            Ok(None) => {}
            Err(EnforceError::Undurable { changed, error }) => {
                tracing::error!(%agent, %error, "a quarantine is not durable yet");
                self.cut(*changed, time).await;
            }
            Err(error) => {
                tracing::error!(%agent, %error, "an agent is not quarantined as it should be");
                self.desk.expel(agent, Reason::Quarantined, time);
            }
        }
    }

    /// An agent is off the bus by what the guard remembers: everything else follows.
    async fn cut(&mut self, changed: Changed, time: Millis) {
        let agent = &changed.record.agent;
        self.desk.member_deviated(agent, changed.record.state, &changed.record.cause, time);
        self.desk.expel(agent, Reason::Quarantined, time);
        // Its limits as one who is watched are no concern any more; a release gives it new ones.
        self.desk.calm(agent);
        if changed.record.state == State::Quarantined {
            self.metrics.quarantined.inc();
        }
        self.tell_change(&changed, time).await;
        self.enforce(changed);
    }

    fn enforce(&self, changed: Changed) {
        let (auth, looked) = (self.auth.clone(), self.looked.clone());
        tokio::spawn(async move {
            let enforced = cut_off(&auth, &changed.identity, SECOND_LOOK).await;
            // Fails only when the guard is stopping.
            let _ = looked.send((changed, enforced)).await;
        });
    }

    /// What was begun when the last guard ended: whoever is off the bus and was not seen to be gone, or has a
    /// connection, is cut again; limits of who is watched are as they were.
    pub(super) fn resume(&mut self) {
        for known in self.bars.known() {
            let record = known.record;
            if record.state == State::Watched {
                self.desk.watch(&record.agent, record.ceiling);
            }
            let connected = !self.auth.connections_of(&known.identity).is_empty();
            if record.state.is_barred() && (record.enforced.is_none() || connected) {
                self.enforce(Changed { identity: known.identity, from: record.state, record });
            }
        }
        if let Err(error) = self.custodian.resume() {
            tracing::error!(%error, "replays that were begun are not gone on with");
        }
    }

    /// Whether an order makes sense now: asked before it is logged, so that one that does not is not used up.
    ///
    /// Two people may each have made an order for one incident, and one of the two is enough. The other is good for
    /// hours: it must not end the next quarantine or pause, of which its signers knew nothing.
    pub(super) fn makes_sense(&self, order: &Order) -> Result<(), Refused> {
        let Target::Agent { token, identity } = &order.target else {
            return self.desk.workflow_order_makes_sense(order);
        };
        let outdated = Refused::new(Reason::OrderExpired, "order.issued");
        let change = match order.kind {
            OrderKind::Quarantine => Change::Quarantine,
            OrderKind::Release => {
                if self.bars.get(identity).is_some_and(|record| order.issued < record.since) {
                    return Err(outdated);
                }
                Change::Release
            }
            OrderKind::ClearTaint => {
                let cleared = self.desk.sessions().floors().cleared_at(token);
                return if cleared.is_some_and(|at| order.issued < at) { Err(outdated) } else { Ok(()) };
            }
            OrderKind::Revoke => Change::Revoke,
            OrderKind::ReplayEvidence if self.bars.is_barred(identity) => {
                return Err(Refused::new(Reason::Quarantined, "order.target"));
            }
            OrderKind::ReplayEvidence | OrderKind::DiscardEvidence => {
                let unavailable = |_| Refused::new(Reason::StoreUnavailable, "store");
                if self.store.account(identity).map_err(unavailable)?.waiting == 0 {
                    return Err(Refused::new(Reason::NoEvidence, "order.target"));
                }
                let covered = self.store.is_covered(identity, order.issued).map_err(unavailable)?;
                return if covered { Ok(()) } else { Err(outdated) };
            }
            _ => return Ok(()),
        };
        self.enforcer
            .allows(identity, token, change)
            .map_err(|_| Refused::new(Reason::NotQuarantined, "order.target"))
    }

    /// Carries out an order that changes where an agent stands.
    pub(super) async fn order_change(
        &mut self,
        order: &SignedOrder,
        change: Change,
        now: Millis,
    ) -> Result<(), Refused> {
        let what = order.order();
        let Target::Agent { token, identity } = &what.target else {
            return Err(Refused::new(Reason::OrderInvalid, "order.target"));
        };
        let cause = Cause::of_order(reason_of(change), ordered(order));
        let changed = self.enforcer.carry_out(what, (token, identity), change, cause, now).await;
        // Who is to be off the bus must not stay because the disk is full: that would be worth filling it. The order
        // is not used up, and can be sent again.
        let (changed, durable) = match changed {
            Err(EnforceError::Undurable { changed, error }) => {
                tracing::error!(%error, order = %what.id, "an order is in force and not durable yet");
                (Ok(Some(*changed)), Err(Refused::new(Reason::StoreUnavailable, "store")))
            }
            changed => (changed, Ok(())),
        };
        let changed = changed.map_err(|error| match error {
            EnforceError::Replayed => Refused::new(Reason::OrderReplayed, "order.id"),
            EnforceError::NotAllowed(_) => Refused::new(Reason::NotQuarantined, "order.target"),
            error => {
                tracing::error!(%error, order = %what.id, "an order could not be made durable");
                Refused::new(Reason::StoreUnavailable, "store")
            }
        })?;
        // It is used up though there was nothing to change.
        let Some(changed) = changed else { return Ok(()) };
        if changed.record.state.is_barred() {
            self.cut(changed, now).await;
            durable
        } else {
            self.desk.readmit(token);
            self.tell_change(&changed, now).await;
            // Where it is kept busy apart it comes back and is let in properly.
            let (auth, identity) = (self.auth.clone(), identity.clone());
            tokio::spawn(async move {
                auth.disconnect_all(&identity, Refused::new(Reason::OldPolicy, "permissions")).await;
            });
            Ok(())
        }
    }

    /// Begins to deliver, or discards, what is kept of an agent.
    pub(super) async fn order_evidence(&mut self, order: &SignedOrder, now: Millis) -> Result<(), Refused> {
        let what = order.order();
        let Target::Agent { token, identity } = &what.target else {
            return Err(Refused::new(Reason::OrderInvalid, "order.target"));
        };
        let unavailable = |error: StoreError| {
            tracing::error!(%error, order = %what.id, "an order could not be made durable");
            Refused::new(Reason::StoreUnavailable, "store")
        };
        let replayed = Refused::new(Reason::OrderReplayed, "order.id");
        if what.kind == OrderKind::ReplayEvidence {
            if !self.store.begin_replay(what, identity, now).map_err(unavailable)? {
                return Err(replayed);
            }
            let job = self.store.account(identity).map_err(unavailable)?.job;
            if let Some(job) = job {
                self.custodian.begin(identity.clone(), job);
            }
            return Ok(());
        }
        let count = self.store.discard_evidence(what, identity, now).map_err(unavailable)?.ok_or(replayed)?;
        self.desk.evidence_discarded(token);
        let detail = format!("{count} kept envelopes discarded by order {}: {}", what.id, what.reason);
        let mut event =
            Event::new(Kind::Evidence, now).about(token).ordered(what.kind, &signers(order)).detail(detail);
        event.count = Some(count);
        event.incident = self.bars.get(identity).map(|record| record.opened);
        self.event(event).await;
        Ok(())
    }

    pub(super) async fn looked_at(&mut self, changed: &Changed, enforced: &Enforced) {
        let time = now();
        if let Err(error) = self.enforcer.keep_seen(changed, enforced.to_seen(time)).await {
            tracing::warn!(%error, "what the servers said is not written down");
        }
        self.desk.record(enforced.to_audit(changed), time);
        self.event(enforced.to_event(changed, time)).await;
        self.carry_out().await;
    }

    /// What is known of every agent that was ever watched or off the bus.
    pub(super) fn quarantine_report(&self, answer: oneshot::Sender<Vec<AgentReport>>) {
        let (store, auth) = (Arc::clone(&self.store), self.auth.clone());
        let roster = self.desk.sessions().roster();
        let known: Vec<_> = self.bars.known();
        let known = known.into_iter().map(|known| {
            let sessions = roster.of_agent(known.record.agent.as_str()).count();
            let connections = auth.connections_of(&known.identity);
            let score =
                self.desk.anomaly_score(known.record.agent.as_str()).map(|(score, _)| f64::from(score));
            (known, sessions, connections, score)
        });
        let known: Vec<_> = known.collect();
        // Off the loop: it reads the disk.
        tokio::task::spawn_blocking(move || {
            let reports = known.into_iter().map(|(known, sessions, connections, score)| {
                let mut report = AgentReport::read(&store, &known);
                report.sessions = sessions;
                report.score = score;
                report.connections = connections.iter().map(ConnectionReport::of).collect();
                report
            });
            // Fails only when nobody waits for the answer any more.
            let _ = answer.send(reports.collect());
        });
    }

    /// A connection was judged: logged, counted, told.
    pub(super) async fn connection(&mut self, judged: Judged) {
        let Judged { decision, logged } = judged;
        self.desk.saw_connection(&decision, decision.time);
        let has = self.desk.record(decision.to_audit(), decision.time);
        if let Some(logged) = logged {
            // Gone if the server has given up on an answer.
            let _ = logged.send(has);
            if !has {
                // It is told of as what it becomes: refused.
                return self.carry_out().await;
            }
        }
        self.metrics.connection(decision.outcome.code());
        let mut event = Event::new(Kind::Connection, decision.time);
        if let Some(refused) = decision.reason {
            event = event.because(refused.reason);
            event.what = Some(refused.what.to_owned());
        }
        event.agent = decision.agent.as_ref().map(ToString::to_string);
        event.session = decision.session.map(|session| session.to_string());
        event.outcome = Some(decision.outcome.code());
        event.server = Some(decision.server.clone()).filter(|server| !server.is_empty());
        event.host = Some(decision.host.clone()).filter(|host| !host.is_empty());
        event.detail = Some(format!("{} at {}", decision.outcome.code(), decision.server));
        if decision.outcome != Outcome::Admitted || !decision.again {
            self.event(event).await;
        }
        self.carry_out().await;
    }
}

const fn reason_of(change: Change) -> Reason {
    match change {
        Change::Revoke => Reason::Revoked,
        _ => Reason::Quarantined,
    }
}

fn ordered(order: &SignedOrder) -> Ordered {
    let what = order.order();
    Ordered { id: *what.id.as_bytes(), signers: signers(order), why: what.reason.clone() }
}

/// Who signed an order, as nkeys.
pub(super) fn signers(order: &SignedOrder) -> Vec<String> {
    order.signers().map(|key| key.to_nkey(KeyKind::User)).collect()
}

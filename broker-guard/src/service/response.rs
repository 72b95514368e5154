//! What the guard does about agents: quarantines, floods, connections that were judged.

use std::sync::Arc;

use sealbus_envelope::{
    identity::PublicKey,
    name::AgentToken,
    reason::{Reason, Refused},
};

use crate::{
    bus::{auth::Outcome, authority::Judged},
    clock::now,
    events::{Event, Kind, Phase},
    quarantine::{
        enforce::{Changed, Enforced, SECOND_LOOK},
        evidence::Response,
        state::{Cause, Change, Trigger},
    },
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
                let auth = self.auth.clone();
                tokio::spawn(async move {
                    auth.disconnect_all(&identity, Refused::new(Reason::RateLimited, "flood")).await;
                });
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
        match self.enforcer.change(identity, agent, change, cause, time).await {
            Ok(Some(changed)) => {
                self.desk.record(changed.to_audit(), time);
                let record = &changed.record;
                let mut event = Event::new(Kind::Quarantine, time).because(record.cause.reason).about(agent);
                event.what = Some(record.cause.what.clone());
                event.detail = Some(format!("{} to {}", changed.from, record.state));
                self.event(event).await;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%agent, %error, "whether the agent is watched is not durable"),
        }
    }

    /// The order is fixed: durable, then off the roster with its keys going stale, then the log and the event,
    /// then the connections, then a look at the servers and another.
    async fn quarantine(&mut self, identity: &PublicKey, agent: &AgentToken, cause: Cause) {
        let time = now();
        let changed = match self.enforcer.change(identity, agent, Change::Quarantine, cause, time).await {
            Ok(Some(changed)) => changed,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%agent, %error, "a quarantine is not durable");
                self.desk.expel(agent, Reason::Quarantined, time);
                return;
            }
        };
        self.desk.member_deviated(agent, changed.record.state, &changed.record.cause, time);
        self.desk.expel(agent, Reason::Quarantined, time);
        self.metrics.quarantined.inc();
        self.desk.record(changed.to_audit(), time);
        let record = &changed.record;
        let mut event = Event::new(Kind::Quarantine, time).because(record.cause.reason).about(agent);
        event.what = Some(record.cause.what.clone());
        event.detail = Some(format!("{} to {}", changed.from, record.state));
        self.event(event).await;
        let (auth, enforcer, looked) = (self.auth.clone(), Arc::clone(&self.enforcer), self.looked.clone());
        tokio::spawn(async move {
            let enforced = enforcer.enforce(&auth, &changed.identity, SECOND_LOOK).await;
            // Fails only when the guard is stopping.
            let _ = looked.send((changed, enforced)).await;
        });
    }

    pub(super) async fn looked_at(&mut self, changed: &Changed, enforced: &Enforced) {
        let time = now();
        self.desk.record(enforced.to_audit(changed), time);
        let detail = if enforced.confirmed() {
            format!("confirmed: {} connections cut, no server holds one", enforced.cut)
        } else {
            let silent = enforced.silent.join(", ");
            format!("not confirmed: {} connections left, no answer from: {silent}", enforced.left)
        };
        let event = Event::new(Kind::Quarantine, time)
            .because(changed.record.cause.reason)
            .about(&changed.record.agent)
            .phase(Phase::Updated)
            .detail(detail);
        self.event(event).await;
        self.carry_out().await;
    }

    /// A connection was judged: logged, counted, told.
    pub(super) async fn connection(&mut self, judged: Judged) {
        let Judged { decision, logged } = judged;
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

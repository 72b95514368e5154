//! Paused workflows: the breaker is asked about each envelope, and what it trips is made durable, logged and told.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use moka::sync::Cache;
use sealbus_envelope::{
    control::{PausedNotice, PausedWorkflow, encode, kind},
    hash::Hash,
    identity::Credential,
    name::AgentToken,
    order::{Order, OrderKind, Target, Workflow},
    reason::{Reason, Refused},
    time::Millis,
};

use super::{Desk, denying::POLICY_GRACE_MS};
use crate::{
    audit::entry::{self, Body},
    bus::egress::Outgoing,
    check::{Denial, Permit},
    events::{Event, Kind, ocsf::Severity},
    oversight::{
        breaker::{Breaker, is_deviation, tripped, tripped_by_member},
        holds::Held,
        pause::{By, Pause, Standing, WorkflowReport, Workflows, sends_in},
    },
    policy::{compile::CompiledPolicy, decide::Principal},
    quarantine::state::{Cause, State, Trigger},
    roster::{Roster, session::LiveSession},
};

/// How often sessions are told again what is paused: a notice may have been lost, or made up.
const TELL_EVERY_MS: u64 = 15_000;

/// The breaker, what it paused, and what is still to be done about that.
#[derive(Debug, Default)]
pub(super) struct Overseer {
    breaker: Breaker,
    workflows: Workflows,
    /// Paused already, and to be made durable, logged and told.
    trips: Vec<Trip>,
    /// Not on disk yet.
    unsaved: Vec<(Workflow, Pause)>,
    told: Millis,
}

#[derive(Debug)]
struct Trip {
    workflow: Workflow,
    pause: Pause,
    evidence: Option<Hash>,
}

impl Overseer {
    pub(super) const fn workflows(&self) -> &Workflows {
        &self.workflows
    }

    pub(super) fn held(&self) -> usize {
        self.breaker.len()
    }

    pub(super) fn follow(&mut self, policy: &CompiledPolicy) {
        self.breaker.follow(policy);
        self.workflows.follow(policy);
    }

    /// Looks at what the checks said of an envelope. What it trips is paused before the next one is checked.
    pub(super) fn look(
        &mut self,
        policy: &CompiledPolicy,
        roster: &Roster,
        accused: &Cache<Hash, ()>,
        policy_since: Millis,
        checked: &Result<Permit<'_>, Box<Denial>>,
        now: Millis,
    ) {
        if !self.breaker.is_on() {
            return;
        }
        match checked {
            // What observe mode let pass is recorded, and nothing else.
            Ok(permit) if permit.observed().is_some() => {}
            Ok(permit) => {
                let header = permit.verified().header();
                let Some(session) = roster.get(header.session) else { return };
                let digest = permit.verified().digest();
                let id = header.id.to_string();
                self.count(policy, &session.principal, header.rule, header.issued_at, (id, digest), now);
            }
            Err(denial) => {
                let Some(digest) =
                    denial.digest.filter(|digest| denial.signed && !accused.contains_key(digest))
                else {
                    return;
                };
                let Some(session) = denial.session.and_then(|id| roster.get(id)) else { return };
                let who = &session.principal;
                let issued = denial.issued_at.unwrap_or(now);
                let id = denial.envelope.map(|id| id.to_string()).unwrap_or_default();
                let knew = policy_since.0 == 0 || issued.since(policy_since) > POLICY_GRACE_MS;
                if is_deviation(denial.refused.reason, knew) {
                    let of = tripped(policy, &self.workflows, who, denial.rule.as_deref(), issued);
                    self.trip(policy, of, who.token(), denial.refused, Some((id, digest)), now);
                } else if denial.refused.reason == Reason::RateLimited
                    && let Some(rule) = &denial.rule
                {
                    self.count(policy, who, rule, issued, (id, digest), now);
                }
            }
        }
    }

    fn count(
        &mut self,
        policy: &CompiledPolicy,
        who: &Principal,
        rule: &str,
        issued: Millis,
        envelope: (String, Hash),
        now: Millis,
    ) {
        let Some(rule) = policy.rule(rule) else { return };
        if let Some(refused) = self.breaker.count(policy, who, rule, issued) {
            let of = tripped(policy, &self.workflows, who, Some(rule.name.as_str()), issued);
            self.trip(policy, of, who.token(), refused, Some(envelope), now);
        }
    }

    fn trip(
        &mut self,
        policy: &CompiledPolicy,
        of: Vec<Workflow>,
        agent: &AgentToken,
        refused: Refused,
        envelope: Option<(String, Hash)>,
        now: Millis,
    ) {
        for workflow in of {
            let (id, digest) = envelope.clone().unzip();
            let by = By::Deviation {
                agent: agent.clone(),
                reason: refused.reason,
                what: refused.what.to_owned(),
                envelope: id.filter(|id| !id.is_empty()),
                digest: digest.map(|digest| HEXLOWER.encode(&digest)),
            };
            let pause = Pause { since: now, by };
            if self.workflows.pause(workflow.clone(), pause.clone(), policy) {
                self.trips.push(Trip { workflow, pause, evidence: digest });
            }
        }
    }
}

impl Desk {
    /// Takes what the store remembers of workflows, before anything is read.
    pub fn recall_workflows(&mut self, standing: Vec<(Workflow, Standing)>) {
        self.overseer.workflows = Workflows::new(standing);
        self.overseer.workflows.follow(&self.sessions.in_force().policy);
        self.count_paused();
    }

    /// Every workflow that has a mode or is paused.
    #[must_use]
    pub fn workflow_report(&self) -> Vec<WorkflowReport> {
        self.overseer.workflows.report(&self.sessions.in_force().policy)
    }

    /// Whether something held is of a paused workflow: approvals say that people want it, not that it may go now.
    pub(super) fn is_paused(&self, held: &Held) -> bool {
        let workflows = &self.overseer.workflows;
        if workflows.paused().next().is_none() {
            return false;
        }
        let (bus, issuer) = (self.bus, &self.sessions.roots().issuer);
        let policy = &self.sessions.in_force().policy;
        let sender = Credential::verify(&held.credential, bus, issuer).ok();
        let who = sender.and_then(|credential| policy.principal(credential.claims()).ok());
        match (who, policy.rule(held.rule.as_str())) {
            (Some(who), Some(rule)) => workflows.check(&who, rule).is_err(),
            // It is denied for what it is.
            _ => false,
        }
    }

    /// Which workflows are paused.
    #[must_use]
    pub const fn workflows(&self) -> &Workflows {
        &self.overseer.workflows
    }

    /// A sender became suspect or was taken off the bus by the guard itself: the directed workflows it sends in
    /// pause. To be called while its sessions are still on the roster. Not for what an order did, nor for suspicion
    /// that rests on a server's word.
    pub fn member_deviated(&mut self, agent: &AgentToken, state: State, cause: &Cause, now: Millis) {
        if !self.overseer.breaker.is_on() || matches!(cause.trigger, Trigger::Order | Trigger::Calm) {
            return;
        }
        let policy = Arc::clone(&self.sessions.in_force().policy);
        let Some(who) = self.principal_of(agent) else { return };
        let of = tripped_by_member(&policy, &self.overseer.workflows, &who, now);
        let what = match state {
            State::Watched => "a sender is watched for what it signed",
            _ => "a sender was quarantined",
        };
        let envelope = cause.envelopes.first().map(|digest| (String::new(), *digest));
        self.overseer.trip(&policy, of, agent, Refused::new(cause.reason, what), envelope, now);
        self.tell_trips(now);
    }

    fn principal_of(&self, agent: &AgentToken) -> Option<Principal> {
        self.sessions.roster().of_agent(agent.as_str()).next().map(|session| session.principal.clone())
    }

    /// Whether an order about a workflow makes sense now: the policy has it, and it was not paused again since the
    /// order was made.
    ///
    /// # Errors
    /// `order_invalid`, `unknown_team`, `unknown_rule`, `order_expired`.
    pub fn workflow_order_makes_sense(&self, order: &Order) -> Result<(), Refused> {
        let resumes = order.kind == OrderKind::Resume;
        let workflow = self.workflow_of(order, resumes)?;
        match self.overseer.workflows.pause_of(&workflow) {
            Some(pause) if resumes && order.issued < pause.since => {
                Err(Refused::new(Reason::OrderExpired, "order.issued"))
            }
            _ => Ok(()),
        }
    }

    /// Pauses the workflow that an order names: any team or rule of the policy.
    ///
    /// # Errors
    /// `order_invalid`, `unknown_team`, `unknown_rule`, `order_replayed`, `store_unavailable`; then nothing changes.
    pub fn pause_workflow(&mut self, order: &Order, now: Millis) -> Result<(), Refused> {
        let workflow = self.workflow_of(order, false)?;
        let by = By::Order { id: order.id.to_string(), why: order.reason.clone() };
        let pause = Pause { since: now, by };
        self.order_durable(order, &workflow, &Standing::Paused(pause.clone()), now)?;
        let policy = Arc::clone(&self.sessions.in_force().policy);
        if self.overseer.workflows.pause(workflow.clone(), pause.clone(), &policy) {
            self.tell_pause(&Trip { workflow: workflow.clone(), pause, evidence: None }, now);
            self.tell_senders(&[workflow]);
        }
        Ok(())
    }

    /// Lets the workflow that an order names go on.
    ///
    /// # Errors
    /// As [`pause_workflow`](Self::pause_workflow).
    pub fn resume_workflow(&mut self, order: &Order, now: Millis) -> Result<(), Refused> {
        let workflow = self.workflow_of(order, true)?;
        self.order_durable(order, &workflow, &Standing::Resumed { since: now }, now)?;
        let policy = Arc::clone(&self.sessions.in_force().policy);
        self.overseer.unsaved.retain(|(unsaved, _)| *unsaved != workflow);
        if self.overseer.workflows.resume(&workflow, now, &policy) {
            let detail = format!("ordered ({}): {}", order.id, order.reason);
            self.record(
                Body::Workflow(entry::Workflow {
                    workflow: workflow.to_string().into(),
                    to: "resumed".into(),
                    trigger: "order".into(),
                    agent: None,
                    reason: None,
                    evidence: None,
                    detail: Some(detail.clone().into()),
                }),
                now,
            );
            let event = Event::new(Kind::Workflow, now)
                .severity(Severity::Low)
                .asked("workflow.resume", format!("order {}", order.id))
                .detail(format!("{workflow} goes on: {detail}"));
            self.push_event(event, &workflow);
            self.tell_senders(&[workflow]);
            self.count_paused();
        }
        Ok(())
    }

    /// The workflow of an order, if the policy has it. One that it does not have any more can still go on.
    fn workflow_of(&self, order: &Order, or_paused: bool) -> Result<Workflow, Refused> {
        let Target::Workflow(workflow) = &order.target else {
            return Err(Refused::new(Reason::OrderInvalid, "order.target"));
        };
        let policy = &self.sessions.in_force().policy;
        let known = or_paused && self.overseer.workflows.pause_of(workflow).is_some();
        match workflow {
            Workflow::Team(name) if !known && policy.team_named(name.as_str()).is_none() => {
                Err(Refused::new(Reason::UnknownTeam, "order.target"))
            }
            Workflow::Rule(name) if !known && policy.rule(name.as_str()).is_none() => {
                Err(Refused::new(Reason::UnknownRule, "order.target"))
            }
            _ => Ok(workflow.clone()),
        }
    }

    fn order_durable(
        &self,
        order: &Order,
        workflow: &Workflow,
        standing: &Standing,
        now: Millis,
    ) -> Result<(), Refused> {
        match self.store.order_workflow(order, workflow, standing, now) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refused::new(Reason::OrderReplayed, "order.id")),
            Err(error) => {
                tracing::error!(%error, %workflow, "an order to a workflow is not durable, so it is not carried out");
                Err(Refused::new(Reason::StoreUnavailable, "store"))
            }
        }
    }

    /// What the breaker paused: durable, then logged, then told.
    pub(super) fn tell_trips(&mut self, now: Millis) {
        if self.overseer.trips.is_empty() {
            return;
        }
        let trips = std::mem::take(&mut self.overseer.trips);
        let pauses = trips.iter().map(|trip| (trip.workflow.clone(), trip.pause.clone()));
        self.overseer.unsaved.extend(pauses);
        self.save_pauses();
        for trip in &trips {
            self.tell_pause(trip, now);
        }
        let of: Vec<Workflow> = trips.into_iter().map(|trip| trip.workflow).collect();
        self.tell_senders(&of);
    }

    /// A pause that is not on disk holds all the same, and is tried again each second.
    fn save_pauses(&mut self) {
        if self.overseer.unsaved.is_empty() {
            return;
        }
        match self.store.pause_workflows(&self.overseer.unsaved) {
            Ok(()) => self.overseer.unsaved.clear(),
            Err(error) => tracing::error!(%error, "a paused workflow would go on if the guard restarted now"),
        }
    }

    fn tell_pause(&mut self, trip: &Trip, now: Millis) {
        let Trip { workflow, pause, evidence } = trip;
        let detail = pause.by.in_words();
        tracing::warn!(%workflow, detail, "a workflow is paused until a person resumes it");
        let (agent, reason, envelope) = match &pause.by {
            By::Deviation { agent, reason, envelope, .. } => (Some(agent), Some(*reason), envelope.clone()),
            By::Order { .. } => (None, None, None),
        };
        self.record(
            Body::Workflow(entry::Workflow {
                workflow: workflow.to_string().into(),
                to: "paused".into(),
                trigger: pause.by.trigger().into(),
                agent: agent.map(|agent| agent.to_string().into()),
                reason: reason.map(|reason| reason.code().into()),
                evidence: evidence.map(Into::into),
                detail: Some(detail.clone().into()),
            }),
            now,
        );
        let by = match &pause.by {
            By::Deviation { .. } => "the breaker".to_owned(),
            By::Order { id, .. } => format!("order {id}"),
        };
        let mut event = Event::new(Kind::Workflow, now)
            .because(Reason::WorkflowPaused)
            .severity(Severity::High)
            .asked("workflow.pause", by);
        event.agent = agent.map(ToString::to_string);
        event.envelope = envelope;
        event.what = reason.map(|reason| reason.code().to_owned());
        self.push_event(event.detail(format!("{workflow} is paused: {detail}")), workflow);
        self.metrics.workflow_pauses.inc();
        self.count_paused();
    }

    fn push_event(&mut self, mut event: Event, workflow: &Workflow) {
        if let Workflow::Rule(rule) = workflow {
            event.rule = Some(rule.to_string());
        }
        self.todo.publish.push(Outgoing::event(&self.wire, &event));
    }

    fn count_paused(&self) {
        let paused = self.overseer.workflows.paused().count();
        self.metrics.workflows_paused.set(i64::try_from(paused).unwrap_or(i64::MAX));
    }

    /// Tells a session that has just said hello what is paused. Its welcome told it to forget what was.
    pub(super) fn tell_paused_to(&mut self, session: &str) {
        let told = self.sessions.roster().by_token(session).and_then(|live| self.paused_notice(live, false));
        self.todo.publish.extend(told);
    }

    /// Tells every session that sends in one of these what is paused of all that it sends in, be it nothing.
    fn tell_senders(&mut self, of: &[Workflow]) {
        let policy = &self.sessions.in_force().policy;
        let concerned =
            |live: &&LiveSession| of.iter().any(|workflow| sends_in(policy, &live.principal, workflow));
        let sessions = self.sessions.roster().iter().filter(concerned);
        let told: Vec<_> = sessions.filter_map(|live| self.paused_notice(live, true)).collect();
        self.todo.publish.extend(told);
    }

    fn paused_notice(&self, live: &LiveSession, empty_too: bool) -> Option<Outgoing> {
        let policy = &self.sessions.in_force().policy;
        let paused = self.overseer.workflows.paused_of(policy, &live.principal);
        let workflows: Vec<_> = paused
            .map(|(workflow, pause)| PausedWorkflow { workflow: workflow.to_string(), since: pause.since })
            .collect();
        if workflows.is_empty() && !empty_too {
            return None;
        }
        let payload = encode(&PausedNotice { workflows }).ok()?;
        Some(Outgoing::tell(&self.wire, live.agent(), live.id(), kind::PAUSED, payload))
    }

    pub(super) fn follow_workflows(&mut self) {
        self.overseer.follow(&self.sessions.in_force().policy);
        // Each session has had a welcome, which told it to forget what was paused.
        self.tell_again();
    }

    fn tell_again(&mut self) {
        let told: Vec<_> =
            self.sessions.roster().iter().filter_map(|live| self.paused_notice(live, false)).collect();
        self.todo.publish.extend(told);
    }

    pub(super) fn tick_workflows(&mut self, now: Millis) {
        let freshness_ms = u64::from(self.sessions.in_force().policy.tables().freshness_ms);
        self.overseer.breaker.expire(now, freshness_ms);
        self.save_pauses();
        let anything = self.overseer.workflows.paused().next().is_some();
        if anything && now.since(self.overseer.told) >= TELL_EVERY_MS {
            self.overseer.told = now;
            self.tell_again();
        }
    }
}

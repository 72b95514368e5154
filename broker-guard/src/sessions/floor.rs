//! What sessions were given to read counts against what they write: their floors rise with each key, follow the policy
//! and are told to them.

use std::{collections::HashSet, sync::Arc};

use sealbus_envelope::{
    control::{FloorNotice, kind},
    identity::SessionId,
    label::Label,
    name::{AgentToken, Name},
    policy::TaintScope,
    reason::{Reason, Refused},
};

use super::Sessions;
use crate::{
    effect::Effects,
    policy::decide::Principal,
    roster::session::LiveSession,
    taint::{Holder, Raise},
};

impl Sessions {
    /// What a session is about to be able to read counts against what it writes: on disk and told before it is
    /// handed the key.
    pub(super) fn raise_floor(
        &mut self,
        reader: SessionId,
        rule: Name,
        label: Label,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let unknown = Refused::new(Reason::UnknownRule, "grant");
        let pattern = self.in_force.policy.rule(rule.as_str()).ok_or(unknown)?.pattern.clone();
        let session = self.session(reader)?;
        let agent = session.agent().clone();
        let scope = self.taint_scope_of(&agent);
        let holder = match scope {
            TaintScope::Agent => Holder::Agent(agent.clone()),
            TaintScope::Session => Holder::Session {
                session: reader,
                agent: agent.clone(),
                until: session.certificate.validity().not_after,
            },
        };
        let sessions = match scope {
            TaintScope::Agent => self.roster.of_agent(agent.as_str()).map(LiveSession::id).collect(),
            TaintScope::Session => vec![reader],
        };
        let raise = Raise { holder, rule, pattern, label };
        if !self.floors.raise(&raise) {
            return Ok(());
        }
        effects.raise_floor(raise);
        self.show_floor(&agent, sessions, effects)
    }

    fn taint_scope(&self, who: &Principal) -> TaintScope {
        self.in_force.policy.team(who.team()).map(|team| team.taint).unwrap_or_default()
    }

    /// How long it counts against an agent what its sessions are given. An agent may be here under credentials of
    /// several teams, when it was moved and its old one is still good: one that does not forget is enough.
    fn taint_scope_of(&self, agent: &AgentToken) -> TaintScope {
        let mut scopes =
            self.roster.of_agent(agent.as_str()).map(|session| self.taint_scope(&session.principal));
        if scopes.all(|scope| scope == TaintScope::Session) { TaintScope::Session } else { TaintScope::Agent }
    }

    /// Under a policy that no longer takes a team to forget between sessions, what one session of an agent was
    /// given counts against all of them: else a second session could tell what the first was told before the
    /// policy changed.
    pub(super) fn settle_floor(&mut self, who: &Principal, effects: &mut Effects) -> Result<(), Refused> {
        if self.taint_scope(who) == TaintScope::Session {
            return Ok(());
        }
        let agent = who.token();
        let raises = self.floors.settle(agent);
        if raises.is_empty() {
            return Ok(());
        }
        raises.into_iter().for_each(|raise| effects.raise_floor(raise));
        let sessions = self.roster.of_agent(agent.as_str()).map(LiveSession::id).collect();
        self.show_floor(agent, sessions, effects)
    }

    /// Has floors follow the policy in force; what rose is to be on disk before anything is told. For a guard that
    /// has just started: rules may cover other subjects than when it stopped.
    #[must_use]
    pub fn follow_policy(&mut self) -> Vec<Raise> {
        let policy = &self.in_force.policy;
        self.floors.follow(|rule| policy.rule(rule.as_str()).map(|rule| rule.pattern.clone()))
    }

    /// The same, for a policy that comes into force while sessions are live.
    pub(super) fn follow_new_policy(&mut self, effects: &mut Effects) -> Result<(), Refused> {
        let raises = self.follow_policy();
        let agents: HashSet<AgentToken> = raises.iter().map(|raise| raise.holder.agent().clone()).collect();
        raises.into_iter().for_each(|raise| effects.raise_floor(raise));
        for agent in agents {
            let sessions = self.roster.of_agent(agent.as_str()).map(LiveSession::id).collect();
            self.show_floor(&agent, sessions, effects)?;
        }
        Ok(())
    }

    /// Has sessions of an agent held to its floor as it is now, and tells them.
    pub(super) fn show_floor(
        &mut self,
        agent: &AgentToken,
        sessions: Vec<SessionId>,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        for id in sessions {
            let floor = self.floors.of(agent, id);
            let before = self.roster.set_floor(id, Arc::clone(&floor));
            if before != Some(floor.join()) {
                effects.tell(agent, id, kind::FLOOR, &FloorNotice { floor: floor.join() })?;
            }
        }
        Ok(())
    }
}

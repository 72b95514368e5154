//! Another policy or status comes into force while sessions are live: it is told to them, and ends what it no longer
//! allows.

use sealbus_envelope::{
    control::kind,
    identity::SessionId,
    name::AgentToken,
    reason::{Reason, Refused},
    time::Millis,
};

use super::{InForce, Sessions};
use crate::{effect::Effects, policy::bundle::Excerpts, roster::OwnedKey};

impl Sessions {
    /// Puts another policy or status in force and tells every session; those that lost their right to be here
    /// end. Whose NATS permissions changed is for the authenticator to find out.
    ///
    /// # Errors
    /// `rolled_back` if a version is lower than the one in force; then nothing changes.
    pub fn replace(&mut self, in_force: InForce, now: Millis, effects: &mut Effects) -> Result<(), Refused> {
        let versions = |of: &InForce| (of.bundle.head().fields().version, of.status.version);
        let ((old_policy, old_status), (new_policy, new_status)) =
            (versions(&self.in_force), versions(&in_force));
        let digest = |of: &InForce| *of.policy.digest();
        // Two policies of one version are one too many: readers hold whichever they saw first.
        let other = new_policy == old_policy && digest(&in_force) != digest(&self.in_force);
        if new_policy < old_policy || new_status < old_status || other {
            return Err(Refused::new(Reason::RolledBack, "policy or status"));
        }
        let permissions_changed = old_policy != new_policy;
        if permissions_changed {
            self.excerpts = Excerpts::new(&in_force.bundle);
        }
        self.in_force = in_force;
        let sessions: Vec<(SessionId, AgentToken)> =
            self.roster.iter().map(|session| (session.id(), session.agent().clone())).collect();
        for (id, agent) in &sessions {
            let Some(session) = self.roster.get(*id) else { continue };
            let claims = session.credential.claims();
            if self.in_force.status.is_revoked(&claims.identity) {
                self.expel(agent, Reason::Revoked, now, effects);
                continue;
            }
            match self.in_force.policy.principal(claims) {
                Ok(principal) => {
                    self.settle_floor(&principal, effects)?;
                    self.roster.set_principal(*id, principal);
                }
                Err(reason) => self.expel(agent, reason, now, effects),
            }
        }
        if permissions_changed {
            self.follow_new_policy(effects)?;
            self.end_lost_rights(now);
        }
        for (id, agent) in sessions {
            let Some(session) = self.roster.get(id) else { continue };
            match self.welcome(&session.principal, &agent, id) {
                Ok(welcome) => effects.tell_encoded(&agent, id, kind::WELCOME, welcome),
                // It hears of the policy by the heartbeat, and why it gets none when it says hello again.
                Err(refused) => tracing::error!(%agent, %refused, "the policy cannot be sent to an agent"),
            }
        }
        Ok(())
    }

    /// Ends readings that the policy no longer allows, and has keys rotate that are held without right. The
    /// authenticator ends the connections, but a key is not taken back by that.
    fn end_lost_rights(&mut self, now: Millis) {
        let mut lost = Vec::new();
        for session in self.roster.iter() {
            for (&number, reading) in &session.readings {
                if self.may_read(session, reading.rule.as_str(), &reading.pattern, reading.serve).is_err() {
                    lost.push((session.id(), number));
                }
            }
        }
        for (id, number) in lost {
            self.roster.remove_reading(id, number);
        }
        let sessions = self.roster.iter().map(|reader| {
            let held = self.roster.keys_granted_to(reader.id());
            held.filter(|owned| !self.roster.key(*owned).is_some_and(|key| self.may_hold(reader, key)))
        });
        let without_right: Vec<OwnedKey> = sessions.flatten().collect();
        self.rotate_now(without_right, Reason::StaleKey, now);
    }
}

//! Another policy or status comes into force: sessions, checks, what is held and what is watched follow it.

use sealbus_envelope::{reason::Refused, time::Millis};

use super::Desk;
use crate::{
    audit::entry::{self, Body},
    bus::egress::Outgoing,
    effect::Effect,
    events::{Event, Kind},
    roster::session::LiveSession,
    sessions::InForce,
};

impl Desk {
    /// Puts another policy or status in force.
    ///
    /// # Errors
    /// `rolled_back`; then nothing changes but an event.
    pub fn replace(&mut self, in_force: InForce, now: Millis) -> Result<(), Refused> {
        let before = self.sessions.in_force().bundle.head().fields().version;
        let status_before = self.sessions.in_force().status.version;
        let live: Vec<_> = self.sessions.roster().iter().map(LiveSession::id).collect();
        self.sessions.replace(in_force, now, &mut self.effects)?;
        // What follows from the change stands behind it.
        let consequences: Vec<Effect> = self.effects.drain().collect();
        let (policy, status) = (&self.sessions.in_force().policy, &self.sessions.in_force().status);
        let (version, digest, status_version) = (policy.version(), *policy.digest(), status.version);
        for (what, from, to) in [("bundle", before, version), ("status", status_before, status_version)] {
            if from != to {
                self.effects.record(Body::PolicyChange(entry::PolicyChange {
                    what: what.into(),
                    from: Some(from),
                    to,
                    digest: digest.into(),
                }));
                let event = Event::new(Kind::Changed, now).detail(format!("{what} version {from} to {to}"));
                self.todo.publish.push(Outgoing::event(&self.wire, &event));
            }
        }
        consequences.into_iter().for_each(|effect| self.effects.put(effect));
        if before != version {
            self.checker.policy_changed();
            self.policy_since = now;
            self.watch_by_policy();
        }
        self.follow_holds();
        self.carry_out(now);
        // Of who is revoked, or has no right to be here any more, no answer comes.
        let over: Vec<_> =
            live.into_iter().filter(|session| self.sessions.roster().get(*session).is_none()).collect();
        self.fail_requests_to(&over, now);
        self.follow_workflows();
        self.show_versions();
        Ok(())
    }

    pub(super) fn show_versions(&mut self) {
        self.metrics.policy_version.set(self.sessions.in_force().policy.version());
        self.metrics.status_version.set(self.sessions.in_force().status.version);
    }
}

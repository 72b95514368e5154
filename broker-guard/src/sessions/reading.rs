//! What a session reads: its reader key, its subscriptions, and whether the policy lets it.

use sealbus_envelope::{
    control::{self, ReaderKeyNotice, Subscribe, kind},
    identity::SessionId,
    keys::ReaderKey,
    reason::{Reason, Refused},
    subject::Pattern,
    time::Millis,
};

use super::Sessions;
use crate::{
    effect::Effects,
    roster::{
        OwnedKey,
        session::{LiveSession, MAX_READINGS, Reading},
    },
};

impl Sessions {
    pub(super) fn reader_key(
        &mut self,
        id: SessionId,
        notice: &ReaderKeyNotice,
        now: Millis,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let session = self.session(id)?;
        let key = ReaderKey::verify(&notice.reader_key, self.roots.bus(), &session.certificate)?;
        key.check_time(now)?;
        let first = session.reader_key.is_none();
        if !self.roster.set_reader_key(id, key) {
            return Err(Refused::new(Reason::Replay, "reader key"));
        }
        if first {
            // It could read nothing until now: senders have not heard of it.
            self.announce_all(id, effects)?;
        }
        Ok(())
    }

    pub(super) fn subscribe(
        &mut self,
        id: SessionId,
        wanted: Subscribe,
        now: Millis,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let session = self.session(id)?;
        let agent = session.agent().clone();
        let Subscribe { id: number, rule, pattern, serve } = wanted;
        let full = session.readings.len() >= MAX_READINGS && !session.readings.contains_key(&number);
        let allowed =
            if full { Err(Reason::TooLarge) } else { self.may_read(session, rule.as_str(), &pattern, serve) };
        let refused = allowed.err();
        effects.tell(&agent, id, kind::SUBSCRIBED, &control::Subscribed { id: number, refused })?;
        if let Some(reason) = refused {
            return Err(Refused::new(reason, "subscribe"));
        }
        let reading = Reading { rule: rule.clone(), pattern, serve };
        if let Some(left) = self.roster.add_reading(id, number, reading) {
            self.leave_rule(id, left.as_str(), now);
        }
        self.announce_reader(id, rule.as_str(), effects)
    }

    pub(super) fn may_read(
        &self,
        session: &LiveSession,
        rule: &str,
        pattern: &Pattern,
        serve: bool,
    ) -> Result<(), Reason> {
        let policy = &self.in_force.policy;
        let compiled = policy.rule(rule).ok_or(Reason::UnknownRule)?;
        if compiled.is_request() != serve {
            return Err(Reason::WrongPattern);
        }
        let queue = compiled.subscribers.queue_of(&session.principal).map(|queue| queue.as_str());
        policy.may_subscribe(&session.principal, rule, pattern, queue).map(|_| ())
    }

    pub(super) fn unsubscribe(&mut self, id: SessionId, number: u32, now: Millis) {
        if let Some(rule) = self.roster.remove_reading(id, number) {
            self.leave_rule(id, rule.as_str(), now);
        }
    }

    /// A session reads nothing under a rule any longer: what it holds of it is to rotate away.
    fn leave_rule(&mut self, id: SessionId, rule: &str, now: Millis) {
        let of_rule = |owned: &OwnedKey| self.roster.key(*owned).is_some_and(|key| key.rule.as_str() == rule);
        let held: Vec<OwnedKey> = self.roster.keys_granted_to(id).filter(of_rule).collect();
        self.rotate_in_time(held, now);
    }
}

//! Control messages: the sessions act on each, and its sender hears why one was refused.

use async_nats::Message;
use sealbus_envelope::{
    control::{encode, kind, verb},
    name::AgentToken,
    reason::{Reason, Refused},
    time::Millis,
};

use super::{Desk, denying::notice, flood};
use crate::{bus::egress::Outgoing, check::Denial, roster::session::LiveSession};

impl Desk {
    /// Handles one control message.
    pub fn control(&mut self, message: &Message, now: Millis) {
        self.metrics.control.inc();
        let wire = self.wire.clone();
        let Some(subject) = wire.read_control(&message.subject) else {
            self.deny(vec![Denial::bare(Refused::new(Reason::BadSubject, "control subject"))], now);
            return;
        };
        if !self.sessions.diverts() && self.barred.hushes(self.sessions.quarantined(), subject.agent) {
            return;
        }
        self.saw_control(&subject, &message.payload, now);
        let before = self.effects.is_empty();
        debug_assert!(before, "effects are carried out after each message");
        let known = self.sessions.roster().by_token(subject.session).is_some();
        let outcome = self.sessions.handle(&subject, &message.payload, &self.seen, now, &mut self.effects);
        self.carry_out(now);
        if subject.verb == verb::HELLO && outcome.is_ok() {
            self.tell_paused_to(subject.session);
            if !known {
                self.tell_decided(subject.session, now);
            }
        }
        if let Err(refused) = outcome {
            let mut denial = Denial::bare(refused);
            denial.agent = AgentToken::parse(subject.agent).ok();
            denial.subject = Some(subject.verb.to_owned());
            let session = self.sessions.roster().by_token(subject.session);
            denial.session = session.filter(|s| s.agent().as_str() == subject.agent).map(LiveSession::id);
            if matches!(refused.reason, Reason::UnknownSession | Reason::SessionEnded)
                && let Some(agent) = &denial.agent
            {
                let payload = encode(&notice(&denial, 1, now)).unwrap_or_default();
                let told = Outgoing::tell_unknown(&self.wire, agent, subject.session, kind::DENIED, payload);
                self.todo.publish.extend(told);
            }
            self.todo.junk.extend(flood::junk(&denial, message.payload.len()));
            self.deny(vec![denial], now);
        }
        self.metrics.sessions.set(i64::try_from(self.sessions.roster().len()).unwrap_or(i64::MAX));
    }
}

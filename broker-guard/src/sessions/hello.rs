//! Hello: a session enters, or returns.

use sealbus_envelope::{
    control::{self, Hello, MAX_CONTROL, Readers, SessionStatement, kind},
    identity::{Credential, Role, SessionCertificate, SessionId},
    keys::ReaderKey,
    name::AgentToken,
    reason::{Reason, Refused},
    subject::Control,
    time::Millis,
};

use super::{Sessions, leaving::session_event};
use crate::{
    effect::Effects,
    policy::decide::Principal,
    roster::session::{LiveSession, MAX_SESSIONS},
};

impl Sessions {
    /// A second hello to the same epoch changes nothing but what it adds. It is signed, but may be a repeated
    /// one: readings and keys that it does not list stay, sequences only move on, and an older reader key does
    /// not come back. Else a server that repeats it could end what the session reads, and nobody would tell.
    pub(super) fn hello(
        &mut self,
        subject: &Control<'_>,
        hello: &Hello,
        now: Millis,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let bus = self.roots.bus();
        let credential = Credential::verify(&hello.credential, bus, &self.roots.issuer)?;
        credential.check_time(now)?;
        let certificate = SessionCertificate::verify(&hello.certificate, bus)?;
        certificate.check_time(now)?;
        let claims = credential.claims();
        if credential.token().as_str() != subject.agent || *certificate.identity() != claims.identity {
            return Err(Refused::new(Reason::WrongSender, "hello"));
        }
        let id = certificate.id();
        if id.token() != subject.session {
            return Err(Refused::new(Reason::WrongSession, "hello"));
        }
        if claims.role != Role::Agent {
            return Err(Refused::new(Reason::WrongRole, "hello"));
        }
        if self.in_force.status.is_revoked(&claims.identity) {
            return Err(Refused::new(Reason::Revoked, "hello"));
        }
        if self.floors.is_ended(credential.token(), &certificate) {
            return Err(Refused::new(Reason::SessionEnded, "hello"));
        }
        let principal = self
            .in_force
            .policy
            .principal(claims)
            .map_err(|reason| Refused::new(reason, "credential.team"))?;
        let statement = SessionStatement::verify(&hello.statement, bus, &certificate, self.guard)?;
        let reader_key = match &hello.reader_key {
            Some(bytes) => {
                let key = ReaderKey::verify(bytes, bus, &certificate)?;
                key.check_time(now)?;
                Some(key)
            }
            None => None,
        };
        let agent = credential.token().clone();
        self.settle_floor(&principal, effects)?;
        let welcome = self.welcome(&principal, &agent, id)?;

        let first_key = reader_key.is_some() && self.roster.get(id).is_some_and(|s| s.reader_key.is_none());
        match self.roster.get(id) {
            // The same identity under another name: its subjects, and all that is kept of it, are the other's.
            Some(known) if *known.agent() != agent => {
                return Err(Refused::new(Reason::WrongSender, "hello"));
            }
            Some(_) => self.roster.renew(id, credential, principal),
            None => {
                self.make_room(&agent, now, effects);
                effects.record(session_event(id, &agent, "hello"));
                let floor = self.floors.of(&agent, id);
                self.roster.insert(LiveSession::new(credential, certificate, principal, floor, now));
            }
        }
        if let Some(key) = reader_key {
            // An older one than it has is not worth refusing the rest for.
            self.roster.set_reader_key(id, key);
        }
        effects.tell_encoded(&agent, id, kind::WELCOME, welcome);
        if first_key {
            self.announce_all(id, effects)?;
        }
        for key in statement.keys {
            let key_id = key.key;
            let outdated = self.roster.key((id, key_id)).is_none()
                && self.floors.is_outdated(&key.rule, key.label, &self.session(id)?.certificate);
            let opened = self.open_key(id, key, now).and_then(|()| match outdated {
                true => self.outdate(id, key_id, now, effects),
                false => self.tell_readers(id, key_id, effects),
            });
            // A key that a new policy forbids must not keep the session from hearing of that policy.
            if let Err(refused) = opened {
                let answer =
                    Readers { key: key_id, refused: Some(refused.reason), readers: vec![], more: false };
                effects.tell(&agent, id, kind::READERS, &answer)?;
            }
        }
        Ok(())
    }

    /// Ends the oldest session of an agent that has as many as it may: one that crashes and returns must not
    /// be kept out by what it left behind.
    fn make_room(&mut self, agent: &AgentToken, now: Millis, effects: &mut Effects) {
        if self.roster.of_agent(agent.as_str()).count() < MAX_SESSIONS {
            return;
        }
        let oldest = self.roster.of_agent(agent.as_str()).min_by_key(|session| (session.since, session.id()));
        let Some(oldest) = oldest.map(LiveSession::id) else { return };
        effects.disconnect(oldest, Reason::Overloaded);
        self.end(oldest, "replaced", now, effects);
    }

    /// What a session is handed: the policy that concerns it, the status statement, the guard's credential.
    ///
    /// # Errors
    /// `too_large` if the server would not carry it: the agent is named by too many rules.
    pub(super) fn welcome(
        &self,
        who: &Principal,
        agent: &AgentToken,
        id: SessionId,
    ) -> Result<Vec<u8>, Refused> {
        let welcome = control::Welcome {
            policy: self.excerpts.concerning(&self.in_force.policy, who),
            status: self.in_force.status_bytes.clone().into(),
            guards: vec![self.guard_credential.as_str().to_owned()],
            max_payload: self.max_payload,
            floor: self.floors.of(agent, id).join(),
        };
        let welcome = control::encode(&welcome)?;
        if welcome.len() > self.max_payload().min(MAX_CONTROL) {
            return Err(Refused::new(Reason::TooLarge, "welcome: too many rules name the agent"));
        }
        Ok(welcome)
    }

    /// Tells the senders of all that a session reads of it.
    pub(super) fn announce_all(&self, id: SessionId, effects: &mut Effects) -> Result<(), Refused> {
        let rules: std::collections::HashSet<_> =
            self.session(id)?.readings.values().map(|reading| reading.rule.clone()).collect();
        for rule in rules {
            self.announce_reader(id, rule.as_str(), effects)?;
        }
        Ok(())
    }
}

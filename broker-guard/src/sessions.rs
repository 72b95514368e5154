//! Sessions and keys: who is on the bus, who reads what, and the relay of sealed keys from senders to
//! readers.
//!
//! The guard sees key grants go by and cannot open them. It checks that a grant is for a key its sender
//! opened and for a reader that the policy allows; sender and reader check the same again themselves,
//! because they need not trust a guard.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sealbus_envelope::{
    control::{self, GuardEpoch, Hello, ReaderKeyNotice, SessionStatement, Subscribe, kind, verb},
    identity::{Credential, Role, Roots, SessionCertificate, SessionId, Status},
    keys::{KeyId, ReaderKey},
    name::AgentToken,
    policy::Bundle,
    reason::{Reason, Refused},
    subject::Control,
    time::Millis,
    wire::SeenRoots,
};

use crate::{
    audit::entry,
    effect::{Effects, refusal},
    policy::compile::CompiledPolicy,
    roster::{
        OwnedKey, Roster,
        session::{LiveSession, MAX_READINGS, Reading},
    },
};

mod relay;

/// After a reader lost its right, this long may envelopes under a key that it holds still be under way.
const STALE_AFTER_MS: u64 = 2_000;

/// What is in force.
#[derive(Debug, Clone)]
pub struct InForce {
    /// The signed policy.
    pub bundle: Arc<Bundle>,
    /// The same, for decisions.
    pub policy: Arc<CompiledPolicy>,
    /// Who is revoked.
    pub status: Arc<Status>,
    /// The same, signed.
    pub status_bytes: Vec<u8>,
}

/// Sessions, their keys, and what is in force for them.
#[derive(Debug)]
pub struct Sessions {
    roots: Roots,
    guard: GuardEpoch,
    guard_credential: Credential,
    max_payload: u32,
    in_force: InForce,
    roster: Roster,
    quarantined: HashSet<AgentToken>,
    /// Keys that must rotate, told at the next tick: many readers leaving at once cost one rotation.
    due: HashMap<OwnedKey, Reason>,
}

impl Sessions {
    /// No session yet.
    #[must_use]
    pub fn new(
        roots: Roots,
        guard: GuardEpoch,
        guard_credential: Credential,
        max_payload: u32,
        in_force: InForce,
        quarantined: HashSet<AgentToken>,
    ) -> Self {
        Self {
            roots,
            guard,
            guard_credential,
            max_payload,
            in_force,
            roster: Roster::default(),
            quarantined,
            due: HashMap::new(),
        }
    }

    /// What is in force.
    #[must_use]
    pub const fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// This start of the guard.
    #[must_use]
    pub const fn guard(&self) -> GuardEpoch {
        self.guard
    }

    /// Who is on the bus.
    #[must_use]
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Who is in quarantine.
    #[must_use]
    pub const fn quarantined(&self) -> &HashSet<AgentToken> {
        &self.quarantined
    }

    /// All that the checker looks things up in, borrowed apart from each other.
    pub fn for_checker(&mut self) -> (&InForce, &HashSet<AgentToken>, &mut Roster) {
        (&self.in_force, &self.quarantined, &mut self.roster)
    }

    /// Handles one control message; what is refused is told to the session.
    pub fn handle(
        &mut self,
        subject: &Control<'_>,
        payload: &[u8],
        seen: &impl SeenRoots,
        now: Millis,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let outcome = self.dispatch(subject, payload, seen, now, effects);
        if let Err(refused) = outcome
            && let Some(session) = self.roster.by_token(subject.session)
        {
            let notice = refusal(refused, subject.verb, now);
            effects.tell(session.agent(), session.id(), kind::DENIED, &notice)?;
        }
        outcome
    }

    fn dispatch(
        &mut self,
        subject: &Control<'_>,
        payload: &[u8],
        seen: &impl SeenRoots,
        now: Millis,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        if self.quarantined.contains(subject.agent) {
            return Err(Refused::new(Reason::Quarantined, "sender"));
        }
        if subject.verb == verb::HELLO {
            return self.hello(subject, &control::decode(payload)?, now, effects);
        }
        let session = self
            .roster
            .by_token(subject.session)
            .filter(|session| session.agent().as_str() == subject.agent)
            .ok_or(Refused::new(Reason::UnknownSession, "control subject"))?
            .id();
        match subject.verb {
            verb::READER => self.reader_key(session, &control::decode(payload)?, now, effects),
            verb::SUBSCRIBE => self.subscribe(session, control::decode(payload)?, effects),
            verb::UNSUBSCRIBE => {
                let control::Unsubscribe { id } = control::decode(payload)?;
                self.unsubscribe(session, id);
                Ok(())
            }
            verb::OPEN => self.open(session, &control::decode(payload)?, effects),
            verb::GRANT => self.relay(session, &control::decode(payload)?, seen, effects),
            verb::WANT => self.want(session, &control::decode(payload)?, effects),
            verb::BYE => {
                let control::Bye {} = control::decode(payload)?;
                self.gone(session, effects);
                Ok(())
            }
            _ => Err(Refused::new(Reason::Malformed, "control verb")),
        }
    }

    fn hello(
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
        if certificate.id().token() != subject.session {
            return Err(Refused::new(Reason::WrongSession, "hello"));
        }
        if claims.role != Role::Agent {
            return Err(Refused::new(Reason::WrongRole, "hello"));
        }
        if self.in_force.status.is_revoked(&claims.identity) {
            return Err(Refused::new(Reason::Revoked, "hello"));
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
        let id = certificate.id();
        // A second hello to the same epoch starts the session anew; its sequences only move forward,
        // because the statement is signed and a lower one than known here is a replay.
        let mut keys = HashMap::new();
        for key in statement.keys {
            self.check_key(&principal, &key, id)?;
            let known = self.roster.get(id).and_then(|session| session.keys.get(&key.key));
            let next = known.map_or(key.next, |known| known.next.max(key.next));
            keys.insert(key.key, relay::sending(key, next));
        }
        let agent = credential.token().clone();
        effects.record(entry::Body::Session(entry::Session {
            session: (*id.as_bytes()).into(),
            agent: agent.to_string().into(),
            event: "hello".into(),
        }));
        if let Some((_, held)) = self.roster.insert(LiveSession {
            credential,
            certificate,
            principal,
            reader_key,
            previous_reader_key: None,
            readings: HashMap::new(),
            keys,
        }) {
            self.rotate(held, Reason::StaleKey, None);
        }
        self.welcome(id, effects)?;
        let opened: Vec<KeyId> =
            self.roster.get(id).map_or_else(Vec::new, |s| s.keys.keys().copied().collect());
        for key in opened {
            self.tell_readers(id, key, effects)?;
        }
        Ok(())
    }

    /// Hands a session the policy that concerns it, the status statement and the guard's credential.
    fn welcome(&self, id: SessionId, effects: &mut Effects) -> Result<(), Refused> {
        let Some(session) = self.roster.get(id) else { return Ok(()) };
        let claims = session.credential.claims();
        let concerns = |rule: &sealbus_envelope::policy::Rule| {
            rule.names_publisher(claims) || rule.subscriber(claims).is_some()
        };
        let welcome = control::Welcome {
            policy: self.in_force.bundle.excerpt(concerns),
            status: self.in_force.status_bytes.clone().into(),
            guards: vec![self.guard_credential.as_str().to_owned()],
            max_payload: self.max_payload,
        };
        effects.tell(session.agent(), id, kind::WELCOME, &welcome)
    }

    fn reader_key(
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
        self.roster.set_reader_key(id, key);
        if first {
            // It could read nothing until now: senders have not heard of it.
            let rules: HashSet<_> =
                self.session(id)?.readings.values().map(|reading| reading.rule.clone()).collect();
            for rule in rules {
                self.announce_reader(id, rule.as_str(), effects)?;
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, id: SessionId, wanted: Subscribe, effects: &mut Effects) -> Result<(), Refused> {
        let session = self.session(id)?;
        let agent = session.agent().clone();
        let Subscribe { id: number, rule, pattern, serve } = wanted;
        let allowed = if session.readings.len() >= MAX_READINGS {
            Err(Reason::TooLarge)
        } else {
            self.may_read(session, rule.as_str(), &pattern, serve)
        };
        let refused = allowed.err();
        effects.tell(&agent, id, kind::SUBSCRIBED, &control::Subscribed { id: number, refused })?;
        if let Some(reason) = refused {
            return Err(Refused::new(reason, "subscribe"));
        }
        self.roster.add_reading(id, number, Reading { rule: rule.clone(), pattern, serve });
        self.announce_reader(id, rule.as_str(), effects)
    }

    fn may_read(
        &self,
        session: &LiveSession,
        rule: &str,
        pattern: &sealbus_envelope::subject::Pattern,
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

    fn unsubscribe(&mut self, id: SessionId, number: u32) {
        if let Some(rule) = self.roster.remove_reading(id, number) {
            let keys: Vec<OwnedKey> = self
                .roster
                .keys_under(rule.as_str())
                .filter(|(_, _, sending)| sending.granted.contains(&id))
                .map(|(key, _, _)| key)
                .collect();
            self.rotate(keys, Reason::StaleKey, None);
        }
    }

    /// A session ended: by itself, or because its connection did.
    pub fn gone(&mut self, id: SessionId, effects: &mut Effects) {
        let Some((session, held)) = self.roster.remove(id) else { return };
        effects.record(entry::Body::Session(entry::Session {
            session: (*id.as_bytes()).into(),
            agent: session.agent().to_string().into(),
            event: "closed".into(),
        }));
        self.rotate(held, Reason::StaleKey, None);
    }

    /// An agent lost its right to be on the bus: its sessions end, what it holds goes stale, its
    /// connections are closed.
    pub fn expel(&mut self, agent: &AgentToken, reason: Reason, now: Millis, effects: &mut Effects) {
        if reason == Reason::Quarantined {
            self.quarantined.insert(agent.clone());
        }
        let sessions: Vec<SessionId> = self.roster.of_agent(agent.as_str()).map(LiveSession::id).collect();
        for id in sessions {
            effects.disconnect(id, reason);
            if let Some((_, held)) = self.roster.remove(id) {
                self.rotate(held, reason, Some(now.plus(STALE_AFTER_MS)));
            }
        }
    }

    /// An agent may come back.
    pub fn readmit(&mut self, agent: &AgentToken) {
        self.quarantined.remove(agent.as_str());
    }

    /// Puts another policy or status in force and tells every session; those that lost their right to be here
    /// end. Whose NATS permissions changed is for the authenticator to find out.
    ///
    /// # Errors
    /// `rolled_back` if a version is lower than the one in force; then nothing changes.
    pub fn replace(&mut self, in_force: InForce, now: Millis, effects: &mut Effects) -> Result<(), Refused> {
        let versions = |of: &InForce| (of.bundle.head().fields().version, of.status.version);
        let ((old_policy, old_status), (new_policy, new_status)) =
            (versions(&self.in_force), versions(&in_force));
        if new_policy < old_policy || new_status < old_status {
            return Err(Refused::new(Reason::RolledBack, "policy or status"));
        }
        self.in_force = in_force;
        let sessions: Vec<(SessionId, AgentToken)> =
            self.roster.iter().map(|session| (session.id(), session.agent().clone())).collect();
        for (id, agent) in sessions {
            let Some(session) = self.roster.get_mut(id) else { continue };
            let claims = session.credential.claims();
            if self.in_force.status.is_revoked(&claims.identity) {
                self.expel(&agent, Reason::Revoked, now, effects);
                continue;
            }
            match self.in_force.policy.principal(claims) {
                Ok(principal) => session.principal = principal,
                Err(reason) => {
                    self.expel(&agent, reason, now, effects);
                    continue;
                }
            }
            self.welcome(id, effects)?;
        }
        Ok(())
    }

    /// Marks keys for rotation at the next tick.
    fn rotate(&mut self, keys: Vec<OwnedKey>, reason: Reason, stale_from: Option<Millis>) {
        for key in keys {
            if let Some(sending) = self.roster.key_mut(key) {
                sending.stale_from = sending.stale_from.or(stale_from);
                self.due.insert(key, reason);
            }
        }
    }

    /// Once a second: tells senders which keys to rotate, and ends sessions whose time is over.
    pub fn tick(&mut self, now: Millis, effects: &mut Effects) -> Result<(), Refused> {
        for ((id, key), reason) in std::mem::take(&mut self.due) {
            if let Some(session) = self.roster.get(id) {
                effects.tell(session.agent(), id, kind::REKEY, &control::Rekey { key, reason })?;
            }
        }
        let over: Vec<SessionId> = self
            .roster
            .iter()
            .filter(|s| s.certificate.check_time(now).is_err() || s.credential.check_time(now).is_err())
            .map(LiveSession::id)
            .collect();
        for id in over {
            effects.disconnect(id, Reason::CertificateExpired);
            self.gone(id, effects);
        }
        Ok(())
    }

    fn session(&self, id: SessionId) -> Result<&LiveSession, Refused> {
        self.roster.get(id).ok_or(Refused::new(Reason::UnknownSession, "session"))
    }
}

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
    control::{self, GuardEpoch, ReaderKeyNotice, Subscribe, kind, verb},
    identity::{Credential, PublicKey, Roots, SessionCertificate, SessionId, Status},
    keys::ReaderKey,
    label::Label,
    name::AgentToken,
    policy::{Bundle, Rate},
    reason::{Reason, Refused},
    subject::{Control, Partition},
    time::Millis,
    wire::SeenRoots,
};

use crate::{
    audit::entry,
    check::rate::AgentLimits,
    effect::{Effect, Effects},
    policy::{bundle::Excerpts, compile::CompiledPolicy},
    quarantine::state::Ceiling,
    roster::{
        OwnedKey, Roster,
        session::{LiveSession, MAX_READINGS, Reading},
    },
    taint::Floors,
};

mod clear;
mod divert;
mod hello;
mod relay;

/// What one agent may cause with control messages. A unit is a message, a record or a KiB that the guard sends
/// because of it, besides the work that each verb is (`work`). Generous: a sender with 4,096 readers opens
/// ten keys at once.
pub const CONTROL_RATE: Rate = Rate { per_second: 4_000, burst: 200_000 };
/// What one message may cause at most, in the same units: all of it is in memory at once.
const AT_ONCE: u64 = 16_384;
/// What an approval costs who brings it: a signature, and if it counts, a write to the disk.
const APPROVAL_COST: u64 = 100;
/// What a look at what is held costs: a list of it, or an envelope of up to 1 MiB.
const HELD_COST: u64 = 1_000;
/// A reader that leaves of its own accord makes senders rotate a key at most once in this time: else one that
/// comes and goes would have every sender seal to every reader once a second.
const ROTATE_EVERY_MS: u64 = 10_000;
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
    /// Who is watched, and the highest it may open keys for.
    watched: HashMap<AgentToken, Option<Ceiling>>,
    /// Sessions of who is kept busy apart, by the token in their subjects.
    diverted: HashMap<String, SessionCertificate>,
    floors: Floors,
    /// Keys that must rotate, told at a tick: many readers leaving at once cost one rotation.
    due: HashMap<OwnedKey, Due>,
    /// Keys of what waits for people: readers that leave of their own accord do not have them rotate yet.
    pinned: HashSet<OwnedKey>,
    /// Keys that a reader asked for since the last tick: asking again is of no use before the next.
    wanted: HashSet<(SessionId, OwnedKey)>,
    excerpts: Excerpts,
    control: AgentLimits,
    /// What the effects may cost when the message in hand has been handled as far as its sender may pay for.
    spend_until: u64,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    reason: Reason,
    at: Millis,
}

/// What handling a message costs the guard, beside what it sends: mostly signatures, at about ten units each,
/// and a grant may have one in each 1.4 KiB.
fn work(verb: &str, payload: &[u8]) -> u64 {
    let verb = match verb {
        verb::HELLO => 50,
        verb::READER => 20,
        verb::OPEN | verb::GRANT => 10,
        _ => 1,
    };
    verb + u64::try_from(payload.len() >> 8).unwrap_or(u64::MAX - verb)
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
        floors: Floors,
    ) -> Self {
        Self {
            excerpts: Excerpts::new(&in_force.bundle),
            roots,
            guard,
            guard_credential,
            max_payload,
            in_force,
            roster: Roster::default(),
            quarantined,
            watched: HashMap::new(),
            diverted: HashMap::new(),
            floors,
            due: HashMap::new(),
            pinned: HashSet::new(),
            wanted: HashSet::new(),
            control: AgentLimits::new(CONTROL_RATE),
            spend_until: 0,
        }
    }

    /// What is in force.
    #[must_use]
    pub const fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// The roots of trust.
    #[must_use]
    pub const fn roots(&self) -> &Roots {
        &self.roots
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

    /// The server's `max_payload`, in bytes: nothing that is sent may be larger.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        usize::try_from(self.max_payload).unwrap_or(usize::MAX)
    }

    /// What is kept besides the roster, for tests and metrics: rotations due, keys wanted, limits in use.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.due.len() + self.wanted.len() + self.control.len()
    }

    /// Who signs credentials.
    #[must_use]
    pub const fn issuer(&self) -> &PublicKey {
        &self.roots.issuer
    }

    /// What agents were given to read.
    #[must_use]
    pub const fn floors(&self) -> &Floors {
        &self.floors
    }

    /// All that the checker looks things up in, borrowed apart from each other.
    pub fn for_checker(&mut self) -> (&InForce, &HashSet<AgentToken>, &mut Roster) {
        (&self.in_force, &self.quarantined, &mut self.roster)
    }

    /// Handles one control message. Its sender pays for all that it causes: one message may bring about many,
    /// and who sends enough of such waits.
    ///
    /// # Errors
    /// Why it was refused, for the session to be told. Some of it may have been done before.
    pub fn handle(
        &mut self,
        subject: &Control<'_>,
        payload: &[u8],
        seen: &impl SeenRoots,
        now: Millis,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let agent = AgentToken::parse(subject.agent)?;
        if subject.partition != Partition::of(&agent) {
            return Err(Refused::new(Reason::WrongSubject, "control subject"));
        }
        let off = self.quarantined.contains(&agent);
        if off && !self.in_force.policy.supervision().anomaly.divert {
            return Err(Refused::new(Reason::Quarantined, "sender"));
        }
        let allowance = self.control.of(&agent).allowance(now);
        if allowance == 0 {
            return Err(Refused::new(Reason::RateLimited, "control"));
        }
        let before = effects.cost();
        self.spend_until = before.saturating_add(allowance.min(AT_ONCE));
        let outcome = if off {
            self.entertain(subject, payload, effects)
        } else {
            self.dispatch(subject, payload, seen, now, effects)
        };
        let caused = effects.cost().saturating_sub(before);
        self.control.of(&agent).spend(work(subject.verb, payload).saturating_add(caused), now);
        outcome
    }

    /// An agent pays for what its control message brought about elsewhere.
    pub fn charge(&mut self, agent: &AgentToken, units: u64, now: Millis) {
        self.control.of(agent).spend(units, now);
    }

    fn dispatch(
        &mut self,
        subject: &Control<'_>,
        payload: &[u8],
        seen: &impl SeenRoots,
        now: Millis,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        if subject.verb == verb::GREET {
            let control::Greet {} = control::decode(payload)?;
            effects.beat(subject.partition);
            return Ok(());
        }
        if subject.verb == verb::HELLO {
            return self.hello(subject, &control::decode(payload)?, now, effects);
        }
        let session = self
            .roster
            .by_token(subject.session)
            .filter(|session| session.agent().as_str() == subject.agent)
            .map(LiveSession::id);
        if session.is_none() && subject.verb == verb::BYE {
            // The server told of the broken connection first: what it asks for is done.
            return Ok(());
        }
        let session = session.ok_or(Refused::new(Reason::UnknownSession, "control subject"))?;
        match subject.verb {
            verb::READER => self.reader_key(session, &control::decode(payload)?, now, effects),
            verb::SUBSCRIBE => self.subscribe(session, control::decode(payload)?, now, effects),
            verb::UNSUBSCRIBE => {
                let control::Unsubscribe { id } = control::decode(payload)?;
                self.unsubscribe(session, id, now);
                Ok(())
            }
            verb::OPEN => self.open(session, &control::decode(payload)?, now, effects),
            verb::GRANT => self.relay(session, &control::decode(payload)?, seen, now, effects),
            verb::WANT => self.want(session, &control::decode(payload)?, effects),
            verb::APPROVAL => {
                let control::SubmitApproval { approval } = control::decode(payload)?;
                let (agent, approval) = (self.session(session)?.agent().clone(), approval.into_vec());
                effects.oversee(Effect::Approve { agent, session, approval }, APPROVAL_COST);
                Ok(())
            }
            verb::HELD => {
                let ask: control::AskHeld = control::decode(payload)?;
                let agent = self.session(session)?.agent().clone();
                effects.oversee(Effect::TellHeld { agent, session, ask }, HELD_COST);
                Ok(())
            }
            verb::BYE => {
                let control::Bye {} = control::decode(payload)?;
                self.gone(session, now, effects);
                Ok(())
            }
            _ => Err(Refused::new(Reason::Malformed, "control verb")),
        }
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
        if !self.roster.set_reader_key(id, key) {
            return Err(Refused::new(Reason::Replay, "reader key"));
        }
        if first {
            // It could read nothing until now: senders have not heard of it.
            self.announce_all(id, effects)?;
        }
        Ok(())
    }

    fn subscribe(
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

    fn unsubscribe(&mut self, id: SessionId, number: u32, now: Millis) {
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

    /// A session ended: by itself, or because its connection did.
    pub fn gone(&mut self, id: SessionId, now: Millis, effects: &mut Effects) {
        self.end(id, "closed", now, effects);
    }

    fn end(&mut self, id: SessionId, event: &'static str, now: Millis, effects: &mut Effects) {
        let Some((session, held)) = self.roster.remove(id, self.marks_until(now)) else { return };
        effects.record(session_event(id, session.agent(), event));
        self.rotate_in_time(held, now);
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
            if let Some((_, held)) = self.roster.remove(id, self.marks_until(now)) {
                effects.record(session_event(id, agent, reason.code()));
                self.rotate_now(held, reason, now);
            }
        }
    }

    /// Until when an envelope that was sealed by now can be fresh: its clock may be a window ahead.
    fn marks_until(&self, now: Millis) -> Millis {
        let window = u64::from(self.in_force.policy.tables().freshness_ms);
        now.plus(window.saturating_mul(2))
    }

    /// The sender keys that an agent has in use, as a ceiling for when it is watched.
    #[must_use]
    pub fn ceiling_of(&self, agent: &AgentToken) -> Option<Ceiling> {
        let sessions = self.roster.of_agent(agent.as_str());
        Ceiling::over(sessions.flat_map(|session| session.keys.values()).map(|key| key.label))
    }

    /// An agent is watched from now on, or no longer (`None`).
    pub fn watch(&mut self, agent: &AgentToken, ceiling: Option<Option<Ceiling>>) {
        match ceiling {
            Some(ceiling) => self.watched.insert(agent.clone(), ceiling),
            None => self.watched.remove(agent.as_str()),
        };
    }

    /// Who is watched opens no key for more than it used before.
    fn check_watched(&self, session: &LiveSession, label: Label) -> Result<(), Refused> {
        match self.watched.get(session.agent()) {
            Some(Some(ceiling)) if !ceiling.covers(label) => {
                Err(Refused::new(Reason::Anomalous, "sender key"))
            }
            _ => Ok(()),
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

    /// Keys that somebody holds who lost the right to: told at the next tick, refused two seconds later.
    fn rotate_now(&mut self, keys: Vec<OwnedKey>, reason: Reason, now: Millis) {
        for key in keys {
            if let Some(sending) = self.roster.key_mut(key) {
                sending.stale_from.get_or_insert(now.plus(STALE_AFTER_MS));
                self.due.insert(key, Due { reason, at: now });
            }
        }
    }

    /// Keys that somebody holds who reads them no longer, though it might.
    fn rotate_in_time(&mut self, keys: Vec<OwnedKey>, now: Millis) {
        for key in keys {
            if let Some(sending) = self.roster.key(key).filter(|_| !self.roster.is_superseded(key)) {
                let at = now.max(sending.opened.plus(ROTATE_EVERY_MS));
                self.due.entry(key).or_insert(Due { reason: Reason::StaleKey, at });
            }
        }
    }

    /// The keys of what waits for people, as it stands now.
    pub fn pin(&mut self, keys: HashSet<OwnedKey>) {
        self.pinned = keys;
    }

    /// Once a second: tells senders which keys to rotate, and ends sessions whose time is over.
    pub fn tick(&mut self, now: Millis, effects: &mut Effects) -> Result<(), Refused> {
        self.control.prune(now);
        self.floors.expire(now);
        self.wanted.clear();
        self.roster.expire_marks(now);
        for (owned, due) in std::mem::take(&mut self.due) {
            let (id, key) = owned;
            // The sender may have left, or rotated it meanwhile.
            let Some(session) = self.roster.get(id).filter(|session| session.keys.contains_key(&key)) else {
                continue;
            };
            if self.roster.is_superseded(owned) {
                continue;
            }
            // Who looked at what waits for people, and went, must not take its key from the next who looks.
            let looked_at = due.reason == Reason::StaleKey && self.pinned.contains(&owned);
            if due.at > now || looked_at {
                self.due.insert(owned, due);
            } else {
                effects.tell(
                    session.agent(),
                    id,
                    kind::REKEY,
                    &control::Rekey { key, reason: due.reason },
                )?;
            }
        }
        let over: Vec<(SessionId, Reason)> = self
            .roster
            .iter()
            .filter_map(|session| {
                let (certificate, credential) = (&session.certificate, &session.credential);
                let over = certificate.check_time(now).and_then(|()| credential.check_time(now)).err()?;
                Some((session.id(), over.reason))
            })
            .collect();
        for (id, reason) in over {
            effects.disconnect(id, reason);
            self.end(id, "expired", now, effects);
        }
        Ok(())
    }

    fn session(&self, id: SessionId) -> Result<&LiveSession, Refused> {
        self.roster.get(id).ok_or(Refused::new(Reason::UnknownSession, "session"))
    }
}

fn session_event(id: SessionId, agent: &AgentToken, event: &'static str) -> entry::Body<'static> {
    entry::Body::Session(entry::Session {
        session: (*id.as_bytes()).into(),
        agent: agent.to_string().into(),
        event: event.into(),
    })
}

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
    control::{self, GuardEpoch, verb},
    identity::{Credential, PublicKey, Roots, SessionCertificate, SessionId, Status},
    name::AgentToken,
    policy::{Bundle, Rate},
    reason::{Reason, Refused},
    subject::{Control, Partition},
    time::Millis,
    wire::SeenRoots,
};

use crate::{
    check::rate::AgentLimits,
    effect::{Effect, Effects},
    policy::{bundle::Excerpts, compile::CompiledPolicy},
    quarantine::state::Ceiling,
    roster::{OwnedKey, Roster, session::LiveSession},
    taint::Floors,
};

mod clear;
mod divert;
mod floor;
mod hello;
mod leaving;
mod reading;
mod relay;
mod replacing;
mod rotating;
mod watched;

use rotating::Due;

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

    /// Once a second: tells senders which keys to rotate, and ends sessions whose time is over.
    pub fn tick(&mut self, now: Millis, effects: &mut Effects) -> Result<(), Refused> {
        self.control.prune(now);
        self.floors.expire(now);
        self.wanted.clear();
        self.roster.expire_marks(now);
        self.tell_due(now, effects)?;
        self.end_over(now, effects);
        Ok(())
    }

    fn session(&self, id: SessionId) -> Result<&LiveSession, Refused> {
        self.roster.get(id).ok_or(Refused::new(Reason::UnknownSession, "session"))
    }
}

//! The checker: every envelope passes these checks, in this order, or goes nowhere.
//!
//! quarantined? → rate → decode → sender, subject and session match → freshness and replay → signature →
//! policy → paused? → label → route. The cheap come first, so that junk costs its sender more than the guard. Each is a small
//! function with its reasons; a [`Permit`] is made by the last and is what forwarding takes.
//!
//! Pure: the time is an argument and nothing here does IO.

use std::collections::HashSet;

use sealbus_envelope::{
    hash::Hash,
    identity::{BusId, SessionId},
    name::{AgentToken, Name},
    policy::MessageKind,
    reason::{Reason, Refused},
    subject::{Partition, WireSubjects},
    time::Millis,
    wire::{Decoded, Header, SeenRoots, Verified},
};

use crate::{
    oversight::holds::{Wanted, wanted},
    oversight::pause::Workflows,
    policy::{
        compile::{CompiledPolicy, CompiledRule},
        decide::Allowed,
    },
    roster::{
        Roster,
        requests::{OpenRequest, Requests},
        session::{LiveSession, SendingKey},
    },
};

mod again;
mod denial;
pub mod rate;
mod senders;

pub use again::Papers;
pub use denial::Denial;
use denial::Known;
use senders::Senders;

/// Where an admitted envelope goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To every subscriber.
    Stream,
    /// To the one session that is to answer.
    Responder(SessionId),
    /// To the one session that asked.
    Asker(SessionId),
}

/// An envelope that passed every check. Only [`Checker::check`] makes one.
#[derive(Debug)]
pub struct Permit<'a> {
    verified: Verified<'a>,
    route: Route,
    gap: u64,
    partition: Partition,
    exchange: Exchange,
    observed: Option<Refused>,
    wanted: Vec<Wanted>,
}

/// What a permit changed among the open requests.
#[derive(Debug)]
enum Exchange {
    None,
    Asked,
    Answered(Hash, OpenRequest),
}

impl<'a> Permit<'a> {
    /// The envelope.
    #[must_use]
    pub const fn verified(&self) -> &Verified<'a> {
        &self.verified
    }

    /// Where it goes.
    #[must_use]
    pub const fn route(&self) -> Route {
        self.route
    }

    /// How many sequence numbers before this one never came.
    #[must_use]
    pub const fn gap(&self) -> u64 {
        self.gap
    }

    /// What it would have been denied for, were it not for observe mode.
    #[must_use]
    pub const fn observed(&self) -> Option<Refused> {
        self.observed
    }

    /// What people must approve before it goes anywhere. If there is none, it goes at once.
    #[must_use]
    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// The sender's partition.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        self.partition
    }
}

/// The checker's own state: limits in use and requests that are open.
#[derive(Debug)]
pub struct Checker {
    bus: BusId,
    wire: WireSubjects,
    senders: Senders,
    requests: Requests,
    turn: usize,
}

/// What the checks look things up in.
#[derive(Debug, Clone, Copy)]
pub struct View<'v> {
    /// The policy in force.
    pub policy: &'v CompiledPolicy,
    /// Whether an agent is in quarantine.
    pub quarantined: &'v HashSet<AgentToken>,
    /// Which workflows are paused.
    pub workflows: &'v Workflows,
    /// The largest envelope that can be forwarded with its admission, in bytes.
    pub max_envelope: usize,
    /// How far issued-at may be from the guard's clock, in milliseconds.
    pub freshness_ms: u64,
}

impl Checker {
    /// A checker with no history.
    #[must_use]
    pub fn new(bus: BusId, wire: WireSubjects) -> Self {
        Self { bus, wire, senders: Senders::default(), requests: Requests::default(), turn: 0 }
    }

    /// An agent is watched from now on, with half of every rate, or no longer.
    pub fn watch(&mut self, agent: &AgentToken, watched: bool) {
        self.senders.watch(agent, watched);
    }

    /// Closes the requests that these sessions were to answer, because they are gone; their askers are to hear.
    pub fn fail_requests(&mut self, responders: &[SessionId]) -> Vec<(Hash, OpenRequest)> {
        self.requests.take_of(responders)
    }

    /// Forgets limits, because the policy that set them was replaced.
    pub fn policy_changed(&mut self) {
        self.senders.clear();
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now: Millis) {
        self.requests.expire(now);
        self.senders.prune(now);
    }

    /// How many requests are open.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// How many agents' limits are in use.
    #[must_use]
    pub fn limits_in_use(&self) -> usize {
        self.senders.len()
    }

    /// Checks one envelope that arrived on `subject`.
    ///
    /// # Errors
    /// The first check that failed, with what was known by then. Boxed: denials are rare and large.
    pub fn check<'a>(
        &mut self,
        view: View<'_>,
        roster: &mut Roster,
        seen: &impl SeenRoots,
        subject: &str,
        bytes: &'a [u8],
        now: Millis,
    ) -> Result<Permit<'a>, Box<Denial>> {
        let mut known = Known::default();
        let checked = self.run(view, roster, seen, subject, bytes, now, &mut known);
        // A denial of what was signed is as final as a permit: else whoever can repeat the bytes could have
        // them admitted later, when the sender has a verdict that says no and has sent something else.
        let first = known
            .header
            .filter(|_| known.signed)
            .is_some_and(|header| roster.pass_sequence((header.session, header.key), header.sequence));
        checked.map_err(|refused| {
            let mut denial = known.denial(refused);
            // A server that repeats what was admitted, anywhere, must not get a signed "no" about it: shown instead of
            // the verdict, it would have the sender publish the message once more.
            denial.confirm &= first;
            Box::new(denial)
        })
    }

    /// Takes back what a permit did to the open requests, because it could not be logged and so is not used:
    /// its sender may try again.
    pub fn undo(&mut self, permit: &Permit<'_>) {
        match &permit.exchange {
            Exchange::None => {}
            Exchange::Asked => {
                self.requests.remove(&permit.verified.digest());
            }
            Exchange::Answered(request, open) => self.requests.restore(*request, open.clone()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where all a verdict depends on meets")]
    fn run<'s, 'a>(
        &mut self,
        view: View<'_>,
        roster: &Roster,
        seen: &impl SeenRoots,
        subject: &'s str,
        bytes: &'a [u8],
        now: Millis,
        known: &mut Known<'s, 'a>,
    ) -> Result<Permit<'a>, Refused> {
        let ingress =
            self.wire.read_ingress(subject).ok_or(Refused::new(Reason::BadSubject, "wire subject"))?;
        AgentToken::check(ingress.agent)?;
        known.agent = Some(ingress.agent);
        known.subject = Some(ingress.logical);
        if view.quarantined.contains(ingress.agent) {
            return Err(Refused::new(Reason::Quarantined, "sender"));
        }
        self.senders.check_overall(view.policy, roster, ingress.agent, now)?;
        if bytes.len() > view.max_envelope {
            return Err(Refused::new(Reason::TooLarge, "envelope"));
        }

        let decoded = Decoded::decode(bytes)?;
        let header = *decoded.claimed();
        known.header = Some(header);
        let session = roster
            .get(header.session)
            .filter(|session| session.agent().as_str() == ingress.agent)
            .ok_or(Refused::new(Reason::UnknownSession, "header.session"))?;

        let early =
            check_match(self.bus, &header, ingress.agent, ingress.logical, ingress.partition, session)
                .and_then(|()| header.check_arrival(now, view.freshness_ms))
                .and_then(|()| session.certificate.check_time(now))
                .and_then(|()| session.credential.check_time(now))
                .and_then(|()| check_key(session, &header, now));
        let key = match early {
            Ok(key) => key,
            Err(refused) => {
                known.look(&decoded, session, seen);
                return Err(refused);
            }
        };
        let verified = known.verify(decoded, session, seen)?;
        let Allowed { rule, mut faults } = check_policy(view.policy, session, &header, bytes.len())?;
        // Behind the policy: rule and team are known by now from what was signed, and what deviates is told as such.
        view.workflows.check(&session.principal, rule)?;
        let claims = session.credential.claims();
        let grant = view.policy.check_flow(claims, &session.floor, &header, bytes.len(), now, &mut faults)?;
        // Last of the checks on the sender, though cheap: who seals with a key that it never opened *and* above
        // its clearance is to be told, and remembered, for the latter.
        let gap = key.ok_or(Refused::new(Reason::UnknownKey, "header.key"))?;
        self.senders.check_rule(view.policy, rule, session, now, &mut faults)?;
        self.senders.check_grant(grant, session, now, &mut faults)?;
        let wanted = wanted(view.policy, header.rule, header.flow_grant);
        if !wanted.is_empty() && rule.is_request() {
            // Who asks waits for an answer, not for people; nobody would be there to take it.
            return Err(Refused::new(Reason::WrongPattern, "header.flow_grant"));
        }
        let (route, exchange) = self.route(rule, roster, session, &header, verified.digest(), now)?;
        Ok(Permit {
            verified,
            route,
            gap,
            partition: ingress.partition,
            exchange,
            observed: faults.observed(),
            wanted,
        })
    }

    fn route(
        &mut self,
        rule: &CompiledRule,
        roster: &Roster,
        session: &LiveSession,
        header: &Header<'_>,
        digest: Hash,
        now: Millis,
    ) -> Result<(Route, Exchange), Refused> {
        let MessageKind::Request { deadline_ms } = rule.kind else {
            return match header.request {
                None => Ok((Route::Stream, Exchange::None)),
                Some(_) => Err(Refused::new(Reason::WrongPattern, "header.request")),
            };
        };
        let key = session.keys.get(&header.key).ok_or(Refused::new(Reason::UnknownKey, "header.key"))?;
        if let Some(request) = header.request {
            return self.route_reply(&request, roster, header, key, now);
        }
        if key.asker.is_some() {
            // A key for replies is held by one asker, and is no way to ask.
            return Err(Refused::new(Reason::WrongPattern, "header.key"));
        }
        let responder =
            self.pick_responder(roster, header, key).ok_or(Refused::new(Reason::NoResponder, "rule"))?;
        let open = OpenRequest {
            agent: session.agent().clone(),
            asker: header.session,
            responder,
            deadline: now.plus(u64::from(deadline_ms.min(header.ttl_ms))),
            rule: Name::parse(header.rule)?,
            subject: header.subject.into(),
        };
        self.requests.insert(digest, open)?;
        Ok((Route::Responder(responder), Exchange::Asked))
    }

    fn route_reply(
        &mut self,
        request: &Hash,
        roster: &Roster,
        header: &Header<'_>,
        key: &SendingKey,
        now: Millis,
    ) -> Result<(Route, Exchange), Refused> {
        let none = Refused::new(Reason::NoRequest, "header.request");
        let open = self
            .requests
            .find(request, header.session, now)
            // An answer to another question, or to who has left, is no answer.
            .filter(|open| open.rule.as_str() == header.rule && *open.subject == *header.subject)
            .filter(|open| roster.get(open.asker).is_some())
            .ok_or(none)?;
        if key.asker != Some(open.asker) {
            return Err(Refused::new(Reason::WrongReader, "header.key"));
        }
        let open = self.requests.remove(request).ok_or(none)?;
        Ok((Route::Asker(open.asker), Exchange::Answered(*request, open)))
    }

    /// In turn among the sessions that serve the subject and hold the key.
    fn pick_responder(
        &mut self,
        roster: &Roster,
        header: &Header<'_>,
        key: &SendingKey,
    ) -> Option<SessionId> {
        let able = || {
            roster.readers(header.rule).filter(|session| {
                key.granted().contains(&session.id()) && session.serves(header.rule, header.subject)
            })
        };
        self.turn = self.turn.wrapping_add(1);
        // A set gives its members in one order until it changes.
        able().nth(self.turn.checked_rem(able().count())?).map(LiveSession::id)
    }
}

/// What the header says must be what the broker attests.
fn check_match(
    bus: BusId,
    header: &Header<'_>,
    agent: &str,
    logical: &str,
    partition: Partition,
    session: &LiveSession,
) -> Result<(), Refused> {
    if header.bus != bus {
        return Err(Refused::new(Reason::WrongBus, "header.bus"));
    }
    if header.sender != agent {
        return Err(Refused::new(Reason::WrongSender, "header.sender"));
    }
    if header.subject != logical || partition != Partition::of(session.agent()) {
        return Err(Refused::new(Reason::WrongSubject, "header.subject"));
    }
    Ok(())
}

/// A key that is open in this session must be for this rule and label, and its sequence must move on. Gives
/// how many sequence numbers were left out; nothing if the key is not open.
fn check_key(session: &LiveSession, header: &Header<'_>, now: Millis) -> Result<Option<u64>, Refused> {
    let Some(key) = session.keys.get(&header.key) else { return Ok(None) };
    if key.rule.as_str() != header.rule || key.label != header.label {
        return Err(Refused::new(Reason::KeyMismatch, "header.key"));
    }
    if key.stale_from.is_some_and(|from| now >= from) {
        return Err(Refused::new(Reason::StaleKey, "header.key"));
    }
    // The last number has none behind it, so nothing could tell its second coming from its first.
    if header.sequence == u64::MAX {
        return Err(Refused::new(Reason::Replay, "header.sequence"));
    }
    let gap = header.sequence.checked_sub(key.next).ok_or(Refused::new(Reason::Replay, "header.sequence"))?;
    Ok(Some(gap))
}

fn check_policy<'p>(
    policy: &'p CompiledPolicy,
    session: &LiveSession,
    header: &Header<'_>,
    size: usize,
) -> Result<Allowed<'p>, Refused> {
    let who = &session.principal;
    if header.request.is_some() {
        policy.may_answer(who, header.rule, header.subject, header.label, size)
    } else {
        policy.may_publish(who, header.rule, header.subject, header.label, size)
    }
    .map_err(|reason| Refused::new(reason, "policy"))
}

//! The checker: every envelope passes these checks, in this order, or goes nowhere.
//!
//! quarantined? → rate → decode → sender, subject and session match → freshness and replay → signature →
//! policy → label → route. The cheap come first, so that junk costs its sender more than the guard. Each is a small
//! function with its reasons; a [`Permit`] is made by the last and is what forwarding takes.
//!
//! Pure: the time is an argument and nothing here does IO.

use std::collections::HashMap;

use sealbus_envelope::{
    hash::Hash,
    identity::{BusId, SessionId},
    label::Label,
    name::AgentToken,
    policy::{MessageKind, Rate},
    reason::{Reason, Refused},
    subject::{Partition, WireSubjects},
    time::Millis,
    wire::{Decoded, EnvelopeId, Header, SeenRoots, Verified},
};

use crate::{
    policy::compile::{CompiledPolicy, CompiledRule},
    roster::{
        Roster,
        requests::{OpenRequest, Requests},
        session::LiveSession,
    },
};

pub mod rate;

use rate::Limiter;

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

    /// The sender's partition.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        self.partition
    }
}

/// An envelope that failed a check, with what was known of it by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why, and which part gave the reason.
    pub refused: Refused,
    /// The agent that the broker attests.
    pub agent: Option<AgentToken>,
    /// The session that the header claims.
    pub session: Option<SessionId>,
    /// The envelope's id.
    pub envelope: Option<EnvelopeId>,
    /// Its digest.
    pub digest: Option<Hash>,
    /// The rule that it names.
    pub rule: Option<String>,
    /// The logical subject on the wire.
    pub subject: Option<String>,
    /// The label that it claims.
    pub label: Option<Label>,
    /// Whether the sender asked for the verdict.
    pub confirm: bool,
    /// Whether a session of the attested agent verifiably signed it. What nobody signed proves nothing
    /// against anybody: a hostile server can put any bytes on any subject.
    pub signed: bool,
}

/// What is kept of each agent between its envelopes.
#[derive(Debug, Default)]
struct Sender {
    overall: Option<Option<Limiter>>,
    by_rule: HashMap<u16, Limiter>,
}

/// The checker's own state: limits in use and requests that are open.
#[derive(Debug)]
pub struct Checker {
    bus: BusId,
    wire: WireSubjects,
    senders: HashMap<AgentToken, Sender>,
    requests: Requests,
    turn: usize,
}

/// What the checks look things up in.
#[derive(Debug, Clone, Copy)]
pub struct View<'v> {
    /// The policy in force.
    pub policy: &'v CompiledPolicy,
    /// Whether an agent is in quarantine.
    pub quarantined: &'v std::collections::HashSet<AgentToken>,
    /// How far issued-at may be from the guard's clock, in milliseconds.
    pub freshness_ms: u64,
}

/// How far above the sum of its rules' rates an agent may be before its envelopes are dropped unread.
const OVERALL_HEADROOM: u32 = 2;

impl Checker {
    /// A checker with no history.
    #[must_use]
    pub fn new(bus: BusId, wire: WireSubjects) -> Self {
        Self { bus, wire, senders: HashMap::new(), requests: Requests::default(), turn: 0 }
    }

    /// Forgets limits, because the policy that set them was replaced.
    pub fn policy_changed(&mut self) {
        self.senders.clear();
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now: Millis) {
        self.requests.expire(now);
    }

    /// How many requests are open.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.requests.len()
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
        let mut denial = Box::new(Denial::bare(Refused::new(Reason::BadEncoding, "envelope")));
        match self.run(view, roster, seen, subject, bytes, now, &mut denial) {
            Ok(permit) => Ok(permit),
            Err(refused) => {
                denial.refused = refused;
                Err(denial)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where all a verdict depends on meets")]
    fn run<'a>(
        &mut self,
        view: View<'_>,
        roster: &mut Roster,
        seen: &impl SeenRoots,
        subject: &str,
        bytes: &'a [u8],
        now: Millis,
        known: &mut Denial,
    ) -> Result<Permit<'a>, Refused> {
        let ingress =
            self.wire.read_ingress(subject).ok_or(Refused::new(Reason::BadSubject, "wire subject"))?;
        let agent = AgentToken::parse(ingress.agent)?;
        known.subject = Some(ingress.logical.to_owned());
        if view.quarantined.contains(&agent) {
            known.agent = Some(agent);
            return Err(Refused::new(Reason::Quarantined, "sender"));
        }
        let within = self.within_overall_rate(view.policy, roster, &agent, now);
        known.agent = Some(agent);
        within?;

        let decoded = Decoded::decode(bytes)?;
        let header = *decoded.claimed();
        known.note(&header);
        // From here on a denial is told apart by who signed it, so the signature is looked at even when an
        // earlier check fails: contradictions under a valid signature are evidence, others are noise.
        let mut signed = Signed { decoded: Some(decoded), known };
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
                signed.look(session, seen);
                return Err(refused);
            }
        };
        let verified = signed.verify(session, seen)?;
        let rule = check_policy(view.policy, session, &header, bytes.len())?;
        check_label(&header)?;
        // Last of the checks on the sender, though cheap: who seals with a key that it never opened *and* above
        // its clearance is to be told, and remembered, for the latter.
        let gap = key.ok_or(Refused::new(Reason::UnknownKey, "header.key"))?;
        self.check_rule_rate(rule, session, now)?;
        let route = self.route(rule, roster, &header, verified.digest(), now)?;

        if let Some(key) = roster.key_mut((header.session, header.key)) {
            key.next = header.sequence.saturating_add(1);
        }
        Ok(Permit { verified, route, gap, partition: ingress.partition })
    }

    /// Before anything is read: at most twice what all the agent's rules allow together, so that a flood
    /// costs a map lookup a message.
    fn within_overall_rate(
        &mut self,
        policy: &CompiledPolicy,
        roster: &Roster,
        agent: &AgentToken,
        now: Millis,
    ) -> Result<(), Refused> {
        if !self.senders.contains_key(agent) {
            self.senders.insert(agent.clone(), Sender::default());
        }
        let Some(sender) = self.senders.get_mut(agent) else { return Ok(()) };
        let limiter = match &mut sender.overall {
            Some(limiter) => limiter,
            unset => {
                // Unknown until it says hello: then nothing of it is admitted anyway.
                let Some(session) = roster.of_agent(agent.as_str()).next() else { return Ok(()) };
                unset.insert(overall_rate(policy, session).map(Limiter::new))
            }
        };
        let within = limiter.as_mut().is_none_or(|limiter| limiter.admit(now));
        if within { Ok(()) } else { Err(Refused::new(Reason::RateLimited, "sender")) }
    }

    fn check_rule_rate(
        &mut self,
        rule: &CompiledRule,
        session: &LiveSession,
        now: Millis,
    ) -> Result<(), Refused> {
        let Some(rate) = rule.rate else { return Ok(()) };
        let Some(sender) = self.senders.get_mut(session.agent()) else { return Ok(()) };
        let limiter = sender.by_rule.entry(rule.id.number()).or_insert_with(|| Limiter::new(rate));
        if limiter.admit(now) { Ok(()) } else { Err(Refused::new(Reason::RateLimited, "rule")) }
    }

    fn route(
        &mut self,
        rule: &CompiledRule,
        roster: &Roster,
        header: &Header<'_>,
        digest: Hash,
        now: Millis,
    ) -> Result<Route, Refused> {
        let MessageKind::Request { deadline_ms } = rule.kind else {
            return match header.request {
                None => Ok(Route::Stream),
                Some(_) => Err(Refused::new(Reason::WrongPattern, "header.request")),
            };
        };
        if let Some(request) = header.request {
            let open = self
                .requests
                .find(&request, header.session, now)
                .ok_or(Refused::new(Reason::NoRequest, "header.request"))?;
            let sealed_to =
                roster.get(header.session).and_then(|s| s.keys.get(&header.key)).and_then(|k| k.asker);
            if sealed_to != Some(open.asker) {
                return Err(Refused::new(Reason::WrongReader, "header.key"));
            }
            self.requests.remove(&request);
            return Ok(Route::Asker(open.asker));
        }
        let responder =
            self.pick_responder(roster, header).ok_or(Refused::new(Reason::NoResponder, "rule"))?;
        let deadline = now.plus(u64::from(deadline_ms.min(header.ttl_ms)));
        self.requests.insert(digest, OpenRequest { asker: header.session, responder, deadline });
        Ok(Route::Responder(responder))
    }

    /// In turn among the sessions that serve the subject and hold the key.
    fn pick_responder(&mut self, roster: &Roster, header: &Header<'_>) -> Option<SessionId> {
        let key = roster.get(header.session)?.keys.get(&header.key)?;
        let mut able: Vec<SessionId> = roster
            .readers(header.rule)
            .filter(|session| {
                key.granted.contains(&session.id()) && session.serves(header.rule, header.subject)
            })
            .map(LiveSession::id)
            .collect();
        able.sort();
        self.turn = self.turn.wrapping_add(1);
        able.get(self.turn.checked_rem(able.len())?).copied()
    }
}

/// An envelope whose signature may still have to be looked at, for the sake of the denial.
struct Signed<'a, 'k> {
    decoded: Option<Decoded<'a>>,
    known: &'k mut Denial,
}

impl<'a> Signed<'a, '_> {
    fn verify(&mut self, session: &LiveSession, seen: &impl SeenRoots) -> Result<Verified<'a>, Refused> {
        let decoded = self.decoded.take().ok_or(Refused::new(Reason::BadProof, "proof"))?;
        let verified = decoded.verify(&session.certificate, &session.credential, seen)?;
        self.known.signed = true;
        self.known.digest = Some(verified.digest());
        Ok(verified)
    }

    /// Whether the claimed session signed it, though another check failed already.
    fn look(&mut self, session: &LiveSession, seen: &impl SeenRoots) {
        if let Some(decoded) = self.decoded.take() {
            let digest = decoded.signed_by(&session.certificate, seen);
            self.known.signed = digest.is_ok();
            self.known.digest = digest.ok();
        }
    }
}

impl Denial {
    /// A denial of which nothing else is known.
    #[must_use]
    pub const fn bare(refused: Refused) -> Self {
        Self {
            refused,
            agent: None,
            session: None,
            envelope: None,
            digest: None,
            rule: None,
            subject: None,
            label: None,
            confirm: false,
            signed: false,
        }
    }

    fn note(&mut self, header: &Header<'_>) {
        self.session = Some(header.session);
        self.envelope = Some(header.id);
        self.rule = Some(header.rule.to_owned());
        self.label = Some(header.label);
        self.confirm = header.flags.confirm();
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
    let gap = header.sequence.checked_sub(key.next).ok_or(Refused::new(Reason::Replay, "header.sequence"))?;
    Ok(Some(gap))
}

fn check_policy<'p>(
    policy: &'p CompiledPolicy,
    session: &LiveSession,
    header: &Header<'_>,
    size: usize,
) -> Result<&'p CompiledRule, Refused> {
    let who = &session.principal;
    if header.request.is_some() {
        policy.may_answer(who, header.rule, header.subject, header.label, size)
    } else {
        policy.may_publish(who, header.rule, header.subject, header.label, size)
    }
    .map_err(|reason| Refused::new(reason, "policy"))
}

/// The label must dominate those of the parents it names (Bell-LaPadula upwards, Biba downwards).
fn check_label(header: &Header<'_>) -> Result<(), Refused> {
    if header.flow_grant.is_some() {
        return Err(Refused::new(Reason::FlowGrantUnknown, "header.flow_grant"));
    }
    if header.label.dominates(header.parents_join) {
        Ok(())
    } else {
        Err(Refused::new(Reason::BelowParents, "header.label"))
    }
}

/// The sum of what its rules allow, with headroom; none if a rule has no limit.
fn overall_rate(policy: &CompiledPolicy, session: &LiveSession) -> Option<Rate> {
    let mut total = Rate { per_second: 0, burst: 0 };
    for part in policy.rules_for(&session.principal) {
        if part.publishes || part.rule.is_request() {
            let rate = part.rule.rate?;
            total.per_second = total.per_second.saturating_add(rate.per_second);
            total.burst = total.burst.saturating_add(rate.burst);
        }
    }
    Some(Rate {
        per_second: total.per_second.max(1).saturating_mul(OVERALL_HEADROOM),
        burst: total.burst.max(1).saturating_mul(OVERALL_HEADROOM),
    })
}

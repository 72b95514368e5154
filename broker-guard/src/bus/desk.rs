//! The desk: each batch of envelopes is checked, logged, signed and only then forwarded.
//!
//! One task owns a desk and all its state; nothing here locks. What it returns is published by its owner.

use std::{collections::HashMap, sync::Arc};

use async_nats::Message;
use bytes::Bytes;
use moka::sync::Cache;
use rand_core::CryptoRng;
use sealbus_envelope::{
    control::{Heartbeat, VerdictNotice, encode, kind, verb},
    hash::Hash,
    identity::{BusId, SessionId, SigningKey},
    name::AgentToken,
    proof::admission::{self, ADMISSION_RESERVE, Admission, Decision, Verdict},
    reason::{Reason, Refused},
    subject::WireSubjects,
    time::Millis,
    wire::MAX_ENVELOPE,
};

use crate::{
    audit::{
        entry::{self, Body, Record},
        store::{AppendError, AuditLog, SyncHandle},
    },
    bus::{egress::Outgoing, seen::SeenCache},
    check::{Checker, Denial, Permit, Route, View, rate::Limiter},
    denials::Denials,
    effect::{Effect, Effects},
    events::{Event, Kind},
    metrics::Metrics,
    oversight::{
        approvers::Approvers,
        holds::{Held, Holds},
    },
    quarantine::{
        custody::Custody,
        evidence::{FloodLimits, Response, Tally},
    },
    roster::session::LiveSession,
    sessions::{InForce, Sessions},
    store::Store,
    taint::Raise,
};
use workflow::Overseer;

mod denying;
mod flood;
mod holding;
mod logging;
mod orders;
pub mod quarantine;
mod told;
mod watching;
mod workflow;

use denying::{notice, unadmitted};
use logging::{admitted, append};
use quarantine::Barred;
use watching::Watching;

/// Verdicts that wait for the log to be on disk.
#[derive(Debug)]
pub struct PendingVerdicts {
    /// How many leaves must be durable first.
    pub upto: u64,
    /// The notices.
    pub notices: Vec<Outgoing>,
}

/// What the owner of a desk has to do.
#[derive(Debug, Default)]
pub struct Todo {
    /// To publish, in order.
    pub publish: Vec<Outgoing>,
    /// To publish once the log is on disk.
    pub verdicts: Vec<PendingVerdicts>,
    /// Connections to end.
    pub disconnect: Vec<(SessionId, Reason)>,
    /// Agents whose behaviour calls for a response.
    pub offenders: Vec<(AgentToken, Response)>,
    /// What was held of agents that were taken off the bus, sealed as it is: evidence.
    pub seized: Vec<(Held, Bytes)>,
    /// Of agents that are off the bus, to be kept.
    pub custody: Vec<Custody>,
    /// Junk, which its senders pay for at the intake: whose, and how many bytes.
    pub junk: Vec<(AgentToken, usize)>,
}

/// The guard's working state.
#[derive(Debug)]
pub struct Desk {
    bus: BusId,
    wire: WireSubjects,
    guard_key: SigningKey,
    sessions: Sessions,
    checker: Checker,
    audit: AuditLog,
    audit_failed: bool,
    store: Arc<Store>,
    /// Floors that rose and are not on disk yet: until they are, no key is handed over.
    unsaved: Vec<Raise>,
    seen: SeenCache,
    denials: Denials,
    /// What observe mode let pass, counted as denials are.
    observed: Denials,
    tallies: HashMap<AgentToken, Tally>,
    watching: Watching,
    /// Signed envelopes that were held against their sender.
    accused: Cache<Hash, ()>,
    policy_since: Millis,
    holds: Holds,
    approvers: Approvers,
    /// What people decided lately, for senders that were away.
    told_verdicts: told::ToldVerdicts,
    /// Approvals that do not count are logged and told this often: anybody can make some.
    approvals_told: Limiter,
    barred: Barred,
    metrics: Metrics,
    overseer: Overseer,
    effects: Effects,
    todo: Todo,
}

/// The most that one envelope adds to the count of sequence numbers that never came.
const MAX_GAP_COUNTED: u64 = 1_000_000;
/// How many denied envelopes are remembered, so that none counts twice against its sender.
const ACCUSED: u64 = 65_536;

impl Desk {
    /// A desk with no session yet.
    #[must_use]
    pub fn new(
        wire: WireSubjects,
        guard_key: SigningKey,
        mut sessions: Sessions,
        audit: AuditLog,
        store: Arc<Store>,
        metrics: Metrics,
    ) -> Self {
        let bus = sessions.in_force().policy.tables().bus;
        metrics.audit_writable.set(1);
        let unsaved = sessions.follow_policy();
        let mut desk = Self {
            bus,
            checker: Checker::new(bus, wire.clone()),
            wire,
            guard_key,
            sessions,
            audit,
            audit_failed: false,
            store,
            unsaved,
            seen: SeenCache::default(),
            denials: Denials::default(),
            observed: Denials::default(),
            tallies: HashMap::new(),
            watching: Watching::default(),
            accused: Cache::new(ACCUSED),
            policy_since: Millis(0),
            holds: Holds::default(),
            approvers: Approvers::default(),
            told_verdicts: told::ToldVerdicts::default(),
            approvals_told: Limiter::new(holding::TOLD),
            barred: Barred::default(),
            metrics,
            overseer: Overseer::default(),
            effects: Effects::default(),
            todo: Todo::default(),
        };
        desk.overseer.follow(&desk.sessions.in_force().policy);
        desk.show_versions();
        desk
    }

    /// Sessions, and what is in force.
    #[must_use]
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// How many things are held that agents can make the guard hold: sessions and all that is theirs, limits in
    /// use, open requests, denials and offences counted. It is bounded for each agent, and when all have left
    /// and a while has passed it is zero.
    #[must_use]
    pub fn held(&self) -> usize {
        let roster = self.sessions.roster();
        let core = roster.len() + roster.weight() + self.sessions.pending();
        let checks = self.checker.limits_in_use() + self.checker.open_requests();
        let counted = self.denials.len() + self.observed.len() + self.tallies.len();
        core + checks + counted + self.holds.len() + self.told_verdicts.len() + self.overseer.held()
    }

    /// To await durability of what was logged.
    #[must_use]
    pub fn sync_handle(&self) -> SyncHandle {
        self.audit.sync_handle()
    }

    /// Whether envelopes can be admitted at all.
    #[must_use]
    pub const fn admits(&self) -> bool {
        !self.audit_failed
    }

    /// What there is to do, taken.
    pub fn take_todo(&mut self) -> Todo {
        std::mem::take(&mut self.todo)
    }

    /// Checks, logs, signs and forwards a batch of envelopes.
    pub fn envelopes(&mut self, batch: &[Message], now: Millis) {
        let (mut permits, mut denials) = (Vec::with_capacity(batch.len()), Vec::new());
        let mut waiting = Vec::new();
        // With the admission it must still fit, or the server would end the guard's own connection.
        let max_envelope = self.sessions.max_payload().saturating_sub(ADMISSION_RESERVE).min(MAX_ENVELOPE);
        let (in_force, quarantined, roster) = self.sessions.for_checker();
        let freshness_ms = u64::from(in_force.policy.tables().freshness_ms);
        let (mut signed, offenders) = (Vec::new(), self.todo.offenders.len());
        for (place, message) in batch.iter().enumerate() {
            if self.barred.takes(&self.wire, quarantined, message, now, &mut self.todo.custody) {
                continue;
            }
            let workflows = self.overseer.workflows();
            let view = View { policy: &in_force.policy, quarantined, workflows, freshness_ms, max_envelope };
            let checked =
                self.checker.check(view, roster, &self.seen, &message.subject, &message.payload, now);
            // At once: what follows in the batch is of a paused workflow already.
            self.overseer.look(&in_force.policy, roster, &self.accused, self.policy_since, &checked, now);
            match checked {
                Ok(permit) if permit.wanted().is_empty() => permits.push((permit, message.payload.clone())),
                Ok(permit) => waiting.push((permit, message.payload.clone())),
                Err(denial) => {
                    self.barred.suspect(&denial, &self.accused, self.policy_since);
                    signed.extend(denial.digest.filter(|_| denial.signed).map(|digest| (digest, place)));
                    self.todo.junk.extend(flood::junk(&denial, message.payload.len()));
                    denials.push(*denial);
                }
            }
        }
        // Before the denials: who is denied for a pause knows by then what is paused.
        self.tell_trips(now);
        self.metrics.batch.observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
        if !permits.is_empty()
            && let Err(unadmitted) = self.admit(permits, now)
        {
            denials.extend(unadmitted);
        }
        if !waiting.is_empty() {
            denials.extend(self.hold(waiting, now));
        }
        if !denials.is_empty() {
            self.deny(denials, now);
            self.keep_triggers(offenders, batch, &signed, now);
        }
    }

    /// Logs permits, signs them and queues them for forwarding. If the log takes none of them, none is
    /// admitted: what is not logged did not happen.
    fn admit(&mut self, permits: Vec<(Permit<'_>, Bytes)>, now: Millis) -> Result<(), Vec<Denial>> {
        let policy = &self.sessions.in_force().policy;
        let (policy_version, policy_digest) = (policy.version(), *policy.digest());
        let records: Vec<Record<'_>> =
            permits.iter().map(|(permit, _)| admitted(permit, policy_version, now)).collect();
        let appended = match append(&mut self.audit, &records) {
            Ok(appended) => appended,
            Err(error) => {
                self.audit_refused(&error, now);
                permits.iter().rev().for_each(|(permit, _)| self.checker.undo(permit));
                let refused = Refused::new(Reason::AuditUnavailable, "audit log");
                return Err(permits.iter().map(|(permit, _)| unadmitted(permit, refused)).collect());
            }
        };
        let decisions: Vec<(Hash, Decision)> = permits
            .iter()
            .zip(appended.positions.clone())
            .map(|((permit, _), position)| {
                let decision = Decision {
                    verdict: Verdict::Admit,
                    policy_version,
                    policy_digest,
                    partition: permit.partition().number(),
                    epoch: appended.epoch,
                    position,
                    time: now,
                    observed: permit.observed().is_some(),
                };
                (permit.verified().digest(), decision)
            })
            .collect();
        let admissions = admission::sign(&self.guard_key, self.bus, &decisions);
        let mut verdicts = Vec::new();
        for ((permit, payload), admission) in permits.iter().zip(admissions) {
            let header = permit.verified().header();
            self.metrics.admitted.inc();
            self.metrics.admitted_bytes.inc_by(u64::try_from(payload.len()).unwrap_or(0));
            // A sender may leave out any number; one that leaves out nearly all must not turn the count round.
            self.metrics.gaps.inc_by(permit.gap().min(MAX_GAP_COUNTED));
            self.saw_sent(permit, payload.len(), now);
            if header.flags.confirm() {
                let digest = permit.verified().digest();
                verdicts.extend(self.verdict(header.session, digest, &admission, None));
            }
            if let Some(refused) = permit.observed() {
                self.metrics.observed(refused.reason);
                let report = self.observed.note(unadmitted(permit, refused), now);
                self.report_observed(report, now);
            }
            self.holds.passed(header.session, header.key, header.sequence);
            if let Some(outgoing) = self.forward(permit, &admission, payload.clone()) {
                self.todo.publish.push(outgoing);
            }
        }
        if !verdicts.is_empty() {
            self.todo.verdicts.push(PendingVerdicts { upto: appended.leaves.end, notices: verdicts });
        }
        Ok(())
    }

    fn forward(&self, permit: &Permit<'_>, admission: &Admission, payload: Bytes) -> Option<Outgoing> {
        let header = permit.verified().header();
        let (to, kind) = match permit.route() {
            Route::Stream => {
                return Some(Outgoing::delivery(
                    &self.wire,
                    header.label.level,
                    header.subject,
                    admission,
                    payload,
                ));
            }
            Route::Responder(session) => (session, kind::REQUEST),
            Route::Asker(session) => (session, kind::REPLY),
        };
        let agent = self.sessions.roster().get(to)?.agent();
        Some(Outgoing::boxed(&self.wire, agent, to, kind, admission, payload))
    }

    fn verdict(
        &self,
        session: SessionId,
        digest: Hash,
        admission: &Admission,
        refused: Option<Reason>,
    ) -> Option<Outgoing> {
        let agent = self.sessions.roster().get(session)?.agent();
        let notice = VerdictNotice { digest, admission: admission.encode(), refused };
        Some(Outgoing::tell(&self.wire, agent, session, kind::VERDICT, encode(&notice).ok()?))
    }

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

    /// Carries effects out: first the log, then the telling, so that nobody holds what the log does not know.
    fn carry_out(&mut self, now: Millis) {
        let effects: Vec<Effect> = self.effects.drain().collect();
        let records: Vec<Record<'static>> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Record(body) => Some(Record { time: now, body: body.clone() }),
                _ => None,
            })
            .collect();
        let granted = records.iter().filter(|record| matches!(record.body, Body::KeyGranted(_))).count();
        self.unsaved.extend(effects.iter().filter_map(|effect| match effect {
            Effect::RaiseFloor(raise) => Some(raise.clone()),
            _ => None,
        }));
        let logged = self.save_floors() && self.append_records(&records, now);
        if logged {
            self.metrics.grants.inc_by(u64::try_from(granted).unwrap_or(0));
        }
        for effect in effects {
            match effect {
                Effect::RaiseFloor(_) => {}
                // What is not logged does not happen: no session is let in, no key is handed over (its reader
                // asks again). But nobody's loss of a right waits for the log.
                Effect::Tell { kind, .. } if !logged && kind != kind::REKEY => {}
                Effect::Tell { agent, session, kind, payload } => {
                    self.todo.publish.push(Outgoing::tell(&self.wire, &agent, session, kind, payload));
                }
                Effect::Beat(partition) => {
                    if let Some(beat) = self.heartbeat(now) {
                        self.todo.publish.push(Outgoing::heartbeat(&self.wire, partition, beat));
                    }
                }
                Effect::Disconnect { session, reason } => self.todo.disconnect.push((session, reason)),
                Effect::Approve { agent, session, approval } => {
                    self.approval_brought(&agent, session, &approval, now);
                }
                Effect::TellHeld { agent, session, ask } => self.tell_held(&agent, session, &ask, now),
                Effect::Record(body) => self.saw_record(&body, now),
            }
        }
    }

    /// A sign of life. A guard that cannot log gives none: agents that hear nothing for three seconds stop
    /// publishing.
    #[must_use]
    pub fn heartbeat(&self, now: Millis) -> Option<Bytes> {
        let in_force = self.sessions.in_force();
        let beat = Heartbeat {
            bus: self.bus,
            guard: self.sessions.guard(),
            policy_version: in_force.policy.version(),
            status_version: in_force.status.version,
            time: now,
        };
        self.admits().then(|| Bytes::from(beat.sign(&self.guard_key)))
    }

    /// A session's connection ended. If it has made another one meanwhile, it hears that it is to say hello
    /// again; one that only reads would never find out otherwise.
    pub fn gone(&mut self, session: SessionId, now: Millis) {
        if let Some(live) = self.sessions.roster().get(session) {
            self.watching.left(live.agent(), session, now);
            let denial = Denial::bare(Refused::new(Reason::UnknownSession, "connection"));
            if let Ok(payload) = encode(&notice(&denial, 1, now)) {
                let told = Outgoing::tell(&self.wire, live.agent(), session, kind::DENIED, payload);
                self.todo.publish.push(told);
            }
        }
        self.sessions.gone(session, now, &mut self.effects);
        self.carry_out(now);
    }

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

    /// Once a second: what was counted is reported, what is over is forgotten, the log is tried again.
    pub fn tick(&mut self, now: Millis) {
        self.checker.expire(now);
        self.tallies.retain(|_, tally| !tally.is_quiet(now, &FloodLimits::default()));
        let open = i64::try_from(self.checker.open_requests()).unwrap_or(i64::MAX);
        self.metrics.open_requests.set(open);
        self.tell_barred(now);
        let counted = self.denials.flush(now);
        if !counted.is_empty() {
            self.report(counted, &[], now);
        }
        let counted = self.observed.flush(now);
        self.report_observed(counted, now);
        self.sessions.pin(self.holds.keys().collect());
        // Control messages always encode, so there is no error to lose here.
        let _ = self.sessions.tick(now, &mut self.effects);
        self.carry_out(now);
        self.finish_clears(now);
        self.tick_holds(now);
        self.tick_workflows(now);
        self.tick_watching(now);
        if self.audit_failed && self.audit.try_recover().is_ok() {
            self.audit_failed = false;
            self.metrics.audit_writable.set(1);
            let event = Event::new(Kind::AuditRecovered, now);
            self.todo.publish.push(Outgoing::event(&self.wire, &event));
        }
    }

    /// Closes the log in order.
    ///
    /// # Errors
    /// The log's own.
    pub fn close(mut self) -> Result<(), AppendError> {
        self.save_baselines(true);
        self.audit.close()
    }

    fn show_versions(&mut self) {
        self.metrics.policy_version.set(self.sessions.in_force().policy.version());
        self.metrics.status_version.set(self.sessions.in_force().status.version);
    }
}

/// A challenge for this start of the guard.
#[must_use]
pub fn challenge(rng: &mut impl CryptoRng) -> [u8; 16] {
    let mut challenge = [0; 16];
    rng.fill_bytes(&mut challenge);
    challenge
}

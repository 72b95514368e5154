//! The desk: all the state with which envelopes and control messages are judged, and what its one owner asks of it.
//! Each room beside it decides one thing with that state.
//!
//! One task owns a desk; nothing here locks. What it returns is published by its owner.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use moka::sync::Cache;
use sealbus_envelope::{
    control::{Heartbeat, encode, kind},
    hash::Hash,
    identity::{BusId, SessionId, SigningKey},
    name::AgentToken,
    reason::{Reason, Refused},
    subject::WireSubjects,
    time::Millis,
};

use crate::{
    audit::store::{AppendError, AuditLog, SyncHandle},
    bus::{egress::Outgoing, seen::SeenCache},
    check::{Checker, Denial, rate::Limiter},
    denials::Denials,
    effect::Effects,
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
    sessions::Sessions,
    store::Store,
    taint::Raise,
};
use workflow::Overseer;

mod admitting;
mod control;
mod denying;
mod effects;
mod flood;
mod holding;
mod logging;
mod orders;
pub mod quarantine;
mod replacing;
mod told;
mod watching;
mod workflow;

use denying::notice;
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
}

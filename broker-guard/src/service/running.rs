//! The guard's loop: one task that owns all state and takes turns between envelopes, control messages,
//! connections and the clock.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_nats::Message;
use sealbus_envelope::{
    control::verb,
    reason::{Reason, Refused},
    subject::{Partition, WireSubjects},
    time::Millis,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    ServiceError,
    evidence::{Custodian, Handing, Replay},
    orders::{Telling, Tried},
    policies::Found,
};
use crate::{
    audit::entry::{Body, Denied},
    bus::{
        auth::Auth,
        authority::{Door, Hall},
        desk::{Desk, PendingVerdicts},
        egress::Outgoing,
        intake::{Intake, fair::Turn},
        link::Link,
    },
    clock::now,
    config::Config,
    events::{Event, Kind, herald::Herald},
    http::{AuditReport, SessionReport, StatusReport, ask::Asks},
    metrics::Metrics,
    quarantine::{
        bars::Bars,
        cut::{Enforced, SECOND_LOOK},
        enforce::{Changed, Enforcer},
    },
    reload::ReloadError,
    sessions::InForce,
    store::Store,
};

/// How long a stopping guard waits for what was already sent to it.
const DRAIN: Duration = Duration::from_secs(5);

/// Messages that the connection received and that nobody read.
#[derive(Debug, Default)]
pub(super) struct Heard {
    missing: u64,
    reported: u64,
}

pub(super) struct Guard {
    pub(super) herald: Herald,
    pub(super) config: Config,
    /// What was at hand at the start and is no good.
    pub(super) refused: Vec<ReloadError>,
    pub(super) offered: mpsc::Receiver<Found>,
    pub(super) wire: WireSubjects,
    pub(super) link: Link,
    pub(super) desk: Desk,
    pub(super) intake: Intake,
    pub(super) verdicts: mpsc::Sender<PendingVerdicts>,
    pub(super) metrics: Metrics,
    pub(super) report: Arc<ArcSwap<StatusReport>>,
    pub(super) heard: Heard,
    pub(super) started: Millis,
    pub(super) system: Link,
    pub(super) auth: Auth,
    pub(super) hall: Arc<Hall>,
    pub(super) door: Door,
    pub(super) enforcer: Arc<Enforcer>,
    pub(super) looked: mpsc::Sender<(Changed, Enforced)>,
    pub(super) looks: mpsc::Receiver<(Changed, Enforced)>,
    pub(super) store: Arc<Store>,
    pub(super) asks: Asks,
    pub(super) telling: Telling,
    pub(super) tried: Tried,
    pub(super) bars: Arc<Bars>,
    pub(super) custodian: Custodian,
    pub(super) custody: Handing,
    pub(super) replays: mpsc::Receiver<Replay>,
}

impl Guard {
    pub(super) async fn run(mut self, shutdown: &CancellationToken) -> Result<(), ServiceError> {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.event(Event::new(Kind::Started, now())).await;
        let epoch = self.desk.sessions().guard().epoch;
        tracing::info!(bus = %self.config.roots.name, epoch, "the guard is ready");
        self.resume();
        for error in std::mem::take(&mut self.refused) {
            self.change_refused(&error.to_string(), error.reason()).await;
        }
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tick.tick() => self.tick().await,
                Some(judged) = self.door.decisions.recv() => self.connection(judged).await,
                Some(gone) = self.door.departures.recv() => {
                    self.desk.gone(gone.session, now());
                    self.departures();
                    self.carry_out().await;
                }
                Some(found) = self.offered.recv() => self.found(found).await,
                Some(ask) = self.asks.next() => self.asked(ask).await,
                Some(part) = self.replays.recv() => self.replay(part).await,
                Some((changed, enforced)) = self.looks.recv() => self.looked_at(&changed, &enforced).await,
                turn = self.intake.turn() => match turn {
                    Some(turn) => self.turn(turn).await,
                    None => break,
                },
            }
        }
        self.stop().await
    }

    async fn turn(&mut self, turn: Turn<Message>) {
        if !turn.control.is_empty() {
            self.control_turn(&turn.control).await;
        }
        if turn.envelopes.is_empty() {
            return;
        }
        // Who waits to be let in is a write away from it: a flood of envelopes must not keep it out.
        while let Ok(judged) = self.door.decisions.try_recv() {
            self.connection(judged).await;
        }
        let begun = std::time::Instant::now();
        self.desk.envelopes(&turn.envelopes, now());
        self.carry_out().await;
        self.metrics.batch_seconds.observe(begun.elapsed().as_secs_f64());
    }

    /// Ends the sessions whose connections ended.
    fn departures(&mut self) {
        while let Ok(gone) = self.door.departures.try_recv() {
            self.desk.gone(gone.session, now());
        }
    }

    async fn control_turn(&mut self, turn: &[Message]) {
        // A session is let in again only after its old connection was struck, so any hello in this turn comes
        // behind that departure: told of it later, the desk would end the session that has just begun anew.
        self.departures();
        for message in turn {
            self.desk.control(message, now());
            self.bind_newcomer(message);
            // Each by itself: one message may bring about megabytes.
            self.carry_out().await;
        }
    }

    /// What the intake lets through of an agent depends on what the policy lets it do, once it said hello.
    fn bind_newcomer(&self, message: &Message) {
        if let Some(subject) = self.wire.read_control(&message.subject)
            && subject.verb == verb::HELLO
            && let Some((agent, bound)) = self.desk.bound_of(subject.agent)
        {
            self.intake.bind(&agent, bound);
        }
    }

    /// The same for everybody, after a change of policy.
    fn bind_all(&self) {
        for session in self.desk.sessions().roster().iter() {
            if let Some((agent, bound)) = self.desk.bound_of(session.agent().as_str()) {
                self.intake.bind(&agent, bound);
            }
        }
    }

    /// Publishes what the desk wants published.
    pub(super) async fn carry_out(&mut self) {
        // What is done about offenders brings about more, but offends nobody.
        while self.carry_out_once().await {}
    }

    async fn carry_out_once(&mut self) -> bool {
        let todo = self.desk.take_todo();
        for outgoing in todo.publish {
            self.publish(outgoing).await;
        }
        for verdicts in todo.verdicts {
            // Waits while the disk is behind: who confirms faster than the disk syncs is slowed to its pace.
            if self.verdicts.send(verdicts).await.is_err() {
                tracing::error!("the task that sends verdicts is gone");
            }
        }
        for (session, reason) in todo.disconnect {
            let auth = self.auth.clone();
            tokio::spawn(async move {
                if let Err(error) = auth.disconnect(&session, Refused::new(reason, "session")).await {
                    tracing::warn!(%error, "a connection could not be cut");
                }
            });
        }
        let offended = !todo.offenders.is_empty();
        self.intake.junk(todo.junk);
        for (agent, response) in todo.offenders {
            self.respond(&agent, response).await;
        }
        // After the responses: what is kept is kept of who is in the books.
        self.custody.hand_over(todo.custody, &self.metrics);
        offended
    }

    async fn publish(&self, outgoing: Outgoing) {
        let message = match outgoing.into_event() {
            Ok(event) => return self.herald.report(&event),
            Err(message) => message,
        };
        if let Err(error) = message.publish(&self.link.client).await {
            tracing::warn!(%error, "could not publish");
        }
    }

    pub(super) async fn event(&self, event: Event) {
        self.herald.report(&event);
    }

    async fn tick(&mut self) {
        let now = now();
        for (agent, count) in self.intake.dropped() {
            self.desk.dropped_unread(agent, count, now);
        }
        let roster = self.desk.sessions().roster();
        self.intake.prune(|agent| roster.of_agent(agent.as_str()).next().is_some());
        self.metrics.intake_held.set(i64::try_from(self.intake.held()).unwrap_or(i64::MAX));
        self.metrics.held_back.set(i64::try_from(self.auth.held_back()).unwrap_or(i64::MAX));
        self.desk.tick(now);
        self.carry_out().await;
        self.heartbeat(now).await;
        self.count_dropped(now).await;
        self.count_strangers(now);
        self.prune(now).await;
        if let Err(error) = self.enforcer.save().await {
            tracing::error!(%error, "who is barred would be free if the guard restarted now");
        }
        self.metrics.watched.set(i64::try_from(self.bars.watched()).unwrap_or(i64::MAX));
        self.metrics.status_valid_until(self.desk.sessions().in_force().status.valid_until);
        self.report.store(Arc::new(self.status()));
    }

    async fn heartbeat(&self, now: Millis) {
        let Some(payload) = self.desk.heartbeat(now) else { return };
        for partition in Partition::all() {
            self.publish(Outgoing::heartbeat(&self.wire, partition, payload.clone())).await;
        }
    }

    /// The client library drops messages when a subscription's buffer is full, and its own event of it may be
    /// dropped too; what came in less what was read, once nothing waits, is what was lost.
    async fn count_dropped(&mut self, now: Millis) {
        let received = self.link.client.statistics().in_messages.load(std::sync::atomic::Ordering::Relaxed);
        let missing = received.saturating_sub(self.intake.read());
        // A message may be on its way from the connection to the subscription: lost is what stays missing.
        let lost = missing.min(self.heard.missing);
        self.heard.missing = missing;
        let waiting = missing.saturating_sub(self.heard.reported) > 0
            && (missing != lost || self.heard.reported == lost);
        if waiting || lost <= self.heard.reported {
            return;
        }
        let newly = lost - self.heard.reported;
        self.heard.reported = lost;
        self.metrics.dropped.inc_by(newly);
        tracing::warn!(newly, "messages were lost before the guard could read them");
        let mut event =
            Event::new(Kind::Dropped, now).detail("the guard could not keep up; nothing was let through");
        event.count = Some(newly);
        self.event(event).await;
    }

    /// Refused connections that came faster than they could be logged share one entry.
    fn count_strangers(&mut self, now: Millis) {
        let count = self.hall.take_uncounted();
        if count > 0 {
            let reason = Reason::Overloaded.code().into();
            let detail = Some("connections refused".into());
            self.desk.record(Body::Denied(Denied { reason, count, detail, ..Denied::default() }), now);
        }
    }

    /// A policy or status was found: it comes into force between two messages, so none is lost or judged by
    /// halves of two policies.
    async fn found(&mut self, found: Found) {
        let (error, reason) = match found {
            Found::New(in_force) => {
                let copy = InForce::clone(&in_force);
                match self.desk.replace(*in_force, now()) {
                    Ok(()) => {
                        self.reloaded(&copy);
                        return self.carry_out().await;
                    }
                    Err(refused) => (refused.to_string(), Some(refused.reason)),
                }
            }
            Found::Refused(error) => (error.to_string(), error.reason()),
        };
        self.change_refused(&error, reason).await;
    }

    async fn change_refused(&mut self, error: &str, reason: Option<Reason>) {
        tracing::error!(error, "a policy or status is refused; what is in force stays");
        let code = reason.map_or("unreadable", Reason::code).into();
        let detail = Some(format!("policy or status: {error}").into());
        self.desk.record(Body::Denied(Denied { reason: code, count: 1, detail, ..Denied::default() }), now());
        self.metrics.change_refused(reason);
        let mut event = Event::new(Kind::ChangeRefused, now()).detail(error);
        if let Some(reason) = reason {
            event = event.because(reason);
        }
        self.event(event).await;
    }

    fn reloaded(&self, in_force: &InForce) {
        tracing::info!(policy = in_force.policy.version(), status = in_force.status.version, "in force");
        self.hall.replace(in_force);
        self.bind_all();
        self.auth.recheck_twice(SECOND_LOOK);
    }

    fn status(&self) -> StatusReport {
        let sessions = self.desk.sessions();
        let in_force = sessions.in_force();
        let progress = self.desk.sync_handle().progress();
        let not_ready = if !self.desk.admits() {
            Some("the audit log cannot be written".to_owned())
        } else if !self.link.is_up() {
            Some("not connected to the bus".to_owned())
        } else {
            None
        };
        let info = self.link.client.server_info();
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bus: self.config.roots.name.to_string(),
            epoch: sessions.guard().epoch,
            started: self.started.0,
            ready: not_ready.is_none(),
            not_ready,
            policy_version: in_force.policy.version(),
            status_version: in_force.status.version,
            status_valid_until: in_force.status.valid_until.0,
            server: format!("{} {}", info.server_name, info.version),
            sessions: sessions
                .roster()
                .iter()
                .map(|session| SessionReport {
                    agent: session.agent().to_string(),
                    session: session.id().to_string(),
                    team: session.credential.claims().team.to_string(),
                    readings: session.readings.len(),
                    keys: session.keys.len(),
                })
                .collect(),
            quarantined: sessions.quarantined().iter().map(ToString::to_string).collect(),
            audit: AuditReport {
                written: progress.written,
                synced: progress.synced,
                sealed: progress.sealed,
                fault: progress.fault.or(progress.seal_fault),
            },
            dropped: self.heard.reported,
        }
    }

    /// Reads no more, finishes what was received, closes the log.
    async fn stop(mut self) -> Result<(), ServiceError> {
        tracing::info!("the guard is stopping");
        self.event(Event::new(Kind::Stopping, now())).await;
        // Nobody new; whoever is in stays connected and waits for the next guard's heartbeat.
        // Those it was just letting in wait for their entries.
        let auth = self.auth.clone();
        let mut stopped = std::pin::pin!(auth.stop());
        loop {
            tokio::select! {
                () = &mut stopped => break,
                Some(judged) = self.door.decisions.recv() => self.connection(judged).await,
            }
        }
        while let Ok(judged) = self.door.decisions.try_recv() {
            self.connection(judged).await;
        }
        let drained = tokio::time::timeout(DRAIN, async {
            self.intake.stop();
            while let Some(turn) = self.intake.turn().await {
                self.turn(turn).await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!("stopped before everything received was finished: the server does not answer");
        }
        // What was only counted is still to be logged and told.
        self.desk.tick(now());
        self.carry_out().await;
        self.herald.stop(DRAIN).await;
        let Self { desk, verdicts, link, system, custody, metrics, .. } = self;
        custody.finish(&metrics, DRAIN).await;
        let synced = desk.sync_handle();
        let upto = synced.progress().written;
        let _ = tokio::time::timeout(DRAIN, synced.synced(upto)).await;
        // Its task ends when the last sender is gone, after the verdicts under way.
        drop(verdicts);
        desk.close()?;
        for link in [link, system] {
            let _ = tokio::time::timeout(DRAIN, link.client.drain()).await;
        }
        Ok(())
    }
}

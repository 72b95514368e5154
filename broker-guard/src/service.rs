//! The guard as it runs: wires the rooms together and owns the loop.
//!
//! Start in order, each step failing with what to do about it: keys, store, policy and status, connections,
//! the servers' fitness, audit log, the callout in force; only then are envelopes read. Stop in the reverse order: what was received is finished, then
//! the log is closed.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_nats::{ConnectOptions, Message, Subscriber};
use futures_util::{FutureExt as _, StreamExt as _};
use rand_core::UnwrapErr;
use sealbus_envelope::{
    control::GuardEpoch,
    identity::{PublicKey, SigningKey},
    name::AgentToken,
    proof::admission::ADMISSION_RESERVE,
    reason::{Reason, Refused},
    subject::{Partition, WireSubjects},
    time::Millis,
    wire::MAX_ENVELOPE,
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    audit::{
        note::SignWith,
        store::{AppendError, AuditLog, OpenError, Options, SyncHandle},
    },
    bus::{
        admin::Admin,
        auth::{
            Auth, AuthConfig, AuthError, CalloutKeys, ConnectionDecision, Outcome, verify::DEFAULT_RECHECK_MS,
        },
        authority::{Door, Hall},
        desk::{Desk, PendingVerdicts, challenge},
        egress::Outgoing,
        fitness::{self, Needs, ProbeOptions, Unfit},
        link::{self, Link, LinkError},
    },
    clock::now,
    config::Config,
    events::{Event, Kind},
    http::{self, AuditReport, Pages, SessionReport, StatusReport},
    keyfile::{GuardKeys, KeyFileError},
    metrics::Metrics,
    quarantine::{
        enforce::{Bars, Changed, Enforced, Enforcer, SECOND_LOOK},
        evidence::Response,
        state::{Cause, Change},
    },
    reload::{self, ReloadError, Watch},
    sessions::{InForce, Sessions},
    store::{Store, StoreError},
};

/// How many envelopes are checked, logged and signed together: a whole batch of proofs.
const BATCH: usize = 256;
/// How many control messages are handled before envelopes have their turn again.
const CONTROL_TURN: usize = 64;
/// How long a stopping guard waits for what was already sent to it.
const DRAIN: Duration = Duration::from_secs(5);
/// Quarantines whose second look at the servers may be under way.
const LOOKS: usize = 1_024;
/// The store's file in the state directory.
const STORE_FILE: &str = "guard.redb";

/// Why a guard did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A key file or the credential is not good.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// A directory cannot be made.
    #[error("cannot make the directory {path}: {source}", path = path.display())]
    Directory {
        /// Which.
        path: std::path::PathBuf,
        /// The operating system's own.
        #[source]
        source: io::Error,
    },
    /// The durable store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No valid policy or status: nothing may be admitted.
    #[error(transparent)]
    InForce(#[from] ReloadError),
    /// The audit log cannot be opened.
    #[error("audit log: {0}")]
    Audit(#[from] OpenError),
    /// The audit log cannot be closed in order.
    #[error("audit log: {0}")]
    AuditClose(#[from] AppendError),
    /// No connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A server is not fit, or the callout is not in force.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The authenticator cannot start.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The health and metrics page cannot be served.
    #[error(
        "cannot listen on {address} for health and metrics: {source}; set `guard.http_listen` to a free address"
    )]
    Http {
        /// Where.
        address: SocketAddr,
        /// The operating system's own.
        #[source]
        source: io::Error,
    },
    /// The server refused a subscription.
    #[error("cannot subscribe: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
}

/// Runs a guard until `shutdown`.
///
/// # Errors
/// [`ServiceError`]; nothing is admitted then.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ServiceError> {
    start(config).await?.run(shutdown).await
}

/// Starts a guard: when this returns, it reads envelopes as soon as [`Running::run`] is polled.
///
/// # Errors
/// [`ServiceError`].
pub async fn start(config: Config) -> Result<Running, ServiceError> {
    let keys = GuardKeys::load(&config)?;
    make_directory(&config.state_dir)?;
    make_directory(&config.audit_dir)?;
    let store = Arc::new(Store::open(&config.state_dir.join(STORE_FILE))?);
    let in_force = reload::load(&config, &store)?;
    let watch = Watch::new(&config);
    let metrics = Metrics::new();
    let listener = http::bind(config.http_listen)
        .await
        .map_err(|source| ServiceError::Http { address: config.http_listen, source })?;

    let link = link::connect(&config, &keys.guard, "for envelopes").await?;
    let logins = link::connect(&config, &keys.guard, "for logins").await?;
    let system = link::connect(&config, &keys.system, "to the system account").await?;
    let admin = Admin::new(system.client.clone(), config.nats.account.clone());
    let needs = Needs { max_payload: MAX_ENVELOPE + ADMISSION_RESERVE };
    fitness::check_servers(&link.client, &admin, needs).await?;

    // Only now: a guard that cannot reach its servers has not started, and the log must not say so.
    let epoch = store.next_epoch()?;
    let mut options = Options::new(&log_name(&config));
    options.min_epoch = epoch;
    let signer = copy(&keys.guard);
    let audit = AuditLog::open(
        &config.audit_dir,
        options,
        Box::new(SignWith {
            public: *signer.public().as_bytes(),
            sign: move |text: &[u8]| signer.sign_raw(text),
        }),
    )?;
    let guard = GuardEpoch { epoch: audit.epoch(), challenge: challenge(&mut UnwrapErr(getrandom::SysRng)) };

    let wire = config.subjects();
    let bars = Arc::new(Bars::load(&store)?);
    let (hall, door) = Hall::new(&in_force, Arc::clone(&bars));
    let auth = Auth::start(
        logins.client.clone(),
        admin,
        Arc::clone(&store),
        AuthConfig {
            keys: CalloutKeys { issuer: keys.callout, xkey: keys.xkey.into_key() },
            roots: Arc::new(config.roots.clone()),
            wire: wire.clone(),
            account: config.nats.account.clone(),
            recheck_ms: DEFAULT_RECHECK_MS,
            servers: None,
            sole_guard: true,
        },
        Arc::<Hall>::clone(&hall),
    )
    .await?;
    let probe = probe_options(&config);
    for url in &config.urls {
        fitness::prove_callout(&auth, url, &probe).await?;
    }

    let quarantined = bars.all().into_iter().filter(|known| known.state.is_barred()).map(|known| known.agent);
    let max_payload = u32::try_from(link.client.server_info().max_payload).unwrap_or(u32::MAX);
    let sessions = Sessions::new(
        config.roots.clone(),
        guard,
        keys.credential,
        max_payload,
        in_force,
        quarantined.collect(),
    );
    let desk = Desk::new(wire.clone(), copy(&keys.guard), sessions, audit, metrics.clone());

    let control = link.client.subscribe(wire.control_all()).await?;
    let ingress = link.client.subscribe(wire.ingress_all()).await?;
    let verdicts = spawn_verdicts(desk.sync_handle(), link.clone());
    let (looked, looks) = mpsc::channel(LOOKS);
    let guard = Guard {
        heard: Heard::default(),
        report: Arc::new(ArcSwap::from_pointee(StatusReport::default())),
        enforcer: Arc::new(Enforcer::new(Arc::clone(&store), bars)),
        started: now(),
        config,
        store,
        watch,
        wire,
        link,
        system,
        desk,
        ingress,
        control,
        verdicts,
        metrics,
        auth,
        hall,
        door,
        looked,
        looks,
    };
    Ok(Running { guard, listener })
}

/// A test connection: as an agent would connect, without a login.
fn probe_options(config: &Config) -> ProbeOptions {
    let (tls, ca) = (config.requires_tls(), config.tls_ca.clone());
    Arc::new(move || {
        let options = ConnectOptions::new().require_tls(tls);
        match &ca {
            Some(ca) => options.add_root_certificates(ca.clone()),
            None => options,
        }
    })
}

/// A guard that was started.
pub struct Running {
    guard: Guard,
    listener: TcpListener,
}

impl Running {
    /// Where health, status and metrics are served.
    ///
    /// # Errors
    /// The operating system's own.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The guard's metrics.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.guard.metrics.clone()
    }

    /// Serves until `shutdown`, then finishes what was received and closes the log.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        let tasks = TaskTracker::new();
        let pages = Pages { report: Arc::clone(&self.guard.report), metrics: self.guard.metrics.clone() };
        tasks.spawn(http::serve(self.listener, pages, shutdown.clone()));
        let outcome = self.guard.run(&shutdown).await;
        // Whatever ended the loop ends the rest.
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
        outcome
    }
}

/// Messages that the connection received and that the loop read.
#[derive(Debug, Default)]
struct Heard {
    read: u64,
    missing: u64,
    reported: u64,
}

struct Guard {
    config: Config,
    store: Arc<Store>,
    watch: Watch,
    wire: WireSubjects,
    link: Link,
    desk: Desk,
    ingress: Subscriber,
    control: Subscriber,
    verdicts: mpsc::Sender<PendingVerdicts>,
    metrics: Metrics,
    report: Arc<ArcSwap<StatusReport>>,
    heard: Heard,
    started: Millis,
    system: Link,
    auth: Auth,
    hall: Arc<Hall>,
    door: Door,
    enforcer: Arc<Enforcer>,
    looked: mpsc::Sender<(Changed, Enforced)>,
    looks: mpsc::Receiver<(Changed, Enforced)>,
}

impl Guard {
    async fn run(mut self, shutdown: &CancellationToken) -> Result<(), ServiceError> {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.event(Event::new(Kind::Started, now())).await;
        let epoch = self.desk.sessions().guard().epoch;
        tracing::info!(bus = %self.config.roots.name, epoch, "the guard is ready");
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tick.tick() => self.tick().await,
                Some(decision) = self.door.decisions.recv() => self.connection(&decision).await,
                Some(gone) = self.door.departures.recv() => {
                    self.desk.gone(gone.session, now());
                    self.departures();
                    self.carry_out().await;
                }
                Some((changed, enforced)) = self.looks.recv() => self.looked_at(&changed, &enforced).await,
                Some(message) = self.control.next() => self.control_turn(message).await,
                Some(message) = self.ingress.next() => self.ingress_turn(message).await,
                else => break,
            }
        }
        self.stop().await
    }

    async fn ingress_turn(&mut self, first: Message) {
        // A sender grants its key before it seals with it: what it said first is heard first.
        if let Some(Some(message)) = self.control.next().now_or_never() {
            self.control_turn(message).await;
        }
        let begun = std::time::Instant::now();
        let mut batch = Vec::with_capacity(BATCH);
        batch.push(first);
        while batch.len() < BATCH
            && let Some(Some(message)) = self.ingress.next().now_or_never()
        {
            batch.push(message);
        }
        self.heard.read += u64::try_from(batch.len()).unwrap_or(0);
        self.desk.envelopes(&batch, now());
        self.carry_out().await;
        self.metrics.batch_seconds.observe(begun.elapsed().as_secs_f64());
    }

    /// Ends the sessions whose connections ended.
    fn departures(&mut self) {
        while let Ok(gone) = self.door.departures.try_recv() {
            self.desk.gone(gone.session, now());
        }
    }

    async fn control_turn(&mut self, first: Message) {
        let mut turn = vec![first];
        while turn.len() < CONTROL_TURN
            && let Some(Some(message)) = self.control.next().now_or_never()
        {
            turn.push(message);
        }
        self.heard.read += u64::try_from(turn.len()).unwrap_or(0);
        // A session is let in again only after its old connection was struck, so any hello in this turn comes
        // behind that departure: told of it later, the desk would end the session that has just begun anew.
        self.departures();
        for message in &turn {
            self.desk.control(message, now());
            // Each by itself: one message may bring about megabytes.
            self.carry_out().await;
        }
    }

    /// Publishes what the desk wants published.
    async fn carry_out(&mut self) {
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
        for (agent, response) in todo.offenders {
            self.respond(&agent, response).await;
        }
    }

    /// Does what an agent's behaviour calls for.
    async fn respond(&mut self, agent: &AgentToken, response: Response) {
        let session = self.desk.sessions().roster().of_agent(agent.as_str()).next();
        let known = session.map(|session| session.credential.claims().identity.clone());
        // Who floods without ever saying hello is on no roster, but let in it was.
        let Some(identity) = known.or_else(|| self.auth.identity_of(agent)) else { return };
        match response {
            Response::Nothing => {}
            Response::Disconnect => {
                let auth = self.auth.clone();
                tokio::spawn(async move {
                    auth.disconnect_all(&identity, Refused::new(Reason::RateLimited, "flood")).await;
                });
            }
            Response::Quarantine(cause) => self.quarantine(&identity, agent, cause).await,
        }
    }

    /// The order is fixed: durable, then off the roster with its keys going stale, then the log and the event,
    /// then the connections, then a look at the servers and another.
    async fn quarantine(&mut self, identity: &PublicKey, agent: &AgentToken, cause: Cause) {
        let time = now();
        let changed = match self.enforcer.change(identity, agent, Change::Quarantine, cause, time).await {
            Ok(Some(changed)) => changed,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%agent, %error, "a quarantine is not durable");
                self.desk.expel(agent, Reason::Quarantined, time);
                return;
            }
        };
        self.desk.expel(agent, Reason::Quarantined, time);
        self.metrics.quarantined.inc();
        self.desk.record(changed.to_audit(), time);
        let record = &changed.record;
        let mut event = Event::new(Kind::Quarantine, time).because(record.cause.reason).about(agent);
        event.what = Some(record.cause.what.clone());
        event.detail = Some(format!("{} to {}", changed.from, record.state));
        self.event(event).await;
        let (auth, enforcer, looked) = (self.auth.clone(), Arc::clone(&self.enforcer), self.looked.clone());
        tokio::spawn(async move {
            let enforced = enforcer.enforce(&auth, &changed.identity, SECOND_LOOK).await;
            // Fails only when the guard is stopping.
            let _ = looked.send((changed, enforced)).await;
        });
    }

    async fn looked_at(&mut self, changed: &Changed, enforced: &Enforced) {
        let time = now();
        self.desk.record(enforced.to_audit(changed), time);
        let detail = if enforced.confirmed() {
            format!("confirmed: {} connections cut, no server holds one", enforced.cut)
        } else {
            let silent = enforced.silent.join(", ");
            format!("not confirmed: {} connections left, no answer from: {silent}", enforced.left)
        };
        let event = Event::new(Kind::Quarantine, time)
            .because(changed.record.cause.reason)
            .about(&changed.record.agent)
            .detail(detail);
        self.event(event).await;
        self.carry_out().await;
    }

    /// A connection was judged: logged, counted, told.
    async fn connection(&mut self, decision: &ConnectionDecision) {
        self.metrics.connection(decision.outcome.code());
        self.desk.record(decision.to_audit(), decision.time);
        let mut event = Event::new(Kind::Connection, decision.time);
        if let Some(refused) = decision.reason {
            event = event.because(refused.reason);
            event.what = Some(refused.what.to_owned());
        }
        event.agent = decision.agent.as_ref().map(ToString::to_string);
        event.session = decision.session.map(|session| session.to_string());
        event.detail = Some(format!("{} at {}", decision.outcome.code(), decision.server));
        if decision.outcome != Outcome::Admitted || !decision.again {
            self.event(event).await;
        }
        self.carry_out().await;
    }

    async fn publish(&self, outgoing: Outgoing) {
        if let Err(error) = outgoing.publish(&self.link.client).await {
            tracing::warn!(%error, "could not publish");
        }
    }

    async fn event(&self, event: Event) {
        self.publish(Outgoing::event(&self.wire, &event)).await;
    }

    async fn tick(&mut self) {
        let now = now();
        self.desk.tick(now);
        if self.watch.changed() {
            self.reload(now).await;
        }
        self.carry_out().await;
        self.heartbeat(now).await;
        self.count_dropped(now).await;
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
        let missing = received.saturating_sub(self.heard.read);
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

    async fn reload(&mut self, now: Millis) {
        let (error, reason) = match reload::load(&self.config, &self.store) {
            Ok(in_force) => {
                let copy = in_force.clone();
                match self.desk.replace(in_force, now) {
                    Ok(()) => return self.reloaded(&copy),
                    Err(refused) => (refused.to_string(), Some(refused.reason)),
                }
            }
            Err(error) => (error.to_string(), error.reason()),
        };
        tracing::error!(error, "the new policy or status is refused; the old one stays in force");
        let mut event = Event::new(Kind::ChangeRefused, now).detail(error);
        if let Some(reason) = reason {
            event = event.because(reason);
        }
        self.event(event).await;
    }

    fn reloaded(&self, in_force: &InForce) {
        tracing::info!("policy and status were read again");
        self.hall.replace(in_force);
        let auth = self.auth.clone();
        tokio::spawn(async move {
            let cut = auth.recheck().await;
            tracing::info!(cut, "connections whose rights changed were cut");
        });
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
        self.auth.stop().await;
        let drained = tokio::time::timeout(DRAIN, async {
            // After these the server sends no more, and the streams end behind what is buffered.
            let _ = self.ingress.drain().await;
            let _ = self.control.drain().await;
            while let Some(message) = self.control.next().await {
                self.control_turn(message).await;
            }
            while let Some(message) = self.ingress.next().await {
                self.ingress_turn(message).await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!("stopped before everything received was finished: the server does not answer");
        }
        // What was only counted is still to be logged and told.
        self.desk.tick(now());
        self.carry_out().await;
        let Self { desk, verdicts, link, system, .. } = self;
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

/// Sends verdicts once what they are about is on disk: one task, so that they keep their order and one wait
/// serves all that queued meanwhile.
fn spawn_verdicts(synced: SyncHandle, link: Link) -> mpsc::Sender<PendingVerdicts> {
    let (sender, mut receiver) = mpsc::channel::<PendingVerdicts>(1024);
    tokio::spawn(async move {
        while let Some(pending) = receiver.recv().await {
            if let Err(error) = synced.synced(pending.upto).await {
                tracing::error!(%error, "no verdict without the log on disk");
                continue;
            }
            for notice in pending.notices {
                if let Err(error) = notice.publish(&link.client).await {
                    tracing::warn!(%error, "could not publish a verdict");
                }
            }
        }
    });
    sender
}

/// The audit log's name in its checkpoints, by which its signatures are verified.
#[must_use]
pub fn log_name(config: &Config) -> String {
    format!("sealbus/{}/guard", config.roots.name)
}

fn make_directory(path: &std::path::Path) -> Result<(), ServiceError> {
    std::fs::create_dir_all(path).map_err(|source| ServiceError::Directory { path: path.to_owned(), source })
}

/// The guard's key is used in three places that own it: the desk, the heartbeat, the log.
fn copy(key: &SigningKey) -> SigningKey {
    SigningKey::from_seed(&key.to_seed())
}

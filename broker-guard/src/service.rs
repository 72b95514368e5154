//! The guard as it runs: wires the rooms together and owns the loop.
//!
//! Start in order, each step failing with what to do about it: keys, store, policy and status, connections,
//! the servers' fitness, audit log, the callout in force; only then are envelopes read. Stop in the reverse
//! order: what was received is finished, then the log is closed.

use std::{io, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use async_nats::ConnectOptions;
use rand_core::{Rng as _, UnwrapErr};
use sealbus_envelope::{
    control::GuardEpoch, identity::SigningKey, proof::admission::ADMISSION_RESERVE, reason::Refused,
    wire::MAX_ENVELOPE,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    audit::{
        note::SignWith,
        store::{AppendError, AuditLog, OpenError, Options, SyncHandle},
    },
    bus::{
        admin::Admin,
        auth::{Auth, AuthConfig, AuthError, CalloutKeys, verify::DEFAULT_RECHECK_MS},
        authority::Hall,
        desk::{Desk, PendingVerdicts},
        fitness::{self, Needs, ProbeOptions, Unfit},
        intake::{Floods, Intake},
        link::{self, Link, LinkError},
    },
    clock::now,
    config::Config,
    events::{herald::Herald, settings::SinkError},
    http::{self, Pages, StatusReport, ask::Asking},
    keyfile::{GuardKeys, KeyFileError},
    metrics::Metrics,
    quarantine::{bars::Bars, enforce::Enforcer, state::State},
    reload::{Loader, ReloadError, Watch},
    sessions::Sessions,
    store::{Store, StoreError},
};

mod approvals;
mod evidence;
mod heralds;
mod memory;
mod orders;
mod policies;
mod pruning;
mod response;
mod running;
mod waiting;

use evidence::Custodian;
use memory::{Memory, tell_loss};
use orders::{Telling, Tried};
use policies::{Keeper, Shelf};
use running::{Guard, Heard};

/// Quarantines whose second look at the servers may be under way.
const LOOKS: usize = 1_024;
/// Policies and status statements that wait to come into force.
const OFFERS: usize = 16;
/// Notices of written policies that wait to be read, each as large as a message can be. The bucket is looked at
/// now and then anyway.
const NOTICES: usize = 32;
/// The store's file in the state directory.
pub(crate) const STORE_FILE: &str = "guard.redb";

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
    /// That an older log was lost cannot be written into the new one.
    #[error("audit log: what was lost cannot be written down: {0}")]
    LossNotTold(Refused),
    /// The audit log cannot be closed in order.
    #[error("audit log: {0}")]
    AuditClose(#[from] AppendError),
    /// No connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A server is not fit, or the callout is not in force.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// A sink of events cannot be made ready.
    #[error(transparent)]
    Sink(#[from] SinkError),
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

/// Runs a guard until `shutdown`. Without a valid policy or status it admits nothing, says so in the log and at
/// `/readyz`, and waits for one.
///
/// # Errors
/// [`ServiceError`]; nothing is admitted then.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ServiceError> {
    loop {
        match start(config.clone()).await {
            Ok(running) => return running.run(shutdown).await,
            Err(ServiceError::InForce(error)) => {
                if !waiting::wait(&config, &error, &shutdown).await? {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
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
    let loader = Arc::new(Loader::new(&config, Arc::clone(&store)));
    let watch = Watch::new(&config);
    let metrics = Metrics::new();
    let listener = http::bind(config.http_listen)
        .await
        .map_err(|source| ServiceError::Http { address: config.http_listen, source })?;

    // Before anything else is touched: a webhook that cannot work is a fault of the configuration.
    let sinks = config.events.sinks()?;

    let link = link::connect(&config, &keys.guard, "for envelopes").await?;
    let logins = link::connect(&config, &keys.guard, "for logins").await?;
    let system = link::connect(&config, &keys.system, "to the system account").await?;
    let admin = Admin::new(system.client.clone(), config.nats.account.clone());
    let needs = Needs { max_payload: MAX_ENVELOPE + ADMISSION_RESERVE };
    let servers = fitness::check_servers(&link.client, &admin, needs).await?;
    // Without streams nobody answers what is asked of them, and a question without an answer takes seconds.
    let jetstream = servers.iter().any(|server| server.jetstream);
    let shelf = if jetstream {
        let policies = link::connect_narrow(&config, &keys.guard, "for policies", NOTICES).await?;
        Shelf::open(policies, servers.len()).await
    } else {
        tracing::info!("no JetStream: policies come from the guard's file only");
        None
    };
    let bus_sink = heralds::bus(&config, &keys.guard, &servers).await?;
    let published = match &shelf {
        // What is wrong with it is told when the guard runs and looks again.
        Some(shelf) => shelf.newest(&loader).await.unwrap_or_default(),
        None => None,
    };
    let (in_force, refused) = loader.start(published)?;

    // Only now: a guard that cannot reach its servers has not started, and the log must not say so.
    let epoch = store.next_epoch()?;
    let mut options = Options::new(&log_name(&config));
    options.min_epoch = epoch;
    options.remembered = store.signed_log()?.map(|signed| (signed.size, signed.root));
    let signer = copy(&keys.guard);
    let mut audit = AuditLog::open(
        &config.audit_dir,
        options,
        Box::new(SignWith {
            public: *signer.public().as_bytes(),
            sign: move |text: &[u8]| signer.sign_raw(text),
        }),
    )?;
    tell_loss(&mut audit, &store, &log_name(&config)).await?;
    let mut challenge = [0; 16];
    UnwrapErr(getrandom::SysRng).fill_bytes(&mut challenge);
    let guard = GuardEpoch { epoch: audit.epoch(), challenge };

    let source = heralds::source(&config, &keys.guard, audit.epoch());
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
    store.expire_floors(now())?;
    let sessions = Sessions::new(
        config.roots.clone(),
        guard,
        keys.credential,
        max_payload,
        in_force.clone(),
        quarantined.collect(),
        store.floors()?,
    );
    let mut desk =
        Desk::new(wire.clone(), copy(&keys.guard), sessions, audit, Arc::clone(&store), metrics.clone());
    let (asking, asks) = Asking::new(config.roots.clone(), desk.approvers());
    let watched = bars.all().into_iter().filter(|known| known.state == State::Watched);
    desk.resume_watching(watched.map(|known| known.agent), now());
    desk.record_in_force(now());
    let memory = Memory { synced: desk.sync_handle(), store: Arc::clone(&store) };
    desk.restore_holds(store.holds(config.roots.bus())?);
    desk.recall_workflows(store.workflows()?);

    let (intake, floods) = Intake::start(&link.client, &wire, metrics.clone()).await?;
    spawn_cutter(floods, auth.clone());
    let verdicts = spawn_verdicts(desk.sync_handle(), link.clone());
    let (looked, looks) = mpsc::channel(LOOKS);
    let (found, offered) = mpsc::channel(OFFERS);
    let stream = if jetstream {
        evidence::open_stream(&config, &keys.guard, &wire, servers.len()).await
    } else {
        None
    };
    let (custodian, custody, replays) =
        Custodian::start(Arc::clone(&store), Arc::clone(&bars), stream, wire.clone());
    let keeper = Keeper::new(loader, watch, shelf, in_force, found);
    // Only now: a guard that does not start has nothing to tell.
    let herald = Herald::start(source, std::iter::once(bus_sink).chain(sinks).collect(), metrics.clone());
    let guard = Guard {
        herald,
        heard: Heard::default(),
        report: Arc::new(ArcSwap::from_pointee(StatusReport::default())),
        enforcer: Arc::new(Enforcer::new(Arc::clone(&store), Arc::clone(&bars))),
        bars,
        custodian,
        custody,
        replays,
        started: now(),
        telling: Telling::default(),
        tried: Tried::default(),
        asks,
        store,
        config,
        refused,
        offered,
        wire,
        link,
        system,
        desk,
        intake,
        verdicts,
        metrics,
        auth,
        hall,
        door,
        looked,
        looks,
    };
    Ok(Running { guard, keeper, memory, listener, asking })
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
    keeper: Keeper,
    memory: Memory,
    listener: TcpListener,
    asking: Asking,
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
    /// To be awaited by `block_on`, not spawned: on a worker of the runtime, the tasks that it wakes would wait until
    /// it rests, those that read the connections among them.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        let tasks = TaskTracker::new();
        let pages = Pages {
            report: Arc::clone(&self.guard.report),
            metrics: self.guard.metrics.clone(),
            asking: self.asking,
        };
        tasks.spawn(http::serve(self.listener, pages, shutdown.clone()));
        tasks.spawn(self.keeper.run(shutdown.clone()));
        tasks.spawn(self.memory.run());
        let outcome = self.guard.run(&shutdown).await;
        // Whatever ended the loop ends the rest.
        shutdown.cancel();
        tasks.close();
        tasks.wait().await;
        outcome
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

/// Cuts who floods: a task of its own, so that it never waits for the desk.
fn spawn_cutter(mut floods: Floods, auth: Auth) {
    tokio::spawn(async move {
        while let Some(agent) = floods.recv().await {
            let auth = auth.clone();
            tokio::spawn(async move { auth.cut_flood(&agent).await });
        }
    });
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

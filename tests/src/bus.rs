//! A whole bus for one test: a real nats-server, a guard in this process, agents with credentials of their
//! own. Everything is fresh, on free ports, and gone when dropped.
#![expect(clippy::expect_used, reason = "a fixture that cannot be set up fails its test")]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::Duration,
};

use async_nats::ConnectOptions;
use sealbus_client::credentials::{Bus, Credentials};
use sealbus_envelope::{
    identity::{Claims, Credential, KeyKind, PublicKey, Revocation, Role, Roots, SigningKey, Status},
    label::{Clearance, Compartments, Integrity, Level},
    name::{AgentToken, Name},
    time::{Millis, Validity},
};
use sealbus_guard::{
    bus::bucket::Bucket,
    clock,
    config::{Config, KeyPaths, NatsNames},
    events::settings::EventSettings,
    keyfile,
    metrics::Metrics,
    natsserver::PUBLISHER_INBOX_PREFIX,
    policy::{self, bundle::ServiceKeys, source::PolicySource},
    quarantine::custody::StreamLimits,
    service::{self, ServiceError},
};
use tokio::{runtime::Runtime, sync::oneshot};
use tokio_util::sync::CancellationToken;

use crate::server::{ServerSpec, TestServer};

const DAY_MS: u64 = 24 * 3_600_000;
/// Fixture clocks may be a little behind the guard's.
const BACKDATED_MS: u64 = 60_000;

/// A bus: server, guard, and the keys of everyone who signs anything on it.
pub struct TestBus {
    server: TestServer,
    issuer: SigningKey,
    policy_keys: Vec<SigningKey>,
    status_key: SigningKey,
    guard_key: SigningKey,
    roots: Roots,
    config: Config,
    status: Status,
    policy_version: u64,
    guard: Option<RunningGuard>,
}

struct RunningGuard {
    /// Its own, so that all its tasks can end at once.
    runtime: Option<Runtime>,
    thread: Option<JoinHandle<()>>,
    stop: CancellationToken,
    killed: CancellationToken,
    /// How it ended, unless it was killed.
    ended: oneshot::Receiver<Result<(), ServiceError>>,
    metrics: Metrics,
    http: SocketAddr,
}

impl TestBus {
    /// Starts a bus with this policy (TOML).
    ///
    /// # Panics
    /// If anything does not start.
    pub async fn start(policy: &str) -> Self {
        Self::start_with(policy, ServerSpec::default()).await
    }

    /// Starts a bus with this policy on a server of this kind.
    ///
    /// # Panics
    /// If anything does not start.
    pub async fn start_with(policy: &str, spec: ServerSpec) -> Self {
        let mut bus = Self::prepare(policy, spec).await;
        bus.start_guard().await;
        bus
    }

    /// A server and all files, no guard yet.
    ///
    /// # Panics
    /// If the server does not start.
    pub async fn prepare(policy: &str, spec: ServerSpec) -> Self {
        Self::prepare_quorum(policy, spec, 1, 1).await
    }

    /// The same, with so many policy keys of which `quorum` must sign.
    ///
    /// # Panics
    /// If the server does not start.
    pub async fn prepare_quorum(policy: &str, spec: ServerSpec, keys: usize, quorum: usize) -> Self {
        let policy_keys: Vec<SigningKey> = (0..keys).map(|_| fresh()).collect();
        let server = TestServer::start(spec).await;
        let keys = server.keys();
        let guard_key = signing(&keys.guard, KeyKind::User);
        let (issuer, status_key) = (fresh(), fresh());
        let roots = Roots {
            name: name("test"),
            issuer: issuer.public().clone(),
            policy_keys: policy_keys.iter().map(|key| key.public().clone()).collect(),
            quorum,
        };
        let dir = server.dir().join("guard");
        std::fs::create_dir_all(&dir).expect("the guard's directory");
        let config = config(&dir, &roots, server.url());
        let now = clock::now();
        let status = Status {
            bus: roots.bus(),
            version: 1,
            policy_version: 1,
            issued: now.minus(BACKDATED_MS),
            valid_until: now.plus(DAY_MS),
            revoked: vec![],
        };
        let mut bus = Self {
            issuer,
            policy_keys,
            status_key,
            guard_key,
            roots,
            config,
            status,
            policy_version: 0,
            guard: None,
            server,
        };
        bus.write_keys();
        bus.write_policy(policy);
        bus.write_status();
        bus
    }

    fn write_keys(&self) {
        let keys = self.server.keys();
        let paths = &self.config.keys;
        let secret = |path: &Path, text: &str| keyfile::create_secret(path, text).expect("a key file");
        secret(&paths.guard, &keys.guard.seed().expect("a seed"));
        secret(&paths.callout, &keys.callout.seed().expect("a seed"));
        secret(&paths.system, &keys.system.seed().expect("a seed"));
        secret(&paths.xkey, &keys.xkey.seed().expect("a seed"));
        secret(&paths.publisher, &keys.publisher.seed().expect("a seed"));
        let guard = self.issue_to(&self.guard_key, "guard", "guards", Role::Guard, Clearance::default());
        std::fs::write(&paths.credential, guard.as_str()).expect("the guard's credential");
    }

    /// Signs a policy as the next version and puts it where the guard looks.
    ///
    /// # Panics
    /// If it is no good policy.
    pub fn write_policy(&mut self, text: &str) {
        let bytes = self.next_policy(text);
        keyfile::replace_public(&self.config.policy, &bytes).expect("the policy file");
    }

    /// Signs a policy as the next version, and puts it nowhere.
    ///
    /// # Panics
    /// If it is no good policy.
    pub fn next_policy(&mut self, text: &str) -> Vec<u8> {
        self.policy_version += 1;
        self.signed(text, self.policy_version, &self.roots, &self.quorum())
    }

    /// A policy as this version, signed by these keys as if they were the quorum of `roots`.
    ///
    /// # Panics
    /// If it is no good policy, or the keys are no quorum of `roots`.
    #[must_use]
    pub fn signed(&self, text: &str, version: u64, roots: &Roots, signers: &[&SigningKey]) -> Vec<u8> {
        let checked = policy::check(&PolicySource::new("test.toml", text)).unwrap_or_else(|f| bad_policy(&f));
        let keys = ServiceKeys {
            status: self.status_key.public().clone(),
            guards: vec![self.guard_key.public().clone()],
        };
        let signed = policy::bundle::sign(&checked.policy, &keys, version, clock::now(), signers, roots);
        signed.expect("a signed policy").encode()
    }

    /// As many policy keys as must sign.
    #[must_use]
    pub fn quorum(&self) -> Vec<&SigningKey> {
        self.policy_keys.iter().take(self.roots.quorum).collect()
    }

    /// The policy keys, for tests that forge.
    #[must_use]
    pub fn policy_keys(&self) -> &[SigningKey] {
        &self.policy_keys
    }

    /// The highest version that was signed.
    #[must_use]
    pub const fn policy_version(&self) -> u64 {
        self.policy_version
    }

    /// The policy bucket, as who publishes policies sees it.
    ///
    /// # Panics
    /// If the server refuses the login.
    pub async fn bucket(&self) -> Bucket {
        let seed = self.server.keys().publisher.seed().expect("a seed");
        let options = ConnectOptions::with_nkey(seed).custom_inbox_prefix(PUBLISHER_INBOX_PREFIX);
        Bucket::new(options.connect(self.url()).await.expect("the publisher's login"))
    }

    fn write_status(&self) {
        let bytes = self.status.sign(&self.status_key).expect("a status statement");
        keyfile::replace_public(&self.config.status, &bytes).expect("the status file");
    }

    /// Revokes an agent: signs the next status statement and puts it where the guard looks.
    pub fn revoke(&mut self, credentials: &Credentials) {
        self.revoke_key(&credentials.credential().claims().identity);
    }

    /// Revokes a key, be it an agent's, a guard's or an approver's.
    pub fn revoke_key(&mut self, identity: &PublicKey) {
        self.status.revoked.push(Revocation { identity: identity.clone(), at: clock::now() });
        self.status.version += 1;
        self.write_status();
    }

    /// Signs the next status statement, good for `time` from now, and puts it where the guard looks.
    pub fn status_valid_for(&mut self, time: Duration) {
        self.status.version += 1;
        self.status.issued = clock::now();
        self.status.valid_until = clock::now().plus(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self.write_status();
    }

    /// When the status statement in the guard's file is over.
    #[must_use]
    pub const fn status_valid_until(&self) -> Millis {
        self.status.valid_until
    }

    /// Starts the guard; waits until it reads envelopes.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_guard(&mut self) {
        self.try_start_guard().await.expect("the guard starts");
    }

    /// Starts the guard, or says why it does not.
    ///
    /// # Errors
    /// The guard's own.
    pub async fn try_start_guard(&mut self) -> Result<(), ServiceError> {
        let stop = CancellationToken::new();
        let runtime = runtime();
        let starting = runtime.spawn(service::start(self.config.clone())).await;
        let running = match starting.expect("the guard does not panic") {
            Ok(running) => running,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let metrics = running.metrics();
        let http = running.http_address().expect("the guard listens");
        let guard = running.run(stop.clone());
        self.guard = Some(RunningGuard::start(runtime, guard, stop, metrics, http));
        Ok(())
    }

    /// Starts the guard as the service does, which waits if there is no valid policy. The address of its pages
    /// is known, not whether it serves them yet.
    ///
    /// # Panics
    /// If no port is free.
    pub fn start_waiting_guard(&mut self) {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let http = free.expect("a free port");
        self.config.http_listen = http;
        let (stop, runtime) = (CancellationToken::new(), runtime());
        let guard = service::run(self.config.clone(), stop.clone());
        self.guard = Some(RunningGuard::start(runtime, guard, stop, Metrics::new(), http));
    }

    /// Stops the guard in order.
    ///
    /// # Panics
    /// If it ends with an error.
    pub async fn stop_guard(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            guard.stop.cancel();
            (&mut guard.ended).await.expect("the guard does not panic").expect("the guard stops in order");
            guard.end_tasks().await;
        }
    }

    /// Stops the guard as a crash would: every task of it ends between two awaits, nothing finished.
    ///
    /// # Panics
    /// If it has no runtime of its own, which every guard has.
    pub async fn kill_guard(&mut self) {
        let Some(mut guard) = self.guard.take() else { return };
        guard.killed.cancel();
        let _ = (&mut guard.ended).await;
        guard.end_tasks().await;
    }

    /// The guard's metrics.
    ///
    /// # Panics
    /// If no guard runs.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.guard.as_ref().expect("a running guard").metrics.clone()
    }

    /// Where the guard serves health, status and metrics.
    ///
    /// # Panics
    /// If no guard runs.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.guard.as_ref().expect("a running guard").http
    }

    /// The server.
    pub fn server(&mut self) -> &mut TestServer {
        &mut self.server
    }

    /// The server's address.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The guard's configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The roots of trust.
    #[must_use]
    pub const fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The issuer's key, for tests that forge.
    #[must_use]
    pub const fn issuer(&self) -> &SigningKey {
        &self.issuer
    }

    /// The guard's key, for tests that forge.
    #[must_use]
    pub const fn guard_key(&self) -> &SigningKey {
        &self.guard_key
    }

    /// A new agent of `team`, cleared for all that its team is.
    #[must_use]
    pub fn agent(&self, agent: &str, team: &str) -> Credentials {
        self.agent_with(agent, team, Role::Agent, everything())
    }

    /// A new agent with this role and clearance.
    ///
    /// # Panics
    /// If the names are none.
    #[must_use]
    pub fn agent_with(&self, agent: &str, team: &str, role: Role, clearance: Clearance) -> Credentials {
        let identity = fresh();
        let credential = self.issue_to(&identity, agent, team, role, clearance);
        let bus = Bus::new(self.roots.clone(), vec![self.url()]).expect("a bus block");
        Credentials::new(bus, credential, identity).expect("credentials")
    }

    fn issue_to(
        &self,
        identity: &SigningKey,
        agent: &str,
        team: &str,
        role: Role,
        clearance: Clearance,
    ) -> Credential {
        let start = Millis::from_seconds(clock::now().minus(BACKDATED_MS).seconds());
        let claims = Claims {
            bus: self.roots.bus(),
            identity: identity.public().clone(),
            name: name(agent),
            team: name(team),
            role,
            clearance,
            integrity_ceiling: Integrity::HIGHEST,
            zones: vec![],
            validity: Validity::starting(start, DAY_MS),
        };
        Credential::issue(&claims, &self.issuer).expect("a credential")
    }

    /// The agent as subjects name it.
    #[must_use]
    pub fn token(credentials: &Credentials) -> AgentToken {
        credentials.credential().token().clone()
    }

    /// Connects as the on-call engineer, who hears all events.
    pub async fn on_call(&self) -> async_nats::Client {
        self.server.break_glass().await
    }
}

impl RunningGuard {
    /// Runs its loop as the program does, on a thread of its own: on a worker, the tasks that it wakes would wait
    /// until it rests.
    fn start(
        runtime: Runtime,
        guard: impl Future<Output = Result<(), ServiceError>> + Send + 'static,
        stop: CancellationToken,
        metrics: Metrics,
        http: SocketAddr,
    ) -> Self {
        let (killed, handle) = (CancellationToken::new(), runtime.handle().clone());
        let (end, ended) = oneshot::channel();
        let kill = killed.clone();
        let thread = std::thread::spawn(move || {
            if let Some(outcome) = handle.block_on(kill.run_until_cancelled(guard)) {
                let _ = end.send(outcome);
            }
        });
        Self { runtime: Some(runtime), thread: Some(thread), stop, killed, ended, metrics, http }
    }

    /// Waits for what is being written this moment, as a disk would; the next guard needs the store's lock.
    async fn end_tasks(mut self) {
        let runtime = self.runtime.take().expect("a running guard");
        let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10)));
        ended.await.expect("the runtime ends");
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.killed.cancel();
        // Its timers must not outlive the runtime.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime for the guard")
}

/// Waits for `future` at most half a minute: far longer than anything here takes, even on a busy machine.
///
/// # Panics
/// If it takes longer.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(output) => output,
        Err(_) => too_late(what),
    }
}

#[expect(clippy::panic, reason = "a test that waits in vain fails")]
fn too_late(what: &str) -> ! {
    panic!("waited half a minute in vain for {what}")
}

#[expect(clippy::panic, reason = "a fixture that cannot be set up fails its test")]
fn bad_policy(findings: &policy::diagnostic::Findings) -> ! {
    panic!("the test's policy is not good: {findings:?}")
}

/// Every level and compartment.
#[must_use]
pub const fn everything() -> Clearance {
    Clearance { level: Level::HIGHEST, compartments: Compartments::ALL }
}

/// A name that is one.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn fresh() -> SigningKey {
    SigningKey::generate(&mut rand_core::UnwrapErr(getrandom::SysRng))
}

fn signing(pair: &nkeys::KeyPair, kind: KeyKind) -> SigningKey {
    SigningKey::from_nkey_seed(&pair.seed().expect("a seed"), kind).expect("a seed of its kind")
}

fn config(dir: &Path, roots: &Roots, url: String) -> Config {
    let path = |file: &str| -> PathBuf { dir.join(file) };
    Config {
        path: path("sealbus.toml"),
        roots: roots.clone(),
        prefix: "sb".to_owned(),
        urls: vec![url],
        tls_ca: None,
        http_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        policy: path("policy.bundle"),
        status: path("status.bin"),
        state_dir: path("state"),
        audit_dir: path("audit"),
        keys: KeyPaths {
            guard: path("guard.seed"),
            credential: path("guard.credential"),
            callout: path("callout.seed"),
            xkey: path("xkey.seed"),
            system: path("sys.seed"),
            publisher: path("publisher.seed"),
        },
        nats: NatsNames { account: "BUS".to_owned(), system_account: "SYS".to_owned() },
        evidence: Some(StreamLimits::default()),
        events: EventSettings::default(),
    }
}

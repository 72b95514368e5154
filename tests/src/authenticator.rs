//! The guard's real authenticator on a real server, with issuer, policy, status and agents of the test's own.
#![expect(clippy::expect_used, reason = "a fixture that cannot be set up fails its test")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use data_encoding::BASE64URL_NOPAD;
use nkeys::XKey;
use sealbus_envelope::{
    control::{self, AuthToken},
    identity::{
        Claims, Credential, KeyKind, PublicKey, Revocation, Role, Roots, SessionCertificate, SessionId,
        SigningKey, Status,
    },
    label::{Clearance, Compartments, Integrity, Level},
    name::{AgentToken, Name},
    subject::WireSubjects,
    time::{Millis, Validity},
};
use sealbus_guard::{
    bus::{
        admin::Admin,
        auth::{Auth, AuthConfig, Authority, CalloutKeys, Connection, ConnectionDecision, verify},
    },
    policy::{
        self,
        bundle::{self, ServiceKeys},
        compile::CompiledPolicy,
        source::PolicySource,
    },
    quarantine::bars::Bars,
    store::Store,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::{
    raw::{RawClient, Refusal},
    server::TestServer,
};

const DAY_MS: u64 = 24 * 3_600_000;

/// The clock of tests is the clock: the server has no other.
///
/// # Panics
/// Before 1970.
#[must_use]
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    Millis(u64::try_from(since.as_millis()).expect("a near time"))
}

/// Issuer, policy and status of a bus.
pub struct TestBus {
    issuer: SigningKey,
    policy_key: SigningKey,
    status_key: SigningKey,
    /// The roots of trust.
    pub roots: Arc<Roots>,
    /// The bus's subjects.
    pub wire: WireSubjects,
}

/// What a test wants of a credential, beyond a good one.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The clearance.
    pub clearance: Clearance,
    /// The zones it may run in.
    pub zones: Vec<Name>,
    /// From when until when.
    pub validity: Validity,
}

impl Default for Grant {
    fn default() -> Self {
        let start = Millis::from_seconds(now().seconds()).minus(3_600_000);
        Self {
            role: Role::Agent,
            clearance: Clearance { level: Level::HIGHEST, compartments: Compartments::ALL },
            zones: vec![],
            validity: Validity::starting(start, DAY_MS),
        }
    }
}

impl TestBus {
    /// A bus of fresh keys.
    ///
    /// # Panics
    /// Never with a fit name.
    #[must_use]
    pub fn fresh() -> Self {
        let [issuer, policy_key, status_key] = [(); 3].map(|()| fresh_key());
        let roots = Arc::new(Roots {
            name: Name::parse("test").expect("a name"),
            issuer: issuer.public().clone(),
            policy_keys: vec![policy_key.public().clone()],
            quorum: 1,
        });
        Self { issuer, policy_key, status_key, roots, wire: WireSubjects::default() }
    }

    /// Signs and compiles a policy.
    ///
    /// # Panics
    /// If it is not a good one.
    #[must_use]
    pub fn policy(&self, text: &str, version: u64) -> Arc<CompiledPolicy> {
        let checked = policy::check(&PolicySource::new("test.toml", text)).expect("a good policy");
        let service = ServiceKeys { status: self.status_key.public().clone(), guards: vec![] };
        let keys = [&self.policy_key];
        let signed = bundle::sign(&checked.policy, &service, version, now(), &keys, &self.roots);
        let bytes = signed.expect("a signed bundle").encode();
        Arc::new(bundle::load(&bytes, &self.roots, 0).expect("a bundle").1)
    }

    /// A status statement that revokes these identities and is good for `valid_ms` from now (negative: was).
    ///
    /// # Panics
    /// If it cannot be signed.
    #[must_use]
    pub fn status(&self, revoked: &[&PublicKey], valid_ms: i64) -> Arc<Status> {
        let now = now();
        let status = Status {
            bus: self.roots.bus(),
            version: 1,
            policy_version: 1,
            issued: now.minus(DAY_MS),
            valid_until: Millis(now.0.saturating_add_signed(valid_ms)),
            revoked: revoked.iter().map(|key| Revocation { identity: (*key).clone(), at: now }).collect(),
        };
        let bytes = status.sign(&self.status_key).expect("a signed status");
        Arc::new(Status::verify(&bytes, self.roots.bus(), self.status_key.public()).expect("a status"))
    }

    /// An agent with a session of its own.
    #[must_use]
    pub fn agent(&self, name: &str, team: &str) -> TestAgent {
        self.agent_with(name, team, &Grant::default())
    }

    /// An agent with a special credential.
    ///
    /// # Panics
    /// If it cannot be issued.
    #[must_use]
    pub fn agent_with(&self, name: &str, team: &str, grant: &Grant) -> TestAgent {
        let identity = fresh_key();
        let claims = Claims {
            bus: self.roots.bus(),
            identity: identity.public().clone(),
            name: Name::parse(name).expect("a name"),
            team: Name::parse(team).expect("a name"),
            role: grant.role,
            clearance: grant.clearance,
            integrity_ceiling: Integrity::HIGHEST,
            zones: grant.zones.clone(),
            validity: grant.validity,
        };
        let credential = Credential::issue(&claims, &self.issuer).expect("a credential");
        let session = fresh_key();
        let validity = Validity::starting(now().minus(1_000), 3_600_000);
        let certificate = SessionCertificate::issue(self.roots.bus(), &identity, &session, validity);
        let certificate = certificate.expect("a certificate");
        TestAgent { identity, credential, session, certificate }
    }
}

/// An agent: its keys, and one session.
pub struct TestAgent {
    /// The identity key.
    pub identity: SigningKey,
    /// The credential.
    pub credential: Credential,
    /// The session key.
    pub session: SigningKey,
    /// The session certificate.
    pub certificate: SessionCertificate,
}

impl TestAgent {
    /// As subjects name it.
    #[must_use]
    pub fn token(&self) -> &AgentToken {
        self.credential.token()
    }

    /// Its session.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.certificate.id()
    }

    /// CONNECT's `auth_token`.
    ///
    /// # Panics
    /// Never with a good credential.
    #[must_use]
    pub fn auth_token(&self) -> String {
        auth_token(self.credential.as_str(), self.certificate.as_bytes())
    }

    /// Fields of CONNECT.
    pub fn login(&self) -> impl FnOnce(&str) -> Value + use<> {
        let (token, key) = (self.auth_token(), SigningKey::from_seed(&self.session.to_seed()));
        move |nonce| json!({ "auth_token": token, "sig": sign(&key, nonce) })
    }

    /// Connects.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn connect(&self, server: &TestServer) -> Result<RawClient, Refusal> {
        RawClient::connect(&server.address(), self.login()).await
    }

    /// Another session of the same agent.
    ///
    /// # Panics
    /// Never with a good identity.
    #[must_use]
    pub fn again(&self) -> Self {
        let session = fresh_key();
        let identity = SigningKey::from_seed(&self.identity.to_seed());
        let bus = self.credential.claims().bus;
        let validity = Validity::starting(now().minus(1_000), 3_600_000);
        let certificate =
            SessionCertificate::issue(bus, &identity, &session, validity).expect("a certificate");
        Self { identity, credential: self.credential.clone(), session, certificate }
    }
}

/// A token with these contents.
///
/// # Panics
/// Never.
#[must_use]
pub fn auth_token(credential: &str, certificate: &[u8]) -> String {
    let token = AuthToken { credential: credential.to_owned(), certificate: certificate.to_vec().into() };
    BASE64URL_NOPAD.encode(&control::encode(&token).expect("an encoding"))
}

/// CONNECT's `sig`.
///
/// # Panics
/// If the server's nonce is not one.
#[must_use]
pub fn sign(key: &SigningKey, nonce: &str) -> String {
    BASE64URL_NOPAD.encode(&key.sign_nonce(nonce.as_bytes()).expect("a server's nonce"))
}

/// A fresh key.
///
/// # Panics
/// Without randomness.
#[must_use]
pub fn fresh_key() -> SigningKey {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("randomness");
    SigningKey::from_seed(&seed)
}

/// What the core of the guard would be: policy, status and bars that a test changes at will.
pub struct TestCore {
    policy: Mutex<Option<Arc<CompiledPolicy>>>,
    status: Mutex<Option<Arc<Status>>>,
    /// Who is kept off the bus.
    pub bars: Arc<Bars>,
    decisions: mpsc::UnboundedSender<ConnectionDecision>,
    departures: mpsc::UnboundedSender<Connection>,
}

impl TestCore {
    /// Puts a policy into force, or none.
    ///
    /// # Panics
    /// If another test thread panicked.
    pub fn set_policy(&self, policy: Option<Arc<CompiledPolicy>>) {
        *self.policy.lock().expect("a whole lock") = policy;
    }

    /// Puts a status statement into force, or none.
    ///
    /// # Panics
    /// If another test thread panicked.
    pub fn set_status(&self, status: Option<Arc<Status>>) {
        *self.status.lock().expect("a whole lock") = status;
    }
}

impl Authority for TestCore {
    fn policy(&self) -> Option<Arc<CompiledPolicy>> {
        self.policy.lock().expect("a whole lock").clone()
    }

    fn status(&self) -> Option<Arc<Status>> {
        self.status.lock().expect("a whole lock").clone()
    }

    fn is_barred(&self, identity: &PublicKey) -> bool {
        self.bars.is_barred(identity)
    }

    fn now(&self) -> Millis {
        now()
    }

    fn decided(&self, decision: ConnectionDecision, logged: Option<oneshot::Sender<bool>>) {
        let _ = self.decisions.send(decision);
        if let Some(logged) = logged {
            let _ = logged.send(true);
        }
    }

    fn departed(&self, connection: &Connection) {
        let _ = self.departures.send(connection.clone());
    }
}

/// A running authenticator.
pub struct TestAuth {
    /// Its handle.
    pub auth: Auth,
    /// What it asks.
    pub core: Arc<TestCore>,
    /// Its store.
    pub store: Arc<Store>,
    decisions: mpsc::UnboundedReceiver<ConnectionDecision>,
    departures: mpsc::UnboundedReceiver<Connection>,
}

impl TestAuth {
    /// Starts on `server` with this policy and a good status.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(server: &TestServer, bus: &TestBus, policy: &str) -> Self {
        Self::start_with(server, bus, policy, |_| ()).await
    }

    /// The same, with its configuration changed.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_with(
        server: &TestServer,
        bus: &TestBus,
        policy: &str,
        configure: impl FnOnce(&mut AuthConfig),
    ) -> Self {
        let keys = server.keys();
        let issuer = keys.callout.seed().expect("a seed");
        let mut config = AuthConfig {
            keys: CalloutKeys {
                issuer: SigningKey::from_nkey_seed(&issuer, KeyKind::Account).expect("an issuer"),
                xkey: XKey::from_seed(&keys.xkey.seed().expect("a seed")).expect("an xkey"),
            },
            roots: Arc::clone(&bus.roots),
            wire: bus.wire.clone(),
            account: "BUS".to_owned(),
            recheck_ms: verify::DEFAULT_RECHECK_MS,
            servers: None,
            sole_guard: true,
        };
        configure(&mut config);
        let store = Arc::new(Store::open(&server.dir().join("guard.redb")).expect("a store"));
        let bars = Arc::new(Bars::load(&store).expect("the bars"));
        let (decisions, decided) = mpsc::unbounded_channel();
        let (departures, departed) = mpsc::unbounded_channel();
        let core = Arc::new(TestCore {
            policy: Mutex::new(Some(bus.policy(policy, 1))),
            status: Mutex::new(Some(bus.status(&[], 3_600_000))),
            bars,
            decisions,
            departures,
        });
        let admin = Admin::new(server.system().await, "BUS");
        let authority: Arc<dyn Authority> = Arc::clone(&core) as _;
        let auth = Auth::start(server.guard().await, admin, Arc::clone(&store), config, authority);
        let auth = auth.await.expect("the authenticator starts");
        Self { auth, core, store, decisions: decided, departures: departed }
    }

    /// The next decision.
    ///
    /// # Panics
    /// If none is made within ten seconds.
    pub async fn decision(&mut self) -> ConnectionDecision {
        let next = tokio::time::timeout(Duration::from_secs(10), self.decisions.recv());
        next.await.expect("a decision in time").expect("the core lives")
    }

    /// The next connection that ends.
    ///
    /// # Panics
    /// If none does within ten seconds.
    pub async fn departure(&mut self) -> Connection {
        let next = tokio::time::timeout(Duration::from_secs(10), self.departures.recv());
        next.await.expect("a departure in time").expect("the core lives")
    }

    /// Forgets the decisions made so far.
    pub fn forget(&mut self) {
        while self.decisions.try_recv().is_ok() {}
    }

    /// Stops and gives the store back to the next.
    pub async fn stop(self) {
        self.auth.stop().await;
    }
}

//! Answers servers' questions about connections, each in a task of its own and within a deadline, so that no
//! connection, slow, hostile or many, holds up another.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{Client, Message, RequestErrorKind};
use futures_util::StreamExt as _;
use sealbus_envelope::{
    identity::{Credential, PublicKey, Roots, SessionCertificate, SessionId, Status},
    reason::{Reason, Refused},
    subject::WireSubjects,
    time::Millis,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    decision::{ConnectionDecision, Outcome},
    jwt::{AuthRequest, BadRequest, CalloutKeys, SUBJECT, XKEY_HEADER},
    lobby::Lobbies,
    registry::{Connection, ConnectionId, Registry},
    upkeep,
    verify::{self, Admission, Context, Decision, Proven},
};
use crate::{
    bus::admin::{Admin, AdminError},
    policy::{compile::CompiledPolicy, permissions::Permissions},
    store::{Store, StoreError},
};

/// The queue group that guards share the questions in.
pub const QUEUE: &str = "sealbus-guard";
/// The server waits two seconds by default for the answer; after this one would only be wasted.
pub const DEADLINE: Duration = Duration::from_millis(1_500);
/// Questions worked on at once. Each is a millisecond's work at most; the rest wait for others' servers.
const AT_ONCE: usize = 256;
/// Questions accepted before the guard says it is overloaded, by not answering.
const PENDING: usize = 4_096;
/// Connections checked anew in one go, at a tenth of a millisecond each, before others get a turn.
const RECHECK_CHUNK: usize = 64;

/// What the authenticator asks the guard's core, and tells it. Calls must not block: they are made between a
/// question and its answer.
pub trait Authority: Send + Sync + 'static {
    /// The policy in force.
    fn policy(&self) -> Option<Arc<CompiledPolicy>>;
    /// The status statement in force.
    fn status(&self) -> Option<Arc<Status>>;
    /// Whether the identity is kept off the bus.
    fn is_barred(&self, identity: &PublicKey) -> bool;
    /// The guard's clock.
    fn now(&self) -> Millis;
    /// A decision was made: for audit, events and metrics.
    fn decided(&self, decision: ConnectionDecision);
    /// A connection ended, whoever ended it. Not told of the lobby's.
    fn departed(&self, connection: &Connection);
}

/// What the authenticator needs to know.
#[derive(Debug)]
pub struct AuthConfig {
    /// The callout's keys.
    pub keys: CalloutKeys,
    /// The bus's roots of trust.
    pub roots: Arc<Roots>,
    /// The bus's subjects.
    pub wire: WireSubjects,
    /// The NATS account that is the bus.
    pub account: String,
    /// How long a connection may last before it must be checked anew, in milliseconds.
    pub recheck_ms: u64,
    /// Names of the servers whose questions are answered; none means any server of the cluster.
    pub servers: Option<BTreeSet<String>>,
    /// Whether this is the only guard, which then cuts connections of the bus that it did not let in. With
    /// several guards one would cut the others'.
    pub sole_guard: bool,
}

/// Why the authenticator does not start or cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system account failed.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The bus connection failed.
    #[error("the guard cannot subscribe the auth callout: {0}; check the guard's login in nats.conf")]
    Bus(String),
}

/// How many questions ended how, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Let in.
    pub admitted: u64,
    /// Sent to the lobby.
    pub lobby: u64,
    /// Refused.
    pub refused: u64,
    /// Not answered, because they were not what servers send.
    pub bad: u64,
    /// Not answered, because there were too many or deciding took too long.
    pub dropped: u64,
}

#[derive(Default)]
struct Counters {
    admitted: AtomicU64,
    lobby: AtomicU64,
    refused: AtomicU64,
    bad: AtomicU64,
    dropped: AtomicU64,
}

/// What a probe's question looked like when it came.
#[derive(Debug, Clone)]
pub struct ProbeSeen {
    /// The server that asked.
    pub server: super::jwt::Server,
    /// Whether the server gave the probe a nonce to sign, and passed it on.
    pub nonce: bool,
}

/// What happened to the books, for the store.
pub(super) enum Entry {
    Came(Box<Connection>),
    Gone(ConnectionId),
}

pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) admin: Admin,
    pub(super) store: Arc<Store>,
    pub(super) config: AuthConfig,
    pub(super) authority: Arc<dyn Authority>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) lobbies: Lobbies,
    registry: Mutex<Registry>,
    known_servers: Mutex<HashSet<String>>,
    probes: Mutex<HashMap<String, oneshot::Sender<ProbeSeen>>>,
    books: mpsc::UnboundedSender<Entry>,
    counters: Counters,
}

/// The running authenticator. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Auth {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Auth {
    /// Reads the books, compares them with what the servers hold, and answers questions from when this
    /// returns. `client` is the guard's connection in the bus's account, `admin` that in the system account.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn start(
        client: Client,
        admin: Admin,
        store: Arc<Store>,
        config: AuthConfig,
        authority: Arc<dyn Authority>,
    ) -> Result<Self, AuthError> {
        let (books, entries) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            client,
            admin,
            store,
            config,
            authority,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            lobbies: Lobbies::default(),
            registry: Mutex::default(),
            known_servers: Mutex::default(),
            probes: Mutex::default(),
            books,
            counters: Counters::default(),
        });
        // First the events, then the list: whoever leaves in between is in both.
        let departures = shared.admin.departures().await?;
        upkeep::restore(&shared).await?;
        let questions = shared
            .client
            .queue_subscribe(SUBJECT, QUEUE.into())
            .await
            .map_err(|error| AuthError::Bus(error.to_string()))?;
        settled(&shared.client).await?;
        shared.tasks.spawn(upkeep::keep_books(Arc::clone(&shared), entries));
        shared.tasks.spawn(upkeep::watch(Arc::clone(&shared), departures));
        shared.tasks.spawn(upkeep::reconcile_now_and_then(Arc::clone(&shared)));
        shared.tasks.spawn(listen(Arc::clone(&shared), questions));
        Ok(Self { shared })
    }

    /// Stops answering, finishes what is under way and writes the books. Connections stay as they are.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// How many questions ended how.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { admitted, lobby, refused, bad, dropped } = &self.shared.counters;
        Counts {
            admitted: get(admitted),
            lobby: get(lobby),
            refused: get(refused),
            bad: get(bad),
            dropped: get(dropped),
        }
    }

    /// Connections that are in, the lobby not counted.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.shared.registry().live_count()
    }

    /// Whose a connection is.
    #[must_use]
    pub fn connection(&self, id: &ConnectionId) -> Option<Connection> {
        self.shared.registry().get(id).cloned()
    }

    /// The live connection of a session.
    #[must_use]
    pub fn connection_of(&self, session: &SessionId) -> Option<Connection> {
        let registry = self.shared.registry();
        registry.live(session).and_then(|id| registry.get(id)).cloned()
    }

    /// The connections of an identity, its lobby included.
    #[must_use]
    pub fn connections_of(&self, identity: &PublicKey) -> Vec<Connection> {
        self.shared.registry().of_identity(identity)
    }

    /// Cuts the live connection of a session, if it has one. It may come back at once if it is admissible.
    ///
    /// # Errors
    /// [`AdminError`] if its server does not do it.
    pub async fn disconnect(&self, session: &SessionId, reason: Refused) -> Result<(), AdminError> {
        match self.connection_of(session) {
            Some(connection) => self.shared.kick(&connection, reason).await,
            None => Ok(()),
        }
    }

    /// Cuts every connection of an identity. The connections that could not be cut come back.
    pub async fn disconnect_all(
        &self,
        identity: &PublicKey,
        reason: Refused,
    ) -> Vec<(Connection, AdminError)> {
        let mut failed = Vec::new();
        for connection in self.connections_of(identity) {
            if let Err(error) = self.shared.kick(&connection, reason).await {
                failed.push((connection, error));
            }
        }
        failed
    }

    /// Decides anew about every connection that is in, after a change of policy or status: those that may no
    /// longer be in, or whose permissions changed, are cut (the latter come back with the new ones). Returns
    /// how many were cut.
    pub async fn recheck(&self) -> usize {
        let shared = &self.shared;
        let live: Vec<_> = shared.registry().iter().filter(|connection| !connection.lobby).cloned().collect();
        let mut cut = 0;
        for some in live.chunks(RECHECK_CHUNK) {
            for (connection, reason) in shared.unfit(some) {
                match shared.kick(connection, reason).await {
                    Ok(()) => cut += 1,
                    Err(error) => tracing::error!(
                        connection = %connection.id, agent = %connection.agent, %error,
                        "a connection that may no longer be in could not be cut"
                    ),
                }
            }
            tokio::task::yield_now().await;
        }
        cut
    }

    /// Expects a question about a connection that shows `token`, which is no agent's: to find out whether a
    /// server asks at all. The question is answered with a refusal.
    #[must_use]
    pub fn expect_probe(&self, token: String) -> oneshot::Receiver<ProbeSeen> {
        let (seen, receiver) = oneshot::channel();
        let mut probes = lock(&self.shared.probes);
        probes.retain(|_, waiting| !waiting.is_closed());
        probes.insert(token, seen);
        receiver
    }

    /// The connection to the system account.
    #[must_use]
    pub fn admin(&self) -> &Admin {
        &self.shared.admin
    }
}

/// Returns once the server has taken in everything that `client` sent. Commands are taken in order, and to a
/// question on a subject that nobody listens to the server itself answers at once that nobody does. (The
/// guard's connections do not hear their own messages, so an echo would not do.)
async fn settled(client: &Client) -> Result<(), AuthError> {
    match client.request(client.new_inbox(), "".into()).await {
        Err(error) if error.kind() != RequestErrorKind::NoResponders => {
            Err(AuthError::Bus(error.to_string()))
        }
        _ => Ok(()),
    }
}

/// Whether a connection that is in may stay: the digest of the permissions that it should have.
fn again(connection: &Connection, context: &Context<'_>) -> Result<[u8; 32], Refused> {
    let bus = context.roots.bus();
    let proven = Proven {
        credential: Credential::verify(&connection.credential, bus, &context.roots.issuer)?,
        certificate: SessionCertificate::verify(&connection.certificate, bus)?,
    };
    Ok(verify::permissions_digest(&verify::admit(&proven, context)?.permissions))
}

impl Shared {
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    pub(super) fn note(&self, entry: Entry) {
        // The receiver ends only when the guard does.
        let _ = self.books.send(entry);
    }

    /// Strikes a connection that is gone from the books and tells the core.
    pub(super) fn departed(&self, id: &ConnectionId) {
        let Some(gone) = self.registry().remove(id) else { return };
        self.lobbies.leave(id);
        if !gone.lobby {
            tracing::info!(agent = %gone.agent, connection = %id, "disconnected");
            self.note(Entry::Gone(id.clone()));
            self.authority.departed(&gone);
        }
    }

    pub(super) fn servers_are(&self, ids: impl IntoIterator<Item = String>) {
        *lock(&self.known_servers) = ids.into_iter().collect();
    }

    pub(super) async fn kick(&self, connection: &Connection, reason: Refused) -> Result<(), AdminError> {
        self.admin.kick(&connection.id).await?;
        self.departed(&connection.id);
        self.authority.decided(ConnectionDecision {
            time: self.authority.now(),
            outcome: Outcome::Kicked,
            reason: Some(reason),
            agent: Some(connection.agent.clone()),
            identity: Some(connection.identity.clone()),
            session: Some(connection.session),
            connection: Some(connection.id.clone()),
            server: connection.id.server.to_string(),
            host: String::new(),
            again: false,
            took: Duration::ZERO,
        });
        Ok(())
    }

    fn context<'a>(
        &'a self,
        policy: Option<&'a CompiledPolicy>,
        status: Option<&'a Status>,
        barred: &'a dyn Fn(&PublicKey) -> bool,
        live: &'a dyn Fn(&SessionId) -> Option<ConnectionId>,
    ) -> Context<'a> {
        Context {
            roots: &self.config.roots,
            policy,
            status,
            wire: &self.config.wire,
            now: self.authority.now(),
            recheck_ms: self.config.recheck_ms,
            barred,
            live,
        }
    }

    /// Whether the server that asks is one of the cluster. Whoever is not known is looked for once: it may
    /// have started since.
    async fn knows(&self, server: &super::jwt::Server) -> bool {
        if self.config.servers.as_ref().is_some_and(|names| !names.contains(&server.name)) {
            return false;
        }
        if lock(&self.known_servers).contains(&server.id) {
            return true;
        }
        match self.admin.servers().await {
            Ok(servers) => {
                let known = servers.iter().any(|found| found.id == server.id);
                lock(&self.known_servers).extend(servers.into_iter().map(|server| server.id));
                known
            }
            Err(error) => {
                tracing::warn!(%error, server = %server.name, "a new server cannot be told from a false one");
                false
            }
        }
    }

    /// Those of `connections` that may no longer be in as they are, and why.
    fn unfit<'a>(&self, connections: &'a [Connection]) -> Vec<(&'a Connection, Refused)> {
        let (policy, status) = (self.authority.policy(), self.authority.status());
        let barred = |identity: &PublicKey| self.authority.is_barred(identity);
        let context = self.context(policy.as_deref(), status.as_deref(), &barred, &|_| None);
        let unfit = |connection: &'a Connection| match again(connection, &context) {
            // Those who are in stay: no new keys are granted to them, which is the clients' to see to.
            Err(refused) if refused.reason == Reason::StatusExpired => None,
            Err(refused) => Some((connection, refused)),
            Ok(permissions) if permissions == connection.permissions => None,
            Ok(_) => Some((connection, Refused::new(Reason::OldPolicy, "permissions"))),
        };
        connections.iter().filter_map(unfit).collect()
    }

    fn decide(&self, request: &AuthRequest) -> Decision {
        let (policy, status) = (self.authority.policy(), self.authority.status());
        let barred = |identity: &PublicKey| self.authority.is_barred(identity);
        let live = |session: &SessionId| self.registry().live(session).cloned();
        verify::decide(request, &self.context(policy.as_deref(), status.as_deref(), &barred, &live))
    }

    /// Decides, and if the session has another connection in the books, asks that one's server whether it is
    /// still there: the books may be behind.
    async fn settle(&self, request: &AuthRequest) -> (Decision, bool) {
        let id = ConnectionId::new(&request.server.id, request.client.id);
        let again = self.registry().get(&id).is_some_and(|connection| !connection.lobby);
        for _ in 0..2 {
            let decision = self.decide(request);
            let other = match &decision {
                Decision::Admit(admission) => match self.claim(&id, admission) {
                    Ok(()) => return (decision, again),
                    Err(other) => other,
                },
                Decision::Refuse { proven: Some(proven), .. } => {
                    match self.registry().live(&proven.certificate.id()) {
                        Some(other) => other.clone(),
                        None => continue,
                    }
                }
                _ => return (decision, again),
            };
            match self.admin.is_there(&other).await {
                Ok(false) => self.departed(&other),
                // Not knowing is treated as "there".
                Ok(true) | Err(_) => break,
            }
        }
        let decision = match self.decide(request) {
            // Another connection of the session was quicker.
            Decision::Admit(admission) => match self.claim(&id, &admission) {
                Ok(()) => Decision::Admit(admission),
                Err(_) => Decision::Refuse {
                    proven: Some(Box::new(admission.proven)),
                    reason: Refused::new(Reason::SessionInUse, "session"),
                },
            },
            decision => decision,
        };
        (decision, again)
    }

    fn claim(&self, id: &ConnectionId, admission: &Admission) -> Result<(), ConnectionId> {
        let connection = connection(id, &admission.proven, &admission.permissions, false);
        self.registry().claim(connection.clone())?;
        self.note(Entry::Came(Box::new(connection)));
        Ok(())
    }
}

fn connection(id: &ConnectionId, proven: &Proven, permissions: &Permissions, lobby: bool) -> Connection {
    Connection {
        id: id.clone(),
        agent: proven.credential.token().clone(),
        identity: proven.credential.claims().identity.clone(),
        session: proven.certificate.id(),
        credential: proven.credential.as_str().into(),
        certificate: proven.certificate.as_bytes().into(),
        permissions: verify::permissions_digest(permissions),
        lobby,
    }
}

async fn listen(shared: Arc<Shared>, mut questions: async_nats::Subscriber) {
    let (pending, at_once) = (Arc::new(Semaphore::new(PENDING)), Arc::new(Semaphore::new(AT_ONCE)));
    loop {
        let message = tokio::select! {
            () = shared.stop.cancelled() => break,
            message = questions.next() => message,
        };
        let Some(message) = message else {
            if !shared.stop.is_cancelled() {
                tracing::error!("the guard's connection ended: nobody can connect");
            }
            break;
        };
        let Ok(place) = Arc::clone(&pending).try_acquire_owned() else {
            shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (task, at_once) = (Arc::clone(&shared), Arc::clone(&at_once));
        shared.tasks.spawn(async move {
            let _place = place;
            let answer = async {
                let _turn = at_once.acquire().await;
                answer(&task, message).await;
            };
            if tokio::time::timeout(DEADLINE, answer).await.is_err() {
                task.counters.dropped.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("an auth callout was not answered in time");
            }
        });
    }
}

async fn answer(shared: &Arc<Shared>, message: Message) {
    let start = Instant::now();
    let Some(reply) = message.reply else { return };
    let xkey = message.headers.as_ref().and_then(|headers| headers.get(XKEY_HEADER));
    let xkey = xkey.map(async_nats::HeaderValue::as_str);
    let (now, keys) = (shared.authority.now(), &shared.config.keys);
    let request = match AuthRequest::open(&message.payload, xkey, keys, now) {
        Ok(request) => request,
        Err(bad) => return complain(shared, bad),
    };
    let probe = lock(&shared.probes).remove(&request.shown.token);
    if let Some(seen) = probe {
        let server = request.server.clone();
        let _ = seen.send(ProbeSeen { server, nonce: !request.client.nonce.is_empty() });
        let refusal = request.refuse(keys, "probe", now);
        let _ = shared.client.publish(reply, refusal.into()).await;
        return;
    }
    let (decision, again) = if shared.knows(&request.server).await {
        shared.settle(&request).await
    } else {
        let reason = Refused::new(Reason::WrongConnection, "server");
        (Decision::Refuse { proven: None, reason }, false)
    };
    let id = ConnectionId::new(&request.server.id, request.client.id);
    let (outcome, reason, proven, bytes) = match decision {
        Decision::Admit(admission) => {
            let Admission { proven, permissions, until, .. } = *admission;
            let bytes = request.admit(keys, &shared.config.account, &permissions, until, now);
            (Outcome::Admitted, None, Some(proven), bytes)
        }
        // Who was in and no longer may be is cut by a refusal; the lobby would leave its subscriptions be.
        Decision::Lobby { proven, reason } if !again && shared.lobbies.enter(&proven, &id) => {
            let agent = proven.credential.token();
            let permissions = Permissions::lobby(agent, &proven.certificate.id(), &shared.config.wire);
            let until = now.plus(verify::LOBBY_MS);
            let bytes = request.admit(keys, &shared.config.account, &permissions, until, now);
            // A lobby is never refused by the books.
            let _ = shared.registry().claim(connection(&id, &proven, &permissions, true));
            (Outcome::Lobby, Some(reason), Some(*proven), bytes)
        }
        Decision::Lobby { proven, reason } | Decision::Refuse { proven: Some(proven), reason } => {
            let bytes = request.refuse(keys, reason.reason.code(), now);
            (Outcome::Refused, Some(reason), Some(*proven), bytes)
        }
        Decision::Refuse { proven: None, reason } => {
            let bytes = request.refuse(keys, reason.reason.code(), now);
            (Outcome::Refused, Some(reason), None, bytes)
        }
    };
    // Above max_payload the server would see no answer at all, and nobody would know why.
    let fits = bytes.len() <= shared.client.server_info().max_payload;
    if !fits {
        tracing::error!(
            connection = %id, bytes = bytes.len(),
            "the answer is larger than the server's max_payload; raise it, or give the team fewer rules"
        );
    }
    if fits && let Err(error) = shared.client.publish(reply, bytes.into()).await {
        tracing::error!(%error, "an auth callout could not be answered");
    }
    if outcome == Outcome::Lobby
        && let (Some(proven), Some(reason)) = (&proven, reason)
    {
        shared.tasks.spawn(super::lobby::tell(Arc::clone(shared), proven.clone(), id.clone(), reason.reason));
    }
    let counter = match outcome {
        Outcome::Admitted => &shared.counters.admitted,
        Outcome::Lobby => &shared.counters.lobby,
        Outcome::Refused | Outcome::Kicked => &shared.counters.refused,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    let agent = proven.as_ref().map(|proven| proven.credential.token().clone());
    tracing::info!(
        outcome = outcome.code(),
        reason = reason.map(|refused| refused.reason.code()),
        what = reason.map(|refused| refused.what),
        agent = agent.as_ref().map(tracing::field::display),
        connection = %id,
        server = %request.server.name,
        host = %request.client.host,
        again,
        "connection"
    );
    shared.authority.decided(ConnectionDecision {
        time: now,
        outcome,
        reason,
        agent,
        identity: proven.as_ref().map(|proven| proven.credential.claims().identity.clone()),
        session: proven.as_ref().map(|proven| proven.certificate.id()),
        connection: Some(id),
        server: request.server.name,
        host: request.client.host,
        again,
        took: start.elapsed(),
    });
}

/// A question that is not a server's gets no answer: whoever asked learns nothing.
fn complain(shared: &Shared, bad: BadRequest) {
    shared.counters.bad.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(error = %bad, "an auth callout was not answered");
}

/// The state behind these locks is whole between any two statements, so a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

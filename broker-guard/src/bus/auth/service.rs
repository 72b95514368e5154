//! Answers servers' questions about connections, each in a task of its own and within a deadline, so that no
//! connection, slow, hostile or many, holds up another.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, RequestErrorKind};
use sealbus_envelope::{
    identity::{PublicKey, Roots, SessionId, Status},
    name::AgentToken,
    reason::Refused,
    subject::WireSubjects,
    time::Millis,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    answer::listen,
    decision::ConnectionDecision,
    jwt::{CalloutKeys, SUBJECT},
    lobby::Lobbies,
    registry::{Connection, ConnectionId},
    shared::{Counters, Shared, lock},
    upkeep,
};
use crate::{
    bus::admin::{Admin, AdminError},
    policy::compile::CompiledPolicy,
    store::{Store, StoreError},
};

/// The queue group that guards share the questions in.
pub const QUEUE: &str = "sealbus-guard";
/// The server waits two seconds by default for the answer; after this one would only be wasted.
pub const DEADLINE: Duration = Duration::from_millis(1_500);
/// Connections checked anew in one go, at a tenth of a millisecond each, before others get a turn.
const RECHECK_CHUNK: usize = 64;
/// Refusals that are given late at the same time.
const LATE: usize = 64;

/// What the authenticator asks the guard's core, and tells it. Calls must not block: they are made between a
/// question and its answer.
pub trait Authority: Send + Sync + 'static {
    /// The policy in force.
    fn policy(&self) -> Option<Arc<CompiledPolicy>>;
    /// The status statement in force.
    fn status(&self) -> Option<Arc<Status>>;
    /// Whether the identity is kept off the bus.
    fn is_barred(&self, identity: &PublicKey) -> bool;
    /// Whether an identity that is kept off the bus is to be let in all the same, to be kept busy apart.
    fn diverts(&self, _identity: &PublicKey) -> bool {
        false
    }
    /// The guard's clock.
    fn now(&self) -> Millis;
    /// A decision was made: for audit, events and metrics. Whoever is to be let in waits until `logged` says
    /// that the log has it; dropped unanswered, it has not.
    fn decided(&self, decision: ConnectionDecision, logged: Option<oneshot::Sender<bool>>);
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

/// What a probe's question looked like when it came.
#[derive(Debug, Clone)]
pub struct ProbeSeen {
    /// The server that asked.
    pub server: super::jwt::Server,
    /// Whether the server gave the probe a nonce to sign, and passed it on.
    pub nonce: bool,
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
            backoff: Mutex::default(),
            late: Semaphore::new(LATE),
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

    /// The identity behind an agent that has a connection.
    #[must_use]
    pub fn identity_of(&self, agent: &AgentToken) -> Option<PublicKey> {
        let registry = self.shared.registry();
        registry.iter().find(|connection| connection.agent == *agent).map(|found| found.identity.clone())
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

    /// Cuts every connection of an agent in whose name somebody floods, and refuses new ones for a while, longer
    /// each time ([`backoff`](super::backoff)). Not held against the agent: it may have been its server.
    pub async fn cut_flood(&self, agent: &AgentToken) {
        self.shared.cut_flood(agent).await;
    }

    /// How many agents are refused for a while because they flooded.
    #[must_use]
    pub fn held_back(&self) -> usize {
        lock(&self.shared.backoff).prune(self.shared.authority.now())
    }

    /// Cuts every connection of an identity but those in the lobby and those that are kept busy apart. The
    /// connections that could not be cut come back.
    pub async fn disconnect_live(
        &self,
        identity: &PublicKey,
        reason: Refused,
    ) -> Vec<(Connection, AdminError)> {
        let mut failed = Vec::new();
        for connection in self.connections_of(identity).into_iter().filter(|connection| !connection.lobby) {
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

    /// Does [`recheck`](Self::recheck) in the background, and again after `second_look`: a server may just have
    /// let somebody in on an answer that was under way.
    pub fn recheck_twice(&self, second_look: Duration) {
        let auth = self.clone();
        self.shared.tasks.spawn(async move {
            let cut = auth.recheck().await;
            tokio::select! {
                () = auth.shared.stop.cancelled() => return,
                () = tokio::time::sleep(second_look) => {}
            }
            let late = auth.recheck().await;
            tracing::info!(cut, late, "connections whose rights changed were cut");
        });
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

//! What the authenticator's tasks share: its books, and the way from a question to a settled decision.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use async_nats::Client;
use sealbus_envelope::{
    identity::{Credential, PublicKey, SessionCertificate, SessionId, Status},
    name::AgentToken,
    reason::{Reason, Refused},
    time::Millis,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    backoff::Backoff,
    decision::{ConnectionDecision, Outcome},
    jwt::{AuthRequest, Server},
    lobby::Lobbies,
    registry::{Connection, ConnectionId, Registry},
    service::{AuthConfig, Authority, ProbeSeen},
    verify::{self, Admission, Context, Decision, Proven},
    zone::Place,
};
use crate::{
    bus::admin::{Admin, AdminError},
    policy::{compile::CompiledPolicy, permissions::Permissions},
    store::Store,
};

/// The most connections of one agent that are kept busy apart.
const MAX_DIVERTED: usize = 16;
/// How long one of them lasts before it is asked about anew, in milliseconds.
const DIVERTED_MS: u64 = 600_000;

#[derive(Default)]
pub(super) struct Counters {
    pub(super) admitted: AtomicU64,
    pub(super) lobby: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) bad: AtomicU64,
    pub(super) dropped: AtomicU64,
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
    /// Who flooded, and is let in again only after a while.
    pub(super) backoff: Mutex<Backoff>,
    /// Refusals that are given late, so that who tries again at once tries no more often than that.
    pub(super) late: Semaphore,
    pub(super) registry: Mutex<Registry>,
    pub(super) known_servers: Mutex<HashSet<String>>,
    pub(super) probes: Mutex<HashMap<String, oneshot::Sender<ProbeSeen>>>,
    pub(super) books: mpsc::UnboundedSender<Entry>,
    pub(super) counters: Counters,
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
        self.authority.decided(
            ConnectionDecision {
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
            },
            None,
        );
        Ok(())
    }

    /// Cuts every connection of an agent in whose name somebody floods, and lets it in again only after a while.
    pub(super) async fn cut_flood(&self, agent: &AgentToken) {
        let wait_ms = lock(&self.backoff).hold(agent, self.authority.now());
        tracing::warn!(%agent, wait_ms, "a flood is cut");
        let all: Vec<_> = self.registry().iter().filter(|known| known.agent == *agent).cloned().collect();
        let cuts = all.iter().map(|connection| async move {
            if let Err(error) = self.kick(connection, Refused::new(Reason::RateLimited, "flood")).await {
                tracing::error!(%agent, connection = %connection.id, %error, "a flooder could not be cut");
            }
        });
        futures_util::future::join_all(cuts).await;
    }

    /// Whether an agent flooded of late.
    pub(super) fn holds_back(&self, agent: &AgentToken) -> bool {
        lock(&self.backoff).holds(agent, self.authority.now())
    }

    /// Whether an agent that is refused may hear why. One that is held back may once.
    pub(super) fn may_hear(&self, agent: &AgentToken) -> bool {
        !self.holds_back(agent) || lock(&self.backoff).tell(agent)
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
    pub(super) async fn knows(&self, server: &Server) -> bool {
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

    /// What an agent in quarantine is given that the policy wants to be kept busy apart instead of being refused, and
    /// until when; none if it is to be refused.
    pub(super) fn diverted(&self, proven: &Proven) -> Option<(Permissions, Millis)> {
        let claims = proven.credential.claims();
        let apart = self.registry().of_identity(&claims.identity);
        if !self.authority.diverts(&claims.identity) || apart.len() >= MAX_DIVERTED {
            return None;
        }
        let policy = self.authority.policy()?;
        let (session, wire) = (proven.certificate.id(), &self.config.wire);
        let principal = policy.principal(claims).ok()?;
        let permissions = Permissions::of_session(&policy, &principal, &session, wire).ok()?;
        let now = self.authority.now();
        let until = claims.validity.not_after.min(proven.certificate.validity().not_after);
        let until = until.min(now.plus(DIVERTED_MS));
        let good = until.seconds() > now.seconds();
        good.then(|| (permissions.diverted(proven.credential.token(), &session, wire), until))
    }

    /// Those of `connections` that may no longer be in as they are, and why.
    pub(super) fn unfit<'a>(&self, connections: &'a [Connection]) -> Vec<(&'a Connection, Refused)> {
        let (policy, status) = (self.authority.policy(), self.authority.status());
        let barred = |identity: &PublicKey| self.authority.is_barred(identity);
        let context = self.context(policy.as_deref(), status.as_deref(), &barred, &|_| None);
        let unfit = |connection: &'a Connection| match again(connection, &context) {
            Err(refused) => Some((connection, refused)),
            Ok(permissions) if permissions == connection.permissions => None,
            Ok(_) => Some((connection, Refused::new(Reason::OldPolicy, "permissions"))),
        };
        connections.iter().filter_map(unfit).collect()
    }

    /// Which policy and status are in force, by their places in memory: held, neither place is used anew.
    fn in_force(&self) -> InForce {
        InForce(self.authority.policy(), self.authority.status())
    }

    fn decide(&self, request: &AuthRequest) -> Decision {
        let (policy, status) = (self.authority.policy(), self.authority.status());
        let barred = |identity: &PublicKey| self.authority.is_barred(identity);
        let live = |session: &SessionId| self.registry().live(session).cloned();
        match verify::decide(request, &self.context(policy.as_deref(), status.as_deref(), &barred, &live)) {
            Decision::Admit(admission) if self.holds_back(admission.proven.credential.token()) => {
                let reason = Refused::new(Reason::RateLimited, "flood");
                Decision::Lobby { proven: Box::new(admission.proven), reason }
            }
            decision => decision,
        }
    }

    /// Decides, and if the session has another connection in the books, asks that one's server whether it is
    /// still there: the books may be behind.
    pub(super) async fn settle(&self, request: &AuthRequest) -> (Decision, bool) {
        let id = ConnectionId::new(&request.server.id, request.client.id);
        let again = self.registry().get(&id).is_some_and(|connection| !connection.lobby);
        for _ in 0..2 {
            let before = self.in_force();
            let decision = self.decide(request);
            let other = match &decision {
                Decision::Admit(admission) => match self.claim(&id, admission) {
                    // A quarantine commits first and then looks for connections in the books: of the two
                    // orders in which that and this can happen, in one it finds this connection there, in the
                    // other the bar is seen here.
                    Ok(())
                        if self.in_force() == before
                            && !self.authority.is_barred(&admission.proven.credential.claims().identity) =>
                    {
                        return (decision, again);
                    }
                    // Decided under what was replaced before the connection was in the books, where the
                    // recheck after the change would have found it.
                    Ok(()) => {
                        if self.authority.is_barred(&admission.proven.credential.claims().identity) {
                            self.departed(&id);
                        }
                        continue;
                    }
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
        let connection =
            connection(id, &admission.proven, admission.place.clone(), &admission.permissions, false);
        self.registry().claim(connection.clone())?;
        self.note(Entry::Came(Box::new(connection)));
        Ok(())
    }
}

struct InForce(Option<Arc<CompiledPolicy>>, Option<Arc<Status>>);

impl PartialEq for InForce {
    fn eq(&self, other: &Self) -> bool {
        fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
            one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
        }
        same(self.0.as_ref(), other.0.as_ref()) && same(self.1.as_ref(), other.1.as_ref())
    }
}

pub(super) fn connection(
    id: &ConnectionId,
    proven: &Proven,
    place: Place,
    permissions: &Permissions,
    lobby: bool,
) -> Connection {
    Connection {
        id: id.clone(),
        agent: proven.credential.token().clone(),
        identity: proven.credential.claims().identity.clone(),
        session: proven.certificate.id(),
        credential: proven.credential.as_str().into(),
        certificate: proven.certificate.as_bytes().into(),
        place,
        permissions: verify::permissions_digest(permissions),
        lobby,
    }
}

/// Whether a connection that is in may stay: the digest of the permissions that it should have.
fn again(connection: &Connection, context: &Context<'_>) -> Result<[u8; 32], Refused> {
    let bus = context.roots.bus();
    let proven = Proven {
        credential: Credential::verify(&connection.credential, bus, &context.roots.issuer)?,
        certificate: SessionCertificate::verify(&connection.certificate, bus)?,
    };
    Ok(verify::permissions_digest(&verify::readmit(&proven, &connection.place, context)?.permissions))
}

/// The state behind these locks is whole between any two statements, so a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

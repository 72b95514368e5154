//! Which connection is whose. The servers redact whom a callout let in, so only the guard knows.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use sealbus_envelope::{
    identity::{PublicKey, SessionId},
    name::AgentToken,
};

use super::zone::Place;
use crate::store::StoredConnection;

/// A connection: the server's id, and that server's number for it. Never used twice, since a server draws a
/// new id at each start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// The server's id (`N…`).
    pub server: Arc<str>,
    /// Its number.
    pub client: u64,
}

impl ConnectionId {
    /// Connection `client` of `server`.
    #[must_use]
    pub fn new(server: &str, client: u64) -> Self {
        Self { server: server.into(), client }
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Server ids differ in their first characters; whole ones make logs unreadable.
        let short: String = self.server.chars().take(8).collect();
        write!(f, "{short}/{}", self.client)
    }
}

/// A connection that the guard let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Which.
    pub id: ConnectionId,
    /// Whose.
    pub agent: AgentToken,
    /// The identity key.
    pub identity: PublicKey,
    /// The session.
    pub session: SessionId,
    /// The credential it showed.
    pub credential: Arc<str>,
    /// The certificate it showed.
    pub certificate: Arc<[u8]>,
    /// SHA-256 of the permissions it has.
    pub permissions: [u8; 32],
    /// Where it is.
    pub place: Place,
    /// Whether it only waits in the lobby.
    pub lobby: bool,
}

impl Connection {
    pub(super) fn to_stored(&self) -> StoredConnection {
        StoredConnection {
            server: self.id.server.to_string(),
            client: self.id.client,
            agent: self.agent.clone(),
            identity: *self.identity.as_bytes(),
            session: self.session,
            credential: self.credential.to_string(),
            certificate: self.certificate.to_vec(),
            permissions: self.permissions,
            place: self.place.clone(),
        }
    }

    pub(super) fn from_stored(stored: StoredConnection) -> Option<Self> {
        Some(Self {
            id: ConnectionId::new(&stored.server, stored.client),
            agent: stored.agent,
            identity: PublicKey::from_bytes(&stored.identity).ok()?,
            session: stored.session,
            credential: stored.credential.into(),
            certificate: stored.certificate.into(),
            permissions: stored.permissions,
            place: stored.place,
            lobby: false,
        })
    }
}

/// All connections, and the one that each session has.
#[derive(Debug, Default)]
pub struct Registry {
    connections: HashMap<ConnectionId, Connection>,
    sessions: HashMap<SessionId, ConnectionId>,
}

impl Registry {
    /// Enters a connection, unless its session has another: two holders of one session key are one too many.
    /// A connection that is in already (the server asks again at a reload) is replaced.
    ///
    /// # Errors
    /// The session's other connection.
    pub fn claim(&mut self, connection: Connection) -> Result<(), ConnectionId> {
        if !connection.lobby {
            if let Some(other) = self.live(&connection.session).filter(|other| **other != connection.id) {
                return Err(other.clone());
            }
            self.sessions.insert(connection.session, connection.id.clone());
        }
        self.connections.insert(connection.id.clone(), connection);
        Ok(())
    }

    /// The live connection of a session; the lobby does not count.
    #[must_use]
    pub fn live(&self, session: &SessionId) -> Option<&ConnectionId> {
        self.sessions.get(session)
    }

    /// Whose a connection is.
    #[must_use]
    pub fn get(&self, id: &ConnectionId) -> Option<&Connection> {
        self.connections.get(id)
    }

    /// Strikes a connection that is gone.
    pub fn remove(&mut self, id: &ConnectionId) -> Option<Connection> {
        let gone = self.connections.remove(id)?;
        if self.sessions.get(&gone.session) == Some(id) {
            self.sessions.remove(&gone.session);
        }
        Some(gone)
    }

    /// The connections of an identity, its lobby included.
    #[must_use]
    pub fn of_identity(&self, identity: &PublicKey) -> Vec<Connection> {
        self.connections.values().filter(|connection| connection.identity == *identity).cloned().collect()
    }

    /// Every connection.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values()
    }

    /// Servers that have any.
    #[must_use]
    pub fn servers(&self) -> HashSet<Arc<str>> {
        self.connections.keys().map(|id| Arc::clone(&id.server)).collect()
    }

    /// How many connections are in, the lobby not counted.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.sessions.len()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use sealbus_envelope::identity::SigningKey;

    use super::*;

    fn connection(client: u64, session: u8, lobby: bool) -> Connection {
        Connection {
            id: ConnectionId::new("NSERVER", client),
            agent: AgentToken::parse("collector-abcdefghij").unwrap(),
            identity: SigningKey::from_seed(&[session; 32]).public().clone(),
            session: SessionId::from_bytes([session; 32]),
            credential: "c".into(),
            certificate: [1].into(),
            permissions: [0; 32],
            place: Place { server: "n1".to_owned(), ..Place::default() },
            lobby,
        }
    }

    #[test]
    fn a_session_has_one_live_connection() {
        let mut registry = Registry::default();
        registry.claim(connection(1, 7, false)).unwrap();
        assert_eq!(registry.claim(connection(2, 7, false)), Err(ConnectionId::new("NSERVER", 1)));
        registry.claim(connection(1, 7, false)).unwrap();
        registry.claim(connection(3, 7, true)).unwrap();
        registry.remove(&ConnectionId::new("NSERVER", 3)).unwrap();
        assert_eq!(registry.live(&SessionId::from_bytes([7; 32])), Some(&ConnectionId::new("NSERVER", 1)));
        registry.remove(&ConnectionId::new("NSERVER", 1)).unwrap();
        registry.claim(connection(2, 7, false)).unwrap();
        assert_eq!(registry.of_identity(&connection(0, 7, false).identity).len(), 1);
        assert_eq!(registry.live_count(), 1);
    }

    #[test]
    fn what_is_stored_comes_back() {
        let connection = connection(4, 5, false);
        assert_eq!(Connection::from_stored(connection.to_stored()), Some(connection));
    }
}

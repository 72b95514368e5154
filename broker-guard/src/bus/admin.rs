//! The guard's second connection, in the system account: which servers there are, which connections they
//! hold, and cutting one. Its login may do nothing else.
//!
//! What servers say here is only their word. The guard uses it to enforce (a lying server could as well not
//! enforce), never as evidence against an agent.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{Client, RequestErrorKind, Subscriber};
use futures_util::StreamExt as _;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::auth::ConnectionId;

/// Connections on one page of a server's list: its own default, and the most that fits a message safely.
const PAGE: usize = 1024;
/// The most pages read from one server. Beyond that a server only pretends to have more.
const MAX_PAGES: usize = 1024;
/// How long servers have to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the servers did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The connection to the system account does not work.
    #[error(
        "the system account does not answer ({0}); check the system login in nats.conf and the connection"
    )]
    Unavailable(String),
    /// No server of that id is there.
    #[error("server `{0}` is not there")]
    NoServer(String),
    /// A server refused.
    #[error("server `{server}` refused: {said}")]
    Refused {
        /// Which.
        server: String,
        /// In its words.
        said: String,
    },
    /// A server answered something else.
    #[error("server `{server}` answered what no nats-server does: {detail}")]
    Malformed {
        /// Which.
        server: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// A server of the cluster, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct ServerInfo {
    /// Its id, drawn at its start.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    #[serde(rename = "ver", default)]
    pub version: String,
    /// Its cluster.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether it has persistent streams.
    #[serde(default)]
    pub jetstream: bool,
}

/// A client connection of the bus's account, as its server lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub id: ConnectionId,
    /// Whether a callout let it in, rather than an nkey of the server's configuration.
    pub by_callout: bool,
}

/// What became of a kick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kicked {
    /// The server cut it.
    Cut,
    /// It was gone already.
    Gone,
}

/// All servers' answers to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The bus's connections.
    pub connections: Vec<Listed>,
    /// Servers that answered, by id.
    pub answered: Vec<ServerInfo>,
    /// Servers that did not, by name.
    pub silent: Vec<String>,
}

/// The connection to the system account.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
    account: String,
    /// Servers that were there when they were last complete, by id: to name one that falls silent.
    roster: Arc<Mutex<BTreeMap<String, String>>>,
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(default = "Option::default")]
    data: Option<T>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Connz {
    /// `null` if there are none.
    connections: Option<Vec<Conn>>,
    #[serde(default)]
    total: usize,
}

#[derive(Deserialize)]
struct Conn {
    cid: u64,
    #[serde(default)]
    in_msgs: u64,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    authorized_user: String,
}

#[derive(Deserialize)]
struct Statsz {
    server: ServerInfo,
    statsz: Counts,
}

#[derive(Deserialize)]
struct Counts {
    #[serde(default)]
    active_servers: usize,
}

#[derive(Deserialize)]
struct Event {
    server: EventServer,
    client: EventClient,
}

#[derive(Deserialize)]
struct EventServer {
    id: String,
}

#[derive(Deserialize)]
struct EventClient {
    id: u64,
}

impl Admin {
    /// Works through `client`, which is logged in to the system account with
    /// [`INBOX_PREFIX`](crate::natsserver::INBOX_PREFIX), for the bus in `account`.
    #[must_use]
    pub fn new(client: Client, account: impl Into<String>) -> Self {
        Self { client, account: account.into(), roster: Arc::default() }
    }

    /// The bus's account.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Every server of the cluster that answers, by name. Each says how many there are, so this takes only as
    /// long as the slowest; if one is silent, two seconds.
    ///
    /// # Errors
    /// [`AdminError::Unavailable`] if none answers.
    pub async fn servers(&self) -> Result<Vec<ServerInfo>, AdminError> {
        Ok(self.ping().await?.0)
    }

    /// The servers that answered, and how many there are by the count of the largest group.
    async fn ping(&self) -> Result<(Vec<ServerInfo>, usize), AdminError> {
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await.map_err(unavailable)?;
        self.client
            .publish_with_reply("$SYS.REQ.SERVER.PING", inbox, "".into())
            .await
            .map_err(unavailable)?;
        let deadline = Instant::now() + PATIENCE;
        let (mut found, mut expected) = (BTreeMap::new(), 0);
        while let Ok(Some(message)) = timeout_at(deadline, answers.next()).await {
            let Ok(Statsz { server, statsz }) = serde_json::from_slice(&message.payload) else { continue };
            expected = expected.max(statsz.active_servers);
            found.insert(server.id.clone(), server);
            if found.len() >= expected.max(1) {
                break;
            }
        }
        if found.is_empty() {
            return Err(AdminError::Unavailable("no server answered a ping".to_owned()));
        }
        let mut servers: Vec<_> = found.into_values().collect();
        servers.sort_by(|a, b| a.name.cmp(&b.name));
        if servers.len() >= expected {
            self.missing(&servers, expected);
        }
        Ok((servers, expected))
    }

    /// The bus's connections on all servers.
    ///
    /// # Errors
    /// [`AdminError::Unavailable`]. A server that does not answer is no error but named in the survey.
    pub async fn survey(&self) -> Result<Survey, AdminError> {
        let (servers, expected) = self.ping().await?;
        let silent = self.missing(&servers, expected);
        let mut survey = Survey { connections: Vec::new(), answered: Vec::new(), silent };
        for server in servers {
            match self.connections(&server.id).await {
                Ok(connections) => {
                    survey.connections.extend(connections);
                    survey.answered.push(server);
                }
                Err(_) => survey.silent.push(server.name),
            }
        }
        Ok(survey)
    }

    /// The names of the servers that should have answered and did not, `unknown` where it was never heard of.
    fn missing(&self, found: &[ServerInfo], expected: usize) -> Vec<String> {
        let mut roster = self.roster.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= expected {
            *roster = found.iter().map(|server| (server.id.clone(), server.name.clone())).collect();
            return Vec::new();
        }
        roster.extend(found.iter().map(|server| (server.id.clone(), server.name.clone())));
        let gone = roster.iter().filter(|(id, _)| !found.iter().any(|server| server.id == **id));
        let names = gone.map(|(_, name)| name.clone()).chain(std::iter::repeat("unknown".to_owned()));
        names.take(expected - found.len()).collect()
    }

    /// The bus's client connections on one server, page by page.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn connections(&self, server: &str) -> Result<Vec<Listed>, AdminError> {
        let mut found = BTreeMap::new();
        for page in 0..MAX_PAGES {
            let offset = page * PAGE;
            let question = json!({
                "auth": true, "acc": self.account, "state": 0, "limit": PAGE, "offset": offset, "sort": "cid",
            });
            let Connz { connections, total } = self.ask(server, "CONNZ", &question).await?;
            let connections = connections.unwrap_or_default();
            let last = connections.is_empty() || offset + connections.len() >= total;
            for Conn { cid, kind, authorized_user, .. } in connections {
                if kind.is_empty() || kind == "Client" {
                    // The server shows logins of its configuration, and redacts whom a callout let in.
                    let by_callout = !authorized_user.starts_with('U');
                    found.insert(cid, Listed { id: ConnectionId::new(server, cid), by_callout });
                }
            }
            if last {
                break;
            }
        }
        Ok(found.into_values().collect())
    }

    /// Whether a connection is there. A server that nobody in the cluster can reach holds none that could
    /// reach the guard.
    ///
    /// # Errors
    /// [`AdminError`]: not knowing is not "no".
    pub async fn is_there(&self, id: &ConnectionId) -> Result<bool, AdminError> {
        match self.ask::<Connz>(&id.server, "CONNZ", &json!({ "cid": id.client })).await {
            Ok(connz) => Ok(connz.connections.iter().flatten().any(|listed| listed.cid == id.client)),
            Err(AdminError::NoServer(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How many messages a connection sent, whatever became of them; none if it is gone.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn said(&self, id: &ConnectionId) -> Result<u64, AdminError> {
        match self.ask::<Connz>(&id.server, "CONNZ", &json!({ "cid": id.client })).await {
            Ok(connz) => {
                let mut found = connz.connections.iter().flatten().filter(|listed| listed.cid == id.client);
                Ok(found.next().map_or(0, |listed| listed.in_msgs))
            }
            Err(AdminError::NoServer(_)) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Cuts a connection.
    ///
    /// # Errors
    /// [`AdminError`]. A connection or server that is gone is no error.
    pub async fn kick(&self, id: &ConnectionId) -> Result<Kicked, AdminError> {
        match self.ask::<Value>(&id.server, "KICK", &json!({ "cid": id.client })).await {
            Ok(_) => Ok(Kicked::Cut),
            Err(AdminError::NoServer(_)) => Ok(Kicked::Gone),
            Err(AdminError::Refused { said, .. }) if said.contains("no such client") => Ok(Kicked::Gone),
            Err(error) => Err(error),
        }
    }

    /// The ids of the bus's connections as they end, from when this returns.
    ///
    /// # Errors
    /// [`AdminError::Unavailable`].
    pub async fn departures(&self) -> Result<Departures, AdminError> {
        let subject = format!("$SYS.ACCOUNT.{}.DISCONNECT", self.account);
        let events = self.client.subscribe(subject).await.map_err(unavailable)?;
        // A subscription is in force once the server has answered anything sent after it.
        self.servers().await?;
        Ok(Departures(events))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        server: &str,
        what: &str,
        question: &Value,
    ) -> Result<T, AdminError> {
        let subject = format!("$SYS.REQ.SERVER.{server}.{what}");
        let asked = self.client.request(subject, question.to_string().into());
        let message = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(message)) => message,
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {
                return Err(AdminError::NoServer(server.to_owned()));
            }
            Ok(Err(error)) => return Err(unavailable(error)),
            Err(_) => return Err(AdminError::Unavailable("no answer in time".to_owned())),
        };
        let malformed = |detail: String| AdminError::Malformed { server: server.to_owned(), detail };
        let answer: Answer<T> =
            serde_json::from_slice(&message.payload).map_err(|error| malformed(error.to_string()))?;
        if let Some(error) = answer.error {
            let said = error.get("description").and_then(Value::as_str).unwrap_or("an error").to_owned();
            return Err(AdminError::Refused { server: server.to_owned(), said });
        }
        // A kick that worked is answered without data.
        let none = || serde_json::from_value(Value::Null).ok();
        answer.data.or_else(none).ok_or_else(|| malformed("no data".to_owned()))
    }
}

/// The bus's connections as they end.
#[derive(Debug)]
pub struct Departures(Subscriber);

impl Departures {
    /// The next, or none when the guard's connection is over.
    pub async fn next(&mut self) -> Option<ConnectionId> {
        loop {
            let message = self.0.next().await?;
            if let Ok(Event { server, client }) = serde_json::from_slice(&message.payload) {
                return Some(ConnectionId::new(&server.id, client.id));
            }
        }
    }
}

fn unavailable(error: impl std::fmt::Display) -> AdminError {
    AdminError::Unavailable(error.to_string())
}

//! Cuts the connections of who is barred, and looks twice whether any server still holds one.
//!
//! A callout that another guard answered just before may still let one in: hence the second look, after the time that
//! a server waits for an answer.

use std::{collections::HashSet, time::Duration};

use sealbus_envelope::{
    identity::PublicKey,
    reason::{Reason, Refused},
    time::Millis,
};

use super::state::Seen;
use crate::bus::auth::{Auth, ConnectionId};

/// How long nats-server waits for an answer to a callout by default, and half a second more.
pub const SECOND_LOOK: Duration = Duration::from_millis(2_500);

/// What the servers said after a quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforced {
    /// Connections of the agent that were cut.
    pub cut: usize,
    /// Connections of the agent that are still there, or could not be cut.
    pub left: usize,
    /// Servers that did not answer, by name.
    pub silent: Vec<String>,
}

impl Enforced {
    /// Whether every server answered, twice, that it holds no connection of the agent. It is as good as the
    /// servers' word.
    #[must_use]
    pub fn confirmed(&self) -> bool {
        self.left == 0 && self.silent.is_empty()
    }

    /// The same, as the agent's record keeps it.
    #[must_use]
    pub fn to_seen(&self, at: Millis) -> Seen {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Seen { at, cut: count(self.cut), left: count(self.left), silent: self.silent.clone() }
    }
}

/// Cuts every connection of an identity that is barred, looks at the servers at once and again after
/// `second_look` ([`SECOND_LOOK`]).
pub async fn cut_off(auth: &Auth, identity: &PublicKey, second_look: Duration) -> Enforced {
    let mut enforced = Enforced { cut: 0, left: 0, silent: Vec::new() };
    let mut known = HashSet::new();
    look(auth, identity, &mut known, &mut enforced).await;
    tokio::time::sleep(second_look).await;
    look(auth, identity, &mut known, &mut enforced).await;
    enforced.silent.sort();
    enforced.silent.dedup();
    enforced
}

/// Cuts what there is, then compares all connections ever seen of the agent with what the servers hold.
async fn look(auth: &Auth, identity: &PublicKey, known: &mut HashSet<ConnectionId>, enforced: &mut Enforced) {
    let connections = auth.connections_of(identity).into_iter();
    // The lobby is where a barred agent hears that it is.
    let connections: Vec<_> = connections.filter(|connection| !connection.lobby).collect();
    let all = connections.len();
    known.extend(connections.into_iter().map(|connection| connection.id));
    let failed = auth.disconnect_live(identity, Refused::new(Reason::Quarantined, "agent")).await;
    let failed = failed.len();
    enforced.cut += all.saturating_sub(failed);
    match auth.admin().survey().await {
        Ok(survey) => {
            let there = survey.connections.iter().filter(|listed| known.contains(&listed.id)).count();
            enforced.left = there.max(failed);
            enforced.silent.extend(survey.silent);
        }
        Err(error) => {
            tracing::error!(%error, "whether the agent is off the bus cannot be confirmed");
            enforced.left = failed;
            enforced.silent.push("all".to_owned());
        }
    }
}

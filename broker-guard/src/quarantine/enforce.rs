//! Makes a quarantine so: durable, then cut, then looked after.
//!
//! The order is the point. Once the state is on disk, no restart sets the agent free; once it is in memory, no
//! callout lets it in; only then are its connections cut, so that it cannot come straight back. A callout that
//! another guard answered just before may still let one in: hence the second look, after the time that a server
//! waits for an answer.
//!
//! One guard a bus: the acknowledgement of every live guard is this guard's own, given by committing the state.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use sealbus_envelope::{
    identity::PublicKey,
    name::AgentToken,
    order::Order,
    reason::{Reason, Refused},
    time::Millis,
};
use tokio::sync::Mutex;

use super::state::{self, Cause, Ceiling, Change, Known, NotAllowed, Record, Seen, State};
use crate::{
    audit::entry::{self, Body, Hex},
    bus::auth::Auth,
    store::{Store, StoreError},
};

/// How long nats-server waits for an answer to a callout by default, and half a second more.
pub const SECOND_LOOK: Duration = Duration::from_millis(2_500);

/// Why an agent's state could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnforceError {
    /// The change makes no sense from the state that the agent is in.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// It could not be made durable, and nothing changed.
    #[error("the change could not be made durable: {0}")]
    Store(#[from] StoreError),
    /// It could not be made durable, and is in force nevertheless, because it keeps the agent off the bus: it is to
    /// be cut, and [`Enforcer::save`] goes on trying. A restart before that sets the agent free.
    #[error("the change is in force, and a restart would undo it: {error}")]
    Undurable {
        /// What is in force.
        changed: Box<Changed>,
        /// Why it is not on disk.
        error: Box<EnforceError>,
    },
    /// The order was carried out before.
    #[error("the order was carried out before")]
    Replayed,
    /// The guard is ending.
    #[error("the guard is stopping")]
    Stopping,
}

/// What is written together with a change.
#[derive(Clone, Copy)]
enum Extra<'o> {
    None,
    Ceiling(Option<Ceiling>),
    Order(&'o Order),
}

/// What the guard remembers of agents, in memory. Read by every callout and every partition without waiting.
#[derive(Debug, Default)]
pub struct Bars(ArcSwap<HashMap<[u8; 32], Record>>);

impl Bars {
    /// What the store remembers.
    ///
    /// # Errors
    /// [`StoreError`]; the guard must then not start, or it would let quarantined agents in.
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let known = store.quarantine()?.into_iter();
        Ok(Self(ArcSwap::from_pointee(
            known.map(|Known { identity, record }| (*identity.as_bytes(), record)).collect(),
        )))
    }

    /// Whether the identity is kept off the bus.
    #[must_use]
    pub fn is_barred(&self, identity: &PublicKey) -> bool {
        self.0.load().get(identity.as_bytes()).is_some_and(|record| record.state.is_barred())
    }

    /// What is remembered of an identity.
    #[must_use]
    pub fn get(&self, identity: &PublicKey) -> Option<Record> {
        self.0.load().get(identity.as_bytes()).cloned()
    }

    /// The identity and record of an agent, by its token.
    #[must_use]
    pub fn by_agent(&self, agent: &str) -> Option<Known> {
        let all = self.0.load();
        let (identity, record) = all.iter().find(|(_, record)| record.agent.as_str() == agent)?;
        Some(Known { identity: PublicKey::from_bytes(identity).ok()?, record: record.clone() })
    }

    /// Every record, by agent.
    #[must_use]
    pub fn all(&self) -> Vec<Record> {
        self.known().into_iter().map(|known| known.record).collect()
    }

    /// Every identity with its record, by agent.
    #[must_use]
    pub fn known(&self) -> Vec<Known> {
        let all = self.0.load();
        let known = all.iter().filter_map(|(identity, record)| {
            Some(Known { identity: PublicKey::from_bytes(identity).ok()?, record: record.clone() })
        });
        let mut known: Vec<_> = known.collect();
        known.sort_by(|a, b| a.record.agent.cmp(&b.record.agent));
        known
    }

    fn set(&self, identity: &PublicKey, record: &Record) {
        self.0.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(*identity.as_bytes(), record.clone());
            all
        });
    }
}

/// A change that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The identity.
    pub identity: PublicKey,
    /// The state it left.
    pub from: State,
    /// What is remembered now.
    pub record: Record,
}

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

    /// The audit entry that tells it.
    #[must_use]
    pub fn to_audit(&self, changed: &Changed) -> Body<'static> {
        let mut body = audit(changed);
        body.confirmed = Some(self.confirmed());
        body.detail = Some(if self.confirmed() {
            format!("{} connections cut; no server holds one", self.cut).into()
        } else {
            let silent = self.silent.join(", ");
            format!("{} connections cut, {} left, no answer from: {silent}", self.cut, self.left).into()
        });
        Body::Quarantine(body)
    }
}

impl Changed {
    /// The audit entry of the change itself.
    #[must_use]
    pub fn to_audit(&self) -> Body<'static> {
        Body::Quarantine(audit(self))
    }
}

fn audit(changed: &Changed) -> entry::Quarantine<'static> {
    let Record { agent, state, cause, .. } = &changed.record;
    entry::Quarantine {
        agent: agent.to_string().into(),
        from: changed.from.code().into(),
        to: state.code().into(),
        reason: cause.reason.code().into(),
        evidence: cause.envelopes.iter().map(|digest| Hex::from(*digest)).collect(),
        confirmed: None,
        detail: Some(cause.what.clone().into()),
    }
}

/// Changes states and enforces them.
#[derive(Debug)]
pub struct Enforcer {
    store: Arc<Store>,
    bars: Arc<Bars>,
    // Read, change and write of one agent's state must not interleave with another change of it.
    changing: Mutex<Undurable>,
}

/// Identities that are barred in memory, and whose record the disk did not take.
type Undurable = HashSet<[u8; 32]>;

impl Enforcer {
    /// How many agents are watched now.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.bars.0.load().values().filter(|record| record.state == State::Watched).count()
    }

    /// Keeps `store` and `bars` in step.
    #[must_use]
    pub fn new(store: Arc<Store>, bars: Arc<Bars>) -> Self {
        Self { store, bars, changing: Mutex::default() }
    }

    /// Changes an agent's state: on disk first, in memory second. `None` if it is in that state already. After
    /// a quarantine, rotate the keys that its sessions were given and call [`enforce`](Self::enforce).
    ///
    /// # Errors
    /// [`EnforceError`]. If the disk fails, a quarantine or revocation is in force in memory all the same, and the
    /// error is [`EnforceError::Undurable`].
    pub async fn change(
        &self,
        identity: &PublicKey,
        agent: &AgentToken,
        change: Change,
        cause: Cause,
        now: Millis,
    ) -> Result<Option<Changed>, EnforceError> {
        self.commit(identity, agent, change, cause, Extra::None, now).await
    }

    /// An agent begins to be watched: it opens no key above `ceiling` from now on.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    pub async fn watch(
        &self,
        identity: &PublicKey,
        agent: &AgentToken,
        cause: Cause,
        ceiling: Option<Ceiling>,
        now: Millis,
    ) -> Result<Option<Changed>, EnforceError> {
        self.commit(identity, agent, Change::Watch, cause, Extra::Ceiling(ceiling), now).await
    }

    /// Changes an agent's state as an order says, and uses up the order, both or neither. An order that changes
    /// nothing (the agent is quarantined already) is used up all the same; if what stands is not on disk yet, it is
    /// written with it.
    ///
    /// # Errors
    /// As [`change`](Self::change), and [`EnforceError::Replayed`].
    pub async fn carry_out(
        &self,
        order: &Order,
        target: (&AgentToken, &PublicKey),
        change: Change,
        cause: Cause,
        now: Millis,
    ) -> Result<Option<Changed>, EnforceError> {
        let (agent, identity) = target;
        self.commit(identity, agent, change, cause, Extra::Order(order), now).await
    }

    /// Whether an order of this change would make sense now.
    ///
    /// # Errors
    /// [`NotAllowed`].
    pub fn allows(&self, identity: &PublicKey, agent: &AgentToken, change: Change) -> Result<(), NotAllowed> {
        let cause = Cause::ordered(Reason::Quarantined, "");
        state::apply(self.bars.get(identity).as_ref(), agent, change, cause, Millis(0)).map(|_| ())
    }

    /// Keeps what the servers said, unless the agent's state has changed since.
    ///
    /// # Errors
    /// [`EnforceError`].
    pub async fn keep_seen(&self, changed: &Changed, seen: Seen) -> Result<(), EnforceError> {
        let mut undurable = self.changing.lock().await;
        let Some(mut record) = self.bars.get(&changed.identity) else { return Ok(()) };
        if record.since != changed.record.since || record.state != changed.record.state {
            return Ok(());
        }
        record.enforced = Some(seen);
        self.bars.set(&changed.identity, &record);
        let (store, key) = (Arc::clone(&self.store), changed.identity.clone());
        let written = tokio::task::spawn_blocking(move || store.put_quarantine(&key, &record)).await;
        written.map_err(|_| EnforceError::Stopping)??;
        undurable.remove(changed.identity.as_bytes());
        Ok(())
    }

    /// Writes what the disk did not take when it was to be made durable. To be called again and again: who is kept
    /// off the bus in memory alone is free when the guard restarts.
    ///
    /// # Errors
    /// [`EnforceError`]; what is not written stays to be written.
    pub async fn save(&self) -> Result<(), EnforceError> {
        let mut undurable = self.changing.lock().await;
        if undurable.is_empty() {
            return Ok(());
        }
        let known = self.bars.known().into_iter();
        let known: Vec<_> = known.filter(|known| undurable.contains(known.identity.as_bytes())).collect();
        let store = Arc::clone(&self.store);
        let written = tokio::task::spawn_blocking(move || {
            known.iter().try_for_each(|Known { identity, record }| store.put_quarantine(identity, record))
        });
        written.await.map_err(|_| EnforceError::Stopping)??;
        tracing::warn!(agents = undurable.len(), "the disk has taken what bars agents again");
        undurable.clear();
        Ok(())
    }

    async fn commit(
        &self,
        identity: &PublicKey,
        agent: &AgentToken,
        change: Change,
        cause: Cause,
        extra: Extra<'_>,
        now: Millis,
    ) -> Result<Option<Changed>, EnforceError> {
        let mut undurable = self.changing.lock().await;
        let before = self.bars.get(identity);
        let changed = state::apply(before.as_ref(), agent, change, cause, now)?;
        let changed = changed.map(|mut record| {
            if let Extra::Ceiling(ceiling) = extra {
                record.ceiling = ceiling;
            }
            record
        });
        // An order that the disk refused and that is sent again changes nothing in memory: were only its id written
        // now, it would be used up, and a restart would set the agent free.
        let unwritten = before.clone().filter(|_| undurable.contains(identity.as_bytes()));
        let (store, key, copy) = (Arc::clone(&self.store), identity.clone(), changed.clone().or(unwritten));
        let order = if let Extra::Order(order) = extra { Some(order.clone()) } else { None };
        let written = tokio::task::spawn_blocking(move || match (order, copy) {
            (Some(order), record) => store.order_quarantine(&order, &key, record.as_ref(), now),
            (None, Some(record)) => store.put_quarantine(&key, &record).map(|()| true),
            (None, None) => Ok(true),
        });
        let written = written.await.map_err(|_| EnforceError::Stopping).and_then(|done| Ok(done?));
        match written {
            Ok(false) => return Err(EnforceError::Replayed),
            Ok(true) => {
                undurable.remove(identity.as_bytes());
            }
            Err(_) => {}
        }
        let Some(record) = changed else { return written.map(|_| None) };
        // Without the disk nobody is set free, and nobody dangerous stays in.
        if written.is_ok() || record.state.is_barred() {
            self.bars.set(identity, &record);
        }
        let (barred, from) = (record.state.is_barred(), before.map_or(State::Normal, |before| before.state));
        let changed = Changed { identity: identity.clone(), from, record };
        match written {
            Err(error) if barred => {
                undurable.insert(*identity.as_bytes());
                return Err(EnforceError::Undurable { changed: Box::new(changed), error: Box::new(error) });
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let record = &changed.record;
        tracing::warn!(%agent, %from, to = %record.state, reason = record.cause.reason.code(), what = record.cause.what, "state changed");
        Ok(Some(changed))
    }

    /// Cuts every connection of an identity that is barred, looks at the servers at once and again after
    /// `second_look` ([`SECOND_LOOK`]).
    pub async fn enforce(&self, auth: &Auth, identity: &PublicKey, second_look: Duration) -> Enforced {
        let mut enforced = Enforced { cut: 0, left: 0, silent: Vec::new() };
        let mut known = HashSet::new();
        self.look(auth, identity, &mut known, &mut enforced).await;
        tokio::time::sleep(second_look).await;
        self.look(auth, identity, &mut known, &mut enforced).await;
        enforced.silent.sort();
        enforced.silent.dedup();
        enforced
    }

    /// Cuts what there is, then compares all connections ever seen of the agent with what the servers hold.
    async fn look(
        &self,
        auth: &Auth,
        identity: &PublicKey,
        known: &mut HashSet<crate::bus::auth::ConnectionId>,
        enforced: &mut Enforced,
    ) {
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
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

    use sealbus_envelope::{
        identity::{BusId, SigningKey},
        order::{OrderId, OrderKind, Target},
    };

    use super::*;

    const NOW: Millis = Millis(1_000_000);

    fn order(n: u8, kind: OrderKind, token: &AgentToken, identity: &PublicKey) -> Order {
        Order {
            bus: BusId::from_bytes([0; 32]),
            id: OrderId::from_bytes([n; 16]),
            kind,
            target: Target::Agent { token: token.clone(), identity: identity.clone() },
            reason: "it lies".to_owned(),
            issued: NOW,
            valid_until: NOW.plus(60_000),
        }
    }

    struct Fixture {
        _dir: tempfile::TempDir,
        store: Arc<Store>,
        enforcer: Enforcer,
        identity: PublicKey,
        agent: AgentToken,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Arc::new(Store::open(&dir.path().join("guard.redb")).unwrap());
            let bars = Arc::new(Bars::load(&store).unwrap());
            let enforcer = Enforcer::new(Arc::clone(&store), bars);
            let identity = SigningKey::from_seed(&[7; 32]).public().clone();
            let agent = AgentToken::parse("mallory-abcdefghij").unwrap();
            Self { _dir: dir, store, enforcer, identity, agent }
        }

        async fn carry_out(&self, order: &Order, change: Change) -> Result<Option<Changed>, EnforceError> {
            let cause = Cause::ordered(Reason::Quarantined, "people");
            self.enforcer.carry_out(order, (&self.agent, &self.identity), change, cause, NOW).await
        }

        /// What the next guard would find.
        fn on_disk(&self) -> Option<State> {
            self.store.quarantine().unwrap().pop().map(|known| known.record.state)
        }
    }

    #[tokio::test]
    async fn an_order_that_met_a_full_disk_is_in_force_and_its_retry_is_durable() {
        let guard = Fixture::new();
        let quarantine = order(1, OrderKind::Quarantine, &guard.agent, &guard.identity);
        guard.store.fail(true);
        let Err(EnforceError::Undurable { changed, .. }) =
            guard.carry_out(&quarantine, Change::Quarantine).await
        else {
            panic!("it is to be cut without the disk")
        };
        assert_eq!(changed.record.state, State::Quarantined);
        assert!(guard.enforcer.bars.is_barred(&guard.identity));
        guard.store.fail(false);
        assert!(!guard.store.is_carried_out(quarantine.id).unwrap());
        assert_eq!(guard.carry_out(&quarantine, Change::Quarantine).await.unwrap(), None);
        assert!(guard.store.is_carried_out(quarantine.id).unwrap());
        assert_eq!(guard.on_disk(), Some(State::Quarantined), "what is used up has done something");
    }

    #[tokio::test]
    async fn what_the_disk_refused_is_written_when_it_can_be() {
        let guard = Fixture::new();
        guard.store.fail(true);
        let cause = Cause::ordered(Reason::Quarantined, "people");
        let changed =
            guard.enforcer.change(&guard.identity, &guard.agent, Change::Quarantine, cause, NOW).await;
        assert!(matches!(changed, Err(EnforceError::Undurable { .. })));
        assert!(guard.enforcer.save().await.is_err());
        guard.store.fail(false);
        assert_eq!(guard.on_disk(), None);
        guard.enforcer.save().await.unwrap();
        assert_eq!(guard.on_disk(), Some(State::Quarantined));
        // And nobody is set free by a disk that takes nothing.
        guard.store.fail(true);
        let release = order(2, OrderKind::Release, &guard.agent, &guard.identity);
        let released = guard.carry_out(&release, Change::Release).await;
        assert!(matches!(released, Err(EnforceError::Store(_))));
        assert!(guard.enforcer.bars.is_barred(&guard.identity));
    }
}

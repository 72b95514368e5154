//! Puts a change of an agent's state in force: on disk first, in memory second.
//!
//! The order is the point. Once the state is on disk, no restart sets the agent free; once it is in memory, no
//! callout lets it in; only then are its connections [cut](super::cut), so that it cannot come straight back.
//!
//! One guard a bus: the acknowledgement of every live guard is this guard's own, given by committing the state.

use std::{collections::HashSet, sync::Arc};

use sealbus_envelope::{identity::PublicKey, name::AgentToken, order::Order, reason::Reason, time::Millis};
use tokio::sync::Mutex;

use super::{
    bars::Bars,
    state::{self, Cause, Ceiling, Change, Known, NotAllowed, Record, Seen, State},
};
use crate::store::{Store, StoreError};

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

/// Changes states.
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
    /// Keeps `store` and `bars` in step.
    #[must_use]
    pub fn new(store: Arc<Store>, bars: Arc<Bars>) -> Self {
        Self { store, bars, changing: Mutex::default() }
    }

    /// Changes an agent's state: on disk first, in memory second. `None` if it is in that state already. After
    /// a quarantine, rotate the keys that its sessions were given and call [`cut_off`](super::cut::cut_off).
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

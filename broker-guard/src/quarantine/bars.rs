//! Who is kept off the bus, and what else is remembered of agents: in memory, where every callout asks without waiting.

use std::collections::HashMap;

use arc_swap::ArcSwap;
use sealbus_envelope::identity::PublicKey;

use super::state::{Known, Record, State};
use crate::store::{Store, StoreError};

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

    /// How many agents are watched now.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.0.load().values().filter(|record| record.state == State::Watched).count()
    }

    pub(super) fn set(&self, identity: &PublicKey, record: &Record) {
        self.0.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(*identity.as_bytes(), record.clone());
            all
        });
    }
}

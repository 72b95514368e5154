//! Orders on disk: each is carried out once, in the transaction that remembers it.

use redb::{ReadableTable, WriteTransaction};
use sealbus_envelope::{
    identity::PublicKey,
    name::AgentToken,
    order::{MAX_ORDER_MS, Order, OrderId},
    time::Millis,
};

use super::{CLEARED, FLOORS, Failed, ORDERS, QUARANTINE, Store, StoreError};
use crate::{
    quarantine::state::Record,
    taint::{Cleared, Holder},
};

/// How long after its time an order's id is kept: a clock that is set back must not make it good again.
const KEPT_MS: u64 = MAX_ORDER_MS;

impl Store {
    /// Whether the order was carried out before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn is_carried_out(&self, order: OrderId) -> Result<bool, StoreError> {
        self.read(|tx| Ok(tx.open_table(ORDERS)?.get(order.as_bytes())?.is_some()))
    }

    /// Uses up an order to clear an agent's floor, sets the floor apart and remembers `cleared`, all at once.
    /// `false`, and nothing is changed, if the order was carried out before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin_clear(
        &self,
        order: &Order,
        agent: &AgentToken,
        cleared: &Cleared,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let held = self.encode(&Holder::Agent(agent.clone()))?;
        let apart = Holder::Clearing { agent: agent.clone(), order: *order.id.as_bytes() };
        let (apart, cleared) = (self.encode(&apart)?, self.encode(cleared)?);
        self.write(|tx| {
            if !use_up(tx, order, now)? {
                return Ok(false);
            }
            let mut floors = tx.open_table(FLOORS)?;
            let mut moved = Vec::new();
            for row in floors.extract_if(|(holder, _), _| holder == held)? {
                let (key, label) = row?;
                moved.push((key.value().1.to_owned(), label.value().to_vec()));
            }
            for (rule, label) in &moved {
                floors.insert((apart.as_slice(), rule.as_str()), label.as_slice())?;
            }
            let mut clears = tx.open_table(CLEARED)?;
            // What cannot be read stays, and is reported when the floors are read.
            clears.retain(|_, cleared| {
                !rmp_serde::from_slice::<Cleared>(cleared).is_ok_and(|cleared| cleared.is_over(now))
            })?;
            clears.insert(agent.as_str(), cleared.as_slice())?;
            Ok(true)
        })
    }

    /// Uses up an order about an agent's quarantine and writes the agent's record, if it changes, both at once.
    /// `false`, and nothing is changed, if the order was carried out before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn order_quarantine(
        &self,
        order: &Order,
        identity: &PublicKey,
        record: Option<&Record>,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let bytes = record.map(|record| self.encode(record)).transpose()?;
        self.write(|tx| {
            if !use_up(tx, order, now)? {
                return Ok(false);
            }
            if let Some(bytes) = &bytes {
                tx.open_table(QUARANTINE)?.insert(identity.as_bytes(), bytes.as_slice())?;
            }
            Ok(true)
        })
    }

    /// What is remembered of clears.
    ///
    /// # Errors
    /// [`StoreError`], also if a single record cannot be read: without it a cleared agent might read on with
    /// keys of before.
    pub(super) fn cleared(&self) -> Result<Vec<(AgentToken, Cleared)>, StoreError> {
        let rows = self.read(|tx| {
            let table = tx.open_table(CLEARED)?;
            let rows = table
                .iter()?
                .map(|row| row.map(|(agent, cleared)| (agent.value().to_owned(), cleared.value().to_vec())));
            rows.collect::<Result<Vec<_>, _>>().map_err(Into::into)
        })?;
        let cleared = rows.into_iter().map(|(agent, cleared)| {
            let agent = AgentToken::parse(&agent)
                .map_err(|refused| StoreError::corrupt(self.path(), refused.to_string()))?;
            Ok((agent, self.decode(&cleared)?))
        });
        cleared.collect()
    }
}

/// Remembers the order's id, as part of what carries it out. `false` if it is remembered already.
pub(super) fn use_up(tx: &WriteTransaction, order: &Order, now: Millis) -> Result<bool, Failed> {
    let mut orders = tx.open_table(ORDERS)?;
    orders.retain(|_, until| until > now.0)?;
    let until = order.valid_until.plus(KEPT_MS).0;
    let before = orders.insert(order.id.as_bytes(), until)?.map(|until| until.value());
    match before {
        None => Ok(true),
        Some(before) => {
            orders.insert(order.id.as_bytes(), before)?;
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use sealbus_envelope::{
        identity::{BusId, SessionId, SigningKey},
        label::{Compartments, Integrity, Label, Level},
        name::Name,
        order::{OrderKind, Target},
        subject::Pattern,
    };

    use super::*;
    use crate::taint::{Floors, Raise};

    const NOW: Millis = Millis(1_000_000);

    fn order(n: u8, agent: &str) -> Order {
        let identity = SigningKey::from_seed(&[7; 32]).public().clone();
        Order {
            bus: BusId::from_bytes([0; 32]),
            id: OrderId::from_bytes([n; 16]),
            kind: OrderKind::ClearTaint,
            target: Target::Agent { token: AgentToken::parse(agent).unwrap(), identity },
            reason: "emptied".to_owned(),
            issued: NOW,
            valid_until: NOW.plus(60_000),
        }
    }

    fn agent_of(order: &Order) -> &AgentToken {
        order.target.agent().unwrap()
    }

    fn raise(agent: &str, rule: &str, level: u8) -> Raise {
        let label = Label::new(Level::new(level).unwrap(), Compartments::EMPTY, Integrity::HIGHEST);
        let agent = AgentToken::parse(agent).unwrap();
        let pattern = Pattern::parse(rule).unwrap();
        Raise { holder: Holder::Agent(agent), rule: Name::parse(rule).unwrap(), pattern, label }
    }

    fn level(floors: &Floors, agent: &str) -> u8 {
        let agent = AgentToken::parse(agent).unwrap();
        floors.of(&agent, SessionId::from_bytes([0; 32])).join().level.number()
    }

    #[test]
    fn a_clear_that_was_begun_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guard.redb");
        let (alice, bob) = ("alice-abcdefghij", "bob-abcdefghij");
        let order = order(1, alice);
        {
            let store = Store::open(&path).unwrap();
            store.raise_floors(&[raise(alice, "notes", 3), raise(bob, "notes", 2)]).unwrap();
            let cleared = store.floors().unwrap().clear_of(agent_of(&order), vec![], NOW);
            assert!(!store.is_carried_out(order.id).unwrap());
            assert!(store.begin_clear(&order, agent_of(&order), &cleared, NOW).unwrap());
            store.raise_floors(&[raise(alice, "notes", 1)]).unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert!(store.is_carried_out(order.id).unwrap());
        let floors = store.floors().unwrap();
        assert_eq!((level(&floors, alice), level(&floors, bob)), (3, 2));
        assert_eq!(floors.clearing(NOW), std::slice::from_ref(agent_of(&order)));
        store.finish_clear(agent_of(&order)).unwrap();
        let floors = store.floors().unwrap();
        assert_eq!((level(&floors, alice), level(&floors, bob)), (1, 2), "what was read meanwhile stays");
        assert!(floors.clearing(NOW).is_empty());
    }

    #[test]
    fn an_order_is_used_up_once_and_for_longer_than_it_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("guard.redb")).unwrap();
        let alice = "alice-abcdefghij";
        let (first, second) = (order(1, alice), order(2, alice));
        let clear = |order: &Order, now| {
            let cleared = store.floors().unwrap().clear_of(agent_of(order), vec![], now);
            store.begin_clear(order, agent_of(order), &cleared, now).unwrap()
        };
        assert!(clear(&first, NOW));
        store.raise_floors(&[raise(alice, "notes", 3)]).unwrap();
        assert!(!clear(&first, NOW), "a replay");
        assert!(store.floors().unwrap().clear_of(agent_of(&first), vec![], NOW).held.len() == 1);
        store.finish_clear(agent_of(&first)).unwrap();
        assert_eq!(level(&store.floors().unwrap(), alice), 3, "a replay sets nothing apart");
        assert!(!clear(&first, first.valid_until.plus(KEPT_MS - 1)));
        assert!(clear(&second, first.valid_until.plus(KEPT_MS + 1)));
        assert!(!store.is_carried_out(first.id).unwrap(), "forgotten when it is long over");
    }
}

//! Paused workflows on disk: a pause outlives the guard, and ends only by an order.

use redb::{ReadableTable, TableDefinition};
use sealbus_envelope::{
    order::{Order, Workflow},
    time::Millis,
};

use super::{Store, StoreError, orders::use_up};
use crate::oversight::pause::{Pause, Standing};

/// How each workflow stands that was ever paused, by its name as people write it.
pub(super) const WORKFLOWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("workflows");

impl Store {
    /// How every workflow stands that was ever paused.
    ///
    /// # Errors
    /// [`StoreError`], also if a single record cannot be read: leaving it out would let a workflow go on.
    pub fn workflows(&self) -> Result<Vec<(Workflow, Standing)>, StoreError> {
        let rows = self.read(|tx| {
            let table = tx.open_table(WORKFLOWS)?;
            let rows = table
                .iter()?
                .map(|row| row.map(|(name, value)| (name.value().to_owned(), value.value().to_vec())));
            rows.collect::<Result<Vec<_>, _>>().map_err(Into::into)
        })?;
        let standing = rows.into_iter().map(|(name, bytes)| {
            let workflow = Workflow::parse(&name)
                .map_err(|refused| StoreError::corrupt(self.path(), refused.to_string()))?;
            Ok((workflow, self.decode(&bytes)?))
        });
        standing.collect()
    }

    /// Remembers that workflows are paused. One that was paused already keeps its first cause.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn pause_workflows(&self, pauses: &[(Workflow, Pause)]) -> Result<(), StoreError> {
        let rows = pauses.iter().map(|(workflow, pause)| {
            Ok((workflow.to_string(), self.encode(&Standing::Paused(pause.clone()))?))
        });
        let rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
        self.write(|tx| {
            let mut table = tx.open_table(WORKFLOWS)?;
            for (name, bytes) in &rows {
                let paused = table.get(name.as_str())?.is_some_and(|row| is_paused(row.value()));
                if !paused {
                    table.insert(name.as_str(), bytes.as_slice())?;
                }
            }
            Ok(())
        })
    }

    /// Uses up an order, and pauses the workflow or lets it go on, at once: `standing` is written only if it changes
    /// anything. `false`, and nothing is changed, if the order was carried out before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn order_workflow(
        &self,
        order: &Order,
        workflow: &Workflow,
        standing: &Standing,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let (name, bytes) = (workflow.to_string(), self.encode(standing)?);
        let pauses = matches!(standing, Standing::Paused(_));
        self.write(|tx| {
            if !use_up(tx, order, now)? {
                return Ok(false);
            }
            let mut table = tx.open_table(WORKFLOWS)?;
            let paused = table.get(name.as_str())?.is_some_and(|row| is_paused(row.value()));
            if paused != pauses {
                table.insert(name.as_str(), bytes.as_slice())?;
            }
            Ok(true)
        })
    }
}

/// What cannot be read counts as paused: it is reported when the guard starts.
fn is_paused(bytes: &[u8]) -> bool {
    !matches!(rmp_serde::from_slice(bytes), Ok(Standing::Resumed { .. }))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use sealbus_envelope::{
        identity::BusId,
        name::{AgentToken, Name},
        order::{OrderId, OrderKind, Target},
        reason::Reason,
    };

    use super::*;
    use crate::oversight::pause::By;

    const NOW: Millis = Millis(1_000_000);

    fn pause(n: u64) -> Pause {
        let by = By::Deviation {
            agent: AgentToken::parse("alice-abcdefghij").unwrap(),
            reason: Reason::NotPublisher,
            what: "policy".to_owned(),
            envelope: Some("0a".to_owned()),
            digest: None,
        };
        Pause { since: NOW.plus(n), by }
    }

    fn order(n: u8, kind: OrderKind, workflow: &Workflow) -> Order {
        Order {
            bus: BusId::from_bytes([0; 32]),
            id: OrderId::from_bytes([n; 16]),
            kind,
            target: Target::Workflow(workflow.clone()),
            reason: "looked into it".to_owned(),
            issued: NOW,
            valid_until: NOW.plus(60_000),
        }
    }

    #[test]
    fn a_pause_outlives_the_guard_and_one_order_ends_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guard.redb");
        let workflow = Workflow::Rule(Name::parse("payments").unwrap());
        let resumed = Standing::Resumed { since: NOW.plus(5) };
        let resume = order(1, OrderKind::Resume, &workflow);
        {
            let store = Store::open(&path).unwrap();
            store.pause_workflows(&[(workflow.clone(), pause(1))]).unwrap();
            store.pause_workflows(&[(workflow.clone(), pause(2))]).unwrap();
        }
        {
            let store = Store::open(&path).unwrap();
            let first = vec![(workflow.clone(), Standing::Paused(pause(1)))];
            assert_eq!(store.workflows().unwrap(), first, "the first cause stands");
            assert!(store.order_workflow(&resume, &workflow, &resumed, NOW).unwrap());
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.workflows().unwrap(), [(workflow.clone(), resumed.clone())]);
        store.pause_workflows(&[(workflow.clone(), pause(9))]).unwrap();
        assert!(!store.order_workflow(&resume, &workflow, &resumed, NOW).unwrap(), "a replay");
        assert_eq!(store.workflows().unwrap(), [(workflow.clone(), Standing::Paused(pause(9)))]);
    }
}

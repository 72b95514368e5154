//! What the anomaly detector learned, on disk.

use redb::ReadableTable;
use sealbus_envelope::name::AgentToken;

use super::{ANOMALY, Store, StoreError};

impl Store {
    /// Keeps what was learned about agents, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_baselines(&self, learned: &[(AgentToken, Vec<u8>)]) -> Result<(), StoreError> {
        if learned.is_empty() {
            return Ok(());
        }
        self.write(|tx| {
            let mut table = tx.open_table(ANOMALY)?;
            for (agent, bytes) in learned {
                table.insert(agent.as_str(), bytes.as_slice())?;
            }
            Ok(())
        })
    }

    /// What was learned about each agent. Names that are none are left out: nothing rests on them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn baselines(&self) -> Result<Vec<(AgentToken, Vec<u8>)>, StoreError> {
        let rows = self.read(|tx| {
            let table = tx.open_table(ANOMALY)?;
            let rows = table
                .iter()?
                .map(|row| row.map(|(key, value)| (key.value().to_owned(), value.value().to_vec())));
            rows.collect::<Result<Vec<_>, _>>().map_err(Into::into)
        })?;
        let rows = rows.into_iter();
        Ok(rows.filter_map(|(agent, bytes)| Some((AgentToken::parse(&agent).ok()?, bytes))).collect())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn what_was_learned_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guard.redb");
        let agent = AgentToken::parse("alice-abcdefghij").unwrap();
        {
            let store = Store::open(&path).unwrap();
            store.put_baselines(&[(agent.clone(), vec![1])]).unwrap();
            store.put_baselines(&[(agent.clone(), vec![2, 3])]).unwrap();
        }
        assert_eq!(Store::open(&path).unwrap().baselines().unwrap(), [(agent, vec![2, 3])]);
    }
}

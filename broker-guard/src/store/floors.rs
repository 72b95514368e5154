//! Taint floors on disk.

use redb::ReadableTable;
use sealbus_envelope::{
    label::Label,
    name::{AgentToken, Name},
    reason::Refused,
    subject::Pattern,
    time::Millis,
};

use super::{FLOORS, Store, StoreError};
use crate::taint::{Floors, Holder, Raise};

impl Store {
    /// Raises floors, durably: when it returns, the keys that raised them may be handed over. Never lowers one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn raise_floors(&self, raises: &[Raise]) -> Result<(), StoreError> {
        let raises: Vec<_> = raises
            .iter()
            .map(|raise| Ok((self.encode(&raise.holder)?, row_of(raise), raise)))
            .collect::<Result<_, StoreError>>()?;
        let damaged = self.write(|tx| {
            let mut table = tx.open_table(FLOORS)?;
            for (holder, row, raise) in &raises {
                let key = (holder.as_slice(), row.as_str());
                let held = table.get(key)?.map(|held| rmp_serde::from_slice::<Label>(held.value()));
                let label = match held {
                    None => raise.label,
                    Some(Ok(held)) => held.join(raise.label),
                    // What was read is not known any more, so anything may have been.
                    Some(Err(_)) => Label::TOP.join(raise.label),
                };
                let Ok(bytes) = rmp_serde::to_vec(&label) else { return Ok(true) };
                table.insert(key, bytes.as_slice())?;
            }
            Ok(false)
        })?;
        if damaged { Err(StoreError::corrupt(self.path(), "a label cannot be written")) } else { Ok(()) }
    }

    /// Every floor.
    ///
    /// # Errors
    /// [`StoreError`], also if a single record cannot be read: leaving it out would lower a floor.
    pub fn floors(&self) -> Result<Floors, StoreError> {
        let rows = self.read(|tx| {
            let table = tx.open_table(FLOORS)?;
            let rows = table.iter()?.map(|row| {
                row.map(|(key, value)| {
                    let (holder, rule) = key.value();
                    (holder.to_vec(), rule.to_owned(), value.value().to_vec())
                })
            });
            rows.collect::<Result<Vec<_>, _>>().map_err(Into::into)
        })?;
        let raises = rows.into_iter().map(|(holder, row, label)| {
            let (rule, pattern) =
                read_row(&row).map_err(|refused| StoreError::corrupt(self.path(), refused.to_string()))?;
            Ok(Raise { holder: self.decode(&holder)?, rule, pattern, label: self.decode(&label)? })
        });
        let mut floors: Floors = raises.collect::<Result<_, StoreError>>()?;
        for (agent, cleared) in self.cleared()? {
            floors.remember(agent, cleared);
        }
        Ok(floors)
    }

    /// Forgets what an order set apart of an agent's floor.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn finish_clear(&self, agent: &AgentToken) -> Result<(), StoreError> {
        let set_apart = |holder: &Holder| matches!(holder, Holder::Clearing { agent: of, .. } if of == agent);
        self.drop_floors(set_apart)
    }

    /// Forgets the floors of sessions that are over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn expire_floors(&self, now: Millis) -> Result<(), StoreError> {
        self.drop_floors(|holder| matches!(holder, Holder::Session { until, .. } if *until <= now))
    }

    fn drop_floors(&self, over: impl Fn(&Holder) -> bool) -> Result<(), StoreError> {
        self.write(|tx| {
            // What cannot be read stays, and is reported when the floors are read.
            let over = |holder: &[u8]| rmp_serde::from_slice(holder).is_ok_and(|holder| over(&holder));
            tx.open_table(FLOORS)?.retain(|(holder, _), _| !over(holder))?;
            Ok(())
        })
    }
}

/// A rule and what it covered, as one text. Neither has a space.
fn row_of(raise: &Raise) -> String {
    format!("{} {}", raise.rule, raise.pattern)
}

fn read_row(row: &str) -> Result<(Name, Pattern), Refused> {
    let (rule, pattern) = row.split_once(' ').unwrap_or((row, ""));
    Ok((Name::parse(rule)?, Pattern::parse(pattern)?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use sealbus_envelope::{
        identity::SessionId,
        label::{Compartments, Integrity, Level},
    };

    use super::*;

    fn label(level: u8, integrity: u8) -> Label {
        Label::new(Level::new(level).unwrap(), Compartments::EMPTY, Integrity::new(integrity).unwrap())
    }

    #[test]
    fn floors_survive_a_restart_and_only_rise() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guard.redb");
        let agent = AgentToken::parse("alice-abcdefghij").unwrap();
        let holder = Holder::Agent(agent.clone());
        let session = SessionId::from_bytes([7; 32]);
        let own = Holder::Session { session, agent: agent.clone(), until: Millis(500) };
        let rule = Name::parse("notes").unwrap();
        let pattern = Pattern::parse("notes.>").unwrap();
        let raise = |holder: &Holder, label| Raise {
            holder: holder.clone(),
            rule: rule.clone(),
            pattern: pattern.clone(),
            label,
        };
        {
            let store = Store::open(&path).unwrap();
            store.raise_floors(&[raise(&holder, label(2, 2)), raise(&own, label(3, 1))]).unwrap();
            store.raise_floors(&[raise(&holder, label(1, 1))]).unwrap();
        }
        let store = Store::open(&path).unwrap();
        let mut floors = store.floors().unwrap();
        assert_eq!(floors.of(&agent, SessionId::from_bytes([8; 32])).join(), label(2, 1));
        assert_eq!(floors.of(&agent, session).join(), label(3, 1), "the session's own counts too");
        floors.expire(Millis(500));
        assert_eq!(floors.of(&agent, session).join(), label(2, 1), "until it is over");
        store.expire_floors(Millis(500)).unwrap();
        assert_eq!(store.floors().unwrap().of(&agent, session).join(), label(2, 1));
    }
}

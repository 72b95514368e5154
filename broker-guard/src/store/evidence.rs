//! The list of what is kept of agents that are off the bus, and the envelopes themselves where no stream has them.

use std::collections::HashMap;

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use sealbus_envelope::{
    identity::{PublicKey, SessionId},
    order::Order,
    time::Millis,
};

use super::{Failed, META, Store, StoreError, orders::use_up};
use crate::quarantine::custody::{
    Account, Claimed, Fate, Job, Kept, MAX_KEPT, MAX_SPOOL_BYTES, Papers, Place, Sealed,
};

const KEPT: TableDefinition<'_, (&[u8; 32], u64), &[u8]> = TableDefinition::new("evidence");
const SPOOL: TableDefinition<'_, (&[u8; 32], u64), &[u8]> = TableDefinition::new("evidence_spool");
const ACCOUNTS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("evidence_accounts");
const PAPERS: TableDefinition<'_, (&[u8; 32], &[u8; 32]), &[u8]> = TableDefinition::new("evidence_papers");
const SPOOLED: &str = "evidence_spooled";

/// An envelope to be listed, and where a stream has it already.
#[derive(Debug)]
pub struct Listed {
    /// Whose.
    pub identity: PublicKey,
    /// The envelope.
    pub sealed: Sealed,
    /// Its place in the stream.
    pub streamed: Option<u64>,
    /// In which quarantine of the agent it came, counted from 1.
    pub incident: u32,
}

/// An envelope that waits for a decision, with its bytes if they are here.
pub type Waiting = (Kept, Option<Vec<u8>>);

impl Store {
    pub(super) fn make_evidence(tx: &WriteTransaction) -> Result<(), Failed> {
        tx.open_table(KEPT)?;
        tx.open_table(SPOOL)?;
        tx.open_table(ACCOUNTS)?;
        tx.open_table(PAPERS)?;
        Ok(())
    }

    /// Keeps a session's papers. Those of a session that was let back and is taken off again replace what was kept of
    /// it, and no key's sequence goes back: see [`Papers::after`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep_papers(&self, papers: &[(PublicKey, Papers)]) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut table = tx.open_table(PAPERS)?;
            for (identity, papers) in papers {
                let key = (identity.as_bytes(), papers.session.as_bytes());
                let mut papers = papers.clone();
                if let Some(before) = table.get(key)? {
                    papers.after(&decode(before.value())?);
                }
                table.insert(key, encode(&papers)?.as_slice())?;
            }
            Ok(())
        })
    }

    /// Lists envelopes, with their bytes if no stream has them, and counts `dropped` ones: what there is no room for
    /// is counted too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep_evidence(&self, kept: &[Listed], dropped: &[(PublicKey, u64)]) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut accounts = HashMap::new();
            for identity in kept.iter().map(|kept| &kept.identity).chain(dropped.iter().map(|(id, _)| id)) {
                if !accounts.contains_key(identity.as_bytes()) {
                    accounts.insert(*identity.as_bytes(), account_in(tx, identity)?);
                }
            }
            for (identity, count) in dropped {
                if let Some(account) = accounts.get_mut(identity.as_bytes()) {
                    account.dropped = account.dropped.saturating_add(*count);
                }
            }
            let mut meta = tx.open_table(META)?;
            let mut spooled = meta.get(SPOOLED)?.map_or(0, |bytes| bytes.value());
            let (mut table, mut spool) = (tx.open_table(KEPT)?, tx.open_table(SPOOL)?);
            for Listed { identity, sealed, streamed, incident } in kept {
                let Some(account) = accounts.get_mut(identity.as_bytes()) else { continue };
                let size = u64::try_from(sealed.bytes.len()).unwrap_or(u64::MAX);
                let spools = streamed.is_none();
                if !account.has_room(size) || (spools && spooled.saturating_add(size) > MAX_SPOOL_BYTES) {
                    account.dropped += 1;
                    continue;
                }
                account.last += 1;
                account.waiting += 1;
                account.bytes += size;
                let key = (identity.as_bytes(), account.last);
                if spools {
                    spooled += size;
                    spool.insert(key, sealed.bytes.as_ref())?;
                }
                table.insert(key, encode(&row(account.last, sealed, *streamed, *incident))?.as_slice())?;
            }
            meta.insert(SPOOLED, spooled)?;
            write_accounts(tx, accounts.iter())
        })
    }

    /// The account of what is kept of an identity.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn account(&self, identity: &PublicKey) -> Result<Account, StoreError> {
        let row = self.read(|tx| {
            Ok(tx.open_table(ACCOUNTS)?.get(identity.as_bytes())?.map(|row| row.value().to_vec()))
        })?;
        row.map_or(Ok(Account::default()), |bytes| self.decode(&bytes))
    }

    /// The newest of what is kept of an identity, at most `most`, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn newest_evidence(&self, identity: &PublicKey, most: usize) -> Result<Vec<Kept>, StoreError> {
        let id = identity.as_bytes();
        let rows = self.read(|tx| {
            let table = tx.open_table(KEPT)?;
            let rows = table.range((id, 0)..=(id, u64::MAX))?.rev().take(most);
            let rows = rows.map(|row| row.map(|(_, value)| value.value().to_vec()));
            rows.collect::<Result<Vec<_>, _>>().map_err(Into::into)
        })?;
        rows.iter().map(|bytes| self.decode(bytes)).collect()
    }

    /// What waits for a decision of what is kept of an identity, oldest first, up to the number `upto`, at most
    /// `most`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn waiting_evidence(
        &self,
        identity: &PublicKey,
        upto: u64,
        most: usize,
    ) -> Result<Vec<Waiting>, StoreError> {
        let id = identity.as_bytes();
        let first = self.account(identity)?.decided + 1;
        if first > upto {
            return Ok(Vec::new());
        }
        let rows = self.read(|tx| {
            let (table, spool) = (tx.open_table(KEPT)?, tx.open_table(SPOOL)?);
            let mut rows = Vec::new();
            for row in table.range((id, first)..=(id, upto))?.take(most) {
                let (key, value) = row?;
                let bytes = spool.get(key.value())?.map(|bytes| bytes.value().to_vec());
                rows.push((value.value().to_vec(), bytes));
            }
            Ok(rows)
        })?;
        rows.into_iter().map(|(kept, bytes)| Ok((self.decode(&kept)?, bytes))).collect()
    }

    /// The papers of a session of an identity, if they were kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn papers(&self, identity: &PublicKey, session: SessionId) -> Result<Option<Papers>, StoreError> {
        let row = self.read(|tx| {
            let key = (identity.as_bytes(), session.as_bytes());
            Ok(tx.open_table(PAPERS)?.get(key)?.map(|row| row.value().to_vec()))
        })?;
        row.map(|bytes| self.decode(&bytes)).transpose()
    }

    /// Whether an order that was made at `issued` covers anything that is kept of an identity: see
    /// [`begin_replay`](Self::begin_replay).
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn is_covered(&self, identity: &PublicKey, issued: Millis) -> Result<bool, StoreError> {
        let first = self.waiting_evidence(identity, u64::MAX, 1)?;
        Ok(first.first().is_some_and(|(kept, _)| kept.time <= issued))
    }

    /// Uses up an order to deliver what is kept of an agent after all, and begins to; both or neither. `false`, and
    /// nothing is changed, if the order was carried out before. It covers what came until it was made: who signed
    /// it cannot have meant what came later, and an order that nobody used must not be good for the next incident.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin_replay(&self, order: &Order, identity: &PublicKey, now: Millis) -> Result<bool, StoreError> {
        self.write(|tx| {
            if !use_up(tx, order, now)? {
                return Ok(false);
            }
            let mut account = account_in(tx, identity)?;
            let upto = covered(tx, identity, &account, order.issued)?.last().map_or(0, |kept| kept.n);
            account.job = Some(Job { order: *order.id.as_bytes(), upto });
            write_accounts(tx, std::iter::once((identity.as_bytes(), &account)))?;
            Ok(true)
        })
    }

    /// Ends a replay; what it did not come to goes on waiting for a decision.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn end_replay(&self, identity: &PublicKey) -> Result<(), StoreError> {
        self.write(|tx| {
            let account = Account { job: None, ..account_in(tx, identity)? };
            write_accounts(tx, std::iter::once((identity.as_bytes(), &account)))
        })
    }

    /// Replays that were begun and are not finished.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn replays(&self) -> Result<Vec<(PublicKey, Job)>, StoreError> {
        let rows = self.read(|tx| {
            let table = tx.open_table(ACCOUNTS)?;
            let rows =
                table.iter()?.map(|row| row.map(|(key, value)| (*key.value(), value.value().to_vec())));
            rows.collect::<Result<Vec<_>, _>>().map_err(Into::into)
        })?;
        let mut begun = Vec::new();
        for (identity, bytes) in rows {
            let account: Account = self.decode(&bytes)?;
            if let (Some(job), Ok(identity)) = (account.job, PublicKey::from_bytes(&identity)) {
                begun.push((identity, job));
            }
        }
        Ok(begun)
    }

    /// Writes down what became of envelopes, oldest first, and how far the keys of `papers` are used up by it, before
    /// any of them is delivered: a guard that dies in between delivers them never rather than twice.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn decide_evidence(
        &self,
        identity: &PublicKey,
        decided: &[(Kept, Fate)],
        papers: &[Papers],
        done: bool,
    ) -> Result<Account, StoreError> {
        self.write(|tx| {
            let mut account = account_in(tx, identity)?;
            let rows = settle(&mut account, decided);
            if done {
                account.job = None;
            }
            write_fates(tx, identity, &rows)?;
            let mut table = tx.open_table(PAPERS)?;
            for papers in papers {
                let key = (identity.as_bytes(), papers.session.as_bytes());
                table.insert(key, encode(papers)?.as_slice())?;
            }
            write_accounts(tx, std::iter::once((identity.as_bytes(), &account)))?;
            Ok(account)
        })
    }

    /// Uses up an order to discard what is kept of an agent and came until it was made, and discards it: what the guard's disk has is deleted,
    /// what a stream has is struck from the list and goes when the stream's limits say so. How many; none, and
    /// nothing is changed, if the order was carried out before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn discard_evidence(
        &self,
        order: &Order,
        identity: &PublicKey,
        now: Millis,
    ) -> Result<Option<u64>, StoreError> {
        self.write(|tx| {
            if !use_up(tx, order, now)? {
                return Ok(None);
            }
            let mut account = account_in(tx, identity)?;
            let id = identity.as_bytes();
            let covered = covered(tx, identity, &account, order.issued)?.into_iter();
            let decided: Vec<_> = covered.map(|kept| (kept, Fate::Discarded)).collect();
            let rows = settle(&mut account, &decided);
            account.job = None;
            write_fates(tx, identity, &rows)?;
            write_accounts(tx, std::iter::once((id, &account)))?;
            Ok(Some(u64::try_from(rows.len()).unwrap_or(u64::MAX)))
        })
    }
}

/// What waits for a decision and came before anything that came after `issued`.
fn covered(
    tx: &WriteTransaction,
    identity: &PublicKey,
    account: &Account,
    issued: Millis,
) -> Result<Vec<Kept>, Failed> {
    let id = identity.as_bytes();
    let mut covered = Vec::new();
    for row in tx.open_table(KEPT)?.range((id, account.decided.saturating_add(1))..=(id, u64::MAX))? {
        let kept: Kept = decode(row?.1.value())?;
        if kept.time > issued {
            break;
        }
        covered.push(kept);
    }
    Ok(covered)
}

fn row(n: u64, sealed: &Sealed, streamed: Option<u64>, incident: u32) -> Kept {
    Kept {
        n,
        agent: sealed.agent.clone(),
        time: sealed.time,
        subject: sealed.subject.clone(),
        size: u32::try_from(sealed.bytes.len()).unwrap_or(u32::MAX),
        reason: sealed.reason,
        trigger: sealed.trigger,
        claims: Claimed::read(&sealed.bytes),
        place: streamed.map_or(Place::Disk, Place::Stream),
        fate: None,
        incident,
    }
}

fn account_in(tx: &WriteTransaction, identity: &PublicKey) -> Result<Account, Failed> {
    let table = tx.open_table(ACCOUNTS)?;
    let row = table.get(identity.as_bytes())?;
    row.map_or(Ok(Account::default()), |row| decode(row.value()))
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Failed> {
    rmp_serde::from_slice(bytes).map_err(|error| Failed(redb::Error::Corrupted(error.to_string())))
}

/// The rows as they are to be written, and the account with them counted.
fn settle(account: &mut Account, decided: &[(Kept, Fate)]) -> Vec<Kept> {
    let settled = decided.iter().map(|(kept, fate)| {
        account.decided = account.decided.max(kept.n);
        account.waiting = account.waiting.saturating_sub(1);
        account.bytes = account.bytes.saturating_sub(u64::from(kept.size));
        match fate {
            Fate::Delivered => account.delivered += 1,
            Fate::Refused(_) => account.refused += 1,
            Fate::Discarded => account.discarded += 1,
        }
        Kept { fate: Some(*fate), ..kept.clone() }
    });
    settled.collect()
}

/// Writes what became of envelopes. Of what is decided the newest [`MAX_KEPT`] stay listed: who is taken off and let
/// back again and again must not fill the disk with its past.
fn write_fates(tx: &WriteTransaction, identity: &PublicKey, rows: &[Kept]) -> Result<(), Failed> {
    let mut meta = tx.open_table(META)?;
    let mut spooled = meta.get(SPOOLED)?.map_or(0, |bytes| bytes.value());
    let (mut table, mut spool) = (tx.open_table(KEPT)?, tx.open_table(SPOOL)?);
    for row in rows {
        let key = (identity.as_bytes(), row.n);
        let mut row = row.clone();
        if spool.remove(key)?.is_some() {
            spooled = spooled.saturating_sub(u64::from(row.size));
            row.place = Place::Gone;
        }
        table.insert(key, encode(&row)?.as_slice())?;
    }
    let over = rows.last().map_or(0, |last| last.n.saturating_sub(u64::from(MAX_KEPT)));
    table.retain_in((identity.as_bytes(), 0)..=(identity.as_bytes(), over), |_, _| false)?;
    meta.insert(SPOOLED, spooled)?;
    Ok(())
}

fn write_accounts<'a>(
    tx: &WriteTransaction,
    accounts: impl Iterator<Item = (&'a [u8; 32], &'a Account)>,
) -> Result<(), Failed> {
    let mut table = tx.open_table(ACCOUNTS)?;
    for (identity, account) in accounts {
        table.insert(identity, encode(account)?.as_slice())?;
    }
    Ok(())
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Failed> {
    // Such rows always encode; if one did not, nothing is written.
    rmp_serde::to_vec(value).map_err(|error| Failed(redb::Error::Corrupted(error.to_string())))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

    use bytes::Bytes;
    use sealbus_envelope::{
        identity::{BusId, SigningKey},
        keys::KeyId,
        label::Label,
        name::{AgentToken, Name},
        order::{OrderId, OrderKind, Target},
        reason::Reason,
    };

    use super::*;
    fn key() -> PublicKey {
        SigningKey::from_seed(&[7; 32]).public().clone()
    }

    fn listed(bytes: &'static [u8], streamed: Option<u64>) -> Listed {
        let sealed = Sealed {
            agent: AgentToken::parse("mallory-abcdefghij").unwrap(),
            subject: "a.b".to_owned(),
            bytes: Bytes::from_static(bytes),
            time: Millis(5),
            reason: Reason::Quarantined,
            trigger: false,
        };
        Listed { identity: key(), sealed, streamed, incident: 1 }
    }

    #[test]
    fn what_is_kept_is_numbered_and_decided_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guard.redb");
        {
            let store = Store::open(&path).unwrap();
            store.keep_evidence(&[listed(b"one", None), listed(b"two", Some(9))], &[(key(), 3)]).unwrap();
        }
        let store = Store::open(&path).unwrap();
        let waiting = store.waiting_evidence(&key(), u64::MAX, 10).unwrap();
        assert_eq!(waiting.iter().map(|(kept, _)| kept.n).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((waiting[0].1.as_deref(), waiting[1].1.as_deref()), (Some(&b"one"[..]), None));
        assert_eq!(waiting[1].0.place, Place::Stream(9));
        let account =
            store.decide_evidence(&key(), &[(waiting[0].0.clone(), Fate::Delivered)], &[], false).unwrap();
        assert_eq!((account.waiting, account.dropped, account.delivered, account.bytes), (1, 3, 1, 3));
        let waiting = store.waiting_evidence(&key(), u64::MAX, 10).unwrap();
        assert_eq!(waiting.len(), 1);
        let newest = store.newest_evidence(&key(), 10).unwrap();
        assert_eq!((newest[1].fate, newest[1].place), (Some(Fate::Delivered), Place::Gone));
    }

    #[test]
    fn an_order_covers_what_came_until_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("guard.redb")).unwrap();
        let mut kept = [listed(b"one", None), listed(b"two", None), listed(b"three", None)];
        for (kept, time) in kept.iter_mut().zip([5, 6, 90]) {
            kept.sealed.time = Millis(time);
        }
        store.keep_evidence(&kept, &[]).unwrap();
        assert!(!store.is_covered(&key(), Millis(4)).unwrap());
        assert!(store.is_covered(&key(), Millis(6)).unwrap());
        let order = |n: u8, kind| Order {
            bus: BusId::from_bytes([0; 32]),
            id: OrderId::from_bytes([n; 16]),
            kind,
            target: Target::Agent { token: kept[0].sealed.agent.clone(), identity: key() },
            reason: "looked at".to_owned(),
            issued: Millis(6),
            valid_until: Millis(1_000),
        };
        let replay = order(1, OrderKind::ReplayEvidence);
        assert!(store.begin_replay(&replay, &key(), Millis(100)).unwrap());
        assert_eq!(store.account(&key()).unwrap().job.map(|job| job.upto), Some(2));
        let discard = order(2, OrderKind::DiscardEvidence);
        assert_eq!(store.discard_evidence(&discard, &key(), Millis(100)).unwrap(), Some(2));
        let waiting = store.waiting_evidence(&key(), u64::MAX, 10).unwrap();
        assert_eq!(waiting.iter().map(|(kept, _)| kept.n).collect::<Vec<_>>(), [3], "nobody has seen it");
    }

    #[test]
    fn papers_of_a_session_that_came_back_are_those_of_now() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("guard.redb")).unwrap();
        let session = SessionId::from_bytes([1; 32]);
        let id = |n| KeyId::from_bytes([n; 32]);
        let label = Label::BOTTOM;
        let papers = |keys: &[(u8, u64)]| Papers {
            agent: AgentToken::parse("mallory-abcdefghij").unwrap(),
            session,
            credential: String::new(),
            certificate: Vec::new(),
            keys: keys.iter().map(|(n, next)| (id(*n), *next)).collect(),
            purposes: keys.iter().map(|(n, _)| (id(*n), Name::parse("tips").unwrap(), label)).collect(),
            incident: 1,
        };
        store.keep_papers(&[(key(), papers(&[(1, 5), (2, 9), (3, 4)]))]).unwrap();
        store.keep_papers(&[(key(), papers(&[(1, 20), (3, 2), (4, 7)]))]).unwrap();
        let kept = store.papers(&key(), session).unwrap().unwrap();
        let next = |n| kept.stood(&id(n)).map(|stood| stood.next);
        assert_eq!(next(1), Some(20), "copies of what was admitted in between are replays");
        assert_eq!((next(2), next(3), next(4)), (None, Some(4), Some(7)));
        assert_eq!(kept.stood(&id(4)).unwrap().purpose, Some(("tips", label)));
    }

    #[test]
    fn what_is_decided_is_listed_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("guard.redb")).unwrap();
        for _ in 0..2 {
            let many: Vec<_> = (0..MAX_KEPT).map(|_| listed(b"x", None)).collect();
            store.keep_evidence(&many, &[]).unwrap();
            let waiting = store.waiting_evidence(&key(), u64::MAX, usize::MAX).unwrap();
            let decided: Vec<_> = waiting.into_iter().map(|(kept, _)| (kept, Fate::Discarded)).collect();
            store.decide_evidence(&key(), &decided, &[], true).unwrap();
        }
        let listed = store.newest_evidence(&key(), usize::MAX).unwrap();
        assert_eq!((listed.len(), listed[0].n), (1_000, 2_000));
    }

    #[test]
    fn there_is_a_bound_and_the_rest_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("guard.redb")).unwrap();
        let many: Vec<_> = (0..MAX_KEPT + 5).map(|_| listed(b"x", None)).collect();
        store.keep_evidence(&many, &[]).unwrap();
        let account = store.account(&key()).unwrap();
        assert_eq!((account.waiting, account.dropped), (MAX_KEPT, 5));
    }
}

//! Held envelopes on disk: on it before their senders hear that they are held, off it before they go on.

use redb::ReadableTable;
use sealbus_envelope::{
    approval::SignedApproval,
    hash::Hash,
    identity::{BusId, PublicKey, SessionId},
    keys::KeyId,
    label::Label,
    name::{AgentToken, Name},
    policy::{ApproverList, Hold},
    time::Millis,
    wire::EnvelopeId,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{HELD, Store, StoreError};
use crate::oversight::holds::{Held, Wanted, WantedBy};

/// A held envelope and its sealed bytes, as they are on disk.
type OnDisk = (Row, ByteBuf);

/// The people of a list, and after how many milliseconds they are asked.
type List = (Name, u32, Vec<(Name, [u8; 32])>);

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    id: EnvelopeId,
    agent: AgentToken,
    session: SessionId,
    rule: Name,
    flow_grant: Option<Name>,
    subject: String,
    label: Label,
    key: KeyId,
    sequence: u64,
    sealed: Millis,
    ttl_ms: u32,
    confirm: bool,
    received: Millis,
    policy: [u8; 32],
    credential: String,
    certificate: ByteBuf,
    wanted: Vec<(WantedBy, u8, u32, Vec<List>)>,
    approvals: Vec<ByteBuf>,
}

impl Row {
    fn of(held: &Held) -> Self {
        let list = |list: &ApproverList| {
            let people = list.people.iter().map(|(name, key)| (name.clone(), *key.as_bytes())).collect();
            (list.name.clone(), list.after_ms, people)
        };
        let wanted = |wanted: &Wanted| {
            let Hold { approvals, deadline_ms, lists } = &wanted.hold;
            (wanted.by.clone(), *approvals, *deadline_ms, lists.iter().map(list).collect())
        };
        Self {
            id: held.id,
            agent: held.agent.clone(),
            session: held.session,
            rule: held.rule.clone(),
            flow_grant: held.flow_grant.clone(),
            subject: held.subject.clone(),
            label: held.label,
            key: held.key,
            sequence: held.sequence,
            sealed: held.sealed,
            ttl_ms: held.ttl_ms,
            confirm: held.confirm,
            received: held.received,
            policy: held.policy,
            credential: held.credential.clone(),
            certificate: ByteBuf::from(held.certificate.clone()),
            wanted: held.wanted.iter().map(wanted).collect(),
            approvals: held.approvals.iter().map(|approval| ByteBuf::from(approval.encode())).collect(),
        }
    }

    fn into_held(self, digest: Hash, bus: BusId) -> Result<Held, String> {
        let text = |refused: sealbus_envelope::reason::Refused| refused.to_string();
        let mut wanted = Vec::with_capacity(self.wanted.len());
        for (by, approvals, deadline_ms, written) in self.wanted {
            let mut lists = Vec::with_capacity(written.len());
            for (name, after_ms, people) in written {
                let people = people.into_iter().map(|(name, key)| Ok((name, PublicKey::from_bytes(&key)?)));
                let people = people.collect::<Result<_, _>>().map_err(text)?;
                lists.push(ApproverList { name, after_ms, people });
            }
            wanted.push(Wanted { by, hold: Hold { approvals, deadline_ms, lists } });
        }
        let approvals = self.approvals.iter().map(|bytes| SignedApproval::verify(bytes, bus));
        Ok(Held {
            digest,
            id: self.id,
            agent: self.agent,
            session: self.session,
            rule: self.rule,
            flow_grant: self.flow_grant,
            subject: self.subject,
            label: self.label,
            key: self.key,
            sequence: self.sequence,
            sealed: self.sealed,
            ttl_ms: self.ttl_ms,
            confirm: self.confirm,
            received: self.received,
            policy: self.policy,
            credential: self.credential,
            certificate: self.certificate.into_vec(),
            wanted,
            approvals: approvals.collect::<Result<_, _>>().map_err(text)?,
        })
    }
}

impl Store {
    /// Keeps held envelopes, all or none of them.
    ///
    /// # Errors
    /// [`StoreError`]; their senders must then not hear that they are held.
    pub fn hold<'h>(&self, held: impl Iterator<Item = (&'h Held, &'h [u8])>) -> Result<(), StoreError> {
        let rows: Vec<(Hash, Vec<u8>)> = held
            .map(|(held, bytes)| Ok((held.digest, self.encode(&(Row::of(held), ByteBuf::from(bytes)))?)))
            .collect::<Result<_, StoreError>>()?;
        self.write(|tx| {
            let mut table = tx.open_table(HELD)?;
            for (digest, row) in &rows {
                table.insert(digest, row.as_slice())?;
            }
            Ok(())
        })
    }

    /// Forgets held envelopes: each was decided, and is decided once.
    ///
    /// # Errors
    /// [`StoreError`]; then none may go on.
    pub fn end_holds(&self, digests: &[Hash]) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut table = tx.open_table(HELD)?;
            for digest in digests {
                table.remove(digest)?;
            }
            Ok(())
        })
    }

    /// All that is held, with its sealed bytes.
    ///
    /// # Errors
    /// [`StoreError`], also if a single record cannot be read: leaving it out would lose what its sender was told is
    /// held.
    pub fn holds(&self, bus: BusId) -> Result<Vec<(Held, Vec<u8>)>, StoreError> {
        let rows = self.read(|tx| {
            let table = tx.open_table(HELD)?;
            let rows =
                table.iter()?.map(|row| row.map(|(digest, row)| (*digest.value(), row.value().to_vec())));
            rows.collect::<Result<Vec<_>, _>>().map_err(Into::into)
        })?;
        let held = rows.into_iter().map(|(digest, row)| {
            let (row, bytes): OnDisk = self.decode(&row)?;
            let held = row.into_held(digest, bus).map_err(|why| StoreError::corrupt(self.path(), why))?;
            Ok((held, bytes.into_vec()))
        });
        held.collect()
    }
}

//! Sender keys: opened by their session, granted to readers, relayed by the guard.

use std::collections::HashSet;

use sealbus_envelope::{
    control::{Granted, Grants, LiveKey, Open, ReaderRecord, Readers, SessionStatement, Want, kind},
    identity::SessionId,
    keys::{Grant, KeyId},
    reason::{Reason, Refused},
    wire::SeenRoots,
};

use super::Sessions;
use crate::{
    audit::entry,
    effect::Effects,
    policy::decide::Principal,
    roster::session::{LiveSession, MAX_KEYS, SendingKey},
};

/// Readers in one part of a list: each takes up to 4 KiB.
const READERS_A_PART: usize = 128;

pub(super) fn sending(key: LiveKey, next: u64) -> SendingKey {
    SendingKey {
        rule: key.rule,
        label: key.label,
        epoch: key.epoch,
        next,
        asker: key.asker,
        granted: HashSet::new(),
        stale_from: None,
    }
}

impl Sessions {
    /// Whether a session may open this key at all: some rule must let it write that label.
    pub(super) fn check_key(&self, who: &Principal, key: &LiveKey, owner: SessionId) -> Result<(), Refused> {
        const WHAT: &str = "sender key";
        let policy = &self.in_force.policy;
        let rule = policy.rule(key.rule.as_str()).ok_or(Refused::new(Reason::UnknownRule, WHAT))?;
        match key.asker {
            Some(asker) if asker == owner || !rule.is_request() => {
                return Err(Refused::new(Reason::WrongPattern, WHAT));
            }
            Some(_) if !rule.subscribers.names(who) => return Err(Refused::new(Reason::NotSubscriber, WHAT)),
            None if !rule.publishers.names(who) => return Err(Refused::new(Reason::NotPublisher, WHAT)),
            _ => {}
        }
        if !policy.declares(key.label) {
            return Err(Refused::new(Reason::LabelUnknown, WHAT));
        }
        if !rule.labels.contains(key.label) {
            return Err(Refused::new(Reason::LabelOutOfRange, WHAT));
        }
        if !who.clearance().covers(key.label) {
            return Err(Refused::new(Reason::AboveClearance, WHAT));
        }
        if key.label.integrity > who.integrity_ceiling() {
            return Err(Refused::new(Reason::AboveIntegrity, WHAT));
        }
        Ok(())
    }

    pub(super) fn open(&mut self, id: SessionId, open: &Open, effects: &mut Effects) -> Result<(), Refused> {
        let session = self.session(id)?;
        let statement =
            SessionStatement::verify(&open.statement, self.roots.bus(), &session.certificate, self.guard)?;
        for key in statement.keys {
            let session = self.session(id)?;
            let allowed = if session.keys.contains_key(&key.key) {
                // Opened twice: a replayed statement must not turn its sequence back.
                Ok(())
            } else if session.keys.len() >= MAX_KEYS {
                Err(Refused::new(Reason::TooLarge, "sender keys"))
            } else {
                self.check_key(&session.principal, &key, id)
            };
            let key_id = key.key;
            if let Err(refused) = allowed {
                let agent = session.agent().clone();
                let answer =
                    Readers { key: key_id, refused: Some(refused.reason), readers: vec![], more: false };
                effects.tell(&agent, id, kind::READERS, &answer)?;
                return Err(refused);
            }
            if !session.keys.contains_key(&key_id) {
                self.retire(id, &key);
                let next = key.next;
                self.roster.add_key(id, key_id, sending(key, next));
            }
            self.tell_readers(id, key_id, effects)?;
        }
        Ok(())
    }

    /// A new epoch of a key ends the ones before it.
    fn retire(&mut self, id: SessionId, key: &LiveKey) {
        let Some(session) = self.roster.get(id) else { return };
        let older = session.keys.iter().filter(|(_, old)| {
            old.rule == key.rule && old.label == key.label && old.asker == key.asker && old.epoch < key.epoch
        });
        // The one before the newest stays for what is under way.
        let mut older: Vec<_> = older.map(|(&id, old)| (old.epoch, id)).collect();
        older.sort();
        older.pop();
        for (_, old) in older {
            self.roster.remove_key(id, old);
        }
    }

    /// Tells a sender everyone who reads its key.
    pub(super) fn tell_readers(
        &self,
        id: SessionId,
        key: KeyId,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let session = self.session(id)?;
        let sending = session.keys.get(&key).ok_or(Refused::new(Reason::UnknownKey, "sender key"))?;
        let records: Vec<ReaderRecord> = match sending.asker {
            Some(asker) => self.roster.get(asker).into_iter().filter_map(LiveSession::record).collect(),
            None => self
                .roster
                .readers(sending.rule.as_str())
                .filter(|reader| reader.id() != id && self.may_hold(reader, sending))
                .filter_map(LiveSession::record)
                .collect(),
        };
        let most = usize::try_from(self.in_force.policy.tables().max_readers).unwrap_or(usize::MAX);
        if records.len() > most {
            let answer = Readers { key, refused: Some(Reason::TooManyReaders), readers: vec![], more: false };
            effects.tell(session.agent(), id, kind::READERS, &answer)?;
            return Err(Refused::new(Reason::TooManyReaders, "sender key"));
        }
        let mut parts = records.chunks(READERS_A_PART).peekable();
        loop {
            let readers = parts.next().unwrap_or_default().to_vec();
            let more = parts.peek().is_some();
            effects.tell(
                session.agent(),
                id,
                kind::READERS,
                &Readers { key, refused: None, readers, more },
            )?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Tells every sender under `rule` of one more reader.
    pub(super) fn announce_reader(
        &self,
        reader: SessionId,
        rule: &str,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let Some(session) = self.roster.get(reader) else { return Ok(()) };
        let Some(record) = session.record() else { return Ok(()) };
        for ((owner, key), _, sending) in self.roster.keys_under(rule) {
            if owner == reader || sending.asker.is_some() || !self.may_hold(session, sending) {
                continue;
            }
            if let Some(sender) = self.roster.get(owner) {
                let readers = Readers { key, refused: None, readers: vec![record.clone()], more: false };
                effects.tell(sender.agent(), owner, kind::READERS, &readers)?;
            }
        }
        Ok(())
    }

    /// Whether the policy lets this session have this key.
    fn may_hold(&self, reader: &LiveSession, key: &SendingKey) -> bool {
        let policy = &self.in_force.policy;
        let subscribed = reader.reads(&key.rule) || key.asker == Some(reader.id());
        subscribed
            && key.asker.is_none_or(|asker| asker == reader.id())
            && policy.may_receive(&reader.principal, key.rule.as_str(), key.label).is_ok()
            && (key.asker.is_some()
                || policy
                    .rule(key.rule.as_str())
                    .is_some_and(|rule| rule.subscribers.names(&reader.principal)))
    }

    /// Checks grants and hands each to its reader.
    pub(super) fn relay(
        &mut self,
        id: SessionId,
        grants: &Grants,
        seen: &impl SeenRoots,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        for bytes in &grants.grants {
            let grant = Grant::decode(bytes)?;
            let sender = self.session(id)?;
            if grant.key_id() != grants.key {
                return Err(Refused::new(Reason::BadGrant, "grant.key"));
            }
            let sending =
                sender.keys.get(&grants.key).ok_or(Refused::new(Reason::UnknownKey, "grant.key"))?;
            let scope = grant.scope();
            if scope.rule != sending.rule || scope.label != sending.label || scope.epoch != sending.epoch {
                return Err(Refused::new(Reason::KeyMismatch, "grant"));
            }
            let digest = grant.reader();
            grant.verify_seen(&sender.certificate, seen)?;
            let reader = self
                .roster
                .owner_of_reader_key(&digest)
                .filter(|reader| self.may_hold(reader, sending))
                .ok_or(Refused::new(Reason::NotSubscriber, "grant.reader"))?;
            let message = Granted {
                credential: sender.credential.as_str().to_owned(),
                certificate: sender.certificate.as_bytes().to_vec().into(),
                grants: vec![bytes.clone()],
            };
            // Recorded first, handed over second: no reader holds a key that the log does not know of.
            effects.record(entry::Body::KeyGranted(entry::KeyGranted {
                key: (*grants.key.as_bytes()).into(),
                sender: sender.agent().to_string().into(),
                sender_session: (*id.as_bytes()).into(),
                reader: reader.agent().to_string().into(),
                reader_session: (*reader.id().as_bytes()).into(),
                rule: sending.rule.to_string().into(),
                label: sending.label,
            }));
            effects.tell(reader.agent(), reader.id(), kind::GRANT, &message)?;
            let reader = reader.id();
            if let Some(sending) = self.roster.key_mut((id, grants.key)) {
                sending.granted.insert(reader);
            }
        }
        Ok(())
    }

    /// A reader lacks a key: its sender is told of it again.
    pub(super) fn want(&self, id: SessionId, want: &Want, effects: &mut Effects) -> Result<(), Refused> {
        let owner = <[u8; 32]>::try_from(want.session.as_slice())
            .map_err(|_| Refused::new(Reason::Malformed, "want.session"))?;
        let sender = self.session(SessionId::from_bytes(owner))?;
        let sending = sender.keys.get(&want.key).ok_or(Refused::new(Reason::UnknownKey, "want.key"))?;
        let reader = self.session(id)?;
        if !self.may_hold(reader, sending) {
            return Err(Refused::new(Reason::NotSubscriber, "want"));
        }
        let record = reader.record().ok_or(Refused::new(Reason::WrongReader, "want"))?;
        let readers = Readers { key: want.key, refused: None, readers: vec![record], more: false };
        effects.tell(sender.agent(), sender.id(), kind::READERS, &readers)
    }
}

//! Sender keys: opened by their session, granted to readers, relayed by the guard.

use std::collections::HashSet;

use sealbus_envelope::{
    control::{Granted, Grants, LiveKey, Open, ReaderRecord, Readers, SessionStatement, Want, kind},
    identity::SessionId,
    keys::{Grant, KeyId},
    name::AgentToken,
    reason::{Reason, Refused},
    time::Millis,
    wire::SeenRoots,
};
use serde_bytes::ByteBuf;

use super::Sessions;
use crate::{
    audit::entry,
    effect::Effects,
    roster::session::{LiveSession, MAX_AGENT_KEYS, MAX_KEYS, SendingKey},
};

/// The most bytes of readers in one part of a list.
const READERS_A_PART: usize = 512 << 10;
/// What a part takes besides its readers, and each reader besides its own bytes.
const PART_OVERHEAD: usize = 256;
/// How many keys of one rule, label and asker are in use at once: the newest, and the one before it for what
/// is under way.
const EPOCHS_IN_USE: usize = 2;

impl Sessions {
    /// Whether a session may use this key at all: some rule must let it write that label.
    fn check_right(&self, session: &LiveSession, key: &SendingKey, now: Millis) -> Result<(), Refused> {
        const WHAT: &str = "sender key";
        let policy = &self.in_force.policy;
        let mut allowed = policy
            .may_seal(&session.principal, key.rule.as_str(), key.label, key.asker.is_some())
            .map_err(|reason| Refused::new(reason, WHAT))?;
        // A key is 32 bytes of its sender's choice: one for lower readers could itself tell what was read.
        policy
            .check_key_floor(&session.principal, &session.floor, allowed.rule, key.label, now)
            .or_else(|reason| allowed.faults.found(reason, WHAT))?;
        self.check_fan_in(session, key, allowed.rule.fan_in)
            .or_else(|refused| allowed.faults.found(refused.reason, refused.what))
    }

    /// At most so many agents hold an open key under a rule. Who answers does not count among those who ask: else
    /// a rule for one asker would have no answers.
    fn check_fan_in(
        &self,
        session: &LiveSession,
        key: &SendingKey,
        most: Option<u32>,
    ) -> Result<(), Refused> {
        let Some(most) = most else { return Ok(()) };
        let alike = self.roster.keys_under(key.rule.as_str());
        let alike = alike.filter(|(_, other)| other.asker.is_some() == key.asker.is_some());
        let owners = alike.filter_map(|((owner, _), _)| self.roster.get(owner));
        let others: HashSet<&AgentToken> =
            owners.map(LiveSession::agent).filter(|agent| *agent != session.agent()).collect();
        if u32::try_from(others.len()).is_ok_and(|others| others < most) {
            Ok(())
        } else {
            Err(Refused::new(Reason::FanInExceeded, "sender key"))
        }
    }

    pub(super) fn open(
        &mut self,
        id: SessionId,
        open: &Open,
        now: Millis,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let session = self.session(id)?;
        let agent = session.agent().clone();
        let statement =
            SessionStatement::verify(&open.statement, self.roots.bus(), &session.certificate, self.guard)?;
        for key in statement.keys {
            let key_id = key.key;
            let opened = self.open_key(id, key, now).and_then(|()| self.tell_readers(id, key_id, effects));
            if let Err(refused) = opened {
                let answer =
                    Readers { key: key_id, refused: Some(refused.reason), readers: vec![], more: false };
                effects.tell(&agent, id, kind::READERS, &answer)?;
                return Err(refused);
            }
        }
        Ok(())
    }

    /// Takes a key into use, unless it is; then its sequence only moves on: a repeated statement must not turn
    /// it back.
    pub(super) fn open_key(&mut self, id: SessionId, key: LiveKey, now: Millis) -> Result<(), Refused> {
        const WHAT: &str = "sender keys";
        let session = self.session(id)?;
        if let Some(known) = session.keys.get(&key.key) {
            if (&known.rule, known.label, known.epoch, known.asker)
                != (&key.rule, key.label, key.epoch, key.asker)
            {
                return Err(Refused::new(Reason::KeyMismatch, "sender key"));
            }
            if let Some(known) = self.roster.key_mut((id, key.key)) {
                known.next = known.next.max(key.next);
            }
            return Ok(());
        }
        if key.asker == Some(id) {
            return Err(Refused::new(Reason::WrongPattern, "sender key"));
        }
        let (key_id, key) = (key.key, SendingKey::new(key, now));
        self.check_right(session, &key, now)?;
        self.check_watched(session, key.label)?;
        let in_use = session.epochs_of(&key);
        let newer = in_use.iter().filter(|(epoch, _)| *epoch > key.epoch).count();
        if newer >= EPOCHS_IN_USE {
            return Err(Refused::new(Reason::StaleKey, "sender key"));
        }
        // What this one ends must not count against it.
        let mut older: Vec<_> = in_use.iter().copied().filter(|(epoch, _)| *epoch <= key.epoch).collect();
        older.sort();
        older.truncate((older.len() + newer + 1).saturating_sub(EPOCHS_IN_USE));
        if session.keys.len() - older.len() >= MAX_KEYS {
            return Err(Refused::new(Reason::TooLarge, WHAT));
        }
        if self.roster.keys_of_agent(session.agent()) >= MAX_AGENT_KEYS {
            return Err(Refused::new(Reason::Overloaded, WHAT));
        }
        let until = self.marks_until(now);
        for (_, old) in older {
            self.roster.remove_key(id, old, until);
        }
        self.roster.add_key(id, key_id, key);
        Ok(())
    }

    /// Tells a sender everyone who reads its key.
    pub(super) fn tell_readers(
        &self,
        id: SessionId,
        key: KeyId,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        if effects.cost() >= self.spend_until {
            return Err(Refused::new(Reason::RateLimited, "control"));
        }
        let session = self.session(id)?;
        let sending = session.keys.get(&key).ok_or(Refused::new(Reason::UnknownKey, "sender key"))?;
        let most = usize::try_from(self.in_force.policy.tables().max_readers).unwrap_or(usize::MAX);
        let asker = sending.asker.and_then(|asker| self.roster.get(asker));
        let readers = self.roster.readers(sending.rule.as_str()).filter(|_| sending.asker.is_none());
        let records: Vec<ReaderRecord> = asker
            .into_iter()
            .chain(readers)
            .filter(|reader| reader.id() != id && self.may_hold(reader, sending))
            .filter_map(LiveSession::record)
            .take(most.saturating_add(1))
            .collect();
        if records.len() > most {
            return Err(Refused::new(Reason::TooManyReaders, "sender key"));
        }
        let room = READERS_A_PART.min(self.max_payload()).saturating_sub(PART_OVERHEAD);
        let (mut parts, mut part, mut size) = (Vec::new(), Vec::new(), 0);
        for record in records {
            let bytes = record.credential.len() + record.certificate.len() + record.reader_key.len() + 16;
            if size + bytes > room && !part.is_empty() {
                parts.push(std::mem::take(&mut part));
                size = 0;
            }
            size += bytes;
            part.push(record);
        }
        parts.push(part);
        let last = parts.len() - 1;
        for (n, readers) in parts.into_iter().enumerate() {
            let part = Readers { key, refused: None, readers, more: n < last };
            effects.tell(session.agent(), id, kind::READERS, &part)?;
        }
        Ok(())
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
        for ((owner, key), sending) in self.roster.keys_under(rule) {
            // Who has the key needs no telling of; who lost it asks for it.
            let has = owner == reader || sending.granted().contains(&reader);
            if has || sending.asker.is_some() || !self.may_hold(session, sending) {
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
    pub(super) fn may_hold(&self, reader: &LiveSession, key: &SendingKey) -> bool {
        let policy = &self.in_force.policy;
        let who = &reader.principal;
        let Ok(rule) = policy.may_receive(who, key.rule.as_str(), key.label) else { return false };
        match key.asker {
            Some(asker) => rule.is_request() && asker == reader.id() && rule.publishers.names(who),
            None => rule.subscribers.names(who) && reader.reads(&key.rule),
        }
    }

    /// Checks grants and hands each to its reader. One whose reader has left meanwhile does not keep the
    /// others from theirs.
    pub(super) fn relay(
        &mut self,
        id: SessionId,
        grants: &Grants,
        seen: &impl SeenRoots,
        now: Millis,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        let mut outcome = Ok(());
        for bytes in &grants.grants {
            match self.relay_one(id, grants.key, bytes, seen, now, effects) {
                Err(refused) if refused.reason == Reason::NotSubscriber => outcome = Err(refused),
                relayed => relayed?,
            }
        }
        outcome
    }

    fn relay_one(
        &mut self,
        id: SessionId,
        key: KeyId,
        bytes: &ByteBuf,
        seen: &impl SeenRoots,
        now: Millis,
        effects: &mut Effects,
    ) -> Result<(), Refused> {
        if effects.cost() >= self.spend_until {
            return Err(Refused::new(Reason::RateLimited, "control"));
        }
        let grant = Grant::decode(bytes)?;
        let sender = self.session(id)?;
        if grant.key_id() != key {
            return Err(Refused::new(Reason::BadGrant, "grant.key"));
        }
        let sending = sender.keys.get(&key).ok_or(Refused::new(Reason::UnknownKey, "grant.key"))?;
        let scope = grant.scope();
        if scope.rule != sending.rule || scope.label != sending.label || scope.epoch != sending.epoch {
            return Err(Refused::new(Reason::KeyMismatch, "grant"));
        }
        let digest = grant.reader();
        grant.verify_seen(&sender.certificate, seen)?;
        // The policy may have changed since the key was opened.
        self.check_right(sender, sending, now)?;
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
            key: (*key.as_bytes()).into(),
            sender: sender.agent().to_string().into(),
            sender_session: (*id.as_bytes()).into(),
            reader: reader.agent().to_string().into(),
            reader_session: (*reader.id().as_bytes()).into(),
            rule: sending.rule.to_string().into(),
            label: sending.label,
        }));
        let (agent, reader) = (reader.agent().clone(), reader.id());
        let (rule, label) = (sending.rule.clone(), sending.label);
        self.raise_floor(reader, rule, label, effects)?;
        effects.tell(&agent, reader, kind::GRANT, &message)?;
        self.roster.grant((id, key), reader);
        Ok(())
    }

    /// A reader lacks a key: its sender is told of it again.
    pub(super) fn want(&mut self, id: SessionId, want: &Want, effects: &mut Effects) -> Result<(), Refused> {
        let owner = <[u8; 32]>::try_from(want.session.as_slice())
            .map_err(|_| Refused::new(Reason::Malformed, "want.session"))?;
        let owner = SessionId::from_bytes(owner);
        if self.roster.was_in_use(&(owner, want.key)) {
            // Its sender left while the envelope was on its way: nobody can grant it any more, and asking was
            // no fault of the reader's.
            return Ok(());
        }
        let sender = self.session(owner)?;
        let sending = sender.keys.get(&want.key).ok_or(Refused::new(Reason::UnknownKey, "want.key"))?;
        let reader = self.session(id)?;
        if !self.may_hold(reader, sending) {
            return Err(Refused::new(Reason::NotSubscriber, "want"));
        }
        let record = reader.record().ok_or(Refused::new(Reason::WrongReader, "want"))?;
        let (agent, owner) = (sender.agent().clone(), sender.id());
        // Each time costs the sender an encapsulation.
        if !self.wanted.insert((id, (owner, want.key))) {
            return Ok(());
        }
        let readers = Readers { key: want.key, refused: None, readers: vec![record], more: false };
        effects.tell(&agent, owner, kind::READERS, &readers)
    }
}

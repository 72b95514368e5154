//! What comes into the session's box. The broker lets only the guard write there, but a hostile server can
//! too: whatever matters in it is signed by whom it concerns, and checked here.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sealbus_envelope::{
    control::{
        self, DeniedNotice, FloorNotice, Granted, Grants, LobbyNotice, ReaderRecord, Readers, Rekey,
        Subscribed, VerdictNotice, Welcome, kind,
    },
    hash::Hash,
    identity::{Credential, Member, SessionId},
    keys::{self, ReaderKey, SenderKey},
    policy::{FlowGrant, Rule},
    proof::admission::{Admission, Verdict},
    reader::{self, Lookup, ReadingKey},
    reason::{Reason, Refused},
};
use serde_bytes::ByteBuf;

use super::{Driver, Phase};
use crate::{
    clock,
    error::{Error, ErrorKind},
    events::{Event, RekeyReason},
    inlet::Raw,
    outbox::{Outgoing, Signal},
    policy_view::View,
    publish::Receipt,
    sealing::Slot,
    shared::Link,
    sync,
};

/// How long after a denial for want of a responder the request is sent again, the first time.
const RESPONDER_DELAY: Duration = Duration::from_millis(100);
/// How many grants go in one message.
const GRANTS_A_MESSAGE: usize = 64;

/// What accepting a grant looks up: rules, nothing else.
pub(crate) struct PolicyOnly<'a>(pub(crate) &'a View);

impl Lookup for PolicyOnly<'_> {
    fn guard(&self, _: &[u8; 32]) -> Option<Arc<Credential>> {
        None
    }
    fn member(&self, _: &SessionId) -> Option<Arc<Member>> {
        None
    }
    fn rule(&self, name: &str) -> Option<Arc<Rule>> {
        self.0.rule(name).cloned()
    }
    fn flow_grant(&self, name: &str) -> Option<Arc<FlowGrant>> {
        self.0.flow_grant(name).cloned()
    }
    fn key(&self, _: &keys::KeyId) -> Option<Arc<ReadingKey>> {
        None
    }
    fn asked(&self, _: &Hash) -> bool {
        false
    }
}

impl Driver {
    pub(super) async fn on_box(&mut self, message: async_nats::Message) {
        let subject = message.subject.clone();
        let kind = self.shared.session.subjects().read_box_kind(&subject).unwrap_or_default().to_owned();
        let bytes = message.payload.clone();
        let handled = match kind.as_str() {
            kind::REQUEST | kind::REPLY => return self.pass_on(message),
            kind::WELCOME => control::decode(&bytes).and_then(|welcome| self.on_welcome(&welcome)),
            kind::READERS => match control::decode(&bytes) {
                Ok(readers) => self.on_readers(readers).await,
                Err(refused) => Err(refused),
            },
            kind::GRANT => control::decode(&bytes).and_then(|granted| self.on_granted(&granted)),
            kind::VERDICT => control::decode(&bytes).and_then(|verdict| self.on_verdict(&verdict)),
            kind::DENIED => control::decode(&bytes).map(|denied| self.on_denied(denied)),
            kind::REKEY => control::decode(&bytes).map(|rekey| self.on_rekey(&rekey)),
            kind::SUBSCRIBED => control::decode(&bytes).map(|answer| self.on_subscribed(&answer)),
            kind::FLOOR => control::decode(&bytes).map(|FloorNotice { floor }| self.shared.set_floor(floor)),
            kind::PAUSED => control::decode(&bytes).and_then(|notice| self.shared.set_paused(&notice)),
            kind::HELD => control::decode(&bytes).map(|notice| self.on_held(notice)),
            kind::HANDED => control::decode(&bytes).map(|handed| self.asking.handed(handed)),
            kind::APPROVAL => control::decode(&bytes).map(|submitted| self.asking.submitted(submitted)),
            kind::LOBBY => control::decode(&bytes).map(|notice| self.on_lobby(&notice)),
            // A newer guard may say more than we understand.
            _ => Ok(()),
        };
        if let Err(refused) = handled {
            tracing::debug!(kind, %refused, "box message refused");
            self.shared.events.refused(refused.reason, &kind);
        }
    }

    fn pass_on(&mut self, message: async_nats::Message) {
        if self.requests.try_send(Raw::new(message)).is_err() {
            self.dropped += 1;
        }
    }

    fn on_welcome(&mut self, welcome: &Welcome) -> Result<(), Refused> {
        let shared = Arc::clone(&self.shared);
        let previous = sync::get(&shared.view);
        let view = match View::read(welcome, &shared.roots, previous.as_deref(), self.guard_time) {
            Ok(view) => Arc::new(view),
            Err(refused) => {
                if previous.is_none() {
                    shared.set_link(Link::WrongGuard(refused.reason));
                }
                return Err(refused);
            }
        };
        if let Phase::Greeted { guard, signer, .. } = &self.phase {
            if view.guard(signer).is_none() {
                shared.set_link(Link::WrongGuard(Reason::WrongRole));
                return Err(Refused::new(Reason::WrongRole, "heartbeat"));
            }
            let guard = *guard;
            self.phase = Phase::Welcomed { guard };
            if self.welcomed_by.replace(guard).is_some_and(|last| last != guard) {
                self.give_up_verdicts();
            }
        }
        sync::set(&shared.view, Some(Arc::clone(&view)));
        shared.set_floor(welcome.floor);
        shared.doubt_paused();
        if let Some(previous) = previous {
            if view.head.version > previous.head.version {
                shared.events.send(Event::PolicyChanged { version: view.head.version });
            }
            if view.status.version > previous.status.version {
                shared.events.send(Event::StatusChanged { version: view.status.version });
                self.sweep(Instant::now());
            }
        }
        if matches!(self.phase, Phase::Welcomed { .. }) && shared.set_link(Link::Ready) {
            let ids: Vec<u32> = self.readings.keys().copied().collect();
            ids.into_iter().for_each(|id| self.declare(id));
            let now = Instant::now();
            let keys = sync::lock(&shared.sender_keys).unanswered(now, now);
            self.announce(keys);
            shared.signal(Signal::Resume);
        }
        shared.bump();
        Ok(())
    }

    /// Another guard will not answer what was sent to the one before. To send it again would be to publish it
    /// twice if that one did admit it, so the agent decides.
    fn give_up_verdicts(&self) {
        let unanswered = std::mem::take(&mut *sync::lock(&self.shared.verdicts));
        for message in unanswered.into_values() {
            let detail = format!(
                "`{}`: the guard restarted before it answered; it may have admitted it",
                message.subject
            );
            if let Some(confirm) = message.confirm {
                let _gave_up =
                    confirm.send(Err(Error::with_reason(ErrorKind::Timeout, Reason::Timeout, detail)));
            }
        }
    }

    async fn on_readers(&mut self, message: Readers) -> Result<(), Refused> {
        let shared = Arc::clone(&self.shared);
        let view = sync::get(&shared.view).ok_or(Refused::new(Reason::NoPolicy, "readers"))?;
        let Readers { key, refused, readers, more } = message;
        if let Some(reason) = refused {
            return self.key_refused(key, reason);
        }
        let max = usize::try_from(view.tables.max_readers).unwrap_or(usize::MAX);
        let opening = {
            let mut sender_keys = sync::lock(&shared.sender_keys);
            match sender_keys.opening(key) {
                Some(opening) => {
                    opening.asked = Instant::now();
                    opening.readers.extend(readers);
                    if opening.readers.len() > max {
                        drop(sender_keys);
                        return self.key_refused(key, Reason::TooManyReaders);
                    }
                    if more {
                        return Ok(());
                    }
                    Some((Arc::clone(&opening.key), std::mem::take(&mut opening.readers)))
                }
                // Somebody joined: the newcomer gets the key in use.
                None => sender_keys.live(key).map(|live| (live, readers)),
            }
        };
        let Some((sender_key, readers)) = opening else {
            return Err(Refused::new(Reason::UnknownKey, "readers"));
        };
        let slot = sync::lock(&shared.sender_keys).slot(key).cloned();
        let Some(slot) = slot else { return Ok(()) };
        if let Err(refused) = self.grant_all(&sender_key, &slot, &readers, &view).await {
            return self.key_refused(key, refused.reason);
        }
        self.control.key_ready(key);
        Ok(())
    }

    /// Gives a key up that is being opened; one in use stays.
    fn key_refused(&self, key: keys::KeyId, reason: Reason) -> Result<(), Refused> {
        let mut sender_keys = sync::lock(&self.shared.sender_keys);
        if sender_keys.opening(key).is_some()
            && let Some(slot) = sender_keys.failed(key)
        {
            let subject = format!("open {}", slot.rule);
            self.shared.events.send(Event::Denied {
                reason,
                what: "sender key".to_owned(),
                subject,
                count: 1,
            });
            self.shared.signal(Signal::Failed(slot, reason));
        }
        Err(Refused::new(reason, "readers"))
    }

    /// Seals a key to each reader that the signed policy lets read it, whatever the guard says.
    async fn grant_all(
        &self,
        key: &SenderKey,
        slot: &Slot,
        readers: &[ReaderRecord],
        view: &View,
    ) -> Result<(), Refused> {
        // Past it, who is revoked is not known: nobody new gets a key.
        view.status.check_time(clock::now())?;
        for chunk in readers.chunks(GRANTS_A_MESSAGE) {
            let mut sealed_to = Vec::with_capacity(chunk.len());
            for reader in chunk {
                match self.check_reader(reader, slot, view) {
                    Ok(reader) => sealed_to.push(reader),
                    Err(refused) => self.shared.events.refused(refused.reason, "reader"),
                }
            }
            let to: Vec<_> = sealed_to.iter().map(|key| (key.digest(), key.public())).collect();
            if to.is_empty() {
                continue;
            }
            let grants = keys::grant(key, self.shared.session.key(), &to, &mut sync::rng())?;
            let grants = grants.into_iter().map(ByteBuf::from).collect();
            self.control.say(control::verb::GRANT, &Grants { key: key.id(), grants });
            // A thousand encapsulations take a tenth of a second; heartbeats are waiting.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn check_reader(&self, record: &ReaderRecord, slot: &Slot, view: &View) -> Result<ReaderKey, Refused> {
        let rule = view.rule(slot.rule.as_str()).ok_or(Refused::new(Reason::UnknownRule, "reader"))?;
        let (issuer, asked) = (&self.shared.roots.issuer, slot.asker.is_some());
        let (reader, key) =
            reader::check_reader(record, issuer, rule, slot.label, asked, &self.shared.context(view))?;
        if slot.asker.is_some_and(|asker| asker != reader.session()) {
            return Err(Refused::new(Reason::WrongReader, "reader"));
        }
        Ok(key)
    }

    fn on_granted(&mut self, granted: &Granted) -> Result<(), Refused> {
        let shared = Arc::clone(&self.shared);
        let view = sync::get(&shared.view).ok_or(Refused::new(Reason::NoPolicy, "grant"))?;
        let (bus, issuer) = (shared.session.bus(), &shared.roots.issuer);
        let sender = Arc::new(Member::verify(&granted.credential, &granted.certificate, bus, issuer)?);
        let context = shared.context(&view);
        let lookup = PolicyOnly(&view);
        for bytes in &granted.grants {
            let accepted = {
                let reader_keys = sync::lock(&shared.reader_keys);
                reader::accept_grant(bytes, &sender, &reader_keys.secrets(), &context, &lookup)
            };
            match accepted {
                Ok(key) => {
                    self.wants.remove(&key.id());
                    sync::lock(&shared.keyring).insert(key, &sender, Instant::now());
                }
                Err(refused) => shared.events.refused(refused.reason, "grant"),
            }
        }
        shared.bump();
        Ok(())
    }

    fn on_verdict(&self, notice: &VerdictNotice) -> Result<(), Refused> {
        let view = sync::get(&self.shared.view).ok_or(Refused::new(Reason::NoPolicy, "verdict"))?;
        let admission = Admission::decode(&notice.admission)?;
        let guard =
            view.guard(&admission.guard).ok_or(Refused::new(Reason::BadAdmission, "verdict.guard"))?;
        admission.verify(self.shared.session.bus(), &notice.digest, &guard.claims().identity)?;
        match admission.decision.verdict {
            Verdict::Admit => {
                let waiting = sync::lock(&self.shared.verdicts).remove(&notice.digest);
                let confirm = waiting.and_then(|mut message| message.confirm.take());
                if let Some(confirm) = confirm.or_else(|| self.decided(&notice.digest)) {
                    let receipt = Receipt { digest: notice.digest, decision: admission.decision };
                    let _gave_up = confirm.send(Ok(receipt));
                }
            }
            Verdict::Deny => self.deny(&notice.digest, notice.refused.unwrap_or(Reason::Denied)),
        }
        Ok(())
    }

    /// A guard signed that this message was not admitted and never will be: tells who waits for it, or seals it again
    /// if only its key was denied. Nobody signed the reason: a server that changes it has another copy sent, but only
    /// of what no reader gets.
    fn deny(&self, digest: &[u8; 32], reason: Reason) {
        let what = "the guard's verdict";
        if let Some(confirm) = self.decided(digest) {
            let detail = format!("{what}: {}", reason.meaning());
            let _gave_up = confirm.send(Err(Error::with_reason(ErrorKind::Denied, reason, detail)));
            return;
        }
        let Some(mut message) = sync::lock(&self.shared.verdicts).remove(digest) else { return };
        message.reply = sync::lock(&self.shared.replies).remove(digest);
        match reason {
            Reason::StaleKey | Reason::UnknownKey => {
                let mut sender_keys = sync::lock(&self.shared.sender_keys);
                let live = sender_keys.live_slots().into_iter().find(|(slot, _)| *slot == message.slot);
                if let Some((_, key)) = live {
                    sender_keys.retire(key);
                }
                drop(sender_keys);
                return self.shared.signal(Signal::Again(Box::new(message), reason));
            }
            // A responder that has just begun to serve may not have its key yet.
            Reason::NoResponder => return self.again_later(message, reason),
            _ => {}
        }
        if reason == Reason::WorkflowPaused {
            self.shared.assume_paused(&message.slot.rule);
            let workflow = self.shared.paused_for(&message.slot.rule);
            if let (Some(confirm), Some(workflow)) = (message.confirm.take(), workflow) {
                let _gave_up = confirm.send(Err(Error::paused(workflow)));
            }
            return;
        }
        if let Some(confirm) = message.confirm {
            let detail = format!("`{}`: {what}: {}", message.subject, reason.meaning());
            let _gave_up = confirm.send(Err(Error::with_reason(ErrorKind::Denied, reason, detail)));
        }
    }

    /// Who was to answer an admitted request is gone. It may have acted on the request before, so the request is not
    /// repeated here.
    fn unanswered(&self, digest: &[u8; 32]) {
        if let Some(asker) = sync::lock(&self.shared.replies).remove(digest) {
            let (reason, detail) = (
                Reason::ResponderQuarantined,
                "no reply will come; the request may have been acted on, and is not repeated by itself",
            );
            let _gave_up = asker.send(Err(Error::with_reason(ErrorKind::Denied, reason, detail)));
        }
    }

    fn again_later(&self, message: Outgoing, reason: Reason) {
        let shared = Arc::clone(&self.shared);
        let delay = RESPONDER_DELAY * u32::from(message.attempts + 1);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            shared.signal(Signal::Again(Box::new(message), reason));
        });
    }

    /// Nobody signs these, so a hostile server may deny here what the guard admits. Were that believed, the caller
    /// would be told that nothing was admitted, and the message would be sealed and sent again: once for each denial
    /// that the server makes up. What waits for a verdict therefore goes on waiting for the signed one.
    fn on_denied(&mut self, denied: DeniedNotice) {
        let DeniedNotice { reason, what, digest, subject, count, .. } = denied;
        if matches!(reason, Reason::UnknownSession | Reason::OldEpoch | Reason::UnknownKey) {
            // The guard lost track of us: the next heartbeat is greeted, with all live keys.
            if self.is_welcome() {
                self.phase = Phase::Waiting;
                self.shared.set_link(Link::Joining);
            }
        }
        if reason == Reason::Quarantined {
            self.shared.events.send(Event::Quarantined);
        }
        if let Phase::Greeted { .. } = self.phase
            && subject.ends_with(control::verb::HELLO)
            && !matches!(reason, Reason::UnknownSession | Reason::OldEpoch | Reason::RateLimited)
        {
            self.shared.set_link(Link::Refused(reason));
        }
        if reason == Reason::ResponderQuarantined
            && let Some(digest) = digest.and_then(|digest| <[u8; 32]>::try_from(digest.as_slice()).ok())
        {
            self.unanswered(&digest);
        }
        self.shared.events.send(Event::Denied { reason, what, subject, count });
    }

    fn on_rekey(&mut self, rekey: &Rekey) {
        let retired = sync::lock(&self.shared.sender_keys).retire(rekey.key);
        if let Some(slot) = retired {
            let (rule, label, why) = (slot.rule.clone(), slot.label, RekeyReason::Guard(rekey.reason));
            self.open(&slot);
            self.shared.events.send(Event::Rekeyed { rule, label, why });
        } else if let Some(slot) = sync::lock(&self.shared.sender_keys).failed(rekey.key) {
            // Rotated away while it was being opened: what waits for it asks for another.
            self.shared.signal(Signal::Ready(slot));
        }
    }

    fn on_subscribed(&mut self, answer: &Subscribed) {
        let Some(reading) = self.readings.get_mut(&answer.id) else { return };
        reading.asked = None;
        let group = reading.group;
        match answer.refused {
            Some(reason) => {
                let detail =
                    format!("`{}` under rule `{}`: {}", reading.pattern, reading.rule, reason.meaning());
                let late = !self.groups.contains_key(&group);
                if late {
                    self.readings.remove(&answer.id);
                    let subject = "subscribe".to_owned();
                    self.shared.events.send(Event::Denied { reason, what: detail, subject, count: 1 });
                } else {
                    self.finish_group(group, Err(Error::with_reason(ErrorKind::Denied, reason, detail)));
                }
            }
            None => {
                if let Some(waiting) = self.groups.get_mut(&group) {
                    waiting.open = waiting.open.saturating_sub(1);
                    if waiting.open == 0 {
                        let ids = waiting.ids.clone();
                        self.finish_group(group, Ok(ids));
                    }
                }
            }
        }
    }

    fn on_lobby(&mut self, notice: &LobbyNotice) {
        self.phase = Phase::Waiting;
        if self.shared.set_link(Link::Refused(notice.reason)) {
            if notice.reason == Reason::Quarantined {
                self.shared.events.send(Event::Quarantined);
            }
            self.shared.events.send(Event::Lobby { reason: notice.reason });
        }
    }
}

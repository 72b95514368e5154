//! This session's own sender keys: one a (rule, label, asker), opened when first needed, replaced by time,
//! by count and when the guard says so.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use sealbus_envelope::{
    control::{LiveKey, MAX_LIVE_KEYS, ReaderRecord},
    identity::SessionId,
    keys::{KeyId, KeyScope, SenderKey},
    label::Label,
    name::Name,
    reason::{Reason, Refused},
};

use crate::{session::Session, sync};

/// A key is replaced after so many messages,
const MAX_MESSAGES: u64 = 1 << 20;
/// or after an hour,
const MAX_AGE: Duration = Duration::from_secs(3600);
/// less up to this, so that the keys of a fleet started at once are not replaced at once.
const MAX_JITTER_MS: u64 = 10 * 60 * 1000;
/// A key that nothing was sealed with for this long is forgotten when room is needed.
const IDLE: Duration = Duration::from_secs(600);

/// What a sender key is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) rule: Name,
    pub(crate) label: Label,
    /// For replies: the session that asked, the only one that reads them.
    pub(crate) asker: Option<SessionId>,
}

/// A key in use.
#[derive(Debug)]
struct Live {
    key: Arc<SenderKey>,
    next: u64,
    replace_at: Instant,
    used: Instant,
}

/// A key whose readers are being asked for.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) key: Arc<SenderKey>,
    /// The readers that came so far.
    pub(crate) readers: Vec<ReaderRecord>,
    /// When it was last asked for.
    pub(crate) asked: Instant,
}

#[derive(Debug, Default)]
struct State {
    live: Option<Live>,
    opening: Option<Opening>,
}

/// What the sender task finds for a message.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Seal with this key and this sequence number; `replace` when it is time for a successor.
    Key { key: Arc<SenderKey>, sequence: u64, replace: bool },
    /// There is no key yet; `ask` if nobody asked for one.
    None { ask: bool },
}

/// All sender keys of a session.
#[derive(Debug, Default)]
pub(crate) struct SenderKeys {
    /// Of the whole session, so that no (rule, label) meets an epoch twice even if its slot was forgotten.
    next_epoch: u32,
    slots: HashMap<Slot, State>,
    by_id: HashMap<KeyId, Slot>,
}

impl SenderKeys {
    /// The key and the next sequence number for a message.
    pub(crate) fn take(&mut self, slot: &Slot, now: Instant) -> Taken {
        let Some(state) = self.slots.get_mut(slot) else { return Taken::None { ask: true } };
        let opening = state.opening.is_some();
        match &mut state.live {
            None => Taken::None { ask: !opening },
            Some(live) => {
                let sequence = live.next;
                live.next += 1;
                live.used = now;
                let replace = !opening && (live.next >= MAX_MESSAGES || now >= live.replace_at);
                Taken::Key { key: Arc::clone(&live.key), sequence, replace }
            }
        }
    }

    /// Makes a key for the slot, to be announced; none if one is on its way.
    pub(crate) fn open(
        &mut self,
        slot: &Slot,
        session: &Session,
        now: Instant,
    ) -> Result<Option<LiveKey>, Refused> {
        if !self.slots.contains_key(slot) && self.slots.len() >= MAX_LIVE_KEYS {
            self.forget_idle(now);
            if self.slots.len() >= MAX_LIVE_KEYS {
                return Err(Refused::new(Reason::Overloaded, "sender keys"));
            }
        }
        let state = self.slots.entry(slot.clone()).or_default();
        if state.opening.is_some() {
            return Ok(None);
        }
        let scope = KeyScope {
            bus: session.bus(),
            session: session.id(),
            rule: slot.rule.clone(),
            label: slot.label,
            epoch: self.next_epoch,
        };
        self.next_epoch += 1;
        let key = Arc::new(SenderKey::generate(&mut sync::rng(), scope));
        self.by_id.insert(key.id(), slot.clone());
        let announced = live_key(slot, &key, 0);
        state.opening = Some(Opening { key, readers: Vec::new(), asked: now });
        Ok(Some(announced))
    }

    /// The slot of a key of ours.
    pub(crate) fn slot(&self, key: KeyId) -> Option<&Slot> {
        self.by_id.get(&key)
    }

    /// The key that is being opened under this id.
    pub(crate) fn opening(&mut self, key: KeyId) -> Option<&mut Opening> {
        let slot = self.by_id.get(&key)?;
        self.slots.get_mut(slot)?.opening.as_mut().filter(|opening| opening.key.id() == key)
    }

    /// The key in use under this id.
    pub(crate) fn live(&self, key: KeyId) -> Option<Arc<SenderKey>> {
        let slot = self.by_id.get(&key)?;
        let live = self.slots.get(slot)?.live.as_ref()?;
        (live.key.id() == key).then(|| Arc::clone(&live.key))
    }

    /// Takes an opened key into use. Says whether it replaced another.
    pub(crate) fn opened(&mut self, key: KeyId, now: Instant) -> Option<(Slot, bool)> {
        let slot = self.by_id.get(&key)?.clone();
        let state = self.slots.get_mut(&slot)?;
        let opening = state.opening.take_if(|opening| opening.key.id() == key)?;
        let mut random = [0; 8];
        rand_core::Rng::fill_bytes(&mut sync::rng(), &mut random);
        let jitter = Duration::from_millis(u64::from_le_bytes(random) % MAX_JITTER_MS);
        let live = Live { key: opening.key, next: 0, replace_at: now + MAX_AGE - jitter, used: now };
        let old = state.live.replace(live);
        if let Some(old) = &old {
            self.by_id.remove(&old.key.id());
        }
        Some((slot, old.is_some()))
    }

    /// Gives an opening up.
    pub(crate) fn failed(&mut self, key: KeyId) -> Option<Slot> {
        let slot = self.by_id.remove(&key)?;
        if let Some(state) = self.slots.get_mut(&slot) {
            state.opening.take_if(|opening| opening.key.id() == key);
        }
        Some(slot)
    }

    /// Takes a key out of use at once; nothing more is sealed with it.
    pub(crate) fn retire(&mut self, key: KeyId) -> Option<Slot> {
        let slot = self.by_id.get(&key)?.clone();
        let state = self.slots.get_mut(&slot)?;
        state.live.take_if(|live| live.key.id() == key)?;
        self.by_id.remove(&key);
        Some(slot)
    }

    /// Takes keys out of use that are due for a successor but that nothing was sealed with of late: the next
    /// message makes a new one. A reader that forgot such a key could be shown its old messages again.
    pub(crate) fn retire_idle(&mut self, now: Instant) {
        for state in self.slots.values_mut() {
            let due =
                |live: &mut Live| now >= live.replace_at && now.saturating_duration_since(live.used) > IDLE;
            if let Some(live) = state.live.take_if(due) {
                self.by_id.remove(&live.key.id());
            }
        }
    }

    /// Every slot with a key in use.
    pub(crate) fn live_slots(&self) -> Vec<(Slot, KeyId)> {
        let live = |(slot, state): (&Slot, &State)| Some((slot.clone(), state.live.as_ref()?.key.id()));
        self.slots.iter().filter_map(live).collect()
    }

    /// What a hello says: keys in use, and where their sequences stand.
    pub(crate) fn statement(&self) -> Vec<LiveKey> {
        let live = |(slot, state): (&Slot, &State)| {
            state.live.as_ref().map(|live| live_key(slot, &live.key, live.next))
        };
        self.slots.iter().filter_map(live).collect()
    }

    /// Keys whose opening was asked for before `since` and not answered: to be asked for again.
    pub(crate) fn unanswered(&mut self, since: Instant, now: Instant) -> Vec<LiveKey> {
        let mut again = Vec::new();
        for (slot, state) in &mut self.slots {
            if let Some(opening) = &mut state.opening
                && opening.asked <= since
            {
                opening.asked = now;
                opening.readers.clear();
                again.push(live_key(slot, &opening.key, 0));
            }
        }
        again
    }

    fn forget_idle(&mut self, now: Instant) {
        let by_id = &mut self.by_id;
        self.slots.retain(|_, state| {
            let idle = state.opening.is_none()
                && state.live.as_ref().is_none_or(|live| now.saturating_duration_since(live.used) > IDLE);
            if let (true, Some(live)) = (idle, &state.live) {
                by_id.remove(&live.key.id());
            }
            !idle
        });
    }
}

fn live_key(slot: &Slot, key: &SenderKey, next: u64) -> LiveKey {
    LiveKey {
        key: key.id(),
        rule: slot.rule.clone(),
        label: slot.label,
        epoch: key.scope().epoch,
        next,
        asker: slot.asker,
    }
}

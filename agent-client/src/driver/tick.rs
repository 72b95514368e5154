//! What the driver does as time passes: notices silence, asks again, replaces keys.

use std::time::{Duration, Instant};

use sealbus_envelope::{
    control::{LiveKey, MAX_LIVE_KEYS, Open, ReaderKeyNotice, Want, verb},
    identity::{Member, SessionId},
    keys::{KeyId, ReaderKey, ReaderSecret},
    reason::Refused,
    time::Validity,
};
use serde_bytes::ByteBuf;

use super::{ANSWER_TIMEOUT, Driver, HEARTBEAT_TIMEOUT, Phase};
use crate::{clock, events::Event, keyring::ReaderKeys, session::Session, shared::Link, sync};

/// A reader key is replaced after an hour,
const READER_KEY_AGE: Duration = Duration::from_secs(3600);
/// its record says that it is good for two,
const READER_KEY_VALID_MS: u64 = 2 * 3_600_000;
/// and its secret half is deleted this long after its successor was announced.
const READER_KEY_GRACE: Duration = Duration::from_secs(120);
/// How far back a reader key's validity begins: clocks differ.
const BACKDATED_MS: u64 = 60_000;
/// How often caches are swept.
const SWEEP: Duration = Duration::from_secs(60);
/// A key is not asked for again sooner.
const WANT_AGAIN: Duration = Duration::from_secs(2);
/// How many wanted keys are remembered.
const MAX_WANTS: usize = 4096;

/// Makes the session's first reader key.
pub(crate) fn reader_key(session: &Session) -> Result<(ReaderSecret, ReaderKey), Refused> {
    let secret = ReaderSecret::generate(&mut sync::rng());
    let validity = Validity::starting(clock::now().minus(BACKDATED_MS), READER_KEY_VALID_MS + BACKDATED_MS);
    let key = ReaderKey::issue(session.bus(), session.id(), session.key(), &secret, validity)?;
    Ok((secret, key))
}

impl Driver {
    pub(super) fn on_tick(&mut self) {
        let now = Instant::now();
        let silent = now.saturating_duration_since(self.last_beat) > HEARTBEAT_TIMEOUT;
        let link = *self.shared.link.borrow();
        if silent && matches!(link, Link::Ready | Link::Joining) {
            self.shared.set_link(Link::GuardAway);
            self.shared.events.send(Event::GuardUnavailable);
        }
        self.shared.expire_paused();
        if self.is_welcome() {
            if let Some(since) = now.checked_sub(ANSWER_TIMEOUT) {
                let keys = sync::lock(&self.shared.sender_keys).unanswered(since, now);
                self.announce(keys);
                self.declare_unanswered(since);
            }
            self.rotate_reader_key(now);
        }
        sync::lock(&self.shared.verdicts).retain(|_, message| !message.is_abandoned());
        sync::lock(&self.shared.held).retain(|_, undecided| !undecided.confirm.is_closed());
        self.asking.forget();
        sync::lock(&self.shared.replies).retain(|_, asker| !asker.is_closed());
        if self.dropped > 0 {
            let count = std::mem::take(&mut self.dropped);
            self.shared.events.send(Event::Dropped { count });
        }
        let abandoned: Vec<u32> =
            self.groups.iter().filter(|(_, group)| group.done.is_closed()).map(|(id, _)| *id).collect();
        for group in abandoned {
            self.finish_group(group, Ok(Vec::new()));
        }
        if now.saturating_duration_since(self.last_sweep) > SWEEP {
            self.sweep(now);
        }
    }

    fn declare_unanswered(&mut self, since: Instant) {
        let late = |(id, reading): (&u32, &super::Declared)| {
            reading.asked.is_some_and(|asked| asked <= since).then_some(*id)
        };
        let ids: Vec<u32> = self.readings.iter().filter_map(late).collect();
        ids.into_iter().for_each(|id| self.declare(id));
    }

    fn rotate_reader_key(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.reader_key_made);
        if age > READER_KEY_GRACE {
            sync::lock(&self.shared.reader_keys).forget();
        }
        if age > READER_KEY_AGE {
            match reader_key(&self.shared.session) {
                Ok((secret, key)) => {
                    let notice = ReaderKeyNotice { reader_key: ByteBuf::from(key.as_bytes()) };
                    sync::lock(&self.shared.reader_keys).rotate(secret, key);
                    self.control.say(verb::READER, &notice);
                    self.reader_key_made = now;
                }
                Err(refused) => tracing::error!(%refused, "no new reader key"),
            }
        }
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        self.last_sweep = now;
        self.wants.retain(|_, asked| now.saturating_duration_since(*asked) < WANT_AGAIN);
        sync::lock(&self.shared.sender_keys).retire_idle(now);
        if let Some(view) = sync::get(&self.shared.view) {
            let revoked = |sender: &Member| view.status.is_revoked(&sender.claims().identity);
            let held_for =
                |rule: &str| view.rule(rule).map_or(Duration::ZERO, |rule| view.held_at_most(rule));
            sync::lock(&self.shared.keyring).sweep(now, revoked, held_for);
        }
    }

    /// Asks for a key, once every two seconds at most.
    pub(super) fn want(&mut self, session: SessionId, key: KeyId) {
        let now = Instant::now();
        let recently = |asked: &Instant| now.saturating_duration_since(*asked) < WANT_AGAIN;
        if self.wants.get(&key).is_some_and(recently) || self.wants.len() >= MAX_WANTS || !self.is_welcome() {
            return;
        }
        self.wants.insert(key, now);
        self.control.say(verb::WANT, &Want { session: ByteBuf::from(session.as_bytes().to_vec()), key });
    }

    /// Announces keys of ours to the guard, which answers with their readers.
    pub(super) fn announce(&mut self, keys: Vec<LiveKey>) {
        // Not welcome yet: the welcome announces what is open then.
        let Phase::Welcomed { guard } = &self.phase else { return };
        for chunk in keys.chunks(MAX_LIVE_KEYS) {
            let statement = self.shared.session.statement(*guard, chunk.to_vec());
            self.control.say(verb::OPEN, &Open { statement });
        }
    }
}

/// The reader keys of a new session.
pub(crate) fn first_reader_keys(session: &Session) -> Result<ReaderKeys, Refused> {
    reader_key(session).map(|(secret, key)| ReaderKeys::new(secret, key))
}

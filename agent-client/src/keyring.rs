//! The keys of others: those granted to this session, and who their senders are. Bounded: what was used
//! longest ago goes first, and can be had again with `want`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use sealbus_envelope::{
    hash::Hash,
    identity::{Member, SessionId},
    keys::{KeyId, ReaderKey, ReaderSecret, SenderKey},
};

/// The most keys held.
const MAX_KEYS: usize = 16_384;
/// How long a key is held without being used: sender keys live an hour, messages under them a while longer.
const IDLE: Duration = Duration::from_secs(2 * 3600);

#[derive(Debug)]
struct Slot {
    key: SenderKey,
    sender: Arc<Member>,
    used: Instant,
}

/// Keys by id, and their senders by session.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    keys: HashMap<KeyId, Slot>,
    senders: HashMap<SessionId, Arc<Member>>,
}

impl Keyring {
    /// The key with this id.
    pub(crate) fn key(&mut self, id: &KeyId, now: Instant) -> Option<SenderKey> {
        let slot = self.keys.get_mut(id)?;
        slot.used = now;
        Some(slot.key.clone())
    }

    /// Who seals in this session, if a key of it is held.
    pub(crate) fn sender(&self, session: &SessionId) -> Option<Arc<Member>> {
        self.senders.get(session).cloned()
    }

    /// Keeps a key; makes room if there is none.
    pub(crate) fn insert(&mut self, key: SenderKey, sender: &Arc<Member>, now: Instant) {
        if self.keys.len() >= MAX_KEYS && !self.keys.contains_key(&key.id()) {
            self.evict();
        }
        self.senders.insert(sender.session(), Arc::clone(sender));
        self.keys.insert(key.id(), Slot { key, sender: Arc::clone(sender), used: now });
    }

    /// Forgets the keys of revoked senders and those long unused. What waits for people comes late: for as long as
    /// they have under a rule, its keys are kept longer.
    pub(crate) fn sweep(
        &mut self,
        now: Instant,
        revoked: impl Fn(&Member) -> bool,
        held_for: impl Fn(&str) -> Duration,
    ) {
        self.keys.retain(|_, slot| {
            let idle = IDLE.saturating_add(held_for(slot.key.scope().rule.as_str()));
            now.saturating_duration_since(slot.used) < idle && !revoked(&slot.sender)
        });
        self.forget_senders();
    }

    fn evict(&mut self) {
        // A sixteenth at once, or each insertion into a full ring would look at all of it.
        let mut ages: Vec<_> = self.keys.iter().map(|(id, slot)| (slot.used, *id)).collect();
        ages.sort_unstable_by_key(|(used, _)| *used);
        for (_, id) in ages.into_iter().take(MAX_KEYS / 16) {
            self.keys.remove(&id);
        }
        self.forget_senders();
    }

    fn forget_senders(&mut self) {
        let held: HashSet<SessionId> = self.keys.values().map(|slot| slot.sender.session()).collect();
        self.senders.retain(|session, _| held.contains(session));
    }
}

/// The secret halves of this session's reader key: the current one, and its predecessor while grants to it
/// may still be on their way. Dropping one zeroizes it.
#[derive(Debug)]
pub(crate) struct ReaderKeys {
    current: (ReaderSecret, ReaderKey),
    previous: Option<(ReaderSecret, ReaderKey)>,
}

impl ReaderKeys {
    pub(crate) const fn new(secret: ReaderSecret, key: ReaderKey) -> Self {
        Self { current: (secret, key), previous: None }
    }

    /// The signed record of the current key.
    pub(crate) const fn current(&self) -> &ReaderKey {
        &self.current.1
    }

    /// The secrets, each with the digest of its record.
    pub(crate) fn secrets(&self) -> Vec<(Hash, &ReaderSecret)> {
        let both = std::iter::once(&self.current).chain(&self.previous);
        both.map(|(secret, key)| (key.digest(), secret)).collect()
    }

    /// Takes a new key into use; its predecessor opens what is on its way, until [`forget`](Self::forget).
    pub(crate) fn rotate(&mut self, secret: ReaderSecret, key: ReaderKey) {
        self.previous = Some(std::mem::replace(&mut self.current, (secret, key)));
    }

    /// Deletes the predecessor.
    pub(crate) fn forget(&mut self) {
        self.previous = None;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use sealbus_envelope::{
        identity::{BusId, Claims, Credential, Role, SessionCertificate, SigningKey},
        keys::KeyScope,
        label::{Clearance, Integrity, Label},
        name::Name,
        time::{Millis, Validity},
    };

    use super::*;
    use crate::sync;

    fn sender() -> Arc<Member> {
        let [issuer, identity, session] = [1, 2, 3].map(|n| SigningKey::from_seed(&[n; 32]));
        let bus = BusId::new(issuer.public(), &Name::parse("test").unwrap());
        let validity = Validity { not_before: Millis(1_000), not_after: Millis(9_000) };
        let claims = Claims {
            bus,
            identity: identity.public().clone(),
            name: Name::parse("a").unwrap(),
            team: Name::parse("t").unwrap(),
            role: Role::Agent,
            clearance: Clearance::default(),
            integrity_ceiling: Integrity::LOWEST,
            zones: vec![],
            validity,
        };
        let credential = Credential::issue(&claims, &issuer).unwrap();
        let certificate = SessionCertificate::issue(bus, &identity, &session, validity).unwrap();
        Arc::new(Member::new(credential, certificate).unwrap())
    }

    fn key(sender: &Member, epoch: u32) -> SenderKey {
        let scope = KeyScope {
            bus: sender.claims().bus,
            session: sender.session(),
            rule: Name::parse("r").unwrap(),
            label: Label::BOTTOM,
            epoch,
        };
        SenderKey::generate(&mut sync::rng(), scope)
    }

    #[test]
    fn a_full_ring_forgets_what_was_used_longest_ago() {
        let (sender, start) = (sender(), Instant::now());
        let mut ring = Keyring::default();
        let keys: Vec<_> = (0..=u32::try_from(MAX_KEYS).unwrap()).map(|n| key(&sender, n)).collect();
        let (first, last) = (keys.first().unwrap().id(), keys.last().unwrap().id());
        for (key, n) in keys.into_iter().zip(0..) {
            ring.insert(key, &sender, start + Duration::from_millis(n));
        }
        assert!(ring.key(&first, start).is_none());
        assert!(ring.key(&last, start).is_some() && ring.sender(&sender.session()).is_some());
        assert!(ring.keys.len() <= MAX_KEYS);
    }

    #[test]
    fn the_revoked_and_the_long_unused_are_forgotten() {
        let (sender, now) = (sender(), Instant::now());
        let mut ring = Keyring::default();
        ring.insert(key(&sender, 0), &sender, now);
        ring.sweep(now, |_| false, |_| Duration::ZERO);
        assert!(ring.sender(&sender.session()).is_some());
        ring.sweep(now, |_| true, |_| Duration::ZERO);
        assert!(ring.sender(&sender.session()).is_none() && ring.keys.is_empty());
        ring.insert(key(&sender, 1), &sender, now);
        ring.sweep(now + IDLE, |_| false, |_| Duration::from_secs(1));
        assert!(!ring.keys.is_empty(), "a held message may come yet");
        ring.sweep(now + IDLE, |_| false, |_| Duration::ZERO);
        assert!(ring.keys.is_empty());
    }

    #[test]
    fn the_old_reader_key_opens_until_it_is_forgotten() {
        let (sender, session) = (sender(), SigningKey::from_seed(&[3; 32]));
        let make = || {
            let secret = ReaderSecret::generate(&mut sync::rng());
            let validity = Validity { not_before: Millis(1), not_after: Millis(9) };
            let bus = sender.claims().bus;
            let key = ReaderKey::issue(bus, sender.session(), &session, &secret, validity).unwrap();
            (secret, key)
        };
        let (secret, key) = make();
        let mut keys = ReaderKeys::new(secret, key);
        let (secret, key) = make();
        let new = key.digest();
        keys.rotate(secret, key);
        assert_eq!(keys.secrets().len(), 2);
        keys.forget();
        assert!(matches!(keys.secrets().as_slice(), [(digest, _)] if *digest == new));
    }
}

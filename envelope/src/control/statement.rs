//! Signed statements between a session and a guard: hello, and the heartbeat it answers.

use serde::{Deserialize, Serialize};

use crate::{
    identity::{BusId, PublicKey, Purpose, SessionCertificate, SessionId, Signature, SigningKey},
    keys::KeyId,
    label::Label,
    name::{MAX_NAME, Name},
    reason::{Reason, Refused},
    time::Millis,
    wire::{
        codec::{Reader, Writer},
        header::{read_label, write_label},
    },
};

/// The most live keys that one statement names.
pub const MAX_LIVE_KEYS: usize = 4096;
const VERSION: u8 = 1;

/// The heartbeat of a guard: 16 random bytes drawn at its start, and its lease epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GuardEpoch {
    /// Rises at each start of a guard.
    pub epoch: u64,
    /// Drawn at that start: a statement made for another start is worth nothing.
    pub challenge: [u8; 16],
}

/// A sender key that a session has in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveKey {
    /// Which key.
    pub key: KeyId,
    /// For which rule.
    pub rule: Name,
    /// For which label.
    pub label: Label,
    /// Its epoch.
    pub epoch: u32,
    /// The sequence number that the next envelope will have: lower ones are replays.
    pub next: u64,
    /// For reply keys: the one session that reads them.
    pub asker: Option<SessionId>,
}

/// What a session signs to one guard epoch, and the guard asks for before it admits anything: which keys
/// it has in use and where their sequences stand. So a guard needs no replay marks from before its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatement {
    /// The bus.
    pub bus: BusId,
    /// The session.
    pub session: SessionId,
    /// The guard epoch that it is made for.
    pub guard: GuardEpoch,
    /// The keys, ascending by id, none twice.
    pub keys: Vec<LiveKey>,
}

impl SessionStatement {
    /// Signs the statement: `[body, signature]`; sorts the keys. A session with more than [`MAX_LIVE_KEYS`]
    /// announces the rest with `open`.
    #[must_use]
    pub fn sign(&self, session_key: &SigningKey) -> Vec<u8> {
        let mut keys: Vec<_> = self.keys.iter().collect();
        keys.sort_by_key(|key| key.key);
        let mut w = Writer::with_capacity(128 + 160 * keys.len());
        w.array(6).uint(VERSION).bin(self.bus.as_bytes()).bin(self.session.as_bytes());
        w.uint(self.guard.epoch).bin(&self.guard.challenge).array(self.keys.len());
        for key in keys {
            w.array(6).bin(key.key.as_bytes()).str(key.rule.as_str());
            write_label(&mut w, key.label);
            w.uint(key.epoch).uint(key.next).option(key.asker.as_ref(), |w, asker| {
                w.bin(asker.as_bytes());
            });
        }
        let body = w.into_bytes();
        let mut w = Writer::with_capacity(body.len() + 80);
        w.array(2).bin(&body).bin(&session_key.sign(Purpose::Hello, &body));
        w.into_bytes()
    }

    /// Reads a statement and checks that the session of `certificate` made it for `guard`.
    ///
    /// # Errors
    /// The codec's reasons; `bad_signature`, `unsupported_version`, `wrong_bus`, `wrong_session`,
    /// `old_epoch`.
    pub fn verify(
        bytes: &[u8],
        bus: BusId,
        certificate: &SessionCertificate,
        guard: GuardEpoch,
    ) -> Result<Self, Refused> {
        const WHAT: &str = "session statement";
        let body = open(bytes, certificate.session_key(), Purpose::Hello, WHAT)?;
        let mut r = Reader::new(body, WHAT);
        r.array(6)?;
        head(&mut r, bus, WHAT)?;
        let session = SessionId::from_bytes(r.bin_array()?);
        let made_for = GuardEpoch { epoch: r.uint()?, challenge: r.bin_array()? };
        let count = r.array_len(MAX_LIVE_KEYS)?;
        let mut keys: Vec<LiveKey> = Vec::with_capacity(count);
        for _ in 0..count {
            r.array(6)?;
            let key = LiveKey {
                key: KeyId::from_bytes(r.bin_array()?),
                rule: Name::parse(r.str(MAX_NAME)?)?,
                label: read_label(&mut r)?,
                epoch: r.small()?,
                next: r.uint()?,
                asker: r.option(Reader::bin_array)?.map(SessionId::from_bytes),
            };
            // One key named twice would have two next sequence numbers, and replays between them.
            if keys.last().is_some_and(|last| last.key >= key.key) {
                return Err(Refused::new(Reason::BadEncoding, WHAT));
            }
            keys.push(key);
        }
        r.finish()?;
        if session != certificate.id() {
            return Err(Refused::new(Reason::WrongSession, WHAT));
        }
        if made_for != guard {
            return Err(Refused::new(Reason::OldEpoch, WHAT));
        }
        Ok(Self { bus, session, guard: made_for, keys })
    }
}

/// What a guard publishes each second: it is there, and which versions are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The bus.
    pub bus: BusId,
    /// The guard's start.
    pub guard: GuardEpoch,
    /// Version of the policy bundle in force.
    pub policy_version: u64,
    /// Version of the status statement in force.
    pub status_version: u64,
    /// The guard's clock.
    pub time: Millis,
}

impl Heartbeat {
    /// Signs the heartbeat: `[body, guard key, signature]`.
    #[must_use]
    pub fn sign(&self, guard_key: &SigningKey) -> Vec<u8> {
        let mut w = Writer::with_capacity(128);
        w.array(7).uint(VERSION).bin(self.bus.as_bytes()).uint(self.guard.epoch).bin(&self.guard.challenge);
        w.uint(self.policy_version).uint(self.status_version).uint(self.time.0);
        let body = w.into_bytes();
        let mut w = Writer::with_capacity(256);
        w.array(3)
            .bin(&body)
            .bin(guard_key.public().as_bytes())
            .bin(&guard_key.sign(Purpose::Heartbeat, &body));
        w.into_bytes()
    }

    /// Reads a heartbeat and checks that one of `guards` signed it; says which. With no guard known yet (a
    /// client before its welcome), pass the key that the heartbeat names, from [`signer`](Self::signer), and
    /// check later that it is a guard's.
    ///
    /// # Errors
    /// The codec's reasons; `wrong_role` if the key is not among `guards`; `bad_signature`,
    /// `unsupported_version`, `wrong_bus`.
    pub fn verify(bytes: &[u8], bus: BusId, guards: &[PublicKey]) -> Result<(Self, PublicKey), Refused> {
        const WHAT: &str = "heartbeat";
        let key = Self::signer(bytes)?;
        if !guards.contains(&key) {
            return Err(Refused::new(Reason::WrongRole, WHAT));
        }
        let mut r = Reader::new(bytes, WHAT);
        r.array(3)?;
        let body = r.bin(256)?;
        let _: [u8; 32] = r.bin_array()?;
        let signature: Signature = r.bin_array()?;
        r.finish()?;
        key.verify(Purpose::Heartbeat, body, &signature)?;
        let mut r = Reader::new(body, WHAT);
        r.array(7)?;
        head(&mut r, bus, WHAT)?;
        let beat = Self {
            bus,
            guard: GuardEpoch { epoch: r.uint()?, challenge: r.bin_array()? },
            policy_version: r.uint()?,
            status_version: r.uint()?,
            time: Millis(r.uint()?),
        };
        r.finish()?;
        Ok((beat, key))
    }

    /// The key that a heartbeat says signed it.
    ///
    /// # Errors
    /// The codec's reasons; `weak_key`.
    pub fn signer(bytes: &[u8]) -> Result<PublicKey, Refused> {
        let mut r = Reader::new(bytes, "heartbeat");
        r.array(3)?;
        r.bin(256)?;
        PublicKey::from_bytes(&r.bin_array()?)
    }
}

fn open<'a>(
    bytes: &'a [u8],
    key: &PublicKey,
    purpose: Purpose,
    what: &'static str,
) -> Result<&'a [u8], Refused> {
    let mut r = Reader::new(bytes, what);
    r.array(2)?;
    let body = r.bin(1 << 20)?;
    let signature: Signature = r.bin_array()?;
    r.finish()?;
    key.verify(purpose, body, &signature)?;
    Ok(body)
}

fn head(r: &mut Reader<'_>, bus: BusId, what: &'static str) -> Result<(), Refused> {
    if r.uint()? != u64::from(VERSION) {
        return Err(Refused::new(Reason::UnsupportedVersion, what));
    }
    if r.bin_array()? == *bus.as_bytes() { Ok(()) } else { Err(Refused::new(Reason::WrongBus, what)) }
}

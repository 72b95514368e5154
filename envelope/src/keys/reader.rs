//! Reader keys: what sender keys are sealed to. HPKE (RFC 9180) with X-Wing, a hybrid of X25519 and
//! ML-KEM-768, so that traffic recorded today stays closed to a quantum computer tomorrow.
//!
//! ```
//! use sealbus_envelope::identity::{BusId, SessionCertificate, SigningKey};
//! use sealbus_envelope::keys::{ReaderKey, ReaderSecret};
//! use sealbus_envelope::{name::Name, time::{Millis, Validity}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
//! let (issuer, identity, session) = (SigningKey::generate(rng), SigningKey::generate(rng), SigningKey::generate(rng));
//! let bus = BusId::new(issuer.public(), &Name::parse("demo")?);
//! let validity = Validity::starting(Millis(1_000), 3_600_000);
//! let certificate = SessionCertificate::issue(bus, &identity, &session, validity)?;
//! let secret = ReaderSecret::generate(rng);
//! let key = ReaderKey::issue(bus, certificate.id(), &session, &secret, validity)?;
//! let read = ReaderKey::verify(key.as_bytes(), bus, &certificate)?;
//! assert_eq!(read.digest(), key.digest());
//! # Ok(())
//! # }
//! ```

use std::{fmt, sync::Arc};

use hpke::{Deserializable as _, Kem as _, Serializable as _, kem::XWing};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    hash::{self, Context, Hash},
    identity::{BusId, PublicKey, Purpose, SessionCertificate, SessionId, Signature, SigningKey},
    reason::{Reason, Refused},
    time::{Millis, Validity},
    wire::codec::{Reader, Writer},
};

/// Bytes of an X-Wing public key: ML-KEM-768's 1,184, then X25519's 32.
pub const PUBLIC_LEN: usize = 1216;
/// The longest record of a reader or box key, in bytes.
pub const MAX_READER_KEY: usize = 1536;
const VERSION: u8 = 1;

/// The secret half of a reader or box key: the 32-byte X-Wing seed. Zeroized on drop.
#[derive(Clone)]
pub struct ReaderSecret(Zeroizing<[u8; 32]>);

impl ReaderSecret {
    /// A fresh key.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self(seed)
    }

    /// The key with this seed, read from a protected file.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*seed))
    }

    /// The seed, for a protected file.
    #[must_use]
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// The public half.
    ///
    /// # Errors
    /// `weak_key`, which a generated key never is.
    pub fn public(&self) -> Result<SealingPublic, Refused> {
        let secret = self.private()?;
        SealingPublic::from_bytes(&XWing::sk_to_pk(&secret).to_bytes())
    }

    pub(super) fn private(&self) -> Result<<XWing as hpke::Kem>::PrivateKey, Refused> {
        <XWing as hpke::Kem>::PrivateKey::from_bytes(self.0.as_ref())
            .map_err(|_| Refused::new(Reason::WeakKey, "reader secret"))
    }
}

impl fmt::Debug for ReaderSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderSecret").finish_non_exhaustive()
    }
}

/// The public half of a reader or box key.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingPublic {
    bytes: Arc<[u8]>,
}

impl SealingPublic {
    /// The key with these bytes.
    ///
    /// # Errors
    /// `bad_length`; `weak_key` if a part is no key: an ML-KEM coefficient out of range, or an X25519 point
    /// of small order, with which the classical half would agree on zero whoever holds it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refused> {
        if bytes.len() != PUBLIC_LEN {
            return Err(Refused::new(Reason::BadLength, "reader key"));
        }
        check_contributory(bytes)?;
        parse(bytes)?;
        Ok(Self { bytes: bytes.into() })
    }

    /// The 1,216 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn key(&self) -> Result<<XWing as hpke::Kem>::PublicKey, Refused> {
        parse(&self.bytes)
    }
}

impl fmt::Debug for SealingPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = hash::hash(Context::ReaderKey, &[&self.bytes]);
        write!(f, "SealingPublic({})", hash::hex(&hash))
    }
}

fn parse(bytes: &[u8]) -> Result<<XWing as hpke::Kem>::PublicKey, Refused> {
    <XWing as hpke::Kem>::PublicKey::from_bytes(bytes)
        .map_err(|_| Refused::new(Reason::WeakKey, "reader key"))
}

/// Refuses an X-Wing public key or ciphertext whose last 32 bytes, the X25519 point, is of small order.
pub(super) fn check_contributory(bytes: &[u8]) -> Result<(), Refused> {
    let weak = Refused::new(Reason::WeakKey, "X25519 point");
    let point = bytes.last_chunk::<32>().ok_or(weak)?;
    // Clamped scalars are multiples of 8, so exactly the points of small order give zero.
    if x25519_dalek::x25519([1; 32], *point) == [0; 32] { Err(weak) } else { Ok(()) }
}

/// A reader key that its session signed, verified. There is no other way to hold one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderKey {
    bytes: Arc<[u8]>,
    digest: Hash,
    session: SessionId,
    validity: Validity,
    public: SealingPublic,
}

impl ReaderKey {
    /// The session signs its reader key.
    ///
    /// # Errors
    /// `bad_time` if it is never valid.
    pub fn issue(
        bus: BusId,
        session: SessionId,
        session_key: &SigningKey,
        secret: &ReaderSecret,
        validity: Validity,
    ) -> Result<Self, Refused> {
        let public = secret.public()?;
        let body = record_body(bus, session.as_bytes(), validity, &public);
        let bytes = signed(&body, session_key, Purpose::ReaderKey);
        let record = read_record(&bytes, bus, session_key.public(), Purpose::ReaderKey)?;
        Ok(Self::from_record(bytes.into(), session, record))
    }

    /// Reads a reader key and checks its form, bus, session and signature. Time is checked apart, by
    /// [`check_time`](Self::check_time).
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `wrong_bus`, `wrong_session`, `bad_time`, `weak_key`,
    /// `bad_signature`.
    pub fn verify(bytes: &[u8], bus: BusId, certificate: &SessionCertificate) -> Result<Self, Refused> {
        let record = read_record(bytes, bus, certificate.session_key(), Purpose::ReaderKey)?;
        if record.owner != *certificate.id().as_bytes() {
            return Err(Refused::new(Reason::WrongSession, "reader key"));
        }
        Ok(Self::from_record(bytes.into(), certificate.id(), record))
    }

    fn from_record(bytes: Arc<[u8]>, session: SessionId, record: Record) -> Self {
        let digest = hash::hash(Context::ReaderKey, &[&bytes]);
        Self { bytes, digest, session, validity: record.validity, public: record.public }
    }

    /// Checks that the key is valid at `now`.
    ///
    /// # Errors
    /// `not_yet_valid`, `expired`.
    pub fn check_time(&self, now: Millis) -> Result<(), Refused> {
        if now < self.validity.not_before {
            Err(Refused::new(Reason::NotYetValid, "reader key"))
        } else if now >= self.validity.not_after {
            Err(Refused::new(Reason::Expired, "reader key"))
        } else {
            Ok(())
        }
    }

    /// From when until when it may be sealed to.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// The hash of the record, which grants name.
    #[must_use]
    pub const fn digest(&self) -> Hash {
        self.digest
    }

    /// Whose key.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// What to seal to.
    #[must_use]
    pub const fn public(&self) -> &SealingPublic {
        &self.public
    }

    /// The exact bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A box key: certified by the identity, outlives sessions, so that a restart strands nothing that was
/// stored for the agent. Verified; there is no other way to hold one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoxKey {
    bytes: Arc<[u8]>,
    digest: Hash,
    identity: PublicKey,
    validity: Validity,
    public: SealingPublic,
}

impl BoxKey {
    /// The identity certifies a box key.
    ///
    /// # Errors
    /// `bad_time` if it is never valid.
    pub fn issue(
        bus: BusId,
        identity: &SigningKey,
        secret: &ReaderSecret,
        validity: Validity,
    ) -> Result<Self, Refused> {
        let public = secret.public()?;
        let body = record_body(bus, identity.public().as_bytes(), validity, &public);
        Self::verify(&signed(&body, identity, Purpose::BoxKey), bus, identity.public())
    }

    /// Reads a box key and checks its form, bus, identity and signature.
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `wrong_bus`, `wrong_sender`, `bad_time`, `weak_key`,
    /// `bad_signature`.
    pub fn verify(bytes: &[u8], bus: BusId, identity: &PublicKey) -> Result<Self, Refused> {
        let record = read_record(bytes, bus, identity, Purpose::BoxKey)?;
        if record.owner != *identity.as_bytes() {
            return Err(Refused::new(Reason::WrongSender, "box key"));
        }
        let digest = hash::hash(Context::ReaderKey, &[bytes]);
        Ok(Self {
            bytes: bytes.into(),
            digest,
            identity: identity.clone(),
            validity: record.validity,
            public: record.public,
        })
    }

    /// The hash of the record, which grants name.
    #[must_use]
    pub const fn digest(&self) -> Hash {
        self.digest
    }

    /// Whose key.
    #[must_use]
    pub const fn identity(&self) -> &PublicKey {
        &self.identity
    }

    /// From when until when it may be sealed to.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// What to seal to.
    #[must_use]
    pub const fn public(&self) -> &SealingPublic {
        &self.public
    }

    /// The exact bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

struct Record {
    owner: [u8; 32],
    validity: Validity,
    public: SealingPublic,
}

fn record_body(bus: BusId, owner: &[u8; 32], validity: Validity, public: &SealingPublic) -> Vec<u8> {
    let mut w = Writer::with_capacity(MAX_READER_KEY);
    w.array(6).uint(VERSION).bin(bus.as_bytes()).bin(owner);
    w.uint(validity.not_before.0).uint(validity.not_after.0).bin(public.as_bytes());
    w.into_bytes()
}

fn signed(body: &[u8], key: &SigningKey, purpose: Purpose) -> Vec<u8> {
    let mut w = Writer::with_capacity(body.len() + 80);
    w.array(2).bin(body).bin(&key.sign(purpose, body));
    w.into_bytes()
}

fn read_record(bytes: &[u8], bus: BusId, signer: &PublicKey, purpose: Purpose) -> Result<Record, Refused> {
    const WHAT: &str = "reader key";
    if bytes.len() > MAX_READER_KEY {
        return Err(Refused::new(Reason::TooLarge, WHAT));
    }
    let mut r = Reader::new(bytes, WHAT);
    r.array(2)?;
    let body = r.bin(MAX_READER_KEY)?;
    let signature: Signature = r.bin_array()?;
    r.finish()?;
    signer.verify(purpose, body, &signature)?;

    let mut r = Reader::new(body, WHAT);
    r.array(6)?;
    if r.uint()? != u64::from(VERSION) {
        return Err(Refused::new(Reason::UnsupportedVersion, WHAT));
    }
    if r.bin_array()? != *bus.as_bytes() {
        return Err(Refused::new(Reason::WrongBus, WHAT));
    }
    let owner = r.bin_array()?;
    let validity = Validity { not_before: Millis(r.uint()?), not_after: Millis(r.uint()?) };
    let public = SealingPublic::from_bytes(r.bin(PUBLIC_LEN)?)?;
    r.finish()?;
    if validity.not_before >= validity.not_after {
        return Err(Refused::new(Reason::BadTime, WHAT));
    }
    Ok(Record { owner, validity, public })
}

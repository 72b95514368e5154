//! Session certificates: an identity vouches for a key made fresh at each start.
//!
//! ```
//! use sealbus_envelope::identity::{BusId, SessionCertificate, SigningKey};
//! use sealbus_envelope::{name::Name, time::{Millis, Validity}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
//! let (issuer, identity, session) = (SigningKey::generate(rng), SigningKey::generate(rng), SigningKey::generate(rng));
//! let bus = BusId::new(issuer.public(), &Name::parse("demo")?);
//! let validity = Validity::starting(Millis(1_000), 3_600_000);
//! let certificate = SessionCertificate::issue(bus, &identity, &session, validity)?;
//! let read = SessionCertificate::verify(certificate.as_bytes(), bus)?;
//! assert_eq!(read.id(), certificate.id());
//! # Ok(())
//! # }
//! ```

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    hash::{self, Context},
    identity::{BusId, PublicKey, Purpose, Signature, SigningKey},
    reason::{Reason, Refused},
    time::{Millis, Validity},
    wire::codec::{Reader, Writer},
};

/// The longest a session may last: 7 days, in milliseconds.
pub const MAX_SESSION_MS: u64 = 7 * 24 * 3_600_000;
/// The longest certificate, in bytes.
pub const MAX_CERTIFICATE: usize = 512;
const VERSION: u8 = 1;

/// Which session: the hash of its certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(#[serde(with = "serde_bytes")] [u8; 32]);

impl SessionId {
    /// An id that was received.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The session as subjects name it: 26 characters of base32, 130 bits.
    #[must_use]
    pub fn token(&self) -> String {
        hash::base32(&self.0, 26)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hash::hex(&self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// A session certificate whose two signatures were verified. There is no other way to hold one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCertificate {
    bytes: Arc<[u8]>,
    bus: BusId,
    id: SessionId,
    identity: PublicKey,
    session: PublicKey,
    validity: Validity,
}

impl SessionCertificate {
    /// The identity vouches for the session key, which proves that it is held.
    ///
    /// # Errors
    /// `bad_time` if the validity is empty or longer than 7 days.
    pub fn issue(
        bus: BusId,
        identity: &SigningKey,
        session: &SigningKey,
        validity: Validity,
    ) -> Result<Self, Refused> {
        let body = body(bus, identity.public(), session.public(), validity);
        let possession = session.sign(Purpose::SessionPossession, &body);
        let signature = identity.sign(Purpose::SessionCertificate, &body);
        let mut w = Writer::with_capacity(body.len() + 140);
        w.array(3).bin(&body).bin(&possession).bin(&signature);
        Self::verify(&w.into_bytes(), bus)
    }

    /// Reads a certificate and checks its form, bus and both signatures. Time is checked apart, by
    /// [`check_time`](Self::check_time).
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `wrong_bus`, `weak_key`, `bad_time`,
    /// `certificate_invalid` if the session key is the identity key, `bad_signature`.
    pub fn verify(bytes: &[u8], bus: BusId) -> Result<Self, Refused> {
        const WHAT: &str = "session certificate";
        if bytes.len() > MAX_CERTIFICATE {
            return Err(Refused::new(Reason::TooLarge, WHAT));
        }
        let mut r = Reader::new(bytes, WHAT);
        r.array(3)?;
        let body = r.bin(MAX_CERTIFICATE)?;
        let possession: Signature = r.bin_array()?;
        let signature: Signature = r.bin_array()?;
        r.finish()?;

        let mut r = Reader::new(body, WHAT);
        r.array(6)?;
        if r.uint()? != u64::from(VERSION) {
            return Err(Refused::new(Reason::UnsupportedVersion, WHAT));
        }
        if r.bin_array()? != *bus.as_bytes() {
            return Err(Refused::new(Reason::WrongBus, WHAT));
        }
        let identity = PublicKey::from_bytes(&r.bin_array()?)?;
        let session = PublicKey::from_bytes(&r.bin_array()?)?;
        let validity = Validity { not_before: Millis(r.uint()?), not_after: Millis(r.uint()?) };
        r.finish()?;
        let lifetime = validity.not_after.since(validity.not_before);
        if lifetime == 0 || lifetime > MAX_SESSION_MS {
            return Err(Refused::new(Reason::BadTime, WHAT));
        }
        // The identity's key would sign the nonces of every server, and its theft would be a session's.
        if identity == session {
            return Err(Refused::new(Reason::CertificateInvalid, WHAT));
        }
        session.verify(Purpose::SessionPossession, body, &possession)?;
        identity.verify(Purpose::SessionCertificate, body, &signature)?;
        let id = SessionId(hash::hash(Context::Session, &[bytes]));
        Ok(Self { bytes: bytes.into(), bus, id, identity, session, validity })
    }

    /// Checks that the session is valid at `now`.
    ///
    /// # Errors
    /// `not_yet_valid`, `certificate_expired`.
    pub fn check_time(&self, now: Millis) -> Result<(), Refused> {
        if now < self.validity.not_before {
            Err(Refused::new(Reason::NotYetValid, "session certificate"))
        } else if now >= self.validity.not_after {
            Err(Refused::new(Reason::CertificateExpired, "session certificate"))
        } else {
            Ok(())
        }
    }

    /// The bus it is good on.
    #[must_use]
    pub const fn bus(&self) -> BusId {
        self.bus
    }

    /// Which session.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Whose session.
    #[must_use]
    pub const fn identity(&self) -> &PublicKey {
        &self.identity
    }

    /// The key that signs in this session.
    #[must_use]
    pub const fn session_key(&self) -> &PublicKey {
        &self.session
    }

    /// From when until when.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// The exact bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn body(bus: BusId, identity: &PublicKey, session: &PublicKey, validity: Validity) -> Vec<u8> {
    let mut w = Writer::with_capacity(128);
    w.array(6).uint(VERSION).bin(bus.as_bytes()).bin(identity.as_bytes()).bin(session.as_bytes());
    w.uint(validity.not_before.0).uint(validity.not_after.0);
    w.into_bytes()
}

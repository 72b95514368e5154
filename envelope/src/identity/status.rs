//! Status statements: who is revoked, signed by a key that no guard holds, good for a limited time.
//!
//! Readers and senders check revocation against the highest statement they have seen; past its
//! `valid_until` they grant no new keys, so a hostile server that withholds the next one gains little.
//!
//! ```
//! use sealbus_envelope::identity::{BusId, SigningKey, Status, Revocation};
//! use sealbus_envelope::{name::Name, time::Millis};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
//! let (issuer, status_key, thief) = (SigningKey::generate(rng), SigningKey::generate(rng), SigningKey::generate(rng));
//! let bus = BusId::new(issuer.public(), &Name::parse("demo")?);
//! let status = Status {
//!     bus, version: 2, policy_version: 1, issued: Millis(5), valid_until: Millis(500),
//!     revoked: vec![Revocation { identity: thief.public().clone(), at: Millis(4) }],
//! };
//! let signed = status.sign(&status_key)?;
//! let read = Status::verify(&signed, bus, status_key.public())?;
//! assert!(read.is_revoked(thief.public()));
//! # Ok(())
//! # }
//! ```

use crate::{
    identity::{BusId, PublicKey, Purpose, Signature, SigningKey},
    reason::{Reason, Refused},
    time::Millis,
    wire::codec::{Reader, Writer},
};

/// How long a statement is good by default: 7 days, in milliseconds.
pub const DEFAULT_STATUS_MS: u64 = 7 * 24 * 3_600_000;
/// The most revocations a statement holds.
pub const MAX_REVOKED: usize = 10_000;
const MAX_STATUS: usize = 1 << 20;
const VERSION: u8 = 1;
const WHAT: &str = "status statement";

/// One revoked identity: an agent's, a guard's, or a person's key that approves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The identity key.
    pub identity: PublicKey,
    /// Since when.
    pub at: Millis,
}

/// A status statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The bus it speaks of.
    pub bus: BusId,
    /// Only ever rises; the highest seen counts.
    pub version: u64,
    /// The policy bundle version in force when it was issued.
    pub policy_version: u64,
    /// When it was signed.
    pub issued: Millis,
    /// After this no new keys are granted on its word.
    pub valid_until: Millis,
    /// The revoked identities. What [`verify`](Self::verify) returns is ascending by key bytes, none twice;
    /// [`is_revoked`](Self::is_revoked) relies on that.
    pub revoked: Vec<Revocation>,
}

impl Status {
    /// Signs the statement; sorts the revocations.
    ///
    /// # Errors
    /// `too_large` for more than 10,000 revocations; `bad_time` if it is never valid; `status_invalid` if
    /// one identity is revoked twice.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, Refused> {
        let mut revoked: Vec<_> = self.revoked.iter().collect();
        revoked.sort_by_key(|r| *r.identity.as_bytes());
        let mut body = Writer::with_capacity(128 + 48 * revoked.len());
        body.array(7).uint(VERSION).bin(self.bus.as_bytes()).uint(self.version).uint(self.policy_version);
        body.uint(self.issued.0).uint(self.valid_until.0).array(revoked.len());
        for r in revoked {
            body.array(2).bin(r.identity.as_bytes()).uint(r.at.0);
        }
        let body = body.into_bytes();
        let mut w = Writer::with_capacity(body.len() + 80);
        w.array(2).bin(&body).bin(&key.sign(Purpose::Status, &body));
        let bytes = w.into_bytes();
        Self::verify(&bytes, self.bus, key.public())?;
        Ok(bytes)
    }

    /// Reads a statement and checks its form, bus and signature.
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `wrong_bus`, `bad_signature`, `bad_time`,
    /// `status_invalid`.
    pub fn verify(bytes: &[u8], bus: BusId, key: &PublicKey) -> Result<Self, Refused> {
        if bytes.len() > MAX_STATUS {
            return Err(Refused::new(Reason::TooLarge, WHAT));
        }
        let mut r = Reader::new(bytes, WHAT);
        r.array(2)?;
        let body = r.bin(MAX_STATUS)?;
        let signature: Signature = r.bin_array()?;
        r.finish()?;
        key.verify(Purpose::Status, body, &signature)?;

        let mut r = Reader::new(body, WHAT);
        r.array(7)?;
        if r.uint()? != u64::from(VERSION) {
            return Err(Refused::new(Reason::UnsupportedVersion, WHAT));
        }
        if r.bin_array()? != *bus.as_bytes() {
            return Err(Refused::new(Reason::WrongBus, WHAT));
        }
        let (version, policy_version) = (r.uint()?, r.uint()?);
        let (issued, valid_until) = (Millis(r.uint()?), Millis(r.uint()?));
        let count = r.array_len(MAX_REVOKED)?;
        let mut revoked: Vec<Revocation> = Vec::with_capacity(count);
        for _ in 0..count {
            r.array(2)?;
            let entry =
                Revocation { identity: PublicKey::from_bytes(&r.bin_array()?)?, at: Millis(r.uint()?) };
            if revoked.last().is_some_and(|last| last.identity.as_bytes() >= entry.identity.as_bytes()) {
                return Err(Refused::new(Reason::StatusInvalid, WHAT));
            }
            revoked.push(entry);
        }
        r.finish()?;
        if issued >= valid_until {
            return Err(Refused::new(Reason::BadTime, WHAT));
        }
        Ok(Self { bus, version, policy_version, issued, valid_until, revoked })
    }

    /// Whether the identity is revoked.
    #[must_use]
    pub fn is_revoked(&self, identity: &PublicKey) -> bool {
        self.revoked.binary_search_by_key(&identity.as_bytes(), |r| r.identity.as_bytes()).is_ok()
    }

    /// Checks that the statement may still be relied on.
    ///
    /// # Errors
    /// `status_expired`.
    pub fn check_time(&self, now: Millis) -> Result<(), Refused> {
        if now < self.valid_until { Ok(()) } else { Err(Refused::new(Reason::StatusExpired, WHAT)) }
    }
}

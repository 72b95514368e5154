//! Ed25519 keys in NATS's nkey form, and signatures bound to a purpose.
//!
//! ```
//! use sealbus_envelope::identity::{KeyKind, Purpose, SigningKey};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = SigningKey::generate(&mut rand_core::UnwrapErr(getrandom::SysRng));
//! let signature = key.sign(Purpose::Batch, b"root");
//! assert!(key.public().verify(Purpose::Batch, b"root", &signature).is_ok());
//! assert!(key.public().verify(Purpose::Grant, b"root", &signature).is_err(), "other purpose");
//! assert!(key.public().to_nkey(KeyKind::User).starts_with('U'));
//! # Ok(())
//! # }
//! ```

use std::fmt;

use ed25519_dalek::Signer as _;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::reason::{Reason, Refused};

/// A detached Ed25519 signature.
pub type Signature = [u8; 64];

/// What a signature is for. It covers `0xFF ‖ purpose ‖ bytes`: 0xFF cannot occur in UTF-8, so nothing
/// that signs text (NATS nonces, JWTs, notes) can be tricked into one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// An identity key signs a session certificate.
    SessionCertificate = 1,
    /// A session key proves inside its certificate that it is held.
    SessionPossession = 2,
    /// A session key signs the root of a batch of envelopes.
    Batch = 3,
    /// A session key signs the root of a batch of key grants.
    Grant = 4,
    /// A session key signs a reader key.
    ReaderKey = 5,
    /// An identity key signs a box key.
    BoxKey = 6,
    /// A guard key signs the root of a batch of admissions.
    Admission = 7,
    /// The status key signs a status statement.
    Status = 8,
    /// A policy key signs a bundle head.
    Bundle = 9,
    /// A session key signs a hello to one guard epoch.
    Hello = 10,
    /// A guard key signs a heartbeat.
    Heartbeat = 11,
    /// A policy key signs an order.
    Order = 12,
    /// A person signs an approval or denial of a held envelope.
    Approval = 13,
}

/// The kinds of nkey that Sealbus uses; the kind is the first letter of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// `U`: agents, guards, operators.
    User,
    /// `A`: the issuer, the callout issuer.
    Account,
}

impl KeyKind {
    const fn prefix(self) -> nkeys::KeyPairType {
        match self {
            Self::User => nkeys::KeyPairType::User,
            Self::Account => nkeys::KeyPairType::Account,
        }
    }
}

/// An Ed25519 public key: canonical, on the curve, not of small order.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// The key with these bytes.
    ///
    /// # Errors
    /// `weak_key` if the bytes are no point, are not its canonical encoding, or the point is of small
    /// order (its signatures would verify for messages nobody signed).
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Refused> {
        let weak = Refused::new(Reason::WeakKey, "public key");
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| weak)?;
        if key.is_weak() || key.to_edwards().compress().as_bytes() != bytes {
            return Err(weak);
        }
        Ok(Self(key))
    }

    /// The 32 bytes (RFC 8032 section 5.1.2).
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The key in NATS's text form.
    #[must_use]
    pub fn to_nkey(&self, kind: KeyKind) -> String {
        let crc = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);
        let mut raw = Vec::with_capacity(35);
        raw.push(key_prefix(kind));
        raw.extend_from_slice(self.as_bytes());
        raw.extend_from_slice(&crc.checksum(&raw).to_le_bytes());
        data_encoding::BASE32_NOPAD.encode(&raw)
    }

    /// The key in this nkey text, which must be of `kind`.
    ///
    /// # Errors
    /// `bad_name` if it is not an nkey of that kind (its checksum included); `weak_key`.
    pub fn from_nkey(text: &str, kind: KeyKind) -> Result<Self, Refused> {
        let bad = Refused::new(Reason::BadName, "nkey");
        let (prefix, bytes) = nkeys::from_public_key(text).map_err(|_| bad)?;
        let key = Self::from_bytes(&bytes)?;
        // Re-encoding also refuses text that decodes to the same key in another spelling.
        if prefix == key_prefix(kind) && key.to_nkey(kind) == text { Ok(key) } else { Err(bad) }
    }

    /// Checks a signature over `0xFF ‖ purpose ‖ bytes`, strictly: canonical S, no small-order points.
    ///
    /// # Errors
    /// `bad_signature`.
    pub fn verify(&self, purpose: Purpose, bytes: &[u8], signature: &Signature) -> Result<(), Refused> {
        self.verify_raw(&purposed(purpose, bytes), signature)
    }

    /// Checks a signature over exactly `bytes`: for JWTs, notes and NATS nonces, whose forms are not ours.
    ///
    /// # Errors
    /// `bad_signature`.
    pub fn verify_raw(&self, bytes: &[u8], signature: &Signature) -> Result<(), Refused> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(bytes, &signature).map_err(|_| Refused::new(Reason::BadSignature, "signature"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", crate::hash::hex(self.as_bytes()))
    }
}

/// An Ed25519 secret key. Zeroized on drop; `Debug` shows the public half only.
pub struct SigningKey {
    key: ed25519_dalek::SigningKey,
    public: PublicKey,
}

impl SigningKey {
    /// A fresh key.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self::from_seed(&seed)
    }

    /// The key with this seed (RFC 8032's private key).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = PublicKey(key.verifying_key());
        Self { key, public }
    }

    /// The key in an nkey seed such as `SU…`, which must be of `kind`.
    ///
    /// # Errors
    /// `bad_name` if it is not a seed of that kind.
    pub fn from_nkey_seed(text: &str, kind: KeyKind) -> Result<Self, Refused> {
        let bad = Refused::new(Reason::BadName, "nkey seed");
        let (prefix, seed) = nkeys::decode_seed(text).map_err(|_| bad)?;
        let seed = Zeroizing::new(seed);
        if prefix == key_prefix(kind) { Ok(Self::from_seed(&seed)) } else { Err(bad) }
    }

    /// The seed in NATS's text form, for a key file of mode 0600 and nothing else.
    #[must_use]
    pub fn to_nkey_seed(&self, kind: KeyKind) -> Zeroizing<String> {
        let text = nkeys::KeyPair::new_from_raw(kind.prefix(), self.key.to_bytes())
            .and_then(|pair| pair.seed())
            .unwrap_or_default();
        Zeroizing::new(text)
    }

    /// The raw 32-byte seed, for deriving nothing and storing only in protected files.
    #[must_use]
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `0xFF ‖ purpose ‖ bytes`.
    #[must_use]
    pub fn sign(&self, purpose: Purpose, bytes: &[u8]) -> Signature {
        self.sign_raw(&purposed(purpose, bytes))
    }

    /// Signs exactly `bytes`: for JWTs and notes. Never hand it bytes that a peer chose; for NATS nonces
    /// use [`sign_nonce`](Self::sign_nonce).
    #[must_use]
    pub fn sign_raw(&self, bytes: &[u8]) -> Signature {
        self.key.sign(bytes).to_bytes()
    }

    /// Signs a nats-server nonce, which is 11 random bytes as 15 base64url characters.
    ///
    /// # Errors
    /// `bad_encoding` for any other text: a hostile server chooses it, and must not get a signature over
    /// words of its own.
    pub fn sign_nonce(&self, nonce: &[u8]) -> Result<Signature, Refused> {
        let base64url = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
        if nonce.len() == 15 && nonce.iter().all(base64url) {
            Ok(self.sign_raw(nonce))
        } else {
            Err(Refused::new(Reason::BadEncoding, "server nonce"))
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

const fn key_prefix(kind: KeyKind) -> u8 {
    match kind {
        KeyKind::User => 20 << 3,
        KeyKind::Account => 0,
    }
}

fn purposed(purpose: Purpose, bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() + 2);
    text.extend_from_slice(&[0xff, purpose as u8]);
    text.extend_from_slice(bytes);
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn nkey_text_agrees_with_the_nkeys_crate() {
        for kind in [KeyKind::User, KeyKind::Account] {
            let key = SigningKey::from_seed(&[7; 32]);
            let theirs = nkeys::KeyPair::new_from_raw(kind.prefix(), [7; 32]).unwrap();
            let text = key.public().to_nkey(kind);
            assert_eq!(text, theirs.public_key());
            assert_eq!(&PublicKey::from_nkey(&text, kind).unwrap(), key.public());
            let seed = key.to_nkey_seed(kind);
            assert_eq!(*seed, theirs.seed().unwrap());
            assert_eq!(SigningKey::from_nkey_seed(&seed, kind).unwrap().public(), key.public());
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let key = SigningKey::from_seed(&[7; 32]);
        assert!(PublicKey::from_nkey(&key.public().to_nkey(KeyKind::User), KeyKind::Account).is_err());
        assert!(SigningKey::from_nkey_seed(&key.to_nkey_seed(KeyKind::User), KeyKind::Account).is_err());
    }

    #[test]
    fn weak_and_non_canonical_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut non_canonical = [0xff; 32]; // y = p + 3, the same point as y = 3 if it were reduced
        non_canonical[0] = 0xf0;
        non_canonical[31] = 0x7f;
        for bytes in [identity, [0; 32], non_canonical] {
            assert_eq!(PublicKey::from_bytes(&bytes).unwrap_err().reason, Reason::WeakKey);
        }
    }

    #[test]
    fn a_non_canonical_signature_is_refused() {
        let key = SigningKey::from_seed(&[7; 32]);
        let mut signature = key.sign(Purpose::Batch, b"x");
        // S + L: the same equation holds, so only a check of S's range refuses it (malleability).
        const L: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut carry = 0u16;
        for (s, l) in signature.iter_mut().skip(32).zip(L) {
            let sum = u16::from(*s) + u16::from(l) + carry;
            *s = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(
            key.public().verify(Purpose::Batch, b"x", &signature).unwrap_err().reason,
            Reason::BadSignature
        );
    }

    #[test]
    fn only_server_nonces_are_signed() {
        let key = SigningKey::from_seed(&[7; 32]);
        assert!(key.sign_nonce(b"abcdefghijk_-12").is_ok());
        for text in
            [&b""[..], b"abcdefghijk_-1", b"abcdefghijk_-123", b"abcdefghijk.-12", b"\xff\x01cdefghijk_-12"]
        {
            assert!(key.sign_nonce(text).is_err());
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", SigningKey::from_seed(&[0xab; 32]));
        assert!(shown.starts_with("SigningKey { public: PublicKey(") && shown.ends_with(", .. }"));
        assert!(!shown.contains("abababab") && !shown.contains("171, 171"));
    }
}

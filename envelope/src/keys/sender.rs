//! Sender keys: one symmetric key per (session, rule, label, epoch), so that a message costs the same
//! whatever the number of its readers.
//!
//! The key's id is a hash over the key and everything it is for. Readers recompute it, which makes the
//! cipher committing: XChaCha20-Poly1305 alone lets a sender craft one ciphertext that opens as two texts
//! under two keys (Len, Grubbs and Ristenpart 2021), but no two keys have one id.

use std::fmt;

use chacha20poly1305::{AeadInOut as _, KeyInit as _, XChaCha20Poly1305, XNonce};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{
    hash::{self, Context, Hash},
    identity::{BusId, SessionId},
    label::Label,
    name::Name,
    reason::{Reason, Refused},
    wire::{
        codec::Writer,
        header::{EnvelopeId, write_label},
    },
};

/// Bytes of the Poly1305 tag.
pub const TAG_LEN: usize = 16;

/// Which sender key: the hash of the key and of all it is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(#[serde(with = "serde_bytes")] Hash);

impl KeyId {
    /// An id that was received.
    #[must_use]
    pub const fn from_bytes(bytes: Hash) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &Hash {
        &self.0
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hash::hex(&self.0))
    }
}

/// What a sender key is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyScope {
    /// The bus.
    pub bus: BusId,
    /// The session that seals with it.
    pub session: SessionId,
    /// The rule its messages go under.
    pub rule: Name,
    /// The label its messages carry.
    pub label: Label,
    /// Rises with each new key of this (session, rule, label).
    pub epoch: u32,
}

impl KeyScope {
    /// The fields as signed and hashed: `[bus, session, rule, label, epoch]`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(160);
        w.array(5).bin(self.bus.as_bytes()).bin(self.session.as_bytes()).str(self.rule.as_str());
        write_label(&mut w, self.label);
        w.uint(self.epoch);
        w.into_bytes()
    }
}

/// A sender key and what it is for. Zeroized on drop; `Debug` shows the id only.
#[derive(Clone)]
pub struct SenderKey {
    secret: Zeroizing<[u8; 32]>,
    scope: KeyScope,
    id: KeyId,
}

impl SenderKey {
    /// A fresh key for `scope`.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng, scope: KeyScope) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(secret.as_mut());
        Self::new(secret, scope)
    }

    /// The key with this secret, which came out of a grant.
    #[must_use]
    pub fn new(secret: Zeroizing<[u8; 32]>, scope: KeyScope) -> Self {
        let id = KeyId(hash::hash(Context::SenderKey, &[&scope.encode(), secret.as_ref()]));
        Self { secret, scope, id }
    }

    /// Which key.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// What it is for.
    #[must_use]
    pub const fn scope(&self) -> &KeyScope {
        &self.scope
    }

    /// Whether the two hold the same secret, in constant time.
    #[must_use]
    pub fn same_secret(&self, other: &Self) -> bool {
        self.secret.ct_eq(other.secret.as_ref()).into()
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.secret).into())
    }

    /// Seals `plaintext` in place behind `header` and appends the tag.
    pub(crate) fn seal(
        &self,
        id: EnvelopeId,
        sequence: u64,
        header: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        self.cipher()
            .encrypt_in_place(&nonce(id, sequence), header, plaintext)
            .map_err(|_| Refused::new(Reason::TooLarge, "payload"))
    }

    /// Opens `ciphertext`, which `header` goes with.
    pub(crate) fn open(
        &self,
        id: EnvelopeId,
        sequence: u64,
        header: &[u8],
        ciphertext: &[u8],
    ) -> Result<Vec<u8>, Refused> {
        let mut text = ciphertext.to_vec();
        self.cipher()
            .decrypt_in_place(&nonce(id, sequence), header, &mut text)
            .map_err(|_| Refused::new(Reason::DecryptFailed, "ciphertext"))?;
        Ok(text)
    }
}

impl fmt::Debug for SenderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Envelope id ‖ sequence: unique even if one of a random generator and a counter fails.
fn nonce(id: EnvelopeId, sequence: u64) -> XNonce {
    let mut nonce = [0; 24];
    let (left, right) = nonce.split_at_mut(16);
    left.copy_from_slice(id.as_bytes());
    right.copy_from_slice(&sequence.to_be_bytes());
    nonce.into()
}

//! SHA-256 with domain separation: nothing hashed for one purpose can be passed off for another.
//!
//! ```
//! use sealbus_envelope::hash::{Context, hash};
//! assert_ne!(hash(Context::Envelope, &[b"ab", b"c"]), hash(Context::Envelope, &[b"a", b"bc"]));
//! assert_ne!(hash(Context::Envelope, &[b"ab"]), hash(Context::Grant, &[b"ab"]));
//! ```

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// What a hash is for. The text begins the hashed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Bus id.
    Bus,
    /// Agent token.
    AgentToken,
    /// Session id.
    Session,
    /// Envelope digest.
    Envelope,
    /// Key id of a sender key.
    SenderKey,
    /// Digest of a reader or box key record.
    ReaderKey,
    /// Digest of a key grant.
    Grant,
    /// Leaf of a proof of admission.
    Admission,
    /// Partition of an agent.
    Partition,
    /// Digest of an order.
    Order,
}

impl Context {
    /// The text, with its terminating zero byte (so that no context is a prefix of another's input).
    #[must_use]
    pub const fn text(self) -> &'static [u8] {
        match self {
            Self::Bus => b"sealbus/v1/bus\0",
            Self::AgentToken => b"sealbus/v1/agent\0",
            Self::Session => b"sealbus/v1/session\0",
            Self::Envelope => b"sealbus/v1/envelope\0",
            Self::SenderKey => b"sealbus/v1/sender-key\0",
            Self::ReaderKey => b"sealbus/v1/reader-key\0",
            Self::Grant => b"sealbus/v1/grant\0",
            Self::Admission => b"sealbus/v1/admission\0",
            Self::Partition => b"sealbus/v1/partition\0",
            Self::Order => b"sealbus/v1/order\0",
        }
    }
}

/// SHA-256 of the context's text, then each part behind its length as 4 bytes big-endian.
#[must_use]
pub fn hash(context: Context, parts: &[&[u8]]) -> Hash {
    let mut sha = Sha256::new();
    sha.update(context.text());
    for part in parts {
        sha.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        sha.update(part);
    }
    sha.finalize().into()
}

/// The first `chars` characters of the lower-case base32 (RFC 4648) of `hash`.
#[must_use]
pub fn base32(hash: &Hash, chars: usize) -> String {
    let mut text = BASE32_NOPAD.encode(hash).to_ascii_lowercase();
    text.truncate(chars);
    text
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

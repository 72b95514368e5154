//! Checkpoints: the signed size and root of the log (C2SP signed-note and tlog-checkpoint).
//!
//! The signature is plain Ed25519 over the note text, as the specification wants it: the one place, with
//! JWTs, where Sealbus signs without its `0xFF ‖ purpose` prefix. A note is text and that prefix is not,
//! so neither can be taken for the other.
//!
//! ```
//! use sealbus_guard::audit::note::{Checkpoint, CheckpointSigner, NoteKey};
//! let guard = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
//! let key = NoteKey::new("sealbus/demo/guard-1", CheckpointSigner::public_key(&guard))?;
//! let checkpoint = Checkpoint { origin: key.name().to_owned(), size: 3, root: [1; 32] };
//! let note = checkpoint.sign(&key, &guard)?;
//! assert_eq!(Checkpoint::open(&note, &key)?, checkpoint);
//! assert!(Checkpoint::open(&note.replace("\n3\n", "\n4\n"), &key).is_err());
//! # Ok::<(), sealbus_guard::audit::note::NoteError>(())
//! ```

use std::fmt::{self, Write as _};
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::tree::Hash;

/// The signature type byte of Ed25519 (C2SP signed-note).
const ED25519: u8 = 0x01;
/// Signature lines read from one note; the specification asks for at least 16.
const SIGNATURES_MAX: usize = 32;
/// Bytes read from one checkpoint file: room for witnesses, none for a memory attack.
pub(crate) const NOTE_MAX: u64 = 64 * 1024;

/// Why a checkpoint was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Key names are not empty and hold no white space, control character or plus sign.
    #[error("`{0}` cannot name a log key: use no spaces, control characters or plus signs")]
    KeyName(String),
    /// The public key is not a point that Ed25519 accepts.
    #[error("the log's public key is not a valid Ed25519 key")]
    PublicKey,
    /// The text is not a verifier key.
    #[error("this is not a log's public key: {0}; `sealbus audit key` shows it")]
    KeyText(&'static str),
    /// The signer could not sign.
    #[error("the checkpoint could not be signed: {0}")]
    Signer(String),
    /// What the signer returned does not verify under its own public key.
    #[error("the signer's signature does not verify under its own public key")]
    SelfCheck,
    /// The text is not a signed note.
    #[error("the checkpoint is not a signed note: {0}")]
    Form(&'static str),
    /// No signature line is by the expected key.
    #[error("the checkpoint carries no signature by `{0}`: check the log's name and public key")]
    NoSignature(String),
    /// The signature line of the expected key does not verify.
    #[error("the checkpoint's signature by `{0}` is false")]
    FalseSignature(String),
    /// The note is of another log.
    #[error("the checkpoint is of the log `{found}`, not of `{expected}`")]
    Origin {
        /// The first line of the note.
        found: String,
        /// What it should say.
        expected: String,
    },
}

/// Who signs checkpoints: the guard's own key, wherever it lives.
pub trait CheckpointSigner: Send {
    /// The Ed25519 public key that verifies what [`sign`](Self::sign) returns.
    fn public_key(&self) -> [u8; 32];
    /// Pure Ed25519 (RFC 8032) over exactly these bytes.
    ///
    /// # Errors
    /// A sentence saying why the key could not be used (a hardware key may be away).
    fn sign(&self, note_text: &[u8]) -> Result<[u8; 64], String>;
}

impl CheckpointSigner for SigningKey {
    fn public_key(&self) -> [u8; 32] {
        self.verifying_key().to_bytes()
    }
    fn sign(&self, note_text: &[u8]) -> Result<[u8; 64], String> {
        Ok(self.try_sign(note_text).map_err(|error| error.to_string())?.to_bytes())
    }
}

/// A [`CheckpointSigner`] made of a public key and a function.
pub struct SignWith<F> {
    /// The public key.
    pub public: [u8; 32],
    /// Signs the bytes it is given with pure Ed25519.
    pub sign: F,
}

impl<F: Fn(&[u8]) -> [u8; 64] + Send> CheckpointSigner for SignWith<F> {
    fn public_key(&self) -> [u8; 32] {
        self.public
    }
    fn sign(&self, note_text: &[u8]) -> Result<[u8; 64], String> {
        Ok((self.sign)(note_text))
    }
}

/// A log's verification key: a name and an Ed25519 public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    public: VerifyingKey,
    id: [u8; 4],
}

impl NoteKey {
    /// The key named `name`, by custom `sealbus/<bus name>/<guard>`; also the origin of its checkpoints.
    ///
    /// # Errors
    /// [`NoteError::KeyName`] or [`NoteError::PublicKey`].
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, NoteError> {
        let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if name.is_empty() || name.contains(bad) {
            return Err(NoteError::KeyName(name.to_owned()));
        }
        let key = VerifyingKey::from_bytes(&public).map_err(|_| NoteError::PublicKey)?;
        // a key of small order would let one signature fit many texts
        if key.is_weak() {
            return Err(NoteError::PublicKey);
        }
        let digest: Hash = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', ED25519])
            .chain_update(public)
            .finalize()
            .into();
        let id = digest.first_chunk().copied().ok_or(NoteError::PublicKey)?;
        Ok(Self { name: name.to_owned(), public: key, id })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public.to_bytes()
    }
}

/// The key as C2SP signed-note writes verifier keys: `<name>+<key id in hexadecimal>+<base64 of type and key>`.
/// All that a third party needs to be given.
impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64.encode(&[&[ED25519], self.public.as_bytes().as_slice()].concat());
        write!(f, "{}+{}+{key}", self.name, HEXLOWER.encode(&self.id))
    }
}

/// Reads what [`Display`](fmt::Display) writes.
impl FromStr for NoteKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        // the name holds no plus sign, and base64 may
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::KeyText("it is not `<name>+<key id>+<key>`"));
        };
        let key = BASE64.decode(key.as_bytes()).map_err(|_| NoteError::KeyText("its key is not base64"))?;
        let public = match key.split_first() {
            Some((&ED25519, public)) => public.try_into().ok(),
            _ => None,
        };
        let key = Self::new(name, public.ok_or(NoteError::KeyText("its key is not an Ed25519 key"))?)?;
        if HEXLOWER.encode(&key.id) == id { Ok(key) } else { Err(NoteError::KeyText("its key id is false")) }
    }
}

/// Size and root of a log, as a checkpoint states them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: the name of its key.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// RFC 6962 Merkle tree hash over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The note text that is signed.
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(&self.root))
    }

    /// The signed note, ready to be written.
    ///
    /// # Errors
    /// [`NoteError::Signer`], or [`NoteError::SelfCheck`] if the signer's key is not `key`: a checkpoint
    /// nobody can verify must not replace one that verifies.
    pub fn sign(&self, key: &NoteKey, signer: &dyn CheckpointSigner) -> Result<String, NoteError> {
        let mut note = self.text();
        let signature = signer.sign(note.as_bytes()).map_err(NoteError::Signer)?;
        key.public
            .verify_strict(note.as_bytes(), &Signature::from_bytes(&signature))
            .map_err(|_| NoteError::SelfCheck)?;
        let line = BASE64.encode(&[key.id.as_slice(), signature.as_slice()].concat());
        let _infallible = write!(note, "\n— {} {line}\n", key.name);
        Ok(note)
    }

    /// Verifies a signed note and reads it. Signatures by other keys (witnesses) are ignored.
    ///
    /// # Errors
    /// Any [`NoteError`] about the note: nothing in it is believed before its signature is.
    pub fn open(note: &str, key: &NoteKey) -> Result<Self, NoteError> {
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Form("it holds control characters"));
        }
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Form("it has no signatures"))?;
        let text = format!("{text}\n");
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Form("its last line is cut"))?;
        let mut verified = false;
        for (count, line) in signatures.split('\n').enumerate() {
            if count >= SIGNATURES_MAX {
                return Err(NoteError::Form("it has too many signatures"));
            }
            verified |= verify_line(line, text.as_bytes(), key)?;
        }
        if !verified {
            return Err(NoteError::NoSignature(key.name.clone()));
        }
        Self::parse(&text, key)
    }

    fn parse(text: &str, key: &NoteKey) -> Result<Self, NoteError> {
        let mut lines = text.split_terminator('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Form("it has fewer than three lines"));
        };
        if origin != key.name {
            return Err(NoteError::Origin { found: origin.to_owned(), expected: key.name.clone() });
        }
        // our log writes no extension lines; unknown ones could carry a meaning we do not check
        if lines.next().is_some() {
            return Err(NoteError::Form("it has extension lines"));
        }
        let parsed: u64 = size.parse().map_err(|_| NoteError::Form("its size is not a number"))?;
        if parsed.to_string() != size {
            return Err(NoteError::Form("its size has leading zeroes or a sign"));
        }
        let root = BASE64.decode(root.as_bytes()).map_err(|_| NoteError::Form("its root is not base64"))?;
        let root = root.try_into().map_err(|_| NoteError::Form("its root is not 32 bytes"))?;
        Ok(Self { origin: origin.to_owned(), size: parsed, root })
    }
}

/// The size a checkpoint states, believed by nobody: only for finding the way in a log that is not verified.
pub(crate) fn claimed_size(note: &str) -> Option<u64> {
    note.split('\n').nth(1)?.parse().ok()
}

/// `true` if the line is by `key` and verifies, `false` if it is by another key.
fn verify_line(line: &str, text: &[u8], key: &NoteKey) -> Result<bool, NoteError> {
    let malformed = NoteError::Form("a signature line is malformed");
    let rest = line.strip_prefix("— ").ok_or_else(|| malformed.clone())?;
    let (name, encoded) = rest.split_once(' ').ok_or_else(|| malformed.clone())?;
    let bytes = BASE64.decode(encoded.as_bytes()).map_err(|_| malformed.clone())?;
    let (id, signature) = bytes.split_first_chunk::<4>().ok_or(malformed)?;
    if name != key.name || *id != key.id {
        return Ok(false);
    }
    let false_signature = || NoteError::FalseSignature(key.name.clone());
    let signature = Signature::from_slice(signature).map_err(|_| false_signature())?;
    key.public.verify_strict(text, &signature).map_err(|_| false_signature())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn key() -> (SigningKey, NoteKey) {
        let signing = SigningKey::from_bytes(&[3; 32]);
        let key = NoteKey::new("sealbus/demo/guard-1", signing.verifying_key().to_bytes()).unwrap();
        (signing, key)
    }

    #[test]
    fn the_note_of_the_specification_parses_by_the_same_rules() {
        // golang.org/x/mod/sumdb/note's published key and note: the reference implementation of the form
        let public = BASE64.decode(b"ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let (kind, public) = public.split_first().unwrap();
        assert_eq!(*kind, ED25519);
        let key = NoteKey::new("PeterNeumann", public.try_into().unwrap()).unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&key.id), "c74f20a3");
        let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let line = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        assert_eq!(verify_line(line, text.as_bytes(), &key), Ok(true));
        assert!(matches!(verify_line(line, b"other text\n", &key), Err(NoteError::FalseSignature(_))));
    }

    #[test]
    fn a_key_reads_back_from_its_text_and_a_false_one_does_not() {
        // golang.org/x/mod/sumdb/note's published key
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let key: NoteKey = text.parse().unwrap();
        assert_eq!((key.name(), key.to_string().as_str()), ("PeterNeumann", text));
        for false_text in [
            "",
            "PeterNeumann",
            "PeterNeumann+c74f20a3",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "Peter+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+Ahpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+ARpc",
        ] {
            assert!(false_text.parse::<NoteKey>().is_err(), "{false_text}");
        }
    }

    #[test]
    fn names_that_would_break_a_line_are_refused() {
        let public = key().1.public();
        for name in ["", "a b", "a+b", "a\nb", "a\u{2003}b", "a\0"] {
            assert!(matches!(NoteKey::new(name, public), Err(NoteError::KeyName(_))), "{name:?}");
        }
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(NoteKey::new("a", identity).unwrap_err(), NoteError::PublicKey);
    }

    #[test]
    fn a_signer_with_another_key_is_caught_before_its_note_is_written() {
        let (_, key) = key();
        let other = SigningKey::from_bytes(&[4; 32]);
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: 1, root: [0; 32] };
        assert_eq!(checkpoint.sign(&key, &other), Err(NoteError::SelfCheck));
    }

    #[test]
    fn a_note_by_someone_else_or_of_another_log_is_refused() {
        let (signing, key) = key();
        let checkpoint = Checkpoint { origin: "sealbus/other/guard-1".to_owned(), size: 1, root: [0; 32] };
        let note = checkpoint.sign(&key, &signing).unwrap();
        assert!(matches!(Checkpoint::open(&note, &key), Err(NoteError::Origin { .. })));
        let stranger =
            NoteKey::new(key.name(), SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes()).unwrap();
        assert!(matches!(Checkpoint::open(&note, &stranger), Err(NoteError::NoSignature(_))));
        for extended in [
            note.replacen("=\n\n", "=\nextra\n\n", 1),
            note.replace('\n', "\r\n"),
            note.trim_end().to_owned(),
        ] {
            assert!(Checkpoint::open(&extended, &key).is_err());
        }
    }

    #[test]
    fn the_signature_of_a_witness_is_ignored_and_kept() {
        let (signing, key) = key();
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size: 70_000, root: [5; 32] };
        let note = checkpoint.sign(&key, &signing).unwrap();
        let witnessed = format!("{note}— witness.example/w {}\n", BASE64.encode(&[0xAB; 76]));
        assert_eq!(Checkpoint::open(&witnessed, &key), Ok(checkpoint));
    }

    proptest! {
        #[test]
        fn what_is_signed_opens(size: u64, root: [u8; 32]) {
            let (signing, key) = key();
            let checkpoint = Checkpoint { origin: key.name().to_owned(), size, root };
            let note = checkpoint.sign(&key, &signing).unwrap();
            prop_assert_eq!(Checkpoint::open(&note, &key), Ok(checkpoint));
        }

        #[test]
        fn no_changed_byte_goes_unnoticed(at in any::<prop::sample::Index>(), to in 0x20u8..0x7f) {
            let (signing, key) = key();
            let checkpoint = Checkpoint { origin: key.name().to_owned(), size: 12, root: [1; 32] };
            let note = checkpoint.sign(&key, &signing).unwrap();
            let mut bytes = note.clone().into_bytes();
            let at = at.index(bytes.len());
            if let Some(byte) = bytes.get_mut(at) { *byte = to }
            if let Ok(changed) = String::from_utf8(bytes) {
                let opened = Checkpoint::open(&changed, &key);
                prop_assert!(changed == note || opened.is_err());
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _refused = Checkpoint::open(&text, &key().1).is_err();
        }
    }
}

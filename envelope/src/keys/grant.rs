//! Key grants: a sender key sealed to one reader, signed by the sender's session.
//!
//! Grants for several readers are signed as one batch and travel apart, so that no reader learns who the
//! others are and a thousand readers cost one signature.
//!
//! ```
//! use sealbus_envelope::identity::{BusId, SessionCertificate, SigningKey};
//! use sealbus_envelope::keys::{self, Grant, KeyScope, ReaderKey, ReaderSecret, SenderKey};
//! use sealbus_envelope::{label::Label, name::Name, time::{Millis, Validity}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
//! let (issuer, identity, session) = (SigningKey::generate(rng), SigningKey::generate(rng), SigningKey::generate(rng));
//! let bus = BusId::new(issuer.public(), &Name::parse("demo")?);
//! let validity = Validity::starting(Millis(1_000), 3_600_000);
//! let certificate = SessionCertificate::issue(bus, &identity, &session, validity)?;
//! let secret = ReaderSecret::generate(rng);
//! let reader = ReaderKey::issue(bus, certificate.id(), &session, &secret, validity)?;
//!
//! let scope = KeyScope { bus, session: certificate.id(), rule: Name::parse("notes")?, label: Label::BOTTOM, epoch: 0 };
//! let key = SenderKey::generate(rng, scope);
//! let grants = keys::grant(&key, &session, &[(reader.digest(), reader.public())], rng)?;
//! let opened = Grant::decode(&grants[0])?.verify(&certificate)?.open(&secret, reader.digest())?;
//! assert_eq!(opened.id(), key.id());
//! # Ok(())
//! # }
//! ```

use hpke::{
    Deserializable as _, OpModeR, OpModeS, Serializable as _, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::XWing,
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    hash::{self, Context, Hash},
    identity::{BusId, Purpose, SessionCertificate, SessionId, SigningKey},
    keys::{KeyId, KeyScope, ReaderSecret, SealingPublic, SenderKey, reader::check_contributory},
    name::Name,
    proof::batch::{self, BatchProof, MAX_PROOF},
    reason::{Reason, Refused},
    wire::{
        SeenRoots,
        codec::{Reader, Writer},
        header::{read_label, write_label},
    },
};

/// Bytes of an X-Wing encapsulation.
pub const ENC_LEN: usize = 1120;
/// Bytes of a sealed sender key: 32 and the tag.
pub const SEALED_LEN: usize = 48;
/// The longest grant, in bytes.
pub const MAX_GRANT: usize = 2048;
const VERSION: u8 = 1;
const WHAT: &str = "key grant";

/// A grant that was read, not verified: says what it is for, opens nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    body: Vec<u8>,
    scope: KeyScope,
    key: KeyId,
    reader: Hash,
    enc: Vec<u8>,
    sealed: Vec<u8>,
    proof: BatchProof,
}

/// A grant whose signature was verified against its sender's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedGrant(Grant);

/// Seals `key` to each reader, given by the digest of its record and its public key, and signs all grants
/// at once.
///
/// # Errors
/// `weak_key` if a reader key does not take an encapsulation.
pub fn grant(
    key: &SenderKey,
    session_key: &SigningKey,
    readers: &[(Hash, &SealingPublic)],
    rng: &mut impl CryptoRng,
) -> Result<Vec<Vec<u8>>, Refused> {
    let scope = key.scope();
    let mut bodies = Vec::with_capacity(readers.len());
    for (digest, public) in readers {
        let mut buffer = Zeroizing::new(*key.secret());
        let (enc, tag) =
            hpke::single_shot_seal_inout_detached_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
                &OpModeS::Base,
                &public.key()?,
                &info(scope, key.id(), digest),
                buffer.as_mut_slice().into(),
                &[],
                rng,
            )
            .map_err(|_| Refused::new(Reason::WeakKey, "reader key"))?;
        let mut sealed = buffer.to_vec();
        sealed.extend_from_slice(&tag.to_bytes());
        bodies.push(body(scope, key.id(), digest, &enc.to_bytes(), &sealed));
    }
    let digests: Vec<Hash> = bodies.iter().map(|body| hash::hash(Context::Grant, &[body])).collect();
    let proofs = batch::sign(session_key, Purpose::Grant, scope.session.as_bytes(), &digests);
    Ok(bodies.iter().zip(proofs).map(|(body, proof)| encode(body, &proof)).collect())
}

impl Grant {
    /// Reads a grant and checks its form.
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `bad_name`, `bad_label`, `bad_proof`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        if bytes.len() > MAX_GRANT {
            return Err(Refused::new(Reason::TooLarge, WHAT));
        }
        let mut r = Reader::new(bytes, WHAT);
        r.array(2)?;
        let body = r.bin(MAX_GRANT)?;
        let proof = BatchProof::decode(r.bin(MAX_PROOF)?)?;
        r.finish()?;

        let mut r = Reader::new(body, WHAT);
        r.array(10)?;
        if r.uint()? != u64::from(VERSION) {
            return Err(Refused::new(Reason::UnsupportedVersion, WHAT));
        }
        let scope = KeyScope {
            bus: BusId::from_bytes(r.bin_array()?),
            session: SessionId::from_bytes(r.bin_array()?),
            rule: Name::parse(r.str(crate::name::MAX_NAME)?)?,
            label: read_label(&mut r)?,
            epoch: r.small()?,
        };
        let key = KeyId::from_bytes(r.bin_array()?);
        let reader = r.bin_array()?;
        let enc = r.bin_array::<ENC_LEN>()?.to_vec();
        let sealed = r.bin_array::<SEALED_LEN>()?.to_vec();
        r.finish()?;
        Ok(Self { body: body.to_vec(), scope, key, reader, enc, sealed, proof })
    }

    /// The exact bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.body, &self.proof)
    }

    /// What the key is said to be for.
    #[must_use]
    pub const fn scope(&self) -> &KeyScope {
        &self.scope
    }

    /// Which key is said to be inside.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.key
    }

    /// The digest of the reader key record that it is said to be sealed to.
    #[must_use]
    pub const fn reader(&self) -> Hash {
        self.reader
    }

    /// Checks that the session of `certificate` signed the grant.
    ///
    /// # Errors
    /// `wrong_bus`, `wrong_session`, `bad_proof`, `bad_signature`.
    pub fn verify(self, certificate: &SessionCertificate) -> Result<VerifiedGrant, Refused> {
        self.verify_seen(certificate, &())
    }

    /// As [`verify`](Self::verify), remembering roots: a thousand grants of a batch cost one verification.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_seen(
        self,
        certificate: &SessionCertificate,
        seen: &impl SeenRoots,
    ) -> Result<VerifiedGrant, Refused> {
        if self.scope.bus != certificate.bus() {
            return Err(Refused::new(Reason::WrongBus, WHAT));
        }
        if self.scope.session != certificate.id() {
            return Err(Refused::new(Reason::WrongSession, WHAT));
        }
        let digest = hash::hash(Context::Grant, &[&self.body]);
        let root = self.proof.root(Purpose::Grant, self.scope.session.as_bytes(), &digest)?;
        let signer = certificate.session_key();
        if !seen.contains(signer, &root) {
            root.verify(signer)?;
            seen.insert(signer, root);
        }
        Ok(VerifiedGrant(self))
    }
}

impl VerifiedGrant {
    /// What it says.
    #[must_use]
    pub const fn grant(&self) -> &Grant {
        &self.0
    }

    /// Opens the grant with the reader key whose record has this digest.
    ///
    /// # Errors
    /// `wrong_reader` if it was sealed to another; `weak_key` if the encapsulation has an X25519 point of
    /// small order; `bad_grant` if it does not open; `key_mismatch` if the key inside does not hash to the
    /// id that the sender signed.
    pub fn open(&self, secret: &ReaderSecret, digest: Hash) -> Result<SenderKey, Refused> {
        let Grant { scope, key, reader, enc, sealed, .. } = &self.0;
        let bad = Refused::new(Reason::BadGrant, WHAT);
        if *reader != digest {
            return Err(Refused::new(Reason::WrongReader, WHAT));
        }
        check_contributory(enc)?;
        let enc = <XWing as hpke::Kem>::EncappedKey::from_bytes(enc).map_err(|_| bad)?;
        let (sealed, tag) = sealed.split_first_chunk::<32>().ok_or(bad)?;
        let mut buffer = Zeroizing::new(*sealed);
        let tag = hpke::aead::AeadTag::<ChaCha20Poly1305>::from_bytes(tag).map_err(|_| bad)?;
        hpke::single_shot_open_inout_detached::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &secret.private()?,
            &enc,
            &info(scope, *key, reader),
            buffer.as_mut_slice().into(),
            &[],
            &tag,
        )
        .map_err(|_| bad)?;
        let opened = SenderKey::new(buffer, scope.clone());
        if opened.id() == *key { Ok(opened) } else { Err(Refused::new(Reason::KeyMismatch, WHAT)) }
    }
}

/// HPKE's `info`: everything that the grant says but the sealed key itself.
fn info(scope: &KeyScope, key: KeyId, reader: &Hash) -> Vec<u8> {
    let mut w = Writer::with_capacity(256);
    w.array(3).bin(&scope.encode()).bin(key.as_bytes()).bin(reader);
    w.into_bytes()
}

fn body(scope: &KeyScope, key: KeyId, reader: &Hash, enc: &[u8], sealed: &[u8]) -> Vec<u8> {
    let mut w = Writer::with_capacity(MAX_GRANT);
    w.array(10).uint(VERSION).bin(scope.bus.as_bytes()).bin(scope.session.as_bytes());
    w.str(scope.rule.as_str());
    write_label(&mut w, scope.label);
    w.uint(scope.epoch).bin(key.as_bytes()).bin(reader).bin(enc).bin(sealed);
    w.into_bytes()
}

fn encode(body: &[u8], proof: &BatchProof) -> Vec<u8> {
    let mut w = Writer::with_capacity(body.len() + MAX_PROOF);
    w.array(2).bin(body).bin(&proof.encode());
    w.into_bytes()
}

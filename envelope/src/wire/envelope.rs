//! The envelope, and what is known of it as types:
//!
//! bytes → [`Decoded`] → [`Verified`] → [`Admitted`] → [`Opened`].
//!
//! Only a check makes the next state: what was not verified cannot be admitted, what was not admitted
//! cannot be opened, and the fields of each are private.
//!
//! ```compile_fail
//! // A decoded envelope has no `open`: nobody reads what was not verified and admitted.
//! # use sealbus_envelope::{keys::SenderKey, wire::Decoded};
//! fn shortcut(decoded: Decoded<'_>, key: &SenderKey) { let _ = decoded.open(key); }
//! ```
//!
//! ```compile_fail
//! // A verified envelope has no `open` either: the guard's admission is still missing.
//! # use sealbus_envelope::{keys::SenderKey, wire::Verified};
//! fn shortcut(verified: Verified<'_>, key: &SenderKey) { let _ = verified.open(key); }
//! ```

use std::fmt;

use crate::{
    hash::{self, Context, Hash},
    identity::{BusId, Credential, PublicKey, Purpose, Role, SessionCertificate, SessionId, SigningKey},
    keys::{SenderKey, TAG_LEN},
    proof::{
        admission::{self, ADMISSION_RESERVE, Admission, Decision},
        batch::{self, BatchProof, MAX_PROOF, SignedRoot},
    },
    reason::{Reason, Refused},
    wire::{
        codec::{Reader, Writer},
        header::{Header, HeaderFields, MAX_HEADER},
        payload::Content,
    },
};

/// The largest envelope: 1 MiB, nats-server's default `max_payload`, less room for the admission header.
pub const MAX_ENVELOPE: usize = (1 << 20) - ADMISSION_RESERVE;
/// The version of the wire format.
pub const WIRE_VERSION: u8 = 1;
const WHAT: &str = "envelope";

/// Remembers roots whose signature was verified, so that the rest of a batch pays only hashes.
///
/// A root counts as seen for one signer only, and itself holds purpose and scope, which belong in the key of
/// a cache as well. Revocation is looked up before, never remembered here.
pub trait SeenRoots {
    /// Whether this signer's signature on this root was verified before.
    fn contains(&self, signer: &PublicKey, root: &SignedRoot) -> bool;
    /// Remembers that it was.
    fn insert(&self, signer: &PublicKey, root: SignedRoot);
}

/// Remembers nothing: every root is verified.
impl SeenRoots for () {
    fn contains(&self, _: &PublicKey, _: &SignedRoot) -> bool {
        false
    }
    fn insert(&self, _: &PublicKey, _: SignedRoot) {}
}

/// A header and ciphertext that were sealed and wait for their batch to be signed.
pub struct Sealed {
    header: Vec<u8>,
    ciphertext: Vec<u8>,
    digest: Hash,
    session: SessionId,
}

impl Sealed {
    /// The envelope's digest, which the signature covers and parents and receipts name.
    #[must_use]
    pub const fn digest(&self) -> Hash {
        self.digest
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("digest", &hash::hex(&self.digest)).finish_non_exhaustive()
    }
}

/// Seals `content` under `fields` with `key`.
///
/// # Errors
/// `key_mismatch` if the fields are not what the key is for; what [`Header::decode`] refuses; `too_large`.
pub fn seal(fields: &HeaderFields, content: &Content, key: &SenderKey) -> Result<Sealed, Refused> {
    let scope = key.scope();
    if fields.key != key.id()
        || fields.bus != scope.bus
        || fields.session != scope.session
        || fields.rule != scope.rule
        || fields.label != scope.label
    {
        return Err(Refused::new(Reason::KeyMismatch, "header"));
    }
    let header = fields.encode()?;
    let mut ciphertext = content.encode()?;
    key.seal(fields.id, fields.sequence, &header, &mut ciphertext)?;
    let digest = envelope_digest(&header, &ciphertext);
    Ok(Sealed { header, ciphertext, digest, session: fields.session })
}

/// Signs up to 256 sealed envelopes of one session at once and returns the bytes of each, in order.
///
/// # Errors
/// `wrong_session` if they are of several sessions; `too_large`.
pub fn sign(
    sealed: &[Sealed],
    session: SessionId,
    session_key: &SigningKey,
) -> Result<Vec<Vec<u8>>, Refused> {
    if sealed.iter().any(|sealed| sealed.session != session) {
        return Err(Refused::new(Reason::WrongSession, WHAT));
    }
    let digests: Vec<Hash> = sealed.iter().map(Sealed::digest).collect();
    let proofs = batch::sign(session_key, Purpose::Batch, session.as_bytes(), &digests);
    sealed
        .iter()
        .zip(proofs)
        .map(|(sealed, proof)| encode(&sealed.header, &sealed.ciphertext, &proof))
        .collect()
}

fn encode(header: &[u8], ciphertext: &[u8], proof: &BatchProof) -> Result<Vec<u8>, Refused> {
    let mut w = Writer::with_capacity(header.len() + ciphertext.len() + MAX_PROOF + 16);
    w.array(4).uint(WIRE_VERSION).bin(header).bin(ciphertext).bin(&proof.encode());
    let bytes = w.into_bytes();
    if bytes.len() > MAX_ENVELOPE { Err(Refused::new(Reason::TooLarge, WHAT)) } else { Ok(bytes) }
}

fn envelope_digest(header: &[u8], ciphertext: &[u8]) -> Hash {
    hash::hash(Context::Envelope, &[header, ciphertext])
}

/// An envelope whose form is right. Nothing it says is known to be true.
#[derive(Debug, Clone)]
pub struct Decoded<'a> {
    header: Header<'a>,
    header_bytes: &'a [u8],
    ciphertext: &'a [u8],
    proof: BatchProof,
    digest: Hash,
}

impl<'a> Decoded<'a> {
    /// Reads an envelope and checks its form.
    ///
    /// # Errors
    /// `too_large`; the codec's reasons; `unsupported_version`; what [`Header::decode`] refuses; `bad_proof`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Refused> {
        if bytes.len() > MAX_ENVELOPE {
            return Err(Refused::new(Reason::TooLarge, WHAT));
        }
        let mut r = Reader::new(bytes, WHAT);
        r.array(4)?;
        if r.uint()? != u64::from(WIRE_VERSION) {
            return Err(Refused::new(Reason::UnsupportedVersion, WHAT));
        }
        let header_bytes = r.bin(MAX_HEADER)?;
        let ciphertext = r.bin(MAX_ENVELOPE)?;
        let proof = BatchProof::decode(r.bin(MAX_PROOF)?)?;
        r.finish()?;
        if ciphertext.len() < TAG_LEN {
            return Err(Refused::new(Reason::Truncated, "ciphertext"));
        }
        let header = Header::decode(header_bytes)?;
        let digest = envelope_digest(header_bytes, ciphertext);
        Ok(Self { header, header_bytes, ciphertext, proof, digest })
    }

    /// What the envelope says of itself: a claim.
    #[must_use]
    pub const fn claimed(&self) -> &Header<'a> {
        &self.header
    }

    /// The envelope's digest.
    #[must_use]
    pub const fn digest(&self) -> Hash {
        self.digest
    }

    /// The same bytes again.
    ///
    /// # Errors
    /// Never for a decoded envelope.
    pub fn encode(&self) -> Result<Vec<u8>, Refused> {
        encode(self.header_bytes, self.ciphertext, &self.proof)
    }

    /// Checks that the header names the session of `certificate` and the agent of `credential`, and that
    /// the two belong together: all that can be said of the sender before its signature is verified.
    ///
    /// # Errors
    /// `wrong_bus`, `wrong_session`, `wrong_sender`, `wrong_role`.
    pub fn check_sender(
        &self,
        certificate: &SessionCertificate,
        credential: &Credential,
    ) -> Result<(), Refused> {
        let claims = credential.claims();
        if self.header.bus != claims.bus || self.header.bus != certificate.bus() {
            return Err(Refused::new(Reason::WrongBus, "header.bus"));
        }
        if self.header.session != certificate.id() {
            return Err(Refused::new(Reason::WrongSession, "header.session"));
        }
        if *certificate.identity() != claims.identity || self.header.sender != credential.token().as_str() {
            return Err(Refused::new(Reason::WrongSender, "header.sender"));
        }
        if claims.role == Role::Agent { Ok(()) } else { Err(Refused::new(Reason::WrongRole, "credential")) }
    }

    /// Checks that the session of `certificate`, which belongs to `credential`, signed exactly this.
    /// Validity in time and revocation of the two are the caller's to check first: they are looked up once
    /// for many envelopes.
    ///
    /// # Errors
    /// `wrong_bus`, `wrong_session`, `wrong_sender`, `wrong_role`, `bad_proof`, `bad_signature`.
    pub fn verify(
        self,
        certificate: &SessionCertificate,
        credential: &Credential,
        seen: &impl SeenRoots,
    ) -> Result<Verified<'a>, Refused> {
        self.check_sender(certificate, credential)?;
        let digest = self.signed_by(certificate, seen)?;
        Ok(Verified {
            header: self.header,
            header_bytes: self.header_bytes,
            ciphertext: self.ciphertext,
            digest,
        })
    }
}

impl Decoded<'_> {
    /// Whether the session of `certificate` signed these bytes, whatever they claim; gives their digest.
    /// Tells apart, of an envelope that contradicts itself, whether the contradiction is its signer's.
    ///
    /// # Errors
    /// `bad_proof`, `bad_signature`.
    pub fn signed_by(
        &self,
        certificate: &SessionCertificate,
        seen: &impl SeenRoots,
    ) -> Result<Hash, Refused> {
        let root = self.proof.root(Purpose::Batch, certificate.id().as_bytes(), &self.digest)?;
        let signer = certificate.session_key();
        if !seen.contains(signer, &root) {
            root.verify(signer)?;
            seen.insert(signer, root);
        }
        Ok(self.digest)
    }
}

/// An envelope that its sender's session signed.
#[derive(Debug, Clone)]
pub struct Verified<'a> {
    header: Header<'a>,
    header_bytes: &'a [u8],
    ciphertext: &'a [u8],
    digest: Hash,
}

impl<'a> Verified<'a> {
    /// What the sender says.
    #[must_use]
    pub const fn header(&self) -> &Header<'a> {
        &self.header
    }

    /// The envelope's digest.
    #[must_use]
    pub const fn digest(&self) -> Hash {
        self.digest
    }

    /// Checks that `guard` admitted exactly this envelope. The caller found `guard` by the key that the
    /// admission names, among credentials with the role `guard` that the policy names.
    ///
    /// # Errors
    /// `wrong_role` if the credential is not a guard's; `wrong_bus`; `bad_admission`; `denied`.
    pub fn admit(
        self,
        admission: &Admission,
        guard: &Credential,
        seen: &impl SeenRoots,
    ) -> Result<Admitted<'a>, Refused> {
        let proven = ProvenAdmission::prove(admission, self.header.bus, &self.digest, guard, seen)?;
        self.admit_proven(&proven)
    }

    /// The same with an admission that was proven before.
    ///
    /// # Errors
    /// `bad_admission` if it was proven for another envelope or bus.
    pub fn admit_proven(self, proven: &ProvenAdmission) -> Result<Admitted<'a>, Refused> {
        if proven.bus != self.header.bus || proven.digest != self.digest {
            return Err(Refused::new(Reason::BadAdmission, "admission"));
        }
        Ok(Admitted { verified: self, decision: proven.decision })
    }

    /// Opens what no guard has admitted: for people who decide whether one may. It is no message: nothing that acts
    /// on messages takes it.
    ///
    /// # Errors
    /// As [`Admitted::open`].
    pub fn open_unadmitted(&self, key: &SenderKey) -> Result<Unadmitted, Refused> {
        let content = self.content(key)?;
        Ok(Unadmitted { header: self.header.to_fields()?, digest: self.digest, content })
    }

    fn content(&self, key: &SenderKey) -> Result<Content, Refused> {
        let (header, scope) = (&self.header, key.scope());
        if header.key != key.id() {
            return Err(Refused::new(Reason::UnknownKey, "header.key"));
        }
        if header.bus != scope.bus
            || header.session != scope.session
            || header.rule != scope.rule.as_str()
            || header.label != scope.label
        {
            return Err(Refused::new(Reason::KeyMismatch, "header"));
        }
        let opened = key.open(header.id, header.sequence, self.header_bytes, self.ciphertext)?;
        Content::decode(&zeroize::Zeroizing::new(opened))
    }
}

/// What a sender signed and no guard has admitted, opened by somebody who may read it.
#[derive(Debug, Clone)]
pub struct Unadmitted {
    header: HeaderFields,
    digest: Hash,
    content: Content,
}

impl Unadmitted {
    /// What the sender says, and signed.
    #[must_use]
    pub const fn header(&self) -> &HeaderFields {
        &self.header
    }

    /// The envelope's digest: what an approval binds.
    #[must_use]
    pub const fn digest(&self) -> Hash {
        self.digest
    }

    /// The content.
    #[must_use]
    pub const fn content(&self) -> &Content {
        &self.content
    }
}

/// Knowledge that a guard admitted the envelope with one digest. Only [`prove`](Self::prove) makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenAdmission {
    bus: BusId,
    digest: Hash,
    decision: Decision,
}

impl ProvenAdmission {
    /// Checks that `guard` admitted the envelope with this digest. A reader does this before it looks at
    /// what the sender says, so that only what a guard vouches for costs it more.
    ///
    /// # Errors
    /// `wrong_role` if the credential is not a guard's; `wrong_bus`; `bad_admission`; `denied`.
    pub fn prove(
        admission: &Admission,
        bus: BusId,
        digest: &Hash,
        guard: &Credential,
        seen: &impl SeenRoots,
    ) -> Result<Self, Refused> {
        let claims = guard.claims();
        if claims.role != Role::Guard {
            return Err(Refused::new(Reason::WrongRole, "guard credential"));
        }
        if claims.bus != bus {
            return Err(Refused::new(Reason::WrongBus, "guard credential"));
        }
        let key = &claims.identity;
        if admission.guard != *key.as_bytes() {
            return Err(Refused::new(Reason::BadAdmission, "admission.guard"));
        }
        let root = admission.signed_root(bus, digest)?;
        if !seen.contains(key, &root) {
            admission::verify_root(&root, key)?;
            seen.insert(key, root);
        }
        admission.check_admitted()?;
        Ok(Self { bus, digest: *digest, decision: admission.decision })
    }

    /// What the guard decided.
    #[must_use]
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }
}

/// An envelope that its sender signed and a guard admitted.
#[derive(Debug, Clone)]
pub struct Admitted<'a> {
    verified: Verified<'a>,
    decision: Decision,
}

impl<'a> Admitted<'a> {
    /// What the sender says.
    #[must_use]
    pub const fn header(&self) -> &Header<'a> {
        &self.verified.header
    }

    /// The envelope's digest.
    #[must_use]
    pub const fn digest(&self) -> Hash {
        self.verified.digest
    }

    /// What the guard decided.
    #[must_use]
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Opens the envelope.
    ///
    /// # Errors
    /// `unknown_key` if it is sealed with another key; `key_mismatch` if the key is not for this session,
    /// rule and label; `decrypt_failed`; `bad_padding`; the codec's reasons.
    pub fn open(&self, key: &SenderKey) -> Result<Opened, Refused> {
        Ok(Opened {
            header: self.header().to_fields()?,
            digest: self.verified.digest,
            decision: self.decision,
            content: self.verified.content(key)?,
        })
    }
}

/// A message: verified, admitted, opened.
#[derive(Debug, Clone)]
pub struct Opened {
    header: HeaderFields,
    digest: Hash,
    decision: Decision,
    content: Content,
}

impl Opened {
    /// What the sender says, and signed.
    #[must_use]
    pub const fn header(&self) -> &HeaderFields {
        &self.header
    }

    /// The envelope's digest.
    #[must_use]
    pub const fn digest(&self) -> Hash {
        self.digest
    }

    /// What the guard decided.
    #[must_use]
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The content.
    #[must_use]
    pub const fn content(&self) -> &Content {
        &self.content
    }
}

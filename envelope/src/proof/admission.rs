//! Proof of admission: the guard's signature on its verdict over one envelope.
//!
//! The guard forwards the sender's bytes untouched and adds this in the NATS header
//! [`HEADER_NAME`]. Readers accept only verdict `admit`, signed by a key whose credential has the role
//! `guard` and which the policy bundle names. The same leaf is the audit log's entry, so what a reader
//! accepted the log must contain.
//!
//! ```
//! use sealbus_envelope::{identity::{BusId, SigningKey}, name::Name, time::Millis};
//! use sealbus_envelope::proof::admission::{self, Admission, Decision, Verdict};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
//! let (issuer, guard) = (SigningKey::generate(rng), SigningKey::generate(rng));
//! let bus = BusId::new(issuer.public(), &Name::parse("demo")?);
//! let decision = Decision {
//!     verdict: Verdict::Admit, policy_version: 3, policy_digest: [1; 32], partition: 0,
//!     epoch: 1, position: 42, time: Millis(1_000), observed: false,
//! };
//! let admissions = admission::sign(&guard, bus, &[([7; 32], decision)]);
//! let read = Admission::decode(&admissions[0].encode())?;
//! read.verify(bus, &[7; 32], guard.public())?;
//! # Ok(())
//! # }
//! ```

use data_encoding::BASE64URL_NOPAD;

use crate::{
    hash::{self, Context, Hash},
    identity::{BusId, PublicKey, Purpose, SigningKey},
    proof::batch::{self, BatchProof, SignedRoot},
    reason::{Reason, Refused},
    subject::Partition,
    time::Millis,
    wire::codec::{Reader, Writer},
};

/// The NATS header that carries it, as base64url without padding.
pub const HEADER_NAME: &str = "Sealbus-Admission";
/// The longest encoded proof of admission, in bytes before base64url.
pub const MAX_ADMISSION: usize = 512;
/// What must be left free of a server's `max_payload` for the header and its name.
pub const ADMISSION_RESERVE: usize = 2048;
const VERSION: u8 = 1;
const WHAT: &str = "admission";

/// What the guard decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Admitted: forwarded to readers.
    Admit,
    /// Denied: told to the sender only.
    Deny,
}

impl Verdict {
    const fn number(self) -> u8 {
        match self {
            Self::Admit => 1,
            Self::Deny => 2,
        }
    }
}

/// The verdict and everything that fixes when and under what it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub verdict: Verdict,
    /// Version of the policy bundle in force.
    pub policy_version: u64,
    /// Digest of that bundle.
    pub policy_digest: Hash,
    /// The sender's partition, 0 to 63.
    pub partition: u8,
    /// The guard's lease epoch: rises at each start.
    pub epoch: u64,
    /// The audit log's index of this decision.
    pub position: u64,
    /// The guard's clock.
    pub time: Millis,
    /// Whether it would have been denied, but for observe mode.
    pub observed: bool,
}

/// A decision with the guard's signature, as the header carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The guard key that claims to have signed.
    pub guard: [u8; 32],
    /// What it decided.
    pub decision: Decision,
    /// Its signature over the batch.
    pub proof: BatchProof,
}

impl Admission {
    /// The digest that is the leaf of the batch.
    #[must_use]
    pub fn leaf(bus: BusId, envelope: &Hash, decision: &Decision) -> Hash {
        let mut w = Writer::with_capacity(192);
        w.array(10).bin(bus.as_bytes()).bin(envelope);
        write_decision(&mut w, decision);
        hash::hash(Context::Admission, &[&w.into_bytes()])
    }

    /// The root that the proof leads to for the envelope with this digest. Computed, not verified: for a
    /// verifier that keeps the roots it has seen.
    ///
    /// # Errors
    /// `bad_admission`.
    pub fn signed_root(&self, bus: BusId, envelope: &Hash) -> Result<SignedRoot, Refused> {
        self.proof
            .root(Purpose::Admission, bus.as_bytes(), &Self::leaf(bus, envelope, &self.decision))
            .map_err(|_| Refused::new(Reason::BadAdmission, WHAT))
    }

    /// Checks that `guard` signed this decision over the envelope with this digest, whatever the verdict.
    ///
    /// # Errors
    /// `bad_admission`.
    pub fn verify(&self, bus: BusId, envelope: &Hash, guard: &PublicKey) -> Result<(), Refused> {
        let bad = Refused::new(Reason::BadAdmission, WHAT);
        if self.guard != *guard.as_bytes() {
            return Err(bad);
        }
        verify_root(&self.signed_root(bus, envelope)?, guard)
    }

    /// Refuses any verdict but `admit`.
    ///
    /// # Errors
    /// `denied`.
    pub fn check_admitted(&self) -> Result<(), Refused> {
        match self.decision.verdict {
            Verdict::Admit => Ok(()),
            Verdict::Deny => Err(Refused::new(Reason::Denied, WHAT)),
        }
    }

    /// Reads the header's value.
    ///
    /// # Errors
    /// `bad_admission` if it is not base64url or any part is out of form; `unsupported_version`.
    pub fn decode(text: &str) -> Result<Self, Refused> {
        let bad = Refused::new(Reason::BadAdmission, WHAT);
        if text.len() > (MAX_ADMISSION * 4).div_ceil(3) {
            return Err(bad);
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| bad)?;
        Self::decode_bytes(&bytes).map_err(|refused| match refused.reason {
            Reason::UnsupportedVersion => refused,
            _ => bad,
        })
    }

    fn decode_bytes(bytes: &[u8]) -> Result<Self, Refused> {
        let bad = Refused::new(Reason::BadAdmission, WHAT);
        let mut r = Reader::new(bytes, WHAT);
        r.array(14)?;
        if r.uint()? != u64::from(VERSION) {
            return Err(Refused::new(Reason::UnsupportedVersion, WHAT));
        }
        let guard = r.bin_array()?;
        let decision = Decision {
            verdict: match r.uint()? {
                1 => Verdict::Admit,
                2 => Verdict::Deny,
                _ => return Err(bad),
            },
            policy_version: r.uint()?,
            policy_digest: r.bin_array()?,
            partition: r.small::<u8>().ok().filter(|&p| p < Partition::COUNT).ok_or(bad)?,
            epoch: r.uint()?,
            position: r.uint()?,
            time: Millis(r.uint()?),
            observed: r.bool()?,
        };
        let proof = BatchProof::read(&mut r)?;
        r.finish()?;
        Ok(Self { guard, decision, proof })
    }

    /// The header's value.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut w = Writer::with_capacity(MAX_ADMISSION);
        w.array(14).uint(VERSION).bin(&self.guard);
        write_decision(&mut w, &self.decision);
        self.proof.write(&mut w);
        BASE64URL_NOPAD.encode(&w.into_bytes())
    }
}

/// Verifies a root that [`Admission::signed_root`] computed.
///
/// # Errors
/// `bad_admission`.
pub fn verify_root(root: &SignedRoot, guard: &PublicKey) -> Result<(), Refused> {
    root.verify(guard).map_err(|_| Refused::new(Reason::BadAdmission, WHAT))
}

/// The guard signs decisions over envelopes, in batches of up to 256.
#[must_use]
pub fn sign(guard: &SigningKey, bus: BusId, decisions: &[(Hash, Decision)]) -> Vec<Admission> {
    let leaves: Vec<Hash> =
        decisions.iter().map(|(digest, decision)| Admission::leaf(bus, digest, decision)).collect();
    let proofs = batch::sign(guard, Purpose::Admission, bus.as_bytes(), &leaves);
    decisions
        .iter()
        .zip(proofs)
        .map(|((_, decision), proof)| Admission {
            guard: *guard.public().as_bytes(),
            decision: *decision,
            proof,
        })
        .collect()
}

fn write_decision(w: &mut Writer, decision: &Decision) {
    w.uint(decision.verdict.number()).uint(decision.policy_version).bin(&decision.policy_digest);
    w.uint(decision.partition).uint(decision.epoch).uint(decision.position).uint(decision.time.0);
    w.bool(decision.observed);
}

//! Approvals: what a person signs about one sealed envelope that waits for them.
//!
//! An approval binds the envelope's digest, so it approves these bytes and no others. Whoever carries it need not be
//! trusted. The guard lets a held envelope pass once enough different people approved, and sends their signatures along
//! with it ([`HEADER_NAME`]); a reader counts them again against the signed rule, so a guard cannot approve by itself.
//!
//! ```
//! use sealbus_envelope::approval::{Approval, SignedApproval, check, header};
//! use sealbus_envelope::identity::{BusId, Revocation, SigningKey, Status};
//! use sealbus_envelope::{name::Name, policy::{ApproverList, Hold}, time::Millis};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
//! let (ann, bob) = (SigningKey::generate(rng), SigningKey::generate(rng));
//! let (bus, envelope) = (BusId::from_bytes([1; 32]), [2; 32]);
//! let people = vec![(Name::parse("ann")?, ann.public().clone()), (Name::parse("bob")?, bob.public().clone())];
//! let lists = vec![ApproverList { name: Name::parse("duty")?, after_ms: 0, people }];
//! let hold = Hold { approvals: 2, deadline_ms: 60_000, lists };
//! let approval = Approval { bus, envelope, approve: true, time: Millis(1) };
//! let one = SignedApproval::sign(&approval, &ann);
//! let mut status =
//!     Status { bus, version: 1, policy_version: 1, issued: Millis(0), valid_until: Millis(9), revoked: vec![] };
//! assert!(check(&hold, &status, &envelope, &header(&[one.clone(), one.clone()])).is_err(), "one person is one");
//! let two = SignedApproval::sign(&approval, &bob);
//! check(&hold, &status, &envelope, &header(&[one.clone(), two.clone()]))?;
//! status.revoked.push(Revocation { identity: bob.public().clone(), at: Millis(2) });
//! assert!(check(&hold, &status, &envelope, &header(&[one, two])).is_err(), "a stolen key is nobody's");
//! # Ok(())
//! # }
//! ```

use data_encoding::BASE64URL_NOPAD;

use crate::{
    hash::Hash,
    identity::{BusId, PublicKey, Purpose, Signature, SigningKey, Status},
    name::Name,
    policy::{Hold, MAX_APPROVALS},
    reason::{Reason, Refused},
    time::Millis,
    wire::codec::{Reader, Writer},
};

/// The NATS header that carries approvals beside the proof of admission.
pub const HEADER_NAME: &str = "Sealbus-Approvals";
/// The largest signed approval, in bytes.
pub const MAX_APPROVAL: usize = 256;
/// The largest header value, in bytes before base64url: the reserve for the admission has room for it.
pub const MAX_APPROVALS_HEADER: usize = 4_096;
const VERSION: u8 = 1;
const WHAT: &str = "approval";
const INVALID: Refused = Refused::new(Reason::ApprovalInvalid, WHAT);

/// What a person says about a sealed envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approval {
    /// The bus.
    pub bus: BusId,
    /// The envelope's digest.
    pub envelope: Hash,
    /// Yes or no. One no is enough.
    pub approve: bool,
    /// When it was signed, by the person's clock.
    pub time: Millis,
}

impl Approval {
    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(96);
        w.array(5).uint(VERSION).bin(self.bus.as_bytes()).bin(&self.envelope);
        w.bool(self.approve).uint(self.time.0);
        w.into_bytes()
    }
}

/// An approval whose signature is good. Whether its signer may approve anything, the rule's [`Hold`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedApproval {
    approval: Approval,
    key: PublicKey,
    signature: Signature,
}

impl SignedApproval {
    /// Signs with a person's key.
    #[must_use]
    pub fn sign(approval: &Approval, key: &SigningKey) -> Self {
        let signature = key.sign(Purpose::Approval, &approval.encode());
        Self { approval: *approval, key: key.public().clone(), signature }
    }

    /// Writes `[approval, key, signature]`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(MAX_APPROVAL);
        w.array(3).bin(&self.approval.encode()).bin(self.key.as_bytes()).bin(&self.signature);
        w.into_bytes()
    }

    /// Reads what [`encode`](Self::encode) wrote and checks its signature.
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `wrong_bus`, `weak_key`; `approval_invalid` if the signature is
    /// not good.
    pub fn verify(bytes: &[u8], bus: BusId) -> Result<Self, Refused> {
        if bytes.len() > MAX_APPROVAL {
            return Err(Refused::new(Reason::TooLarge, WHAT));
        }
        let mut r = Reader::new(bytes, WHAT);
        r.array(3)?;
        let body = r.bin(MAX_APPROVAL)?;
        let key = PublicKey::from_bytes(&r.bin_array()?)?;
        let signature: Signature = r.bin_array()?;
        r.finish()?;
        key.verify(Purpose::Approval, body, &signature).map_err(|_| INVALID)?;
        let mut r = Reader::new(body, WHAT);
        r.array(5)?;
        if r.uint()? != u64::from(VERSION) {
            return Err(Refused::new(Reason::UnsupportedVersion, WHAT));
        }
        if r.bin_array()? != *bus.as_bytes() {
            return Err(Refused::new(Reason::WrongBus, WHAT));
        }
        let approval =
            Approval { bus, envelope: r.bin_array()?, approve: r.bool()?, time: Millis(r.uint()?) };
        r.finish()?;
        Ok(Self { approval, key, signature })
    }

    /// What is said.
    #[must_use]
    pub const fn approval(&self) -> &Approval {
        &self.approval
    }

    /// Who says it.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// The value of [`HEADER_NAME`] that carries these.
#[must_use]
pub fn header(approvals: &[SignedApproval]) -> String {
    let mut w = Writer::with_capacity(256 * approvals.len() + 8);
    w.array(approvals.len());
    for approval in approvals {
        w.bin(&approval.encode());
    }
    BASE64URL_NOPAD.encode(&w.into_bytes())
}

/// Checks that as many different people as `hold` wants approved this envelope. A person is a name that keys stand for
/// ([`Hold::person`]): whoever has two keys counts once. A key that the status statement revokes counts nothing,
/// whenever it signed: who stole it writes any time.
///
/// # Errors
/// What [`SignedApproval::verify`] refuses; `approval_missing` if they are too few; `approval_invalid` if the header is
/// malformed, or what an approver signed is about another envelope or says no.
pub fn check(hold: &Hold, status: &Status, envelope: &Hash, header: &str) -> Result<(), Refused> {
    if header.len() > (MAX_APPROVALS_HEADER * 4).div_ceil(3) {
        return Err(Refused::new(Reason::TooLarge, WHAT));
    }
    let bytes = BASE64URL_NOPAD.decode(header.as_bytes()).map_err(|_| INVALID)?;
    let mut r = Reader::new(&bytes, WHAT);
    let count = r.array_len(usize::from(MAX_APPROVALS))?;
    let mut people: Vec<&Name> = Vec::with_capacity(count);
    for _ in 0..count {
        let signed = SignedApproval::verify(r.bin(MAX_APPROVAL)?, status.bus)?;
        // Two holds, of a rule and of a flow grant, share one header: others' approvers count nothing here.
        let Some(person) = hold.person(signed.key()) else { continue };
        if status.is_revoked(signed.key()) {
            continue;
        }
        if signed.approval().envelope != *envelope || !signed.approval().approve {
            return Err(INVALID);
        }
        if !people.contains(&person) {
            people.push(person);
        }
    }
    r.finish()?;
    if people.len() < usize::from(hold.approvals) {
        return Err(Refused::new(Reason::ApprovalMissing, WHAT));
    }
    Ok(())
}

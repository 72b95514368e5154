//! What goes over the wire: the codec, the header, the envelope, the padded content.
//!
//! The whole way of a message:
//!
//! ```
//! use sealbus_envelope::identity::{BusId, Claims, Credential, Role, SessionCertificate, SigningKey};
//! use sealbus_envelope::keys::{KeyScope, SenderKey};
//! use sealbus_envelope::label::{Clearance, Integrity, Label};
//! use sealbus_envelope::proof::admission::{self, Decision, Verdict};
//! use sealbus_envelope::wire::{self, Content, Decoded, EnvelopeId, Flags, HeaderFields};
//! use sealbus_envelope::{name::Name, subject::Subject, time::{Millis, Validity}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
//! # let [issuer, agent, session, guard] = std::array::from_fn(|_| SigningKey::generate(rng));
//! # let bus = BusId::new(issuer.public(), &Name::parse("demo")?);
//! # let validity = Validity::starting(Millis(1_000), 3_600_000);
//! # let claims = |key: &SigningKey, name, role| Ok::<_, Box<dyn std::error::Error>>(Claims {
//! #     bus, identity: key.public().clone(), name: Name::parse(name)?, team: Name::parse("team")?, role,
//! #     clearance: Clearance::default(), integrity_ceiling: Integrity::HIGHEST, zones: vec![], validity,
//! # });
//! # let credential = Credential::issue(&claims(&agent, "collector", Role::Agent)?, &issuer)?;
//! # let guard_credential = Credential::issue(&claims(&guard, "guard", Role::Guard)?, &issuer)?;
//! # let certificate = SessionCertificate::issue(bus, &agent, &session, validity)?;
//! // the sender
//! let rule = Name::parse("notes")?;
//! let scope = KeyScope { bus, session: certificate.id(), rule: rule.clone(), label: Label::BOTTOM, epoch: 0 };
//! let key = SenderKey::generate(rng, scope);
//! let fields = HeaderFields {
//!     bus, id: EnvelopeId::generate(rng), sender: credential.token().clone(), session: certificate.id(),
//!     rule, subject: Subject::parse("collect.web")?, label: Label::BOTTOM, flow_grant: None, key: key.id(),
//!     sequence: 0, issued_at: Millis(2_000), ttl_ms: 60_000, parents: vec![], request: None, flags: Flags::NONE,
//! };
//! let sealed = wire::seal(&fields, &Content::new("text/plain", "hello"), &key)?;
//! let digest = sealed.digest();
//! let bytes = wire::sign(&[sealed], certificate.id(), &session)?.remove(0);
//! // the guard
//! # let decision = Decision {
//! #     verdict: Verdict::Admit, policy_version: 1, policy_digest: [0; 32], partition: 0, epoch: 1,
//! #     position: 0, time: Millis(2_001), observed: false,
//! # };
//! let admission = admission::sign(&guard, bus, &[(digest, decision)]).remove(0);
//! // a reader
//! let opened = Decoded::decode(&bytes)?
//!     .verify(&certificate, &credential, &())?
//!     .admit(&admission, &guard_credential, &())?
//!     .open(&key)?;
//! assert_eq!(opened.content().payload, b"hello");
//! # Ok(())
//! # }
//! ```

pub mod codec;
mod envelope;
pub(crate) mod header;
mod payload;

pub use envelope::{
    Admitted, Decoded, MAX_ENVELOPE, Opened, ProvenAdmission, Sealed, SeenRoots, Unadmitted, Verified,
    WIRE_VERSION, seal, sign,
};
pub use header::{EnvelopeId, Flags, Header, HeaderFields, MAX_HEADER, MAX_PARENTS, MAX_TTL_MS, Parent};
pub use payload::{Content, MAX_PAYLOAD, padme};

//! Who is who: keys, credentials, sessions, revocation.
//!
//! ```
//! use sealbus_envelope::identity::{BusId, Claims, Credential, Member, Role, SessionCertificate, SigningKey};
//! use sealbus_envelope::{label::{Clearance, Integrity}, name::Name, time::{Millis, Validity}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
//! let [issuer, agent, session] = std::array::from_fn(|_| SigningKey::generate(rng));
//! let bus = BusId::new(issuer.public(), &Name::parse("demo")?);
//! let validity = Validity::starting(Millis(1_000), 3_600_000);
//! let claims = Claims {
//!     bus, identity: agent.public().clone(), name: Name::parse("collector")?, team: Name::parse("collectors")?,
//!     role: Role::Agent, clearance: Clearance::default(), integrity_ceiling: Integrity::LOWEST, zones: vec![], validity,
//! };
//! let credential = Credential::issue(&claims, &issuer)?;
//! let certificate = SessionCertificate::issue(bus, &agent, &session, validity)?;
//! let member = Member::verify(credential.as_str(), certificate.as_bytes(), bus, issuer.public())?;
//! assert_eq!(member.token().name(), "collector");
//! # Ok(())
//! # }
//! ```

mod bus;
mod credential;
mod key;
mod member;
mod session;
mod status;

pub use bus::{BusId, Roots};
pub use credential::{Claims, Credential, MAX_CREDENTIAL, MAX_ZONES, Role, sign_jwt, verify_jwt};
pub use key::{KeyKind, PublicKey, Purpose, Signature, SigningKey};
pub use member::Member;
pub use session::{MAX_CERTIFICATE, MAX_SESSION_MS, SessionCertificate, SessionId};
pub use status::{DEFAULT_STATUS_MS, MAX_REVOKED, Revocation, Status};

//! Who is who: keys, credentials, sessions, revocation.

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

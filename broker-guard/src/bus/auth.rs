//! The authenticator: nats-server asks it who every connection is (its *auth callout*), and its answers are
//! what makes the server attest the sender in each subject.
//!
//! [`jwt`] reads the server's question and writes the answer, [`verify`] decides (pure: no IO, no clock),
//! [`registry`] remembers which connection is whose, [`service`] does the talking.

mod answer;
pub mod backoff;
pub mod decision;
pub mod jwt;
mod lobby;
pub mod registry;
pub mod service;
mod shared;
mod upkeep;
pub mod verify;
pub mod zone;

pub use decision::{ConnectionDecision, Outcome};
pub use jwt::{AuthRequest, CalloutKeys};
pub use registry::{Connection, ConnectionId};
pub use service::{Auth, AuthConfig, AuthError, Authority, Counts};

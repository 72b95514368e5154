//! A nats-server of our own: which versions are fit, where the binary is, what its configuration says, and a
//! child process that is cleaned up.
//!
//! `sealbus dev`, `sealbus demo` and the tests run the real server through this. In production the operator
//! runs nats-server; there only [`NatsConfig`] (for `sealbus init`) and [`check_version`] (on the version a
//! live server reports) are used.

mod config;
mod fetch;
mod locate;
mod log;
mod nkey;
mod process;
mod render;
#[cfg(test)]
mod render_tests;
mod version;

pub use config::{
    BusAccount, BusKeys, Callout, ConfigError, EVENTS_STREAM, EVIDENCE_STREAM, INBOX_PREFIX, JetStream,
    LeafListener, Limits, ListenPort, NatsConfig, POLICY_BUCKET, PUBLISHER_INBOX_PREFIX, SystemAccount,
    Tenant, TenantUser, Tls,
};
pub use fetch::FetchError;
pub use locate::{LocateError, NatsServerBinary, Refused, locate, locate_or_fetch};
pub use nkey::{AccountKey, CurveKey, NotThatKey, UserKey};
pub use process::{NatsProcess, ProcessError};
pub use version::{IDENTITY_SPOOFING, PINNED_VERSION, UnfitVersion, check_version, parse_version};

//! What an agent needs to speak on a Sealbus bus: connect, publish, subscribe, request, serve. Keys, labels
//! and provenance follow by themselves.
//!
//! ```no_run
//! use sealbus_client::{Client, Credentials};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(Credentials::load("agents/collector.creds")?).await?;
//! let mut findings = client.subscribe("findings.>").await?;
//! client.publish("collect.web.raw", "<html>…").await?;
//! while let Some(finding) = findings.next().await {
//!     println!("{}\n{}", finding.provenance(), String::from_utf8_lossy(finding.payload()));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Everything that is received was checked against the policy that the quorum signed, not only against what
//! the guard says: a sender seals its keys only to readers whom the policy names, a reader opens only what a
//! publisher whom the policy names signed and a guard whom the policy names admitted.

mod client;
mod clock;
mod connect;
pub mod credentials;
mod driver;
mod error;
mod events;
mod flow;
mod held;
mod inlet;
mod keyring;
mod message;
mod outbox;
mod pause;
mod policy_view;
mod publish;
mod request;
mod said;
mod sealing;
mod seen;
mod session;
mod shared;
mod subscribe;
mod sync;

pub use client::Client;
pub use connect::ConnectOptions;
pub use credentials::{Credentials, CredentialsError};
pub use error::{Error, ErrorKind, Result};
pub use events::{Event, Events, RekeyReason};
pub use held::{Held, HeldMessage, Sent};
pub use message::{Message, Provenance};
pub use pause::WhenPaused;
pub use publish::{Publish, Receipt};
pub use request::{Request, Requests};
/// The envelope crate: labels, reasons, digests.
pub use sealbus_envelope as envelope;
pub use subscribe::{Subscribe, Subscription};

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

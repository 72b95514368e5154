//! What an agent needs to speak on a Sealbus bus.

pub mod credentials;

pub use credentials::{Credentials, CredentialsError};

//! The Sealbus guard.
pub mod natsserver;
pub mod policy;

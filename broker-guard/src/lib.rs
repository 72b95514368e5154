//! The Sealbus guard.
pub mod audit;
pub mod config;
pub mod keyfile;
pub mod natsserver;
pub mod policy;
pub mod quarantine;
pub mod store;

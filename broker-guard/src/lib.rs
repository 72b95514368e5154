//! The Sealbus guard.
pub mod audit;
pub mod natsserver;
pub mod policy;

//! The Sealbus guard.
pub mod policy;

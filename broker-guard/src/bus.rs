//! The only rooms that know NATS.

pub mod admin;
pub mod auth;
pub mod authority;
pub mod bucket;
pub mod desk;
pub mod egress;
pub mod fitness;
pub mod intake;
pub mod link;
pub mod probe;
pub mod seen;
pub mod stream;

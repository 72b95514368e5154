//! The only rooms that know NATS.

pub mod desk;
pub mod egress;
pub mod link;
pub mod seen;

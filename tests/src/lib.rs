//! Fixtures for tests against a real nats-server: the server, a programmable auth callout, and a client that
//! says exactly what a test wants said.

pub mod authenticator;
pub mod bus;
pub mod callout;
pub mod hostile;
pub mod random;
pub mod raw;
pub mod server;
pub mod tls;

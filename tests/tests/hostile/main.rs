//! Attacks. Each says who refuses it and why, that nothing came of it, and that the honest flow beside it lost
//! nothing. `cargo nextest run -p sealbus-tests --test hostile --no-capture` prints the table.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod broker;
mod change;
mod forgery;
mod grants;
mod guard;
mod headers;
mod identity;
mod junk;
mod labels;
mod python;
mod replay;
mod requests;
mod subjects;

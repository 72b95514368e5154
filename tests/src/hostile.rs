//! The attacker's toolbox: sessions spoken by hand, envelopes with any field forged, and what shows that an
//! attack failed: the guard's events, a canary that may hear every delivery, and an honest flow beside it all.
//!
//! An attack that fails because its tool is blunt proves nothing. So a [`Hand`](hand::Hand) logs in with
//! credentials that are good, says hello as the real client does, and the same hand's honest envelope is
//! admitted: what is refused then is the one thing that was forged.

pub mod arena;
pub mod forge;
pub mod hand;
pub mod honest;
pub mod papers;
pub mod server;
pub mod watch;

//! The bus and its roots of trust: what is in every agent's file and trusted without being shown.
//!
//! ```
//! use sealbus_envelope::{identity::{BusId, SigningKey}, name::Name};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = SigningKey::generate(&mut rand_core::UnwrapErr(getrandom::SysRng));
//! let staging = BusId::new(issuer.public(), &Name::parse("staging")?);
//! let production = BusId::new(issuer.public(), &Name::parse("production")?);
//! assert_ne!(staging, production, "nothing made for one bus is good on another");
//! # Ok(())
//! # }
//! ```

use std::fmt;

use crate::{
    hash::{self, Context},
    identity::key::PublicKey,
    name::Name,
};

/// Which bus: the hash of the issuer's key and the bus name. Every signed structure carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BusId([u8; 32]);

impl BusId {
    /// The id of the bus called `name` whose credentials `issuer` signs.
    #[must_use]
    pub fn new(issuer: &PublicKey, name: &Name) -> Self {
        Self(hash::hash(Context::Bus, &[issuer.as_bytes(), name.as_str().as_bytes()]))
    }

    /// An id that was received.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for BusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BusId({self})")
    }
}

impl fmt::Display for BusId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hash::hex(&self.0))
    }
}

/// The roots of trust of one bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// The bus name.
    pub name: Name,
    /// Signs credentials; kept offline.
    pub issuer: PublicKey,
    /// Sign policy bundles.
    pub policy_keys: Vec<PublicKey>,
    /// How many different policy keys must sign.
    pub quorum: usize,
}

impl Roots {
    /// The bus id.
    #[must_use]
    pub fn bus(&self) -> BusId {
        BusId::new(&self.issuer, &self.name)
    }
}

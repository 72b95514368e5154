//! A bus directory under lock: what the next status statement or credential is made from.

use sealbus_envelope::{identity::Status, policy::Bundle};

use super::{
    busdir::{BusArg, BusDir},
    failure::Failure,
    registry::Registry,
};

/// What is in force, and nobody else changes it until this is dropped.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) dir: BusDir,
    pub(crate) bundle: Bundle,
    /// Holds the lock.
    pub(crate) registry: Registry,
    pub(crate) status: Status,
}

impl Locked {
    /// Waits for whoever has the lock.
    pub(crate) fn open(bus: &BusArg) -> Result<Self, Failure> {
        let dir = bus.open()?;
        let (bundle, _) = dir.bundle()?;
        let registry = Registry::lock(&dir)?;
        // Read under the lock: of two statements made from one, the second would undo what the first revoked.
        let status = dir.status(&bundle)?;
        Ok(Self { dir, bundle, registry, status })
    }
}

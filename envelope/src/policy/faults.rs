//! Observe mode: faults of senders that are recorded and let pass.

use crate::reason::{Reason, Refused};

/// What the checks of one envelope found. In force, the first fault ends them; under observation, the first
/// one that may be observed is kept and they go on.
///
/// ```
/// use sealbus_envelope::policy::Faults;
/// use sealbus_envelope::reason::Reason;
/// let mut faults = Faults::observing(true);
/// assert!(faults.found(Reason::LabelOutOfRange, "label").is_ok(), "recorded and let pass");
/// assert!(faults.found(Reason::AboveClearance, "label").is_err(), "never let pass");
/// assert_eq!(faults.observed().map(|fault| fault.reason), Some(Reason::LabelOutOfRange));
/// assert!(Faults::enforced().found(Reason::LabelOutOfRange, "label").is_err());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    observing: bool,
    observed: Option<Refused>,
}

impl Faults {
    /// Nothing passes.
    #[must_use]
    pub const fn enforced() -> Self {
        Self::observing(false)
    }

    /// What may be observed passes if `observing`.
    #[must_use]
    pub const fn observing(observing: bool) -> Self {
        Self { observing, observed: None }
    }

    /// Reports a fault.
    ///
    /// # Errors
    /// The fault, unless it is let pass.
    pub fn found(&mut self, reason: Reason, what: &'static str) -> Result<(), Refused> {
        let fault = Refused::new(reason, what);
        if !(self.observing && reason.is_observable()) {
            return Err(fault);
        }
        self.observed.get_or_insert(fault);
        Ok(())
    }

    /// The first fault that was let pass.
    #[must_use]
    pub const fn observed(&self) -> Option<Refused> {
        self.observed
    }
}

//! Who may approve anything at all: for the guard's page, which takes approvals from whoever brings them.

use std::{collections::HashSet, sync::Arc};

use arc_swap::ArcSwap;
use sealbus_envelope::{
    identity::{PublicKey, Status},
    policy::Hold,
};

use super::holds::Holds;
use crate::policy::compile::CompiledPolicy;

/// The keys of the people whom a hold in force names, or something that waits still, without those that the status
/// statement revokes. The guard's loop keeps them; copies read what it last put there.
///
/// Anybody can make a key and sign approvals with it. If they waited with those of people, a stranger at the page could
/// keep the people's out.
#[derive(Debug, Clone, Default)]
pub struct Approvers(Arc<ArcSwap<HashSet<PublicKey>>>);

impl Approvers {
    /// Goes by this policy, this statement and what waits from now on. What is held later is held by that policy.
    pub fn follow(&self, policy: &CompiledPolicy, status: &Status, holds: &Holds) {
        let rules = policy.rules().iter().filter_map(|rule| rule.hold.as_deref());
        let grants = policy.grants().iter().filter_map(|grant| grant.record.approval.as_ref());
        let waiting = holds.iter().flat_map(|(held, _)| held.wanted.iter().map(|wanted| &wanted.hold));
        let keys = rules.chain(grants).chain(waiting).flat_map(keys);
        self.0.store(Arc::new(keys.filter(|key| !status.is_revoked(key)).cloned().collect()));
    }

    /// These.
    #[cfg(test)]
    pub(crate) fn of(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(keys.into_iter().collect())))
    }

    /// Whether it is the key of one of them.
    #[must_use]
    pub fn has(&self, key: &PublicKey) -> bool {
        self.0.load().contains(key)
    }
}

fn keys(hold: &Hold) -> impl Iterator<Item = &PublicKey> {
    hold.lists.iter().flat_map(|list| &list.people).map(|(_, key)| key)
}

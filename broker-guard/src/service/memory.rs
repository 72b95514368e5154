//! What the store remembers of the audit log: an older copy of the log that was put back is found at the start.

use std::{sync::Arc, time::Duration};

use sealbus_envelope::{
    reason::{Reason, Refused},
    time::Millis,
};
use tokio::time::{MissedTickBehavior, interval};

use super::ServiceError;
use crate::{
    audit::{
        entry::{Body, Record, Seen},
        store::{AuditLog, SyncHandle},
    },
    clock::now,
    store::{SignedLog, Store},
};

/// How often the store is told. What was signed since is protected by what readers hold.
const EVERY: Duration = Duration::from_secs(5);

/// Tells the store how far the log was signed, now and then and at the end.
pub(super) struct Memory {
    pub(super) synced: SyncHandle,
    pub(super) store: Arc<Store>,
}

impl Memory {
    /// Until the log is closed.
    pub(super) async fn run(self) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = 0;
        loop {
            let over = tokio::select! {
                () = self.synced.closed() => true,
                _ = every.tick() => false,
            };
            let progress = self.synced.progress();
            let signed = SignedLog { size: progress.sealed, root: progress.root };
            if signed.size > told {
                let store = Arc::clone(&self.store);
                match tokio::task::spawn_blocking(move || store.remember_log(&signed)).await {
                    Ok(Ok(())) => told = signed.size,
                    Ok(Err(error)) => tracing::warn!(%error, "how far the log was signed is not remembered"),
                    // The guard is ending.
                    Err(_) => return,
                }
            }
            if over {
                return;
            }
        }
    }
}

/// A loss that was accepted is bound into the log before anything else: the old state and its root, so that who
/// finds the old log again can show that it is the one.
pub(super) async fn tell_loss(log: &mut AuditLog, store: &Store, origin: &str) -> Result<(), ServiceError> {
    let Some(lost) = store.lost_log()? else { return Ok(()) };
    let time: Millis = now();
    let seen = Seen { origin: origin.into(), size: lost.size, root: lost.root.into() };
    let appended = log.append_batch(&[Record { time, body: Body::Checkpoint(seen) }])?;
    if log.sync_handle().synced(appended.leaves.end).await.is_err() {
        return Err(ServiceError::LossNotTold(Refused::new(Reason::AuditUnavailable, "audit log")));
    }
    tracing::warn!(size = lost.size, "the audit log goes on without what was lost, and says so");
    Ok(store.log_loss_told()?)
}

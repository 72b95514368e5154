//! Removing old entries of the log while the guard runs: asked for by `sealbus audit prune` on the guard's own
//! machine, through a file that only the guard's user can write.

use std::path::Path;

use sealbus_envelope::time::Millis;

use super::running::Guard;
use crate::audit::{
    entry::Body,
    prune::{Plan, finish_request, take_request},
};

impl Guard {
    /// Looks whether it is asked for. What goes is logged on disk first.
    pub(super) async fn prune(&mut self, now: Millis) {
        let log = self.config.audit_dir.clone();
        let plan = match take_request(&log) {
            Ok(Some(plan)) => plan,
            Ok(None) => return,
            Err(error) => return tracing::error!(%error, "a request to remove old entries cannot be read"),
        };
        if !self.may_prune(&plan, &log, now).await {
            return finished(&log);
        }
        // Many files: not between two envelopes.
        tokio::task::spawn_blocking(move || {
            match plan.carry_out(&log) {
                Ok(bundles) => tracing::info!(before = plan.before, bundles, "old entries were removed"),
                Err(error) => tracing::error!(%error, "old entries could not be removed; ask again"),
            }
            finished(&log);
        });
    }

    async fn may_prune(&mut self, plan: &Plan, log: &Path, now: Millis) -> bool {
        if let Err(error) = plan.check(log) {
            tracing::error!(%error, "old entries are not removed");
            return false;
        }
        if !self.desk.record(Body::Pruned(plan.entry()), now) {
            return false;
        }
        let synced = self.desk.sync_handle();
        let upto = synced.progress().written;
        synced.synced(upto).await.is_ok()
    }
}

fn finished(log: &Path) {
    if let Err(error) = finish_request(log) {
        tracing::warn!(%error, "the request to remove old entries stays where it is");
    }
}

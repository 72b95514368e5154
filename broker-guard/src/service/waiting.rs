//! A guard without a valid policy: it admits nothing, says why, and waits.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::ServiceError;
use crate::{
    config::Config,
    http::{self, Pages, StatusReport, ask::Asking},
    metrics::Metrics,
    oversight::approvers::Approvers,
    reload::{ReloadError, Watch},
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A start is tried again after so many looks even if no file changed: a policy may have been published.
const LOOKS: u32 = 10;

/// Serves health and status, which say that there is no policy and why, until it is worth starting again.
/// `false` at `shutdown`.
pub(super) async fn wait(
    config: &Config,
    why: &ReloadError,
    shutdown: &CancellationToken,
) -> Result<bool, ServiceError> {
    tracing::error!(error = %why, "no valid policy or status: nothing is admitted until there is");
    let listener = http::bind(config.http_listen)
        .await
        .map_err(|source| ServiceError::Http { address: config.http_listen, source })?;
    let report = StatusReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        bus: config.roots.name.to_string(),
        not_ready: Some(format!("no valid policy or status: {why}")),
        ..StatusReport::default()
    };
    // Orders are taken when there is a policy again.
    let (asking, _) = Asking::new(config.roots.clone(), Approvers::default());
    let pages = Pages { report: Arc::new(ArcSwap::from_pointee(report)), metrics: Metrics::new(), asking };
    let (tasks, stop) = (TaskTracker::new(), shutdown.child_token());
    tasks.spawn(http::serve(listener, pages, stop.clone()));

    let mut watch = Watch::new(config);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = 0;
    let again = loop {
        tokio::select! {
            () = shutdown.cancelled() => break false,
            _ = look.tick() => {
                looks += 1;
                if watch.changed().is_some() || looks > LOOKS {
                    break true;
                }
            }
        }
    };
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(again)
}

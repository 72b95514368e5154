//! Health, status and metrics over HTTP, for probes and scrapers on the guard's own network, and where orders
//! are handed in. No login: listens on loopback unless told otherwise, says nothing secret, and does only what
//! a quorum signed.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use sealbus_envelope::order::MAX_ORDER;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

pub mod ask;

use ask::Asking;

/// What `/statusz` says and `sealbus status` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The program's version.
    pub version: String,
    /// The bus name.
    pub bus: String,
    /// This start of the guard.
    pub epoch: u64,
    /// When it started, unix milliseconds.
    pub started: u64,
    /// Whether it admits envelopes now.
    pub ready: bool,
    /// Why not, if not.
    pub not_ready: Option<String>,
    /// Version of the policy in force.
    pub policy_version: u64,
    /// Version of the status statement in force.
    pub status_version: u64,
    /// Until when that statement may be relied on, unix milliseconds.
    pub status_valid_until: u64,
    /// The connected server's name and version.
    pub server: String,
    /// Live sessions.
    pub sessions: Vec<SessionReport>,
    /// Agents in quarantine.
    pub quarantined: Vec<String>,
    /// Entries in the audit log: written, on disk, under a signed checkpoint.
    pub audit: AuditReport,
    /// Messages lost before the guard read them.
    pub dropped: u64,
}

/// One live session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// The agent.
    pub agent: String,
    /// The session.
    pub session: String,
    /// Its team.
    pub team: String,
    /// How many readings it declared.
    pub readings: usize,
    /// How many sender keys it has in use.
    pub keys: usize,
}

/// How far the audit log is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Entries written.
    pub written: u64,
    /// Entries on disk.
    pub synced: u64,
    /// Entries under a signed checkpoint.
    pub sealed: u64,
    /// What is wrong with it, if anything.
    pub fault: Option<String>,
}

/// What the pages are made of.
#[derive(Debug, Clone)]
pub struct Pages {
    /// The newest report.
    pub report: Arc<ArcSwap<StatusReport>>,
    /// The metrics.
    pub metrics: Metrics,
    /// Where the loop is asked.
    pub asking: Asking,
}

/// Listens on `address`.
///
/// # Errors
/// The operating system's own, such as an address in use.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves `/healthz`, `/readyz`, `/statusz`, `/metrics` and `/floors`, and takes `POST /orders`, until
/// `shutdown`.
///
/// # Errors
/// The operating system's own.
pub async fn serve(listener: TcpListener, pages: Pages, shutdown: CancellationToken) -> std::io::Result<()> {
    let asked = Router::new()
        .route("/floors", get(ask::floors))
        .route("/orders", post(ask::order).layer(DefaultBodyLimit::max(MAX_ORDER)))
        .with_state(pages.asking.clone());
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/statusz", get(status))
        .route("/metrics", get(metrics))
        .with_state(pages)
        .merge(asked);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    let report = pages.report.load();
    match &report.not_ready {
        None if report.ready => (StatusCode::OK, "ready\n".to_owned()),
        why => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", why.as_deref().unwrap_or("starting"))),
    }
}

async fn status(State(pages): State<Pages>) -> impl IntoResponse {
    Json(StatusReport::clone(&pages.report.load()))
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(axum::http::header::CONTENT_TYPE, form)], pages.metrics.render())
}

//! Health, status and metrics over HTTP, for probes and scrapers on the guard's own network, and where orders
//! are handed in. No login: listens on loopback unless told otherwise, says nothing secret, and does only what
//! a quorum signed.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header::HOST},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use sealbus_envelope::{approval::MAX_APPROVAL, order::MAX_ORDER};
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

/// Serves `/healthz`, `/readyz`, `/statusz`, `/metrics`, `/floors`, `/workflows`, `/held` and
/// `/quarantine`, and takes `POST /orders` and `POST /approvals`, until
/// `shutdown`.
///
/// # Errors
/// The operating system's own.
pub async fn serve(listener: TcpListener, pages: Pages, shutdown: CancellationToken) -> std::io::Result<()> {
    let asked = Router::new()
        .route("/floors", get(ask::floors))
        .route("/workflows", get(ask::workflows))
        .route("/quarantine", get(ask::quarantine))
        .route("/orders", post(ask::order).layer(DefaultBodyLimit::max(MAX_ORDER)))
        .route("/approvals", post(ask::approve).layer(DefaultBodyLimit::max(MAX_APPROVAL)))
        .route("/held", get(ask::held))
        .route("/held/{digest}", get(ask::held_bytes))
        .with_state(pages.asking.clone());
    let local = listener.local_addr()?.ip().is_loopback();
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/statusz", get(status))
        .route("/metrics", get(metrics))
        .with_state(pages)
        .merge(asked);
    let router = if local { router.layer(middleware::from_fn(addressed)) } else { router };
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// On loopback the pages are this machine's. A browser on it asks on behalf of any web page, which can have its own
/// name lead here and then read the answers as its own; but the name stands in the request.
async fn addressed(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
    if host.is_none_or(is_this_machine) {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, "ask by address, or as localhost\n").into_response()
}

/// Whether the host of a request is an address or `localhost`, with a port or without.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_here_is_not_this_machine() {
        for host in ["127.0.0.1", "127.0.0.1:9100", "[::1]", "[::1]:9100", "localhost", "LocalHost:80"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:9100", "localhost.evil.example", "127.0.0.1.evil.example:9100"]
        {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}

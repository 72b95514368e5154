//! The guard's connections to the servers.
//!
//! Envelopes, logins and administration each have a connection of their own, so that a flood of the one
//! never delays the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event};
use sealbus_envelope::identity::{KeyKind, SigningKey};

use crate::{config::Config, natsserver::INBOX_PREFIX};

/// How many messages of one subscription wait for the guard to read them.
pub const SUBSCRIPTION_CAPACITY: usize = 65_536;
/// The longest wait between two attempts to reconnect.
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect {purpose} to {urls}: {source}; is nats-server running with the bus's nats.conf?")]
pub struct LinkError {
    /// What the connection is for.
    pub purpose: &'static str,
    /// Where to.
    pub urls: String,
    /// The client library's own.
    #[source]
    pub source: Box<async_nats::ConnectError>,
}

/// A connection, and whether it is up.
#[derive(Debug, Clone)]
pub struct Link {
    /// To publish and subscribe.
    pub client: Client,
    up: Arc<AtomicBool>,
}

impl Link {
    /// Whether the connection is up now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }
}

/// Connects with an nkey; reconnects by itself for ever, with jitter.
///
/// # Errors
/// [`LinkError`] if the first attempt fails: then the configuration is more likely wrong than the network.
pub async fn connect(config: &Config, key: &SigningKey, purpose: &'static str) -> Result<Link, LinkError> {
    connect_narrow(config, key, purpose, SUBSCRIPTION_CAPACITY).await
}

/// The same, where only `waiting` messages of a subscription may wait to be read: what may be missed must not
/// fill the guard's memory.
///
/// # Errors
/// As [`connect`].
pub async fn connect_narrow(
    config: &Config,
    key: &SigningKey,
    purpose: &'static str,
    waiting: usize,
) -> Result<Link, LinkError> {
    let up = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&up);
    let options = ConnectOptions::with_nkey(key.to_nkey_seed(KeyKind::User).to_string())
        .name(format!("sealbus guard: {purpose}"))
        .custom_inbox_prefix(INBOX_PREFIX)
        .subscription_capacity(waiting)
        .require_tls(config.requires_tls())
        .ping_interval(Duration::from_secs(5))
        .reconnect_delay_callback(jittered)
        .event_callback(move |event| {
            match &event {
                Event::Connected => seen.store(true, Ordering::Relaxed),
                Event::Disconnected | Event::Closed => seen.store(false, Ordering::Relaxed),
                _ => {}
            }
            tracing::info!(purpose, %event, "nats connection");
            async {}
        });
    let options = match &config.tls_ca {
        Some(ca) => options.add_root_certificates(ca.clone()),
        None => options,
    };
    let client = options.connect(config.urls.clone()).await.map_err(|source| LinkError {
        purpose,
        urls: config.urls.join(", "),
        source: Box::new(source),
    })?;
    Ok(Link { client, up })
}

/// 50 ms doubling up to two seconds, a random half of it: guards that lost one server together do not
/// return to the next together.
fn jittered(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt).unwrap_or(u32::MAX).min(6);
    let ceiling = RECONNECT_MAX.min(Duration::from_millis(50) * 2u32.pow(doublings));
    let random = getrandom::u32().unwrap_or(u32::MAX);
    ceiling / 2 + ceiling / 2 * (random >> 16) / (u32::MAX >> 16)
}

//! `[events]` of sealbus.toml, checked: where events go.

use std::{path::PathBuf, time::Duration};

use super::{
    queue::{Bound, Filter},
    sink::{
        Courier, Sink,
        http::Address,
        jsonl::Jsonl,
        signature::{SecretError, Secrets},
        webhook::Webhook,
    },
};

/// Where events go besides the bus.
#[derive(Debug, Clone)]
pub struct EventSettings {
    /// The durable stream on the bus; none if it is turned off.
    pub stream: Option<StreamSettings>,
    /// How much may wait for each sink.
    pub bound: Bound,
    /// A file.
    pub jsonl: Option<JsonlSettings>,
    /// Web servers.
    pub webhooks: Vec<WebhookSettings>,
}

impl Default for EventSettings {
    fn default() -> Self {
        let (stream, bound) = (Some(StreamSettings::default()), Bound::default());
        Self { stream, bound, jsonl: None, webhooks: Vec::new() }
    }
}

/// How much of what happened is kept on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSettings {
    /// Most bytes; nats-server sets them aside.
    pub max_bytes: u64,
    /// Older events go.
    pub max_age: Duration,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_age: Duration::from_hours(30 * 24) }
    }
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonlSettings {
    /// Where.
    pub path: PathBuf,
    /// How large it gets before another begins.
    pub max_bytes: u64,
    /// How many older ones are kept.
    pub keep: u32,
}

impl JsonlSettings {
    /// How large the file gets if the configuration does not say.
    pub const MAX_BYTES: u64 = 64 << 20;
    /// How many older ones are kept if it does not say.
    pub const KEEP: u32 = 8;
}

/// A web server.
#[derive(Clone)]
pub struct WebhookSettings {
    /// What it is called in metrics and events.
    pub name: String,
    /// Where to post to. Not shown: often whoever knows it may post there.
    pub url: String,
    /// The file of its secret.
    pub secret: PathBuf,
    /// Authorities (PEM) instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// What it wants.
    pub filter: Filter,
    /// How long an answer may take.
    pub patience: Duration,
    /// After how long an event is dropped.
    pub give_up_after: Duration,
}

impl std::fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, filter, .. } = self;
        f.debug_struct("WebhookSettings").field("name", name).field("filter", filter).finish_non_exhaustive()
    }
}

impl WebhookSettings {
    /// How long an answer may take if the configuration does not say.
    pub const PATIENCE: Duration = Duration::from_secs(10);
    /// After how long an event is dropped if it does not say.
    pub const GIVE_UP_AFTER: Duration = Duration::from_hours(24);
}

/// Why a sink cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Its secret is not good.
    #[error("webhook `{name}`: {source}")]
    Secret {
        /// Which webhook.
        name: String,
        /// Why.
        source: SecretError,
    },
    /// Its address or the authorities for it are not good.
    #[error("webhook `{name}`: {said}")]
    Address {
        /// Which webhook.
        name: String,
        /// Why.
        said: String,
    },
}

impl WebhookSettings {
    /// Reads its secret and authorities.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn open(&self) -> Result<Webhook, SinkError> {
        let secrets = Secrets::load(&self.secret)
            .map_err(|source| SinkError::Secret { name: self.name.clone(), source })?;
        let address = Address::new(&self.url, self.tls_ca.as_deref())
            .map_err(|said| SinkError::Address { name: self.name.clone(), said })?;
        Ok(Webhook::new(address, secrets, self.patience, self.give_up_after))
    }
}

impl EventSettings {
    /// The sinks beside the bus, ready to be started.
    ///
    /// # Errors
    /// [`SinkError`]: a webhook that cannot work is told at the start, not when something happens.
    pub fn sinks(&self) -> Result<Vec<Sink>, SinkError> {
        let jsonl = self.jsonl.iter().map(|file| {
            let courier = Courier::Jsonl(Jsonl::new(file.path.clone(), file.max_bytes, file.keep));
            Ok(Sink { name: "jsonl".to_owned(), filter: Filter::default(), bound: self.bound, courier })
        });
        let webhooks = self.webhooks.iter().map(|webhook| {
            Ok(Sink {
                name: webhook.name.clone(),
                filter: webhook.filter.clone(),
                bound: self.bound,
                courier: Courier::Webhook(webhook.open()?),
            })
        });
        jsonl.chain(webhooks).collect()
    }
}

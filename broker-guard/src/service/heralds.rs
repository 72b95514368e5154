//! How the guard's events come to the bus: a connection of their own, and the durable stream where there is one.

use sealbus_envelope::identity::{KeyKind, SigningKey};

use super::ServiceError;
use crate::{
    bus::{
        admin::ServerInfo,
        link,
        stream::{Found, Stream, StreamError, StreamSpec},
    },
    config::Config,
    events::{
        ocsf::Source,
        queue::Filter,
        sink::{Courier, Sink, nats::Nats},
    },
};

/// Answers to what was published, and nothing else, come in on this connection.
const ANSWERS: usize = 1_024;

/// The bus as a sink of events.
pub(super) async fn bus(
    config: &Config,
    key: &SigningKey,
    servers: &[ServerInfo],
) -> Result<Sink, ServiceError> {
    let link = link::connect_narrow(config, key, "for events", ANSWERS).await?;
    let wire = config.subjects();
    let mut stream = None;
    if let Some(settings) = config.events.stream
        && servers.iter().any(|server| server.jetstream)
    {
        let spec = StreamSpec::events(&wire, settings.max_bytes, settings.max_age);
        match Stream::ensure(link.client.clone(), &spec, servers.len()).await {
            Ok((made, found)) => {
                if found == Found::Different {
                    tracing::warn!(
                        stream = spec.name,
                        "the stream of events has other settings than sealbus.toml asks for; change them with \
                        `nats stream edit`"
                    );
                }
                stream = Some((made, spec, servers.len()));
            }
            Err(StreamError::Absent(_)) => {
                tracing::info!("no JetStream in the bus's account: events are only heard by who listens");
            }
            // Events are told without it; a stream that only does not answer yet is asked again with each.
            Err(error @ StreamError::Unavailable { .. }) => {
                tracing::warn!(%error, "no stream of events yet");
                stream = Some((Stream::new(link.client.clone(), spec.name), spec, servers.len()));
            }
            Err(error) => tracing::error!(%error, "no stream of events: they are only heard by who listens"),
        }
    }
    let courier = Courier::Nats(Box::new(Nats::new(link, wire, stream)));
    Ok(Sink { name: "nats".to_owned(), filter: Filter::default(), bound: config.events.bound, courier })
}

/// Who writes the events.
pub(super) fn source(config: &Config, key: &SigningKey, epoch: u64) -> Source {
    Source {
        bus: config.roots.name.to_string(),
        bus_id: config.bus().to_string(),
        guard: key.public().to_nkey(KeyKind::User),
        epoch,
    }
}

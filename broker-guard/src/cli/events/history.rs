//! `sealbus events --since`: what was kept, in a file or in the stream.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
};

use async_nats::ConnectOptions;
use sealbus_envelope::{identity::KeyKind, time::Millis};
use serde_json::Value;

use super::{
    super::{
        failure::{Exit, Failure},
        output::Output,
        runtime,
    },
    Args, show,
};
use crate::{
    bus::stream::{EVENTS_STREAM, Stream, StreamError},
    config::Config,
    events::{ocsf::time, sink::jsonl::older},
    keyfile::read_seed,
    natsserver::INBOX_PREFIX,
};

/// No event is longer.
const MAX_LINE: u64 = 1 << 20;
/// The most rotated files that are looked for.
const MAX_FILES: u32 = 1_000;

pub(super) fn run(args: &Args, since: Millis, output: &Output) -> Result<(), Failure> {
    if let Some(file) = &args.file {
        return from_file(args, file, since, output);
    }
    let config = args.bus.open()?.config;
    match &config.events.jsonl {
        Some(jsonl) => from_file(args, &jsonl.path, since, output),
        None => runtime()?.block_on(from_stream(args, &config, since, output)),
    }
}

/// The oldest file first.
fn from_file(args: &Args, path: &Path, since: Millis, output: &Output) -> Result<(), Failure> {
    let mut left = args.count.unwrap_or(u64::MAX);
    let rotated = (1..=MAX_FILES).take_while(|n| older(path, *n).exists()).last().unwrap_or(0);
    for n in (0..=rotated).rev() {
        let path = older(path, n);
        let file = File::open(&path).map_err(|source| Failure::io("read", &path, source))?;
        let mut lines = BufReader::new(file);
        loop {
            let mut line = Vec::new();
            let read = lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
            let read = read.map_err(|source| Failure::io("read", &path, source))?;
            // The last line may be in the middle of being written.
            if read == 0 || line.last() != Some(&b'\n') {
                break;
            }
            if left == 0 {
                return Ok(());
            }
            if happened(&line).is_some_and(|time| time >= since) {
                left -= u64::from(show(&line, &args.wanted, output)?);
            }
        }
    }
    Ok(())
}

fn happened(event: &[u8]) -> Option<Millis> {
    time(&serde_json::from_slice::<Value>(event).ok()?)
}

/// With the guard's own login, which may read the stream: nobody else's may.
async fn from_stream(args: &Args, config: &Config, since: Millis, output: &Output) -> Result<(), Failure> {
    let seed = read_seed(&config.keys.guard, KeyKind::User)?;
    let options = ConnectOptions::with_nkey(seed.to_nkey_seed(KeyKind::User).to_string())
        .name("sealbus events")
        .custom_inbox_prefix(INBOX_PREFIX)
        .require_tls(config.requires_tls());
    let options = match &config.tls_ca {
        Some(ca) => options.add_root_certificates(ca.clone()),
        None => options,
    };
    let urls = config.urls.join(", ");
    let client = options.connect(config.urls.clone()).await.map_err(|error| {
        let message = format!("cannot connect to {urls}: {error}");
        Failure::told(Exit::Failure, "bus_unreachable", message, "see whether nats-server runs there")
    })?;
    if !client.server_info().jetstream {
        return Err(failure(&StreamError::Absent(EVENTS_STREAM.to_owned())));
    }
    let stream = Stream::new(client, EVENTS_STREAM);
    let extent = stream.extent().await.map_err(|error| failure(&error))?;
    // Numbers and times rise together: the first event that counts is found by halving.
    let (mut low, mut high) = (extent.first, extent.last.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        match stream.next(middle, ">").await.map_err(|error| failure(&error))? {
            Some(record) if record.time < since => low = record.sequence.saturating_add(1),
            _ => high = middle,
        }
    }
    let mut left = args.count.unwrap_or(u64::MAX);
    let filter = config.subjects().event(args.wanted.kind.map_or(">", crate::events::Kind::token));
    let mut kept = stream.range(low, extent.last, filter);
    while left > 0
        && let Some(record) = kept.next().await.map_err(|error| failure(&error))?
    {
        left -= u64::from(show(&record.payload, &args.wanted, output)?);
    }
    Ok(())
}

fn failure(error: &StreamError) -> Failure {
    let remedy = "enable JetStream for the bus's account as `sealbus init` writes it, or let sealbus.toml name a \
                  file under [events.jsonl]";
    Failure::told(Exit::Failure, "events_stream", error.to_string(), remedy)
}

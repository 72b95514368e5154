//! `[events]`: where events go besides the bus.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, Place};
use crate::events::{
    Kind,
    ocsf::Severity,
    queue::{Bound, Filter},
    settings::{EventSettings, JsonlSettings, StreamSettings, WebhookSettings},
    sink::http::check,
};

const MAX_WEBHOOKS: usize = 16;
/// Below this not even a few events fit.
const MIN_BYTES: u64 = 64 << 10;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvents {
    stream: Option<bool>,
    stream_max_bytes: Option<Spanned<u64>>,
    stream_max_days: Option<Spanned<u64>>,
    queue_events: Option<Spanned<usize>>,
    queue_bytes: Option<Spanned<usize>>,
    jsonl: Option<RawJsonl>,
    #[serde(default)]
    webhooks: Vec<Spanned<RawWebhook>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJsonl {
    path: Option<PathBuf>,
    max_bytes: Option<Spanned<u64>>,
    keep: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhook {
    name: Spanned<String>,
    url: Spanned<String>,
    secret: PathBuf,
    tls_ca: Option<PathBuf>,
    #[serde(default)]
    kinds: Vec<Spanned<String>>,
    min_severity: Option<Spanned<String>>,
    timeout_ms: Option<Spanned<u64>>,
    give_up_minutes: Option<Spanned<u64>>,
}

/// Checks `[events]`; paths count from `base`.
pub(super) fn settings(at: &Place<'_>, base: &Path, raw: RawEvents) -> Result<EventSettings, ConfigError> {
    let stream = StreamSettings::default();
    let bound = Bound::default();
    let days = |days| Duration::from_hours(24 * days);
    let max_days = ranged(at, raw.stream_max_days, 30, 1..=3_650, "a number of days from 1 to 3650")?;
    let stream = StreamSettings {
        max_bytes: ranged(at, raw.stream_max_bytes, stream.max_bytes, MIN_BYTES..=1 << 50, BYTES)?,
        max_age: days(max_days),
    };
    let bound = Bound {
        events: ranged(at, raw.queue_events, bound.events, 16..=1_000_000, "a number from 16 to 1000000")?,
        bytes: ranged(at, raw.queue_bytes, bound.bytes, 1 << 16..=1 << 32, BYTES)?,
    };
    let jsonl = match raw.jsonl {
        None => None,
        Some(jsonl) => Some(JsonlSettings {
            path: base.join(jsonl.path.unwrap_or_else(|| "guard/events/events.jsonl".into())),
            max_bytes: ranged(at, jsonl.max_bytes, JsonlSettings::MAX_BYTES, MIN_BYTES..=1 << 50, BYTES)?,
            keep: ranged(at, jsonl.keep, JsonlSettings::KEEP, 0..=1_000, "a number of files up to 1000")?,
        }),
    };
    if let Some(last) = raw.webhooks.get(MAX_WEBHOOKS) {
        let remedy = "name at most 16; something behind one of them can pass events on";
        return Err(at.value(last.span(), "this is one webhook too many", remedy));
    }
    let mut names = BTreeSet::from(["nats".to_owned(), "jsonl".to_owned()]);
    let webhooks = raw
        .webhooks
        .into_iter()
        .map(|raw| {
            let name = raw.get_ref().name.clone();
            if !names.insert(name.get_ref().clone()) {
                let remedy = "give each sink its own name; `nats` and `jsonl` are taken";
                return Err(at.value(name.span(), "this name is taken", remedy));
            }
            webhook(at, base, raw.into_inner())
        })
        .collect::<Result<_, _>>()?;
    let stream = raw.stream.unwrap_or(true).then_some(stream);
    Ok(EventSettings { stream, bound, jsonl, webhooks })
}

pub(super) const BYTES: &str = "a number of bytes from 65536";

fn webhook(at: &Place<'_>, base: &Path, raw: RawWebhook) -> Result<WebhookSettings, ConfigError> {
    let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = raw.name.get_ref();
    if !((1..=48).contains(&name.len()) && name.chars().all(fit)) {
        let remedy = "use up to 48 lower-case letters, digits and `-`";
        return Err(at.value(raw.name.span(), "this cannot be the name of a webhook", remedy));
    }
    if check(raw.url.get_ref()).is_err() {
        let remedy = "write `https://HOST/PATH` without a login; `http://` is for loopback addresses only";
        return Err(at.value(raw.url.span(), "this is no address that events can be posted to", remedy));
    }
    let kinds = raw.kinds.iter().map(|kind| {
        Kind::parse(kind.get_ref()).ok_or_else(|| {
            let remedy = "name kinds of events as `sealbus events --kind` does, such as `quarantine`";
            at.value(kind.span(), "there is no such kind of event", remedy)
        })
    });
    let kinds = kinds.collect::<Result<_, _>>()?;
    let min_severity = raw.min_severity.map(|word| {
        Severity::parse(word.get_ref()).ok_or_else(|| {
            let remedy = "write `informational`, `low`, `medium`, `high` or `critical`";
            at.value(word.span(), "there is no such severity", remedy)
        })
    });
    let filter = Filter { kinds, min_severity: min_severity.transpose()? };
    let (patience, minutes) = (WebhookSettings::PATIENCE, WebhookSettings::GIVE_UP_AFTER.as_secs() / 60);
    let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    let milliseconds = "a number of milliseconds from 100 to 60000";
    let patience = ranged(at, raw.timeout_ms, patience_ms, 100..=60_000, milliseconds)?;
    let give_up = ranged(at, raw.give_up_minutes, minutes, 1..=10_080, "a number of minutes up to 10080")?;
    Ok(WebhookSettings {
        name: raw.name.into_inner(),
        url: raw.url.into_inner(),
        secret: base.join(raw.secret),
        tls_ca: raw.tls_ca.map(|path| base.join(path)),
        filter,
        patience: Duration::from_millis(patience),
        give_up_after: Duration::from_mins(give_up),
    })
}

pub(super) fn ranged<T: PartialOrd>(
    at: &Place<'_>,
    value: Option<Spanned<T>>,
    default: T,
    range: std::ops::RangeInclusive<T>,
    remedy: &'static str,
) -> Result<T, ConfigError> {
    match value {
        None => Ok(default),
        Some(value) if range.contains(value.get_ref()) => Ok(value.into_inner()),
        Some(value) => Err(at.value(value.span(), "this is out of range", remedy)),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn parse(text: &str) -> Result<EventSettings, ConfigError> {
        let at = Place { path: Path::new("sealbus.toml"), text };
        let raw: RawEvents = toml::from_str(text).map_err(|error| at.toml(&error))?;
        settings(&at, Path::new("/bus"), raw)
    }

    const WHOLE: &str = r#"
        stream_max_days = 7
        queue_events = 100
        [jsonl]
        keep = 3
        [[webhooks]]
        name = "pager"
        url = "https://hooks.example.com/secret-path"
        secret = "guard/pager.secret"
        kinds = ["held", "workflow", "quarantine"]
        min_severity = "medium"
        timeout_ms = 2000
    "#;

    #[test]
    fn what_is_left_out_has_a_default() {
        let none = parse("").unwrap();
        assert_eq!(none.stream.unwrap().max_bytes, 64 << 20);
        assert_eq!((none.bound.events, none.bound.bytes), (10_000, 16 << 20));
        assert!(none.jsonl.is_none() && none.webhooks.is_empty());
        assert!(parse("stream = false").unwrap().stream.is_none());

        let whole = parse(WHOLE).unwrap();
        assert_eq!(whole.stream.unwrap().max_age, Duration::from_hours(7 * 24));
        assert_eq!(whole.jsonl.unwrap().path, Path::new("/bus/guard/events/events.jsonl"));
        let pager = whole.webhooks.first().unwrap();
        assert_eq!(pager.secret, Path::new("/bus/guard/pager.secret"));
        assert_eq!(pager.filter.kinds, [Kind::Held, Kind::Workflow, Kind::Quarantine]);
        assert_eq!(pager.filter.min_severity, Some(Severity::Medium));
        assert_eq!((pager.patience.as_secs(), pager.give_up_after.as_secs()), (2, 86_400));
        assert!(!format!("{pager:?}").contains("secret-path"));
    }

    #[test]
    fn every_fault_is_refused() {
        for (from, to) in [
            ("keep = 3", "keep = 5000"),
            ("queue_events = 100", "queue_events = 1"),
            ("name = \"pager\"", "name = \"jsonl\""),
            ("name = \"pager\"", "name = \"Pager\""),
            ("https://", "http://"),
            ("https://", "https://me:word@"),
            ("\"held\"", "\"hold\""),
            ("\"medium\"", "\"middling\""),
            ("timeout_ms = 2000", "timeout_ms = 1"),
            ("timeout_ms", "timeout"),
        ] {
            assert!(WHOLE.contains(from) && parse(&WHOLE.replace(from, to)).is_err(), "{from} {to}");
        }
    }
}

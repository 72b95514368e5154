//! Durable streams of the bus, each one JetStream stream that only guards write.
//!
//! Spoken directly, as [`bucket`](super::bucket) does, so that the guard's login names every subject it uses:
//! `STREAM.CREATE`, `STREAM.INFO` and `STREAM.MSG.GET` of [`EVENTS_STREAM`] and [`EVIDENCE_STREAM`], nothing
//! else. A direct get is never allowed: it would make the server publish stored bytes on a subject of the
//! asker's choice. Whoever holds the server's disk can still drop or alter what is in a stream (DESIGN §2), so
//! what must be proven later is in the audit log as well.
//!
//! Use a connection of its own: on the connection for envelopes every answer would count as a message that was
//! received and never read.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, RequestErrorKind, client::Request};
use bytes::Bytes;
use data_encoding::BASE64;
use sealbus_envelope::{subject::WireSubjects, time::Millis};
use serde::Deserialize;
use serde_json::{Value, json};

pub use crate::natsserver::{EVENTS_STREAM, EVIDENCE_STREAM};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// nats-server does not store the same message id twice within the stream's `duplicate_window`.
const MESSAGE_ID: &str = "Nats-Msg-Id";
/// Without it a stream that somebody else put over the same subjects could acknowledge.
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
/// nats-server's codes of errors that mean something here.
pub(super) const NO_MESSAGE: u64 = 10_037;
pub(super) const NOT_ENABLED: u64 = 10_039;
const NOT_ENABLED_FOR_ACCOUNT: u64 = 10_035;
pub(super) const NAME_IN_USE: u64 = 10_058;
pub(super) const NO_STREAM: u64 = 10_059;
const FULL: u64 = 10_077;

/// Why a stream could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// There is no such stream.
    #[error("there is no stream `{0}`: JetStream is not enabled for the bus's account, or nothing made it")]
    Absent(String),
    /// No answer, or none that can be read. What was published may have been stored: publish it again with the
    /// same message id.
    #[error("stream `{stream}` does not answer: {said}")]
    Unavailable {
        /// Which.
        stream: String,
        /// What was said instead.
        said: String,
    },
    /// The stream holds as much as it may and drops nothing by itself.
    #[error("stream `{0}` is full")]
    Full(String),
    /// The server refused.
    #[error("the server refuses stream `{stream}`: {said}")]
    Refused {
        /// Which.
        stream: String,
        /// What it said.
        said: String,
    },
}

/// What becomes of new messages when a limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// The oldest make room.
    Oldest,
    /// They are refused: [`StreamError::Full`].
    Newest,
}

/// How a stream is made. What is in it cannot be deleted or purged one by one; only its limits end it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name; the guard's login can make no others than [`EVENTS_STREAM`] and [`EVIDENCE_STREAM`].
    pub name: &'static str,
    /// What it is for, for who looks at the server.
    pub description: &'static str,
    /// What it stores: every message on these.
    pub subjects: Vec<String>,
    /// Most bytes in it. The server sets this much aside.
    pub max_bytes: u64,
    /// Most messages in it.
    pub max_msgs: Option<u64>,
    /// Older messages go.
    pub max_age: Option<Duration>,
    /// What happens at a limit.
    pub discard: Discard,
    /// How long a message id is remembered.
    pub duplicate_window: Duration,
    /// Nobody can delete a message, not even who administers the account, unless the whole stream.
    pub deny_delete: bool,
    /// Nobody can purge it.
    pub deny_purge: bool,
}

impl StreamSpec {
    /// The guard's events: the newest `max_bytes` of the last `max_age`.
    #[must_use]
    pub fn events(wire: &WireSubjects, max_bytes: u64, max_age: Duration) -> Self {
        Self {
            name: EVENTS_STREAM,
            description: "What Sealbus guards tell the security team",
            subjects: vec![format!("{}.events.>", wire.prefix())],
            max_bytes,
            max_msgs: None,
            max_age: Some(max_age),
            discard: Discard::Oldest,
            duplicate_window: Duration::from_mins(10),
            deny_delete: true,
            deny_purge: true,
        }
    }

    /// Sealed evidence on `<prefix>.evidence.>`: kept as it came until `max_age`, and no more than `max_bytes`.
    /// What does not fit any more is refused, so that a flood cannot wash out what came before it.
    #[must_use]
    pub fn evidence(wire: &WireSubjects, max_bytes: u64, max_age: Duration) -> Self {
        Self {
            name: EVIDENCE_STREAM,
            description: "Sealed messages of quarantined agents, with the context of their admission",
            subjects: vec![format!("{}.evidence.>", wire.prefix())],
            discard: Discard::Newest,
            ..Self::events(wire, max_bytes, max_age)
        }
    }

    fn config(&self, replicas: usize) -> Value {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1);
        json!({
            "name": self.name, "description": self.description, "subjects": self.subjects,
            "retention": "limits", "storage": "file", "num_replicas": replicas,
            "discard": match self.discard { Discard::Oldest => "old", Discard::Newest => "new" },
            "max_bytes": self.max_bytes, "max_msgs": self.max_msgs.map_or(json!(-1), |max| json!(max)),
            "max_age": self.max_age.map_or(0, nanos), "max_msgs_per_subject": -1, "max_msg_size": -1,
            "max_consumers": -1, "duplicate_window": nanos(self.duplicate_window),
            "deny_delete": self.deny_delete, "deny_purge": self.deny_purge,
            "allow_rollup_hdrs": false, "allow_direct": false,
        })
    }
}

/// How [`Stream::ensure`] found the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// As asked for, made just now or before.
    AsAsked,
    /// It was there with other settings, which stay: only who administers the account can change them
    /// (`nats stream edit`).
    Different,
}

/// That a message is stored, on disk where the server's `sync_interval` is `always`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its number in the stream, from 1.
    pub sequence: u64,
    /// It was there already, by its message id.
    pub duplicate: bool,
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number in the stream.
    pub sequence: u64,
    /// When the server stored it, by the server's clock.
    pub time: Millis,
    /// The subject it was published on.
    pub subject: String,
    /// Its headers, in order.
    pub headers: Vec<(String, String)>,
    /// What it says.
    pub payload: Vec<u8>,
}

/// What is in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Extent {
    /// How many messages.
    pub messages: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The oldest message's number; one more than the newest's if there is none.
    #[serde(rename = "first_seq")]
    pub first: u64,
    /// The newest message's number; 0 if there never was one.
    #[serde(rename = "last_seq")]
    pub last: u64,
}

/// A stream. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stream {
    client: Client,
    name: &'static str,
}

impl Stream {
    /// The stream `name`, which is there, or is not, as its first use shows.
    #[must_use]
    pub const fn new(client: Client, name: &'static str) -> Self {
        Self { client, name }
    }

    /// The same, made unless it is there; on three of `servers` if they are as many and agree to it.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn ensure(
        client: Client,
        spec: &StreamSpec,
        servers: usize,
    ) -> Result<(Self, Found), StreamError> {
        let stream = Self::new(client, spec.name);
        if servers >= 3 {
            match stream.create(spec, 3).await {
                Err(StreamError::Refused { said, .. }) => {
                    tracing::warn!(stream = spec.name, said, "not on several servers; it is made on one");
                }
                outcome => return outcome.map(|found| (stream, found)),
            }
        }
        let found = stream.create(spec, 1).await?;
        Ok((stream, found))
    }

    async fn create(&self, spec: &StreamSpec, replicas: usize) -> Result<Found, StreamError> {
        let subject = format!("$JS.API.STREAM.CREATE.{}", self.name);
        let asked = spec.config(replicas).to_string();
        let answer: Answer = self.ask(subject, asked.into(), None).await?;
        match answer.error {
            None => Ok(Found::AsAsked),
            Some(error) if error.err_code == NAME_IN_USE => Ok(Found::Different),
            Some(error) => Err(self.refused(error)),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Stores a message, and returns when it is stored. With the same `id` again within the stream's duplicate
    /// window nothing more is stored; subscribers of the subject may see it twice.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn publish(
        &self,
        subject: String,
        id: &str,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Stored, StreamError> {
        headers.insert(MESSAGE_ID, id);
        headers.insert(EXPECTED_STREAM, self.name);
        let ack: Ack = self.ask(subject, payload, Some(headers)).await?;
        match (ack.error, ack.seq) {
            (Some(error), _) => Err(self.refused(error)),
            (None, Some(sequence)) if ack.stream == self.name => {
                Ok(Stored { sequence, duplicate: ack.duplicate })
            }
            _ => Err(self.unavailable("what answered is not the stream")),
        }
    }

    /// The message with this number; `None` if there never was one or it is gone.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn get(&self, sequence: u64) -> Result<Option<Record>, StreamError> {
        self.fetch(json!({ "seq": sequence })).await
    }

    /// The first message with this number or a higher one on a subject that `filter` matches (`>`: any).
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn next(&self, sequence: u64, filter: &str) -> Result<Option<Record>, StreamError> {
        self.fetch(json!({ "seq": sequence.max(1), "next_by_subj": filter })).await
    }

    /// The newest message on a subject that `filter` matches (`>`: any).
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn last(&self, filter: &str) -> Result<Option<Record>, StreamError> {
        self.fetch(json!({ "last_by_subj": filter })).await
    }

    /// How much is in it.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn extent(&self) -> Result<Extent, StreamError> {
        let subject = format!("$JS.API.STREAM.INFO.{}", self.name);
        let answer: Info = self.ask(subject, Bytes::new(), None).await?;
        match (answer.error, answer.state) {
            (Some(error), _) => Err(self.refused(error)),
            (None, Some(state)) => Ok(state),
            (None, None) => Err(self.unavailable("an answer without a state")),
        }
    }

    /// The messages from number `from` up to and including `to`, on subjects that `filter` matches.
    #[must_use]
    pub fn range(&self, from: u64, to: u64, filter: impl Into<String>) -> Range {
        Range { stream: self.clone(), next: from, to, filter: filter.into() }
    }

    async fn fetch(&self, question: Value) -> Result<Option<Record>, StreamError> {
        let subject = format!("$JS.API.STREAM.MSG.GET.{}", self.name);
        let answer: Answer = self.ask(subject, question.to_string().into(), None).await?;
        match (answer.error, answer.message) {
            (None, Some(found)) => found.record().map(Some).ok_or_else(|| self.unavailable("not a message")),
            (Some(error), _) if error.err_code == NO_MESSAGE => Ok(None),
            (Some(error), _) => Err(self.refused(error)),
            (None, None) => Err(self.unavailable("an answer without a message")),
        }
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        subject: String,
        payload: Bytes,
        headers: Option<HeaderMap>,
    ) -> Result<T, StreamError> {
        let mut request = Request::new().payload(payload).timeout(Some(PATIENCE));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let answer: Message =
            self.client.send_request(subject, request).await.map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => StreamError::Absent(self.name.to_owned()),
                _ => self.unavailable(error),
            })?;
        serde_json::from_slice(&answer.payload).map_err(|error| self.unavailable(error))
    }

    fn refused(&self, error: ApiError) -> StreamError {
        let stream = self.name.to_owned();
        match error.err_code {
            NO_STREAM | NOT_ENABLED | NOT_ENABLED_FOR_ACCOUNT => StreamError::Absent(stream),
            // 10077 is whatever the store said; these are what it says at a limit.
            FULL if error.description.contains("maximum") => StreamError::Full(stream),
            _ => StreamError::Refused { stream, said: error.description },
        }
    }

    fn unavailable(&self, said: impl std::fmt::Display) -> StreamError {
        StreamError::Unavailable { stream: self.name.to_owned(), said: said.to_string() }
    }
}

/// Walks through a stream, see [`Stream::range`].
#[derive(Debug)]
pub struct Range {
    stream: Stream,
    next: u64,
    to: u64,
    filter: String,
}

impl Range {
    /// The next message, or `None` at the end. After an error, the same again.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn next(&mut self) -> Result<Option<Record>, StreamError> {
        if self.next > self.to {
            return Ok(None);
        }
        match self.stream.next(self.next, &self.filter).await? {
            // A server that hands back an old message would otherwise keep the walk going for ever.
            Some(record) if record.sequence >= self.next && record.sequence <= self.to => {
                self.next = record.sequence.saturating_add(1);
                Ok(Some(record))
            }
            _ => {
                self.next = u64::MAX;
                self.to = 0;
                Ok(None)
            }
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    error: Option<ApiError>,
    message: Option<FoundMessage>,
}

#[derive(Deserialize)]
struct Info {
    error: Option<ApiError>,
    state: Option<Extent>,
}

#[derive(Deserialize)]
struct Ack {
    error: Option<ApiError>,
    #[serde(default)]
    stream: String,
    seq: Option<u64>,
    #[serde(default)]
    duplicate: bool,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct FoundMessage {
    subject: String,
    seq: u64,
    #[serde(default)]
    data: String,
    #[serde(default)]
    hdrs: String,
    time: String,
}

impl FoundMessage {
    fn record(self) -> Option<Record> {
        let payload = BASE64.decode(self.data.as_bytes()).ok()?;
        let headers = BASE64.decode(self.hdrs.as_bytes()).ok()?;
        let headers = String::from_utf8(headers).ok()?;
        // The first line is `NATS/1.0`.
        let headers = headers.lines().skip(1).filter_map(|line| line.split_once(':'));
        let time: jiff::Timestamp = self.time.parse().ok()?;
        Some(Record {
            sequence: self.seq,
            time: Millis(u64::try_from(time.as_millisecond()).ok()?),
            subject: self.subject,
            headers: headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect(),
            payload,
        })
    }
}

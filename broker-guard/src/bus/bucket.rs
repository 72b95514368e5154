//! The policy bucket: every published version under a key of its own, and the number of the current one.
//!
//! A NATS key-value bucket, spoken to directly so that the logins' permissions name every subject that is used:
//! `$KV.sealbus_policy.v.<version>` holds a version (what does not fit into one message follows in `….1`, `….2`),
//! `$KV.sealbus_policy.current` the number. Both logins read by `STREAM.MSG.GET`, which asks the stream's
//! leader and so sees what was just acknowledged, and whose answer is JSON: unlike a direct get it never makes
//! the server publish bytes of the asker's choice on a reply subject of its choice.
//!
//! Nothing read here is trusted. The checksum finds halves of two writes; who signed is for the reader to see.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, RequestErrorKind, Subscriber, client::Request};
use data_encoding::BASE64;
use futures_util::{
    FutureExt as _, StreamExt as _,
    stream::{Select, select},
};
use sealbus_envelope::{
    policy::MAX_BUNDLE,
    reason::Refused,
    wire::codec::{Reader, Writer},
};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::stream::{NAME_IN_USE, NO_MESSAGE, NO_STREAM, NOT_ENABLED};
use crate::natsserver::POLICY_BUCKET as BUCKET;

/// What goes into one message. An answer carries it as base64, and the default `max_payload` is 1 MiB.
const PART: usize = 256 << 10;
/// Room for the rest of an answer.
const ANSWER_RESERVE: usize = 4 << 10;
/// No part but the last is smaller: a bundle of a million crumbs would keep its reader busy.
const MIN_PART: usize = 1 << 10;
const FORMAT: u8 = 1;
const WHAT: &str = "published policy";
const PATIENCE: Duration = Duration::from_secs(5);
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// nats-server's code of the error that somebody else wrote first.
const WRONG_SEQUENCE: u64 = 10_071;

/// Why the bucket could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// There is no bucket.
    #[error(
        "there is no policy bucket: JetStream is not enabled for the bus's account, or no guard that makes the \
         bucket has run"
    )]
    Absent,
    /// No answer.
    #[error("the policy bucket does not answer: {0}")]
    Unavailable(String),
    /// Somebody else wrote there in the meantime.
    #[error("somebody else wrote the same version at the same time")]
    Conflict,
    /// The server refused.
    #[error("the server refused: {0}")]
    Refused(String),
}

/// What is stored as a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Which write it is.
    pub revision: u64,
    /// The bundle's bytes, not verified; `None` if they are not whole.
    pub bytes: Option<Vec<u8>>,
}

/// What somebody wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Written {
    /// The current version is this, they say.
    Current(u64),
    /// Something of this version.
    Version(u64),
}

/// The bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<ApiError>,
    message: Option<Found>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Found {
    seq: u64,
    #[serde(default)]
    data: String,
}

impl Bucket {
    /// Through `client`, which is logged in as a guard or as who publishes policies.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Makes the bucket unless it is there, on as many as three servers. From then on nobody can delete or
    /// purge what is in it, and no login of the bus can change it. `false` if it is there with other settings.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn make(&self, servers: usize) -> Result<bool, BucketError> {
        let settings = json!({
            "name": format!("KV_{BUCKET}"),
            "description": "Signed Sealbus policies; each is verified against the policy keys wherever it is read",
            "subjects": [format!("$KV.{BUCKET}.>")],
            "retention": "limits", "discard": "new", "storage": "file",
            "max_msgs_per_subject": 1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_consumers": -1,
            "max_msg_size": -1, "duplicate_window": 0, "num_replicas": if servers >= 3 { 3 } else { 1 },
            "deny_delete": true, "deny_purge": true, "allow_rollup_hdrs": false, "allow_direct": false,
        });
        let subject = format!("$JS.API.STREAM.CREATE.KV_{BUCKET}");
        let answer: Answer = parse(&self.request(subject, settings.to_string().into(), None).await?)?;
        match answer.error {
            None => Ok(true),
            Some(error) if error.err_code == NAME_IN_USE => Ok(false),
            Some(error) => Err(refused(error)),
        }
    }

    /// The current version, as the bucket says; `None` if nothing was published.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn current(&self) -> Result<Option<u64>, BucketError> {
        let found = self.last("current").await?;
        Ok(found.and_then(|(_, data)| number(&data)))
    }

    /// What is stored as `version`.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn get(&self, version: u64) -> Result<Option<Stored>, BucketError> {
        let Some((revision, record)) = self.last(&format!("v.{version}")).await? else { return Ok(None) };
        let not_whole = Ok(Some(Stored { revision, bytes: None }));
        let Ok(Record { size, parts, checksum, first }) = Record::decode(&record) else { return not_whole };
        let mut bytes = first.to_vec();
        for part in 1..parts {
            match self.last(&format!("v.{version}.{part}")).await? {
                Some((_, data))
                    if bytes.len() + data.len() <= size && (data.len() >= MIN_PART || part + 1 == parts) =>
                {
                    bytes.extend(data);
                }
                _ => return not_whole,
            }
        }
        if bytes.len() != size || <[u8; 32]>::from(Sha256::digest(&bytes)) != checksum {
            return not_whole;
        }
        Ok(Some(Stored { revision, bytes: Some(bytes) }))
    }

    /// Stores `bytes` as `version`, which nobody wrote since `seen` (0: ever). Durable when this returns.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn put(&self, version: u64, bytes: &[u8], seen: u64) -> Result<(), BucketError> {
        let max = self.client.server_info().max_payload;
        let part = PART.min((max / 4 * 3).saturating_sub(ANSWER_RESERVE)).max(MIN_PART);
        let mut parts = bytes.chunks(part);
        let first = parts.next().unwrap_or_default();
        let count = 1 + parts.len();
        // The record last: who finds it finds all of it.
        for (n, data) in (1u32..).zip(parts) {
            self.write(&format!("v.{version}.{n}"), data.to_vec(), None).await?;
        }
        let record =
            Record { size: bytes.len(), parts: count as u64, checksum: Sha256::digest(bytes).into(), first };
        self.write(&format!("v.{version}"), record.encode(), Some(seen)).await
    }

    /// Makes `version` the current one.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn set_current(&self, version: u64) -> Result<(), BucketError> {
        self.write("current", version.to_string().into_bytes(), None).await
    }

    /// What is written from when this returns. Further parts of a version are left out, for their size.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`].
    pub async fn writes(&self) -> Result<Writes, BucketError> {
        let [current, records] = [format!("$KV.{BUCKET}.current"), format!("$KV.{BUCKET}.v.*")];
        let current = self.client.subscribe(current).await.map_err(unavailable)?;
        let records = self.client.subscribe(records).await.map_err(unavailable)?;
        Ok(Writes(select(current, records)))
    }

    async fn last(&self, key: &str) -> Result<Option<(u64, Vec<u8>)>, BucketError> {
        let question = json!({ "last_by_subj": format!("$KV.{BUCKET}.{key}") });
        let subject = format!("$JS.API.STREAM.MSG.GET.KV_{BUCKET}");
        let answer: Answer = parse(&self.request(subject, question.to_string().into(), None).await?)?;
        match (answer.error, answer.message) {
            (None, Some(found)) => {
                let data = BASE64.decode(found.data.as_bytes()).map_err(unavailable)?;
                Ok(Some((found.seq, data)))
            }
            (Some(error), _) if error.err_code == NO_MESSAGE => Ok(None),
            (Some(error), _) => Err(refused(error)),
            (None, None) => Err(unavailable("an answer without a message")),
        }
    }

    async fn write(&self, key: &str, data: Vec<u8>, seen: Option<u64>) -> Result<(), BucketError> {
        let headers = seen.map(|seen| {
            let mut headers = HeaderMap::new();
            headers.insert(EXPECTED, seen.to_string());
            headers
        });
        let answer = self.request(format!("$KV.{BUCKET}.{key}"), data, headers).await?;
        match parse::<Answer>(&answer)?.error {
            None => Ok(()),
            Some(error) if error.err_code == WRONG_SEQUENCE => Err(BucketError::Conflict),
            Some(error) => Err(refused(error)),
        }
    }

    async fn request(
        &self,
        subject: String,
        data: Vec<u8>,
        headers: Option<HeaderMap>,
    ) -> Result<Message, BucketError> {
        let mut request = Request::new().payload(data.into()).timeout(Some(PATIENCE));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        self.client.send_request(subject, request).await.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => BucketError::Absent,
            _ => unavailable(error),
        })
    }
}

/// What is written into the bucket, as it is written.
#[derive(Debug)]
pub struct Writes(Select<Subscriber, Subscriber>);

impl Writes {
    /// The next write, or none when the connection is over. What no publisher of policies writes is left out.
    pub async fn next(&mut self) -> Option<Written> {
        loop {
            let message = self.0.next().await?;
            if let Some(written) = Written::parse(&message) {
                return Some(written);
            }
        }
    }

    /// A write that has come already.
    pub fn ready(&mut self) -> Option<Written> {
        self.next().now_or_never().flatten()
    }
}

impl Written {
    fn parse(message: &Message) -> Option<Self> {
        let key = message.subject.strip_prefix("$KV.")?.strip_prefix(BUCKET)?.strip_prefix('.')?;
        if key == "current" {
            return number(&message.payload).map(Self::Current);
        }
        key.strip_prefix("v.")?.parse().ok().map(Self::Version)
    }
}

/// The first message of a version.
struct Record<'a> {
    size: usize,
    parts: u64,
    checksum: [u8; 32],
    first: &'a [u8],
}

impl<'a> Record<'a> {
    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(64 + self.first.len());
        w.array(5).uint(FORMAT).uint(self.size as u64).uint(self.parts).bin(&self.checksum).bin(self.first);
        w.into_bytes()
    }

    fn decode(bytes: &'a [u8]) -> Result<Self, Refused> {
        use sealbus_envelope::reason::Reason;
        let mut r = Reader::new(bytes, WHAT);
        r.array(5)?;
        if r.uint()? != u64::from(FORMAT) {
            return Err(Refused::new(Reason::UnsupportedVersion, WHAT));
        }
        let too_large = Refused::new(Reason::TooLarge, WHAT);
        let size = usize::try_from(r.uint()?).ok().filter(|size| *size <= MAX_BUNDLE).ok_or(too_large)?;
        let parts = r.uint()?;
        let checksum = r.bin_array()?;
        let first = r.bin(size)?;
        r.finish()?;
        if parts == 0 || parts > 1 + (size / MIN_PART) as u64 {
            return Err(too_large);
        }
        Ok(Self { size, parts, checksum, first })
    }
}

fn number(data: &[u8]) -> Option<u64> {
    std::str::from_utf8(data).ok()?.parse().ok()
}

fn parse<T: for<'de> Deserialize<'de>>(message: &Message) -> Result<T, BucketError> {
    serde_json::from_slice(&message.payload).map_err(unavailable)
}

fn refused(error: ApiError) -> BucketError {
    match error.err_code {
        NO_STREAM | NOT_ENABLED => BucketError::Absent,
        _ => BucketError::Refused(error.description),
    }
}

fn unavailable(error: impl std::fmt::Display) -> BucketError {
    BucketError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn written(subject: &str, payload: &str) -> Option<Written> {
        Written::parse(&Message {
            subject: subject.into(),
            reply: None,
            payload: payload.to_owned().into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        })
    }

    #[test]
    fn only_what_a_publisher_writes_is_heard() {
        assert_eq!(written("$KV.sealbus_policy.current", "12"), Some(Written::Current(12)));
        assert_eq!(written("$KV.sealbus_policy.v.7", "x"), Some(Written::Version(7)));
        for (subject, payload) in [
            ("$KV.sealbus_policy.current", "-1"),
            ("$KV.sealbus_policy.current", "99999999999999999999"),
            ("$KV.sealbus_policy.v.x", ""),
            ("$KV.sealbus_policy.v.7.31", "x"),
            ("$KV.sealbus_policy.v", ""),
            ("$KV.sealbus_policyv.7", ""),
            ("$KV.other.current", "1"),
            ("current", "1"),
        ] {
            assert_eq!(written(subject, payload), None, "{subject} {payload}");
        }
    }

    #[test]
    fn a_record_that_promises_too_much_is_refused() {
        let good = Record { size: 3, parts: 1, checksum: [1; 32], first: b"abc" };
        let read = Record::decode(&good.encode()).map(|read| (read.size, read.parts, read.first.to_vec()));
        assert_eq!(read.unwrap(), (3, 1, b"abc".to_vec()));
        for bad in [
            Record { size: MAX_BUNDLE + 1, parts: 1, checksum: [1; 32], first: b"abc" },
            Record { size: 2, parts: 1, checksum: [1; 32], first: b"abc" },
            Record { size: 3, parts: 0, checksum: [1; 32], first: b"abc" },
            Record { size: 3, parts: 2, checksum: [1; 32], first: b"abc" },
        ] {
            assert!(Record::decode(&bad.encode()).is_err());
        }
        assert!(Record::decode(b"levels = []").is_err());
    }
}

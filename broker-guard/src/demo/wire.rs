//! A NATS connection that says exactly what it is told and hears exactly what the server answers.
//!
//! The client library returns Ok from a publish or a subscription that the server refuses and tells of it
//! elsewhere, later. Here every command is followed by PING, so that the refusal comes before the PONG: what
//! the demo shows as refused was refused, and what was not is shown as such.

use std::{collections::VecDeque, io, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, tcp},
    time::timeout,
};

/// How long the server may take to answer anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// The largest message that is read, in bytes.
const MAX_MESSAGE: usize = 2 << 20;

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The operating system's own.
    #[error("the connection to nats-server failed: {0}")]
    Io(#[from] io::Error),
    /// The server ended it.
    #[error("nats-server ended the connection: {0}")]
    Closed(String),
    /// It said nothing in time.
    #[error("nothing came from nats-server in time")]
    Late,
    /// It said what NATS does not say.
    #[error("nats-server said something unexpected: `{0}`")]
    Unexpected(String),
    /// No login could be made of the server's nonce.
    #[error("no login can be made: {0}")]
    Login(#[from] sealbus_envelope::reason::Refused),
}

/// A message as it came.
#[derive(Debug, Clone)]
pub(super) struct Delivered {
    pub(super) subject: String,
    /// The whole header block, or nothing.
    pub(super) headers: Bytes,
    pub(super) payload: Bytes,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    reader: BufReader<tcp::OwnedReadHalf>,
    writer: tcp::OwnedWriteHalf,
    arrived: VecDeque<Delivered>,
    subscriptions: u64,
}

impl Wire {
    /// Connects to `host:port`; `login` makes the fields of CONNECT out of the server's nonce.
    pub(super) async fn connect(
        address: &str,
        login: impl FnOnce(&str) -> Result<Value, sealbus_envelope::reason::Refused>,
    ) -> Result<Self, WireError> {
        let (reader, writer) = TcpStream::connect(address).await?.into_split();
        let mut wire =
            Self { reader: BufReader::new(reader), writer, arrived: VecDeque::new(), subscriptions: 0 };
        let info = wire.line().await?;
        let info: Value = info
            .strip_prefix("INFO ")
            .and_then(|json| serde_json::from_str(json).ok())
            .ok_or(WireError::Unexpected(info))?;
        let nonce = info.get("nonce").and_then(Value::as_str).unwrap_or_default();
        let mut connect = json!({
            "verbose": false, "pedantic": false, "headers": true, "protocol": 1, "lang": "raw", "version": "0",
        });
        let fields = login(nonce)?;
        if let (Some(connect), Some(fields)) = (connect.as_object_mut(), fields.as_object()) {
            connect.extend(fields.clone());
        }
        match wire.command(format!("CONNECT {connect}\r\n").as_bytes()).await? {
            None => Ok(wire),
            Some(refusal) => Err(WireError::Closed(refusal)),
        }
    }

    /// Subscribes; gives the server's words if it refuses.
    pub(super) async fn subscribe(&mut self, subject: &str) -> Result<Option<String>, WireError> {
        self.subscriptions += 1;
        let command = format!("SUB {subject} {}\r\n", self.subscriptions);
        self.command(command.as_bytes()).await
    }

    /// Publishes; gives the server's words if it refuses.
    pub(super) async fn publish(
        &mut self,
        subject: &str,
        payload: &[u8],
    ) -> Result<Option<String>, WireError> {
        let mut command = format!("PUB {subject} {}\r\n", payload.len()).into_bytes();
        command.extend_from_slice(payload);
        command.extend_from_slice(b"\r\n");
        self.command(&command).await
    }

    /// Publishes with a header block.
    pub(super) async fn publish_with(
        &mut self,
        subject: &str,
        headers: &[u8],
        payload: &[u8],
    ) -> Result<Option<String>, WireError> {
        let (head, total) = (headers.len(), headers.len() + payload.len());
        let mut command = format!("HPUB {subject} {head} {total}\r\n").into_bytes();
        command.extend_from_slice(headers);
        command.extend_from_slice(payload);
        command.extend_from_slice(b"\r\n");
        self.command(&command).await
    }

    /// Sends protocol text, then PING; gives what the server complained of before its PONG.
    pub(super) async fn command(&mut self, text: &[u8]) -> Result<Option<String>, WireError> {
        let mut refusal = None;
        let sent = match self.writer.write_all(text).await {
            Ok(()) => self.writer.write_all(b"PING\r\n").await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            // Its last words say more than the broken pipe.
            return Err(self.closed().await.map_or(WireError::Io(error), WireError::Closed));
        }
        loop {
            match self.line().await {
                Ok(line) if line == "PONG" => return Ok(refusal),
                Ok(line) => match error_in(&line) {
                    Some(words) => refusal = Some(words),
                    None => self.other(&line).await?,
                },
                Err(WireError::Closed(_)) if refusal.is_some() => {
                    return Err(WireError::Closed(refusal.unwrap_or_default()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Result<Delivered, WireError> {
        loop {
            if let Some(message) = self.arrived.pop_front() {
                return Ok(message);
            }
            let line = self.line().await?;
            match error_in(&line) {
                Some(words) => return Err(WireError::Closed(words)),
                None => self.other(&line).await?,
            }
        }
    }

    /// Waits until the server ends the connection; gives its last words.
    pub(super) async fn closed(&mut self) -> Result<String, WireError> {
        let mut last = "without a word".to_owned();
        loop {
            match self.line().await {
                Ok(line) => match error_in(&line) {
                    Some(words) => last = words,
                    None => match self.other(&line).await {
                        Ok(()) => {}
                        Err(WireError::Closed(_) | WireError::Io(_)) => return Ok(last),
                        Err(error) => return Err(error),
                    },
                },
                Err(WireError::Closed(_) | WireError::Io(_)) => return Ok(last),
                Err(error) => return Err(error),
            }
        }
    }

    /// What comes without being asked for.
    async fn other(&mut self, line: &str) -> Result<(), WireError> {
        let (operation, rest) = line.split_once(' ').unwrap_or((line, ""));
        match operation {
            "PING" => Ok(self.writer.write_all(b"PONG\r\n").await?),
            "MSG" => self.message(rest, false).await,
            "HMSG" => self.message(rest, true).await,
            _ => Ok(()),
        }
    }

    /// `subject sid [reply] [header size] size`
    async fn message(&mut self, fields: &str, has_headers: bool) -> Result<(), WireError> {
        let unexpected = || WireError::Unexpected(fields.to_owned());
        let mut parts: VecDeque<_> = fields.split(' ').collect();
        let mut size = || {
            parts.pop_back().and_then(|text| text.parse::<usize>().ok()).filter(|size| *size <= MAX_MESSAGE)
        };
        let total = size().ok_or_else(unexpected)?;
        let head = if has_headers { size().ok_or_else(unexpected)? } else { 0 };
        let mut body = vec![0; total + 2];
        match timeout(PATIENCE, self.reader.read_exact(&mut body)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(WireError::Late),
        }
        body.truncate(total);
        let mut payload = Bytes::from(body);
        if head > total {
            return Err(unexpected());
        }
        let headers = payload.split_to(head);
        let subject = parts.pop_front().ok_or_else(unexpected)?.to_owned();
        self.arrived.push_back(Delivered { subject, headers, payload });
        Ok(())
    }

    async fn line(&mut self) -> Result<String, WireError> {
        let mut line = String::new();
        match timeout(PATIENCE, self.reader.read_line(&mut line)).await {
            Ok(Ok(0)) => Err(WireError::Closed("without a word".to_owned())),
            Ok(Ok(_)) => Ok(line.trim_end().to_owned()),
            // Cut off while there is still something to read, it is a reset and no orderly end.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                Err(WireError::Closed("without a word".to_owned()))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(WireError::Late),
        }
    }
}

fn error_in(line: &str) -> Option<String> {
    Some(line.strip_prefix("-ERR ")?.trim_matches('\'').to_owned())
}

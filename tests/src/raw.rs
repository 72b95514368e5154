//! A NATS client that says exactly what a test wants said, and reports exactly what the server answered.
//!
//! async-nats returns Ok from a subscription the server refuses and reports the refusal elsewhere, later.
//! Here every operation is followed by PING, so its refusal, or the messages it caused, come before the PONG:
//! no test needs to wait and hope.
#![expect(clippy::expect_used, reason = "a fixture that cannot work fails its test")]

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, tcp},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(15);

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// Its subject.
    pub subject: String,
    /// The number of the subscription it matched.
    pub sid: u64,
    /// Its reply subject.
    pub reply: Option<String>,
    /// Header block, if any, and payload.
    pub headers: Bytes,
    /// Payload.
    pub payload: Bytes,
}

/// What the server refused, in its words (without `-ERR` and quotes), or that it hung up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub String);

impl Refusal {
    /// Whether the server's words contain `text`, letter case aside.
    #[must_use]
    pub fn says(&self, text: &str) -> bool {
        self.0.to_lowercase().contains(&text.to_lowercase())
    }
}

/// A connection.
pub struct RawClient {
    reader: BufReader<tcp::OwnedReadHalf>,
    writer: tcp::OwnedWriteHalf,
    info: Value,
    messages: VecDeque<RawMessage>,
    next_sid: u64,
}

/// Fields of CONNECT for a session as Sealbus makes one: a token, and a signature over the nonce, but no
/// `nkey` field.
pub fn session(token: &str, key: &KeyPair) -> impl FnOnce(&str) -> Value {
    move |nonce| json!({ "auth_token": token, "sig": signature(key, nonce) })
}

/// Fields of CONNECT for an nkey login.
pub fn nkey(key: &KeyPair) -> impl FnOnce(&str) -> Value {
    move |nonce| json!({ "nkey": key.public_key(), "sig": signature(key, nonce) })
}

fn signature(key: &KeyPair, nonce: &str) -> String {
    BASE64URL_NOPAD.encode(&key.sign(nonce.as_bytes()).expect("a key that can sign"))
}

impl RawClient {
    /// Connects to `host:port` and logs in with the fields that `login` makes of the server's nonce.
    ///
    /// # Errors
    /// The server's words if it refuses.
    ///
    /// # Panics
    /// If there is no server, or it says nothing for 15 seconds.
    pub async fn connect(address: &str, login: impl FnOnce(&str) -> Value) -> Result<Self, Refusal> {
        let socket = TcpStream::connect(address).await.expect("a server listens");
        let (reader, writer) = socket.into_split();
        let mut client = Self {
            reader: BufReader::new(reader),
            writer,
            info: Value::Null,
            messages: VecDeque::new(),
            next_sid: 0,
        };
        let hello = client.line().await?;
        client.info = serde_json::from_str(hello.strip_prefix("INFO ").expect("INFO first")).expect("json");
        let nonce = client.info.get("nonce").and_then(Value::as_str).unwrap_or_default();
        let mut connect = json!({
            "verbose": false, "pedantic": false, "headers": true, "protocol": 1, "lang": "raw", "version": "0",
        });
        let fields = login(nonce);
        if let (Some(connect), Some(fields)) = (connect.as_object_mut(), fields.as_object()) {
            connect.extend(fields.clone());
        }
        client.command(&format!("CONNECT {connect}\r\n")).await?;
        Ok(client)
    }

    /// The server's INFO.
    #[must_use]
    pub fn info(&self) -> &Value {
        &self.info
    }

    /// The server's number for this connection.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.info.get("client_id").and_then(Value::as_u64).unwrap_or_default()
    }

    /// Subscribes, and returns the subscription's number.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn subscribe(&mut self, subject: &str, queue: Option<&str>) -> Result<u64, Refusal> {
        self.next_sid += 1;
        let sid = self.next_sid;
        let queue = queue.map(|queue| format!("{queue} ")).unwrap_or_default();
        self.command(&format!("SUB {subject} {queue}{sid}\r\n")).await?;
        Ok(sid)
    }

    /// Publishes.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn publish(&mut self, subject: &str, payload: &str) -> Result<(), Refusal> {
        self.command(&format!("PUB {subject} {}\r\n{payload}\r\n", payload.len())).await
    }

    /// Publishes bytes, with a header block (as it goes over the wire, `NATS/1.0` first) and a reply subject.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn publish_bytes(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: &str,
        payload: &[u8],
    ) -> Result<(), Refusal> {
        let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
        let total = headers.len() + payload.len();
        let mut bytes = if headers.is_empty() {
            format!("PUB {subject} {reply}{total}\r\n")
        } else {
            format!("HPUB {subject} {reply}{} {total}\r\n{headers}", headers.len())
        }
        .into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        self.command_bytes(bytes).await
    }

    /// The next message, as soon as the server sends it.
    ///
    /// # Errors
    /// What the server complained of, or that it hung up.
    pub async fn next(&mut self) -> Result<RawMessage, Refusal> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(message);
            }
            let line = self.line().await?;
            match line.strip_prefix("-ERR ") {
                Some(words) => return Err(Refusal(words.trim_matches('\'').to_owned())),
                None => self.other(&line).await?,
            }
        }
    }

    /// Everything that has arrived: all that the server had for this client when it was asked.
    ///
    /// # Errors
    /// What the server complained of, or that it hung up.
    pub async fn arrived(&mut self) -> Result<Vec<RawMessage>, Refusal> {
        self.command("").await?;
        Ok(self.messages.drain(..).collect())
    }

    /// Sends protocol text as it is, then PING, and waits for the PONG.
    ///
    /// # Errors
    /// What the server complained of, or that it hung up.
    pub async fn command(&mut self, text: &str) -> Result<(), Refusal> {
        self.command_bytes(text.as_bytes().to_vec()).await
    }

    /// As [`command`](Self::command), with bytes: several commands at once, payloads that are no text.
    ///
    /// # Errors
    /// The last thing the server complained of, or that it hung up.
    pub async fn command_bytes(&mut self, mut bytes: Vec<u8>) -> Result<(), Refusal> {
        bytes.extend_from_slice(b"PING\r\n");
        let sent = self.writer.write_all(&bytes).await;
        if sent.is_err() {
            return Err(self.closed().await);
        }
        let mut refusal = None;
        loop {
            let line = match self.line().await {
                Ok(line) => line,
                Err(hung_up) => return Err(refusal.unwrap_or(hung_up)),
            };
            if line == "PONG" {
                return refusal.map_or(Ok(()), Err);
            }
            if let Some(words) = line.strip_prefix("-ERR ") {
                refusal = Some(Refusal(words.trim_matches('\'').to_owned()));
            } else {
                self.other(&line).await?;
            }
        }
    }

    /// The subjects of what has arrived, in order.
    pub fn subjects(&mut self) -> Vec<String> {
        self.messages.drain(..).map(|message| message.subject).collect()
    }

    /// Waits until the server ends the connection, and returns the last thing it complained of.
    ///
    /// # Panics
    /// If it does not within 15 seconds.
    pub async fn closed(&mut self) -> Refusal {
        let mut last = Refusal(String::new());
        loop {
            match self.line().await {
                Ok(line) => {
                    if let Some(words) = line.strip_prefix("-ERR ") {
                        last = Refusal(words.trim_matches('\'').to_owned());
                    } else if let Err(hung_up) = self.other(&line).await {
                        return hung_up;
                    }
                }
                Err(hung_up) => return if last.0.is_empty() { hung_up } else { last },
            }
        }
    }

    /// What comes without being asked for.
    async fn other(&mut self, line: &str) -> Result<(), Refusal> {
        let (op, rest) = line.split_once(' ').unwrap_or((line, ""));
        match op {
            "PING" => self.writer.write_all(b"PONG\r\n").await.map_err(|_| hung_up()),
            "MSG" => self.message(rest, 1).await,
            "HMSG" => self.message(rest, 2).await,
            // A leaf connection has no subscription numbers: `subject size`.
            "LMSG" => self.message(&rest.replacen(' ', " 0 ", 1), 1).await,
            _ => Ok(()),
        }
    }

    /// `subject sid [reply] [header size] size`, of which `sizes` are sizes.
    async fn message(&mut self, fields: &str, sizes: usize) -> Result<(), Refusal> {
        let mut fields: VecDeque<_> = fields.split(' ').collect();
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).expect("a number");
        let total: usize = number(fields.pop_back());
        let headers: usize = if sizes == 2 { number(fields.pop_back()) } else { 0 };
        let mut body = vec![0; total + 2];
        let read = timeout(PATIENCE, self.reader.read_exact(&mut body)).await;
        read.expect("the whole message in time").map_err(|_| hung_up())?;
        body.truncate(total);
        let mut payload = Bytes::from(body);
        self.messages.push_back(RawMessage {
            subject: fields.pop_front().unwrap_or_default().to_owned(),
            sid: fields.pop_front().and_then(|sid| sid.parse().ok()).expect("a subscription number"),
            reply: fields.pop_front().map(str::to_owned),
            headers: payload.split_to(headers),
            payload,
        });
        Ok(())
    }

    async fn line(&mut self) -> Result<String, Refusal> {
        let mut line = String::new();
        match timeout(PATIENCE, self.reader.read_line(&mut line)).await.expect("the server answers in time") {
            Ok(read) if read > 0 => Ok(line.trim_end().to_owned()),
            _ => Err(hung_up()),
        }
    }
}

fn hung_up() -> Refusal {
    Refusal("connection closed".to_owned())
}

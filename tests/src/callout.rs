//! A programmable auth callout: answers whatever a test says, where the guard would decide.
#![expect(clippy::expect_used, reason = "a fixture that cannot work fails its test")]

use std::time::{Duration, SystemTime};

use async_nats::Message;
use data_encoding::BASE64URL_NOPAD;
use futures_util::StreamExt;
use nkeys::{KeyPair, XKey};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::server::TestServer;

/// Where nats-server asks who someone is.
pub const SUBJECT: &str = "$SYS.REQ.USER.AUTH";

/// A server's question about one connection: the decoded claims, whose signature the fixture does not judge.
#[derive(Debug, Clone)]
pub struct Request(pub Value);

impl Request {
    /// The user key the server made up for this connection; the answer must be about it.
    #[must_use]
    pub fn user(&self) -> &str {
        self.text("/nats/user_nkey")
    }

    /// The id of the server that asks.
    #[must_use]
    pub fn server_id(&self) -> &str {
        self.text("/nats/server_id/id")
    }

    /// The server's number for the connection; what KICK takes.
    #[must_use]
    pub fn client_id(&self) -> u64 {
        self.0.pointer("/nats/client_info/id").and_then(Value::as_u64).unwrap_or_default()
    }

    /// What the client sent as `auth_token`.
    #[must_use]
    pub fn token(&self) -> &str {
        self.text("/nats/connect_opts/auth_token")
    }

    /// What it sent as `sig`, base64url.
    #[must_use]
    pub fn signature(&self) -> &str {
        self.text("/nats/connect_opts/sig")
    }

    /// The nonce it should have signed, empty if it sent no signature.
    #[must_use]
    pub fn nonce(&self) -> &str {
        self.text("/nats/client_info/nonce")
    }

    /// A field by JSON pointer, empty if absent.
    #[must_use]
    pub fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// What to tell the server.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Let the connection in.
    Admit(User),
    /// Refuse it, with a reason that only the server's log shows.
    Refuse(String),
    /// Say nothing, as an absent guard would.
    Silence,
}

/// The user a connection becomes.
#[derive(Debug, Clone, Default)]
pub struct User {
    /// Subjects it may publish. Written as it is: an empty list too.
    pub publish: Vec<String>,
    /// Subjects it may not publish.
    pub publish_deny: Vec<String>,
    /// Subjects, or `subject queue`, it may subscribe. Written as it is: an empty list too.
    pub subscribe: Vec<String>,
    /// Subjects, or `subject queue`, it may not subscribe.
    pub subscribe_deny: Vec<String>,
    /// The JWT's `name`.
    pub name: Option<String>,
    /// How long the JWT is valid; the server counts in whole seconds.
    pub valid: Option<Duration>,
    /// The account to place it in, `BUS` unless set.
    pub account: Option<String>,
    /// The JWT's `subs` and `payload` limits, unlimited unless set.
    pub limits: Option<(i64, i64)>,
}

impl User {
    /// A user with these allow lists.
    #[must_use]
    pub fn new(publish: &[&str], subscribe: &[&str]) -> Self {
        Self { publish: owned(publish), subscribe: owned(subscribe), ..Self::default() }
    }

    /// With these entries forbidden to subscribe.
    #[must_use]
    pub fn deny_subscribe(mut self, deny: &[&str]) -> Self {
        self.subscribe_deny = owned(deny);
        self
    }

    fn claims(&self, user: &str) -> Value {
        let (subs, payload) = self.limits.unwrap_or((-1, -1));
        let mut claims = json!({
            "sub": user,
            "aud": self.account.as_deref().unwrap_or("BUS"),
            "nats": {
                "type": "user",
                "version": 2,
                "subs": subs, "data": -1, "payload": payload,
                "pub": { "allow": self.publish, "deny": self.publish_deny },
                "sub": { "allow": self.subscribe, "deny": self.subscribe_deny },
            },
        });
        if let Some(claims) = claims.as_object_mut() {
            if let Some(name) = &self.name {
                claims.insert("name".into(), json!(name));
            }
            if let Some(valid) = self.valid {
                claims.insert("exp".into(), json!(now() + valid.as_secs()));
            }
        }
        claims
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A running callout. Dropping it is the guard going away: nobody answers any more.
pub struct Callout {
    requests: mpsc::UnboundedReceiver<Request>,
    task: tokio::task::JoinHandle<()>,
}

impl Callout {
    /// Connects as the guard and answers each request as `decide` says, from when this returns.
    ///
    /// # Panics
    /// If the guard's login is refused.
    pub async fn start(
        server: &TestServer,
        decide: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let client = server.guard().await;
        let mut questions = client.subscribe(SUBJECT).await.expect("subscribing the callout subject");
        // Any answer from the server proves it has seen the subscription.
        round_trip(&client).await;
        let issuer = KeyPair::from_seed(&server.keys().callout.seed().expect("a seed")).expect("an issuer");
        let xkey = XKey::from_seed(&server.keys().xkey.seed().expect("a seed")).expect("an xkey");
        let (seen, requests) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(message) = questions.next().await {
                let (request, server_key) = open(&message, &xkey);
                let answer = decide(&request);
                // Seen before answered: a test that was let in finds its request in the channel.
                let _ = seen.send(request.clone());
                let Some(response) = response(&issuer, &request, answer) else { continue };
                let sealed = xkey.seal(response.as_bytes(), &server_key).expect("sealing");
                let reply = message.reply.expect("a callout has a reply subject");
                client.publish(reply, sealed.into()).await.expect("publishing");
            }
        });
        Self { requests, task }
    }

    /// The next request, in the order they came.
    ///
    /// # Panics
    /// If none comes within ten seconds.
    pub async fn request(&mut self) -> Request {
        let next = tokio::time::timeout(Duration::from_secs(10), self.requests.recv());
        next.await.expect("a callout request in time").expect("the callout runs")
    }

    /// The next request if one came already.
    pub fn seen(&mut self) -> Option<Request> {
        self.requests.try_recv().ok()
    }
}

impl Drop for Callout {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until the server has taken in all that `client` sent.
///
/// # Panics
/// If the client may not use its own inbox.
pub async fn round_trip(client: &async_nats::Client) {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.expect("subscribing an inbox");
    client.publish(inbox, "".into()).await.expect("publishing");
    let answered = tokio::time::timeout(Duration::from_secs(10), echo.next());
    answered.await.expect("an echo in time").expect("an echo");
}

fn open(message: &Message, xkey: &XKey) -> (Request, XKey) {
    let headers = message.headers.as_ref().expect("a sealed request has headers");
    let server_key = headers.get("Nats-Server-Xkey").expect("the server's key").as_str();
    let server_key = XKey::from_public_key(server_key).expect("a curve key");
    let token = xkey.open(&message.payload, &server_key).expect("a request sealed to us");
    let token = String::from_utf8(token).expect("a token");
    let claims = token.split('.').nth(1).expect("three parts");
    let claims = BASE64URL_NOPAD.decode(claims.as_bytes()).expect("base64url");
    (Request(serde_json::from_slice(&claims).expect("json")), server_key)
}

fn response(issuer: &KeyPair, request: &Request, answer: Answer) -> Option<String> {
    let mut body = match answer {
        Answer::Admit(user) => json!({ "jwt": sign(issuer, user.claims(request.user())) }),
        Answer::Refuse(reason) => json!({ "error": reason }),
        Answer::Silence => return None,
    };
    if let Some(body) = body.as_object_mut() {
        body.insert("type".into(), json!("authorization_response"));
        body.insert("version".into(), json!(2));
    }
    Some(sign(issuer, json!({ "sub": request.user(), "aud": request.server_id(), "nats": body })))
}

/// A JWT in NATS's form, signed by `issuer`; `iss` and `iat` are filled in.
///
/// # Panics
/// If `claims` is no object or `issuer` cannot sign.
#[must_use]
pub fn sign(issuer: &KeyPair, mut claims: Value) -> String {
    let fields = claims.as_object_mut().expect("claims are an object");
    fields.insert("iss".into(), json!(issuer.public_key()));
    fields.insert("iat".into(), json!(now()));
    let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let signed = format!("{header}.{}", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).expect("an issuer that can sign");
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

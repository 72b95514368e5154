//! The auth callout's messages: a question that one server signed and sealed to this guard, and the answer
//! signed by the callout issuer and sealed back to that server.
//!
//! Whoever could put a false question here could fill the guard's books with connections that do not exist;
//! whoever could read one would have a token and a signature to relay. Hence both sides are sealed, and a
//! question in clear is refused.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use nkeys::XKey;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sealbus_envelope::{
    identity::{KeyKind, PublicKey, SigningKey, sign_jwt, verify_jwt},
    time::Millis,
};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::policy::permissions::{Permissions, Side};

/// The subject on which servers ask.
pub const SUBJECT: &str = "$SYS.REQ.USER.AUTH";
/// The NATS header that carries the curve key of the server that asks.
pub const XKEY_HEADER: &str = "Nats-Server-Xkey";
/// The longest question, in bytes: CONNECT is at most 4,096, and the rest is small.
pub const MAX_REQUEST: usize = 64 << 10;
/// How far the server's clock may be from the guard's, in milliseconds. A recorded question is worth nothing
/// after that.
pub const CLOCK_SKEW_MS: u64 = 60_000;

const AUDIENCE: &str = "nats-authorization-request";
const SERVER_PREFIX: u8 = 13 << 3;
const NKEY_LENGTH: usize = 56;

/// The keys of the callout.
pub struct CalloutKeys {
    /// Signs answers: the account nkey that nats.conf pins. It can mint any user of the server.
    pub issuer: SigningKey,
    /// Opens questions.
    pub xkey: XKey,
}

impl fmt::Debug for CalloutKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CalloutKeys").field("issuer", self.issuer.public()).finish_non_exhaustive()
    }
}

/// Why a question is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// It came in clear: the server's configuration lacks the xkey, or somebody else asks.
    #[error("the callout request is not sealed; set `xkey` in the server's `auth_callout`")]
    Unsealed,
    /// It does not open.
    #[error(
        "the callout request is not sealed to this guard's xkey; check `xkey` in the server's `auth_callout`"
    )]
    NotForUs,
    /// It opens, and is not what servers send.
    #[error("the callout request is malformed: {0}")]
    Malformed(&'static str),
    /// It is not signed by the server that it names.
    #[error("the callout request is not signed by the server that it names")]
    BadSignature,
    /// It was made too long ago, or clocks disagree.
    #[error("the callout request was made at another time; set the clocks of server and guard")]
    WrongTime,
}

/// The server that asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Server {
    /// Its public nkey (`N…`), drawn anew at each start of the server.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its cluster, if it is in one.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// Its curve key.
    #[serde(default)]
    xkey: String,
}

/// The connection in question, as its server sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Client {
    /// The server's number for it.
    pub id: u64,
    /// Where it comes from.
    #[serde(default)]
    pub host: String,
    /// `Client` for clients; leaf nodes and gateways have other kinds.
    #[serde(default)]
    pub kind: String,
    /// `nats`, `mqtt` or `websocket`.
    #[serde(default, rename = "type")]
    pub protocol: String,
    /// What the server gave it to sign; there only if it signed something.
    #[serde(default)]
    pub nonce: String,
}

/// What the client said of itself.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Shown {
    /// The token: credential and certificate.
    #[serde(default, rename = "auth_token")]
    pub token: String,
    /// The signature over the nonce, base64url.
    #[serde(default, rename = "sig")]
    pub signature: String,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Token and signature together let a server's neighbour pose as the agent while the nonce is fresh.
        f.debug_struct("Shown").field("token_bytes", &self.token.len()).finish_non_exhaustive()
    }
}

/// The TLS of a connection, as its server sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Tls {
    /// The chains that the server verified, each certificate as PEM.
    #[serde(default)]
    verified_chains: Vec<Vec<String>>,
}

impl Tls {
    /// SHA-256 of the DER of each certificate in a chain that the server verified. What is no certificate is left out.
    #[must_use]
    pub fn verified(&self) -> Vec<[u8; 32]> {
        let certificates = self.verified_chains.iter().flatten();
        let mut found: Vec<_> = certificates
            .filter_map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok())
            .map(|certificate| Sha256::digest(&certificate).into())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// A question that was opened and whose server's signature was verified.
#[derive(Debug, Clone)]
pub struct AuthRequest {
    /// The user nkey that the server made up for the connection; the answer is about it.
    pub user: String,
    /// Who asks.
    pub server: Server,
    /// About whom.
    pub client: Client,
    /// What it showed.
    pub shown: Shown,
    /// How the connection is encrypted; none if it is not.
    pub tls: Option<Tls>,
    seal_to: XKey,
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    iss: String,
    iat: u64,
    nats: Question,
}

#[derive(Deserialize)]
struct Question {
    #[serde(rename = "type")]
    kind: String,
    user_nkey: String,
    server_id: Server,
    client_info: Client,
    connect_opts: Shown,
    #[serde(default)]
    client_tls: Option<Tls>,
}

impl AuthRequest {
    /// Opens a question with the curve key from its header, and verifies that the server it names signed it.
    ///
    /// # Errors
    /// [`BadRequest`].
    pub fn open(
        bytes: &[u8],
        server_xkey: Option<&str>,
        keys: &CalloutKeys,
        now: Millis,
    ) -> Result<Self, BadRequest> {
        let server_xkey = server_xkey.ok_or(BadRequest::Unsealed)?;
        if bytes.len() > MAX_REQUEST || server_xkey.len() != NKEY_LENGTH {
            return Err(BadRequest::Malformed("size"));
        }
        let seal_to = XKey::from_public_key(server_xkey).map_err(|_| BadRequest::Malformed("xkey"))?;
        let token = keys.xkey.open(bytes, &seal_to).map_err(|_| BadRequest::NotForUs)?;
        let token = String::from_utf8(token).map_err(|_| BadRequest::Malformed("text"))?;
        let claims = verified(&token)?;
        let Question {
            kind,
            user_nkey,
            server_id: server,
            client_info: client,
            connect_opts: shown,
            client_tls: tls,
        } = claims.nats;
        if claims.aud != AUDIENCE || kind != "authorization_request" {
            return Err(BadRequest::Malformed("audience"));
        }
        // The one who signed, the one who is named and the one whom the answer is sealed to are one.
        if server.id != claims.iss || server.xkey != server_xkey {
            return Err(BadRequest::BadSignature);
        }
        PublicKey::from_nkey(&user_nkey, KeyKind::User).map_err(|_| BadRequest::Malformed("user"))?;
        let made = Millis::from_seconds(claims.iat);
        if now.since(made).max(made.since(now)) > CLOCK_SKEW_MS {
            return Err(BadRequest::WrongTime);
        }
        Ok(Self { user: user_nkey, server, client, shown, tls, seal_to })
    }

    /// The answer that lets the connection in, as a user of `account` with exactly `permissions`, until
    /// `until`. It has no `name`: the server drops users whose answer has one at each configuration reload.
    #[must_use]
    pub fn admit(
        &self,
        keys: &CalloutKeys,
        account: &str,
        permissions: &Permissions,
        until: Millis,
        now: Millis,
    ) -> Vec<u8> {
        let issuer = keys.issuer.public().to_nkey(KeyKind::Account);
        let user = json!({
            "iss": issuer,
            "iat": now.seconds(),
            "exp": until.seconds(),
            "sub": self.user,
            "aud": account,
            "nats": {
                "pub": side(&permissions.publish),
                "sub": side(&permissions.subscribe),
                "subs": -1, "data": -1, "payload": -1,
                "allowed_connection_types": ["STANDARD"],
                "type": "user", "version": 2,
            },
        });
        self.answer(keys, &json!({ "jwt": sign_jwt(&user, &keys.issuer) }), now)
    }

    /// The answer that refuses. The client is told nothing but "Authorization Violation"; `reason` is for the
    /// server's log.
    #[must_use]
    pub fn refuse(&self, keys: &CalloutKeys, reason: &str, now: Millis) -> Vec<u8> {
        self.answer(keys, &json!({ "error": reason }), now)
    }

    fn answer(&self, keys: &CalloutKeys, body: &Value, now: Millis) -> Vec<u8> {
        let mut nats = json!({ "type": "authorization_response", "version": 2 });
        if let (Some(nats), Some(body)) = (nats.as_object_mut(), body.as_object()) {
            nats.extend(body.clone());
        }
        let answer = json!({
            "iss": keys.issuer.public().to_nkey(KeyKind::Account),
            "iat": now.seconds(),
            "sub": self.user,
            "aud": self.server.id,
            "nats": nats,
        });
        // Sealing fails only without a secret key. An empty answer is then none: the server refuses.
        keys.xkey.seal(sign_jwt(&answer, &keys.issuer).as_bytes(), &self.seal_to).unwrap_or_default()
    }
}

/// One direction of the permissions. An empty list would allow everything, whatever made it empty.
fn side(side: &Side) -> Value {
    match (side.allow(), side.deny()) {
        ([], _) => json!({ "deny": [">"] }),
        (allow, []) => json!({ "allow": allow }),
        (allow, deny) => json!({ "allow": allow, "deny": deny }),
    }
}

/// The claims, if the server key that they name as issuer signed them.
fn verified(token: &str) -> Result<Claims, BadRequest> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let body = token.split('.').nth(1).ok_or(BadRequest::Malformed("jwt"))?;
    let body = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| BadRequest::Malformed("base64url"))?;
    let Issuer { iss } = serde_json::from_slice(&body).map_err(|_| BadRequest::Malformed("claims"))?;
    let key = server_key(&iss).ok_or(BadRequest::Malformed("issuer"))?;
    let claims = verify_jwt(token, &key).map_err(|_| BadRequest::BadSignature)?;
    serde_json::from_value(claims).map_err(|_| BadRequest::Malformed("claims"))
}

fn server_key(text: &str) -> Option<PublicKey> {
    let (prefix, bytes) = nkeys::from_public_key(text).ok()?;
    if prefix == SERVER_PREFIX { PublicKey::from_bytes(&bytes).ok() } else { None }
}

#[cfg(test)]
mod tests;

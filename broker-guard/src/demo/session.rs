//! A session made of nothing but a credentials file: what a thief of that file can make too.

use rand_core::UnwrapErr;
use sealbus_client::Credentials;
use sealbus_envelope::{
    control::AuthToken,
    identity::{BusId, Credential, SessionCertificate, SessionId, SigningKey},
    name::AgentToken,
    reason::Refused,
    subject::WireSubjects,
    time::Validity,
};
use serde_json::{Value, json};

use super::wire::{Wire, WireError};
use crate::clock::now;

const LIFETIME_MS: u64 = 3_600_000;
/// Certificates begin this much earlier, for clocks that differ.
const BACKDATED_MS: u64 = 60_000;

/// A session: its key signs what it says.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: SigningKey,
    pub(super) certificate: SessionCertificate,
    pub(super) credential: Credential,
    subjects: WireSubjects,
    address: String,
}

impl Session {
    pub(super) fn start(credentials: &Credentials) -> Result<Self, Refused> {
        let key = fresh_key();
        let credential = credentials.credential().clone();
        let validity = Validity { not_before: now().minus(BACKDATED_MS), not_after: now().plus(LIFETIME_MS) };
        let certificate =
            SessionCertificate::issue(credential.claims().bus, credentials.identity(), &key, validity)?;
        let url = credentials.urls().first().map(String::as_str).unwrap_or_default();
        Ok(Self {
            key,
            certificate,
            credential,
            subjects: credentials.bus().subjects().clone(),
            address: address_of(url).to_owned(),
        })
    }

    /// Logs in: the token names the session, the signature over the server's nonce proves it.
    pub(super) async fn connect(&self) -> Result<Wire, WireError> {
        let token = AuthToken {
            credential: self.credential.as_str().to_owned(),
            certificate: self.certificate.as_bytes().to_vec().into(),
        };
        let token = token.to_text()?;
        Wire::connect(&self.address, |nonce| {
            let signature = self.key.sign_nonce(nonce.as_bytes())?;
            Ok(json!({ "auth_token": token, "sig": base64url(&signature) }))
        })
        .await
    }

    pub(super) fn id(&self) -> SessionId {
        self.certificate.id()
    }

    pub(super) fn bus(&self) -> BusId {
        self.credential.claims().bus
    }

    pub(super) const fn agent(&self) -> &AgentToken {
        self.credential.token()
    }

    pub(super) const fn subjects(&self) -> &WireSubjects {
        &self.subjects
    }

    pub(super) fn control(&self, verb: &str) -> String {
        self.subjects.control(self.agent(), &self.id(), verb)
    }

    pub(super) fn own_box(&self) -> String {
        self.subjects.session_box(self.agent(), &self.id(), ">")
    }

    pub(super) fn ingress(&self, logical: &str) -> String {
        self.subjects.ingress(self.agent(), logical)
    }
}

/// Logs in with an nkey that nats.conf names.
pub(super) async fn connect_nkey(url: &str, key: &SigningKey) -> Result<Wire, WireError> {
    use sealbus_envelope::identity::KeyKind;
    Wire::connect(address_of(url), |nonce| -> Result<Value, Refused> {
        let signature = key.sign_nonce(nonce.as_bytes())?;
        Ok(json!({ "nkey": key.public().to_nkey(KeyKind::User), "sig": base64url(&signature) }))
    })
    .await
}

pub(super) fn fresh_key() -> SigningKey {
    SigningKey::generate(&mut UnwrapErr(getrandom::SysRng))
}

fn base64url(bytes: &[u8]) -> String {
    data_encoding::BASE64URL_NOPAD.encode(bytes)
}

fn address_of(url: &str) -> &str {
    url.strip_prefix("nats://").unwrap_or(url)
}

//! What a session shows of itself: credential, certificate, keys. Good ones, and ones put together wrongly.
#![expect(clippy::expect_used, reason = "a fixture that cannot work fails its test")]

use data_encoding::BASE64URL_NOPAD;
use sealbus_client::credentials::Credentials;
use sealbus_envelope::{
    control::{AuthToken, GuardEpoch, LiveKey, SessionStatement},
    identity::{BusId, Credential, SessionCertificate, SessionId, SigningKey},
    keys::{ReaderKey, ReaderSecret},
    name::AgentToken,
    time::{Millis, Validity},
};
use sealbus_guard::clock;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};

const HOUR_MS: u64 = 3_600_000;
const BACKDATED_MS: u64 = 60_000;

/// A session's papers.
pub struct Papers {
    /// The credential that it shows.
    pub credential: Credential,
    /// The certificate that it shows.
    pub certificate: SessionCertificate,
    /// The key that it signs with; an attacker's need not be the certificate's.
    pub key: SigningKey,
    /// The reader key that it opens grants with.
    pub secret: ReaderSecret,
}

impl Papers {
    /// Good papers for a new session of an agent.
    #[must_use]
    pub fn new(credentials: &Credentials) -> Self {
        let start = clock::now().minus(BACKDATED_MS);
        Self::valid(credentials, Validity::starting(start, HOUR_MS))
    }

    /// Papers for a session with this validity.
    ///
    /// # Panics
    /// If nobody can have such a validity.
    #[must_use]
    pub fn valid(credentials: &Credentials, validity: Validity) -> Self {
        let key = fresh_key();
        let bus = credentials.credential().claims().bus;
        let certificate = SessionCertificate::issue(bus, credentials.identity(), &key, validity);
        Self {
            credential: credentials.credential().clone(),
            certificate: certificate.expect("a certificate"),
            key,
            secret: ReaderSecret::generate(&mut rng()),
        }
    }

    /// The agent, as subjects name it.
    #[must_use]
    pub fn token(&self) -> &AgentToken {
        self.credential.token()
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.certificate.id()
    }

    /// The bus.
    #[must_use]
    pub fn bus(&self) -> BusId {
        self.credential.claims().bus
    }

    /// CONNECT's `auth_token`.
    ///
    /// # Panics
    /// Never: every token encodes.
    #[must_use]
    pub fn auth_token(&self) -> String {
        let token = AuthToken {
            credential: self.credential.as_str().to_owned(),
            certificate: ByteBuf::from(self.certificate.as_bytes()),
        };
        token.to_text().expect("a token")
    }

    /// Fields of CONNECT for a server's nonce.
    #[must_use]
    pub fn login(&self, nonce: &str) -> Value {
        let signature = BASE64URL_NOPAD.encode(&self.key.sign_raw(nonce.as_bytes()));
        json!({ "auth_token": self.auth_token(), "sig": signature })
    }

    /// A signed statement to a guard epoch.
    #[must_use]
    pub fn statement(&self, guard: GuardEpoch, keys: Vec<LiveKey>) -> ByteBuf {
        let statement = SessionStatement { bus: self.bus(), session: self.session(), guard, keys };
        ByteBuf::from(statement.sign(&self.key))
    }

    /// The session's signed reader key.
    ///
    /// # Panics
    /// If the session's key cannot sign one.
    #[must_use]
    pub fn reader_key(&self) -> ReaderKey {
        let validity = Validity::starting(Millis(clock::now().0), HOUR_MS / 2);
        ReaderKey::issue(self.bus(), self.session(), &self.key, &self.secret, validity).expect("a reader key")
    }
}

/// A fresh signing key.
#[must_use]
pub fn fresh_key() -> SigningKey {
    SigningKey::generate(&mut rng())
}

/// The operating system's randomness.
#[must_use]
pub const fn rng() -> rand_core::UnwrapErr<getrandom::SysRng> {
    rand_core::UnwrapErr(getrandom::SysRng)
}

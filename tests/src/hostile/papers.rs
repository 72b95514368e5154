//! What a session shows of itself: credential, certificate, keys. Good ones, and ones put together wrongly.
#![expect(clippy::expect_used, reason = "a fixture that cannot work fails its test")]

use data_encoding::BASE64URL_NOPAD;
use sealbus_client::credentials::Credentials;
use sealbus_envelope::{
    control::{AuthToken, GuardEpoch, Hello, LiveKey, SessionStatement},
    identity::{BusId, Credential, SessionCertificate, SessionId, SigningKey},
    keys::{KeyScope, ReaderKey, ReaderSecret, SenderKey},
    label::Label,
    name::AgentToken,
    subject::Subject,
    time::{Millis, Validity},
    wire::{self, Content, EnvelopeId, Flags, HeaderFields},
};
use sealbus_guard::clock;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};

use crate::bus::name;

const HOUR_MS: u64 = 3_600_000;
const BACKDATED_MS: u64 = 60_000;

/// A sender key in use.
pub struct Key {
    /// The key.
    pub sender: SenderKey,
    /// The sequence number of the next honest envelope.
    pub next: u64,
    /// For replies: who asked.
    pub asker: Option<SessionId>,
}

impl Key {
    /// As a statement names it.
    #[must_use]
    pub fn live(&self) -> LiveKey {
        let scope = self.sender.scope();
        LiveKey {
            key: self.sender.id(),
            rule: scope.rule.clone(),
            label: scope.label,
            epoch: scope.epoch,
            next: self.next,
            asker: self.asker,
        }
    }
}

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

    /// The same papers in other hands.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self {
            credential: self.credential.clone(),
            certificate: self.certificate.clone(),
            key: SigningKey::from_seed(&self.key.to_seed()),
            secret: ReaderSecret::from_seed(&self.secret.to_seed()),
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

    /// What `hello` says to a guard epoch.
    #[must_use]
    pub fn hello(&self, guard: GuardEpoch, keys: &[&Key]) -> Hello {
        Hello {
            credential: self.credential.as_str().to_owned(),
            certificate: self.certificate.as_bytes().to_vec().into(),
            statement: self.statement(guard, keys.iter().map(|key| key.live()).collect()),
            reader_key: Some(self.reader_key().as_bytes().to_vec().into()),
        }
    }

    /// A new sender key, known to nobody yet.
    #[must_use]
    pub fn make_key(&self, rule: &str, label: Label, epoch: u32, asker: Option<SessionId>) -> Key {
        let (bus, session, rule) = (self.bus(), self.session(), name(rule));
        let scope = KeyScope { bus, session, rule, label, epoch };
        Key { sender: SenderKey::generate(&mut rng(), scope), next: 0, asker }
    }

    /// A header with everything right, for the next envelope under a key.
    ///
    /// # Panics
    /// If the subject is none.
    #[must_use]
    pub fn fields(&self, key: &Key, subject: &str) -> HeaderFields {
        let scope = key.sender.scope();
        HeaderFields {
            bus: self.bus(),
            id: EnvelopeId::generate(&mut rng()),
            sender: self.token().clone(),
            session: self.session(),
            rule: scope.rule.clone(),
            subject: Subject::parse(subject).expect("a subject"),
            label: scope.label,
            flow_grant: None,
            key: key.sender.id(),
            sequence: key.next,
            issued_at: clock::now(),
            ttl_ms: 60_000,
            parents: vec![],
            request: None,
            flags: Flags::NONE,
        }
    }

    /// Seals and signs, and moves the key's sequence on.
    ///
    /// # Panics
    /// If the fields are not what the key is for: then use [`Parts`](super::forge::Parts).
    #[must_use]
    pub fn seal(&self, key: &mut Key, fields: &HeaderFields, payload: &[u8]) -> Vec<u8> {
        let content = Content::new("application/octet-stream", payload);
        let sealed = wire::seal(fields, &content, &key.sender).expect("an envelope of this key");
        key.next = fields.sequence + 1;
        let signed = wire::sign(&[sealed], self.session(), &self.key).expect("an envelope");
        signed.into_iter().next().expect("one envelope")
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

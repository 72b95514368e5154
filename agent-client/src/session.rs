//! One session: a key made at its start, and what it says of itself. Never stored.

use sealbus_envelope::{
    control::{AuthToken, GuardEpoch, LiveKey, SessionStatement},
    identity::{BusId, MAX_SESSION_MS, Member, SessionCertificate, SessionId, Signature, SigningKey},
    name::AgentToken,
    reason::Refused,
    subject::{Partition, WireSubjects},
    time::Validity,
};
use serde_bytes::ByteBuf;

use crate::{clock, credentials::Credentials, sync};

/// How far back a certificate's validity begins: clocks differ.
const BACKDATED_MS: u64 = 60_000;

/// A session. Its key is zeroized on drop.
#[derive(Debug)]
pub(crate) struct Session {
    key: SigningKey,
    me: Member,
    subjects: WireSubjects,
}

impl Session {
    /// Makes a session of at most `lifetime_ms`, never beyond the credential's own end.
    pub(crate) fn start(credentials: &Credentials, lifetime_ms: u64) -> Result<Self, Refused> {
        let now = clock::now();
        let credential = credentials.credential().clone();
        credential.check_time(now)?;
        let key = SigningKey::generate(&mut sync::rng());
        let not_before = now.minus(BACKDATED_MS);
        let not_after = now
            .plus(lifetime_ms.min(MAX_SESSION_MS - BACKDATED_MS))
            .min(credential.claims().validity.not_after);
        let certificate = SessionCertificate::issue(
            credential.claims().bus,
            credentials.identity(),
            &key,
            Validity { not_before, not_after },
        )?;
        let me = Member::new(credential, certificate)?;
        Ok(Self { key, me, subjects: credentials.bus().subjects().clone() })
    }

    pub(crate) fn bus(&self) -> BusId {
        self.me.claims().bus
    }

    pub(crate) const fn id(&self) -> SessionId {
        self.me.session()
    }

    pub(crate) const fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The agent in this session.
    pub(crate) const fn me(&self) -> &Member {
        &self.me
    }

    pub(crate) const fn agent(&self) -> &AgentToken {
        self.me.token()
    }

    pub(crate) const fn subjects(&self) -> &WireSubjects {
        &self.subjects
    }

    /// CONNECT's `auth_token`.
    pub(crate) fn auth_token(&self) -> Result<String, Refused> {
        let token = AuthToken {
            credential: self.me.credential().as_str().to_owned(),
            certificate: ByteBuf::from(self.me.certificate().as_bytes()),
        };
        token.to_text()
    }

    /// The answer to a server's nonce.
    pub(crate) fn sign_nonce(&self, nonce: &[u8]) -> Result<Signature, Refused> {
        self.key.sign_nonce(nonce)
    }

    /// A signed statement of keys in use, for one guard epoch.
    pub(crate) fn statement(&self, guard: GuardEpoch, keys: Vec<LiveKey>) -> ByteBuf {
        let statement = SessionStatement { bus: self.bus(), session: self.id(), guard, keys };
        ByteBuf::from(statement.sign(&self.key))
    }

    pub(crate) fn control_subject(&self, verb: &str) -> String {
        self.subjects.control(self.agent(), &self.id(), verb)
    }

    pub(crate) fn box_subject(&self) -> String {
        self.subjects.session_box(self.agent(), &self.id(), ">")
    }

    pub(crate) fn heartbeat_subject(&self) -> String {
        self.subjects.heartbeat(Partition::of(self.agent()))
    }

    pub(crate) fn ingress_subject(&self, logical: &str) -> String {
        self.subjects.ingress(self.agent(), logical)
    }
}

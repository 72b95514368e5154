//! A credential and a session certificate that belong together: one agent in one session.

use crate::{
    identity::{BusId, Claims, Credential, PublicKey, SessionCertificate, SessionId, Status},
    name::AgentToken,
    reason::{Reason, Refused},
    time::Millis,
};

/// One agent in one session: both parts verified, of one bus and of one identity. There is no other way
/// to hold one, so nobody can be shown one agent's credential with another's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    credential: Credential,
    certificate: SessionCertificate,
}

impl Member {
    /// Puts two verified parts together.
    ///
    /// # Errors
    /// `wrong_bus` or `wrong_sender` if they do not belong together.
    pub fn new(credential: Credential, certificate: SessionCertificate) -> Result<Self, Refused> {
        let claims = credential.claims();
        if claims.bus != certificate.bus() {
            return Err(Refused::new(Reason::WrongBus, "session certificate"));
        }
        if claims.identity != *certificate.identity() {
            return Err(Refused::new(Reason::WrongSender, "session certificate"));
        }
        Ok(Self { credential, certificate })
    }

    /// Reads and verifies both parts, the credential first. Time and revocation are checked apart, by
    /// [`check`](Self::check), because they pass.
    ///
    /// # Errors
    /// What [`Credential::verify`], [`SessionCertificate::verify`] and [`new`](Self::new) refuse.
    pub fn verify(
        credential: &str,
        certificate: &[u8],
        bus: BusId,
        issuer: &PublicKey,
    ) -> Result<Self, Refused> {
        let credential = Credential::verify(credential, bus, issuer)?;
        Self::new(credential, SessionCertificate::verify(certificate, bus)?)
    }

    /// Checks that the identity is not revoked and that both parts are valid at `at`.
    ///
    /// # Errors
    /// `revoked`; `not_yet_valid`, `credential_expired`, `certificate_expired`.
    pub fn check(&self, status: &Status, at: Millis) -> Result<(), Refused> {
        if status.is_revoked(self.certificate.identity()) {
            return Err(Refused::new(Reason::Revoked, "identity"));
        }
        self.credential.check_time(at)?;
        self.certificate.check_time(at)
    }

    /// Who.
    #[must_use]
    pub const fn credential(&self) -> &Credential {
        &self.credential
    }

    /// In which session.
    #[must_use]
    pub const fn certificate(&self) -> &SessionCertificate {
        &self.certificate
    }

    /// What the issuer said.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        self.credential.claims()
    }

    /// The agent as subjects name it.
    #[must_use]
    pub const fn token(&self) -> &AgentToken {
        self.credential.token()
    }

    /// Which session.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.certificate.id()
    }
}

//! May this connection come in? Pure: no IO, no clock.
//!
//! Checks that establish *who* asks come first (form, credential, certificate, signature over the nonce); one
//! that fails gives the bare refusal. Only then is the asker known, and refusals name a reason in its lobby. A
//! lobby before the signature is checked would hand a thief of credential and certificate, which every server
//! sees, a seat at the agent's own box.

use data_encoding::BASE64URL_NOPAD;
use sealbus_envelope::{
    control::{self, AuthToken},
    identity::{Credential, PublicKey, Role, Roots, SessionCertificate, SessionId, Status},
    label::Clearance,
    reason::{Reason, Refused},
    subject::WireSubjects,
    time::Millis,
};
use sha2::{Digest as _, Sha256};

use super::{
    jwt::AuthRequest,
    registry::ConnectionId,
    zone::{self, Place},
};
use crate::policy::{
    compile::CompiledPolicy,
    decide::Principal,
    permissions::{Permissions, PermissionsError},
};

/// The longest token: CONNECT, of which it is a part, has at most 4,096 bytes.
pub const MAX_TOKEN: usize = 4096;
/// How long a refused agent stays in its lobby, in milliseconds.
pub const LOBBY_MS: u64 = 10_000;
/// How long a connection may last by default before the agent must be checked anew: a day, in milliseconds.
pub const DEFAULT_RECHECK_MS: u64 = 24 * 3_600_000;
const NONCE_LENGTH: usize = 15;

/// What decisions rest on.
pub struct Context<'a> {
    /// The bus's roots of trust.
    pub roots: &'a Roots,
    /// The policy in force, if there is one.
    pub policy: Option<&'a CompiledPolicy>,
    /// The status statement in force, if there is one.
    pub status: Option<&'a Status>,
    /// The bus's subjects.
    pub wire: &'a WireSubjects,
    /// The guard's clock.
    pub now: Millis,
    /// How long an admission lasts at most, in milliseconds.
    pub recheck_ms: u64,
    /// Whether an identity is kept off the bus.
    pub barred: &'a dyn Fn(&PublicKey) -> bool,
    /// The live connection of a session.
    pub live: &'a dyn Fn(&SessionId) -> Option<ConnectionId>,
}

/// A connection whose credential, certificate and signature were verified: who asks is known.
#[derive(Debug, Clone)]
pub struct Proven {
    /// Who.
    pub credential: Credential,
    /// In which session.
    pub certificate: SessionCertificate,
}

/// May come in.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Who.
    pub proven: Proven,
    /// Where it is.
    pub place: Place,
    /// The agent under the policy; none for an observer, who takes part in no rule.
    pub principal: Option<Principal>,
    /// Exactly what it may publish and subscribe.
    pub permissions: Permissions,
    /// When it must be checked anew, at the latest.
    pub until: Millis,
}

/// What is to be answered.
#[derive(Debug, Clone)]
pub enum Decision {
    /// Let it in.
    Admit(Box<Admission>),
    /// It is known, and may not come in: ten seconds to hear the reason.
    Lobby {
        /// Who.
        proven: Box<Proven>,
        /// Why.
        reason: Refused,
    },
    /// Refuse without a word.
    Refuse {
        /// Who, if that was proven.
        proven: Option<Box<Proven>>,
        /// Why; never told to the client.
        reason: Refused,
    },
}

/// Decides about the connection that a server asks about.
///
/// In order, with a bare refusal: `wrong_connection`, `too_large`, `bad_encoding`, `malformed`, the
/// credential's and the certificate's reasons, `certificate_invalid`, `bad_signature`. Then, in the lobby:
/// `wrong_role`, `credential_expired`, `certificate_expired` or `not_yet_valid`, `status_invalid` (there is
/// none), `revoked`, `status_expired`, `no_policy`, `unknown_team`, `quarantined`, `wrong_zone`, `above_ceiling`. Last, with a bare refusal
/// again, because the live connection listens on the very box the lobby would open: `session_in_use`.
#[must_use]
pub fn decide(request: &AuthRequest, context: &Context<'_>) -> Decision {
    let proven = match prove(request, context) {
        Ok(proven) => proven,
        Err(reason) => return Decision::Refuse { proven: None, reason },
    };
    let in_use = (context.live)(&proven.certificate.id())
        .filter(|other| *other != ConnectionId::new(&request.server.id, request.client.id));
    match admit(&proven, &Place::of(request), context) {
        Err(reason) if in_use.is_none() => Decision::Lobby { proven: Box::new(proven), reason },
        Err(reason) => Decision::Refuse { proven: Some(Box::new(proven)), reason },
        Ok(_) if in_use.is_some() => Decision::Refuse {
            proven: Some(Box::new(proven)),
            reason: Refused::new(Reason::SessionInUse, "session"),
        },
        Ok(admission) => Decision::Admit(Box::new(admission)),
    }
}

/// Who asks.
fn prove(request: &AuthRequest, context: &Context<'_>) -> Result<Proven, Refused> {
    // Leaf nodes, MQTT and websocket have subject rules of their own that the permissions were not made for.
    if request.client.kind != "Client" || request.client.protocol != "nats" {
        return Err(Refused::new(Reason::WrongConnection, "connection type"));
    }
    if request.shown.token.len() > MAX_TOKEN {
        return Err(Refused::new(Reason::TooLarge, "auth token"));
    }
    let token = base64url(&request.shown.token, "auth token")?;
    let AuthToken { credential, certificate } = control::decode(&token)?;
    let bus = context.roots.bus();
    let credential = Credential::verify(&credential, bus, &context.roots.issuer)?;
    let certificate = SessionCertificate::verify(&certificate, bus)?;
    if certificate.identity() != &credential.claims().identity {
        return Err(Refused::new(Reason::CertificateInvalid, "session certificate"));
    }
    let nonce = request.client.nonce.as_bytes();
    let bad_signature = Refused::new(Reason::BadSignature, "nonce signature");
    if nonce.len() != NONCE_LENGTH {
        return Err(bad_signature);
    }
    let signature = base64url(&request.shown.signature, "nonce signature")?;
    let signature = signature.as_slice().try_into().map_err(|_| bad_signature)?;
    certificate.session_key().verify_raw(nonce, &signature).map_err(|_| bad_signature)?;
    Ok(Proven { credential, certificate })
}

/// Whether someone who is known may come in, and with what.
///
/// # Errors
/// As [`decide`] lists for the lobby; `too_large` or `policy_invalid` if the permissions cannot be made.
pub fn admit(proven: &Proven, place: &Place, context: &Context<'_>) -> Result<Admission, Refused> {
    judge(proven, place, context, true)
}

/// Whether a connection that is in may stay, and with what: as [`admit`], but a status statement whose time is over
/// ends no connection. All else holds against who is in, then too.
///
/// # Errors
/// As [`admit`], but for `status_expired`.
pub fn readmit(proven: &Proven, place: &Place, context: &Context<'_>) -> Result<Admission, Refused> {
    judge(proven, place, context, false)
}

fn judge(
    proven: &Proven,
    place: &Place,
    context: &Context<'_>,
    newcomer: bool,
) -> Result<Admission, Refused> {
    let (claims, now) = (proven.credential.claims(), context.now);
    if claims.role == Role::Guard {
        return Err(Refused::new(Reason::WrongRole, "credential.role"));
    }
    proven.credential.check_time(now)?;
    proven.certificate.check_time(now)?;
    // Without a fresh statement revocation cannot be ruled out: those who are in stay, nobody new comes.
    let status = context.status.ok_or(Refused::new(Reason::StatusInvalid, "status statement"))?;
    if status.is_revoked(&claims.identity) {
        return Err(Refused::new(Reason::Revoked, "credential"));
    }
    if newcomer {
        status.check_time(now)?;
    }
    let policy = context.policy.ok_or(Refused::new(Reason::NoPolicy, "policy"))?;
    let principal = match claims.role {
        Role::Observer => None,
        _ => Some(policy.principal(claims).map_err(|reason| Refused::new(reason, "credential.team"))?),
    };
    if (context.barred)(&claims.identity) {
        return Err(Refused::new(Reason::Quarantined, "agent"));
    }
    let clearance = principal.as_ref().map_or_else(Clearance::default, Principal::clearance);
    zone::check(policy.tables(), claims, clearance, place)?;
    let session = proven.certificate.id();
    let permissions = match &principal {
        Some(principal) => Permissions::of_session(policy, principal, &session, context.wire).map_err(
            |error| match error {
                PermissionsError::TooLarge { .. } => Refused::new(Reason::TooLarge, "permissions"),
                PermissionsError::Conflict { .. } => Refused::new(Reason::PolicyInvalid, "permissions"),
            },
        )?,
        None => Permissions::observer(proven.credential.token(), context.wire),
    };
    let until = claims.validity.not_after.min(proven.certificate.validity().not_after);
    let until = until.min(now.plus(context.recheck_ms));
    // The server counts in seconds and takes an `exp` of this very second for past.
    if until.seconds() <= now.seconds() {
        return Err(Refused::new(Reason::CertificateExpired, "session"));
    }
    Ok(Admission { proven: proven.clone(), place: place.clone(), principal, permissions, until })
}

/// SHA-256 of permissions: to see whether a change of policy changes them.
#[must_use]
pub fn permissions_digest(permissions: &Permissions) -> [u8; 32] {
    let mut sha = Sha256::new();
    for side in [&permissions.publish, &permissions.subscribe] {
        for list in [side.allow(), side.deny()] {
            for subject in list {
                sha.update(subject.as_bytes());
                sha.update(b"\n");
            }
            sha.update(b"\0");
        }
    }
    sha.finalize().into()
}

fn base64url(text: &str, what: &'static str) -> Result<Vec<u8>, Refused> {
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| Refused::new(Reason::BadEncoding, what))
}

#[cfg(test)]
mod tests;

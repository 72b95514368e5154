//! Credentials: who an agent is, as a JWT in NATS's form signed by the issuer.
//!
//! The header is `{"typ":"JWT","alg":"ed25519-nkey"}`; the claims are those of a NATS user JWT (so any
//! NATS tool can decode it) whose NATS permissions deny everything, with a `sealbus` object beside them.
//!
//! ```
//! use sealbus_envelope::identity::{BusId, Claims, Credential, Role, SigningKey};
//! use sealbus_envelope::{label::{Clearance, Integrity}, name::Name, time::{Millis, Validity}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (issuer, agent) = (SigningKey::generate(&mut rand_core::UnwrapErr(getrandom::SysRng)), SigningKey::generate(&mut rand_core::UnwrapErr(getrandom::SysRng)));
//! let bus = BusId::new(issuer.public(), &Name::parse("demo")?);
//! let claims = Claims {
//!     bus,
//!     identity: agent.public().clone(),
//!     name: Name::parse("collector")?,
//!     team: Name::parse("collectors")?,
//!     role: Role::Agent,
//!     clearance: Clearance::default(),
//!     integrity_ceiling: Integrity::LOWEST,
//!     zones: vec![],
//!     validity: Validity::starting(Millis::from_seconds(1_800_000_000), 86_400_000),
//! };
//! let credential = Credential::issue(&claims, &issuer)?;
//! let read = Credential::verify(credential.as_str(), bus, issuer.public())?;
//! assert_eq!(read.claims(), &claims);
//! assert!(read.check_time(Millis::from_seconds(1_900_000_000)).is_err(), "expired");
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    hash,
    identity::{BusId, KeyKind, PublicKey, SigningKey},
    label::{Clearance, Compartments, Integrity, Level},
    name::{AgentToken, Name},
    reason::{Reason, Refused},
    time::{Millis, Validity},
};

/// The longest credential, in bytes: CONNECT carries it, and the server takes 4,096 bytes in all.
pub const MAX_CREDENTIAL: usize = 2048;
/// The most zones a credential names.
pub const MAX_ZONES: usize = 8;
/// base64url of `{"typ":"JWT","alg":"ed25519-nkey"}`.
const HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ";

/// What a credential is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Publishes and subscribes as the policy allows.
    Agent,
    /// Admits: signs proofs of admission and heartbeats.
    Guard,
    /// Watches events; publishes nothing.
    Observer,
}

/// What the issuer says of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The bus it is good on.
    pub bus: BusId,
    /// The identity key.
    pub identity: PublicKey,
    /// The agent's name, unique on the bus.
    pub name: Name,
    /// Its team in the policy.
    pub team: Name,
    /// What it is good for.
    pub role: Role,
    /// At most this clearance (the team's in the policy may be lower).
    pub clearance: Clearance,
    /// At most this integrity may it claim for what it writes.
    pub integrity_ceiling: Integrity,
    /// Zones it may run in; empty means any that its team may.
    pub zones: Vec<Name>,
    /// From when until when; whole seconds.
    pub validity: Validity,
}

impl Claims {
    /// The agent as subjects name it.
    #[must_use]
    pub fn token(&self) -> AgentToken {
        AgentToken::new(&self.name, &self.identity)
    }
}

/// A credential whose signature was verified. There is no other way to hold one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    text: Arc<str>,
    claims: Claims,
    token: AgentToken,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealbusClaims {
    bus: String,
    team: Name,
    role: Role,
    level: Level,
    compartments: Vec<u8>,
    integrity: Integrity,
    zones: Vec<Name>,
}

#[derive(Deserialize)]
struct JwtClaims {
    exp: u64,
    nbf: u64,
    iss: String,
    name: Name,
    sub: String,
    sealbus: SealbusClaims,
}

impl Credential {
    /// Signs `claims`.
    ///
    /// # Errors
    /// `bad_time` if the validity is empty or not in whole seconds; `too_large` if the text would be.
    pub fn issue(claims: &Claims, issuer: &SigningKey) -> Result<Self, Refused> {
        let Validity { not_before, not_after } = claims.validity;
        if not_before >= not_after || not_before.0 % 1000 != 0 || not_after.0 % 1000 != 0 {
            return Err(Refused::new(Reason::BadTime, "credential validity"));
        }
        let sealbus = SealbusClaims {
            bus: claims.bus.to_string(),
            team: claims.team.clone(),
            role: claims.role,
            level: claims.clearance.level,
            compartments: claims.clearance.compartments.iter().collect(),
            integrity: claims.integrity_ceiling,
            zones: claims.zones.clone(),
        };
        let mut body = json!({
            "exp": not_after.seconds(),
            "iat": not_before.seconds(),
            "iss": issuer.public().to_nkey(KeyKind::Account),
            "name": claims.name,
            "nats": {
                "pub": {"deny": [">"]}, "sub": {"deny": [">"]},
                "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2
            },
            "nbf": not_before.seconds(),
            "sealbus": sealbus,
            "sub": claims.identity.to_nkey(KeyKind::User),
        });
        // NATS's own form: `jti` is a hash of the claims without it.
        let jti = hash::base32(&sha256(body.to_string().as_bytes()), 52).to_ascii_uppercase();
        if let Some(map) = body.as_object_mut() {
            map.insert("jti".into(), jti.into());
        }
        let text = sign_jwt(&body, issuer);
        Self::verify(&text, claims.bus, issuer.public())
    }

    /// Reads a credential and checks its form, issuer, signature and bus. Time is checked apart, by
    /// [`check_time`](Self::check_time), because it passes.
    ///
    /// # Errors
    /// `too_large`, `credential_invalid`, `bad_signature`, `wrong_bus`.
    pub fn verify(text: &str, bus: BusId, issuer: &PublicKey) -> Result<Self, Refused> {
        let invalid = Refused::new(Reason::CredentialInvalid, "credential");
        if text.len() > MAX_CREDENTIAL {
            return Err(Refused::new(Reason::TooLarge, "credential"));
        }
        // Read from the text itself: a member that stands twice is refused, not read in one of two ways.
        let claims: JwtClaims = serde_json::from_slice(&jwt_body(text, issuer)?).map_err(|_| invalid)?;
        if claims.iss != issuer.to_nkey(KeyKind::Account) || claims.sealbus.zones.len() > MAX_ZONES {
            return Err(invalid);
        }
        if claims.sealbus.bus != bus.to_string() {
            return Err(Refused::new(Reason::WrongBus, "credential"));
        }
        let mut compartments = Compartments::EMPTY;
        for n in claims.sealbus.compartments {
            compartments = compartments.union(Compartments::single(n).map_err(|_| invalid)?);
        }
        let validity = Validity {
            not_before: Millis::from_seconds(claims.nbf),
            not_after: Millis::from_seconds(claims.exp),
        };
        if validity.not_before >= validity.not_after {
            return Err(invalid);
        }
        let claims = Claims {
            bus,
            identity: PublicKey::from_nkey(&claims.sub, KeyKind::User).map_err(|_| invalid)?,
            name: claims.name,
            team: claims.sealbus.team,
            role: claims.sealbus.role,
            clearance: Clearance { level: claims.sealbus.level, compartments },
            integrity_ceiling: claims.sealbus.integrity,
            zones: claims.sealbus.zones,
            validity,
        };
        let token = claims.token();
        Ok(Self { text: text.into(), claims, token })
    }

    /// Checks that the credential is valid at `now`.
    ///
    /// # Errors
    /// `not_yet_valid`, `credential_expired`.
    pub fn check_time(&self, now: Millis) -> Result<(), Refused> {
        if now < self.claims.validity.not_before {
            Err(Refused::new(Reason::NotYetValid, "credential"))
        } else if now >= self.claims.validity.not_after {
            Err(Refused::new(Reason::CredentialExpired, "credential"))
        } else {
            Ok(())
        }
    }

    /// What the issuer said.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The agent as subjects name it.
    #[must_use]
    pub const fn token(&self) -> &AgentToken {
        &self.token
    }

    /// The JWT.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Signs `claims` as a JWT in NATS's form.
#[must_use]
pub fn sign_jwt(claims: &Value, key: &SigningKey) -> String {
    let body = format!("{HEADER}.{}", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
    let signature = BASE64URL_NOPAD.encode(&key.sign_raw(body.as_bytes()));
    format!("{body}.{signature}")
}

/// Checks the header and signature of a JWT in NATS's form and returns its claims.
///
/// # Errors
/// `credential_invalid` if it is no such JWT; `bad_signature`.
pub fn verify_jwt(text: &str, key: &PublicKey) -> Result<Value, Refused> {
    let body = jwt_body(text, key)?;
    serde_json::from_slice(&body).map_err(|_| Refused::new(Reason::CredentialInvalid, "jwt"))
}

/// The two fields of a JWT's header; others are ignored.
#[derive(Deserialize)]
struct JwtHeader {
    typ: String,
    alg: String,
}

fn jwt_body(text: &str, key: &PublicKey) -> Result<Vec<u8>, Refused> {
    let invalid = Refused::new(Reason::CredentialInvalid, "jwt");
    let (signed, signature) = text.rsplit_once('.').ok_or(invalid)?;
    let (header, body) = signed.split_once('.').ok_or(invalid)?;
    let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| invalid);
    // The header may name the one algorithm there is; it never chooses one.
    let head: JwtHeader = serde_json::from_slice(&decode(header)?).map_err(|_| invalid)?;
    if head.alg != "ed25519-nkey" || !head.typ.eq_ignore_ascii_case("jwt") {
        return Err(invalid);
    }
    let signature = decode(signature)?.try_into().map_err(|_| invalid)?;
    key.verify_raw(signed.as_bytes(), &signature).map_err(|_| Refused::new(Reason::BadSignature, "jwt"))?;
    decode(body)
}

fn sha256(bytes: &[u8]) -> hash::Hash {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn claims(agent: &SigningKey, issuer: &SigningKey) -> Claims {
        Claims {
            bus: BusId::new(issuer.public(), &Name::parse("test").unwrap()),
            identity: agent.public().clone(),
            name: Name::parse("collector").unwrap(),
            team: Name::parse("collectors").unwrap(),
            role: Role::Agent,
            clearance: Clearance {
                level: Level::new(2).unwrap(),
                compartments: Compartments::from_bits(0b101),
            },
            integrity_ceiling: Integrity::new(3).unwrap(),
            zones: vec![Name::parse("lab").unwrap()],
            validity: Validity { not_before: Millis(1_000), not_after: Millis(9_000) },
        }
    }

    fn keys() -> (SigningKey, SigningKey) {
        (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]))
    }

    #[test]
    fn the_header_is_what_nats_writes() {
        assert_eq!(
            BASE64URL_NOPAD.decode(HEADER.as_bytes()).unwrap(),
            br#"{"typ":"JWT","alg":"ed25519-nkey"}"#
        );
    }

    #[test]
    fn time_decides_at_its_edges() {
        let (agent, issuer) = keys();
        let credential = Credential::issue(&claims(&agent, &issuer), &issuer).unwrap();
        assert_eq!(credential.check_time(Millis(999)).unwrap_err().reason, Reason::NotYetValid);
        assert!(credential.check_time(Millis(1_000)).is_ok());
        assert!(credential.check_time(Millis(8_999)).is_ok());
        assert_eq!(credential.check_time(Millis(9_000)).unwrap_err().reason, Reason::CredentialExpired);
    }

    #[test]
    fn another_issuer_or_bus_is_refused() {
        let (agent, issuer) = keys();
        let claims = claims(&agent, &issuer);
        let credential = Credential::issue(&claims, &issuer).unwrap();
        let other = BusId::new(issuer.public(), &Name::parse("other").unwrap());
        let refused = Credential::verify(credential.as_str(), other, issuer.public());
        assert_eq!(refused.unwrap_err().reason, Reason::WrongBus);
        let refused = Credential::verify(credential.as_str(), claims.bus, agent.public());
        assert_eq!(refused.unwrap_err().reason, Reason::BadSignature);
    }

    #[test]
    fn a_claim_that_stands_twice_is_refused() {
        let (agent, issuer) = keys();
        let claims = claims(&agent, &issuer);
        let text = Credential::issue(&claims, &issuer).unwrap();
        let body = text.as_str().split('.').nth(1).unwrap();
        let body = String::from_utf8(BASE64URL_NOPAD.decode(body.as_bytes()).unwrap()).unwrap();
        let twice = body.replacen("{", r#"{"name":"root","#, 1);
        let signed = format!("{HEADER}.{}", BASE64URL_NOPAD.encode(twice.as_bytes()));
        let signature = BASE64URL_NOPAD.encode(&issuer.sign_raw(signed.as_bytes()));
        let refused = Credential::verify(&format!("{signed}.{signature}"), claims.bus, issuer.public());
        assert_eq!(refused.unwrap_err().reason, Reason::CredentialInvalid);
    }

    #[test]
    fn the_header_cannot_choose_the_algorithm() {
        let (agent, issuer) = keys();
        let claims = claims(&agent, &issuer);
        let text = Credential::issue(&claims, &issuer).unwrap();
        let (_, rest) = text.as_str().split_once('.').unwrap();
        for header in [r#"{"typ":"JWT","alg":"none"}"#, r#"{"typ":"JWT"}"#, r#"{"alg":"ed25519-nkey"}"#] {
            let forged = format!("{}.{rest}", BASE64URL_NOPAD.encode(header.as_bytes()));
            let refused = Credential::verify(&forged, claims.bus, issuer.public()).unwrap_err();
            assert_eq!(refused.reason, Reason::CredentialInvalid);
        }
    }
}

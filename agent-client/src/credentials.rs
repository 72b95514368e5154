//! An agent's one credentials file: who it is, the seed that proves it, and the bus it belongs to.
//!
//! The file has the blocks of a NATS `.creds` file (any NATS tool can read the JWT) and one more:
//!
//! ```text
//! -----BEGIN NATS USER JWT-----        the credential, signed by the bus's issuer
//! -----BEGIN USER NKEY SEED-----       the identity; whoever has it is the agent
//! -----BEGIN SEALBUS BUS-----          JSON: the roots of trust, and where the servers are
//! ```
//!
//! The bus block is what the agent trusts without being shown, so a file from a stranger is a bus of a
//! stranger: take it only from who runs the bus.
//!
//! ```
//! use sealbus_client::credentials::{Bus, Credentials};
//! use sealbus_envelope::identity::{Claims, Credential, Role, Roots, SigningKey};
//! use sealbus_envelope::{label::{Clearance, Integrity}, name::Name, time::{Millis, Validity}};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
//! let (issuer, policy, agent) = (SigningKey::generate(rng), SigningKey::generate(rng), SigningKey::generate(rng));
//! let roots = Roots {
//!     name: Name::parse("demo")?, issuer: issuer.public().clone(),
//!     policy_keys: vec![policy.public().clone()], quorum: 1,
//! };
//! let credential = Credential::issue(&Claims {
//!     bus: roots.bus(), identity: agent.public().clone(), name: Name::parse("collector")?,
//!     team: Name::parse("collectors")?, role: Role::Agent, clearance: Clearance::default(),
//!     integrity_ceiling: Integrity::LOWEST, zones: vec![],
//!     validity: Validity::starting(Millis::from_seconds(1_800_000_000), 86_400_000),
//! }, &issuer)?;
//! let bus = Bus::new(roots, vec!["nats://127.0.0.1:4222".to_owned()])?;
//! let credentials = Credentials::new(bus, credential, agent)?;
//! let again = Credentials::parse(&credentials.render())?;
//! assert_eq!(again.credential(), credentials.credential());
//! # Ok(())
//! # }
//! ```

mod bus;
mod error;
mod file;

use std::{path::Path, sync::Arc};

use sealbus_envelope::identity::{Credential, KeyKind, Roots, SigningKey};
use zeroize::Zeroizing;

pub use bus::{Bus, Ca};
pub use error::{CredentialsError, Problem};

/// Label of the block with the credential.
const JWT: &str = "NATS USER JWT";
/// Label of the block with the identity's seed.
const SEED: &str = "USER NKEY SEED";
/// Label of the block with the bus.
const BUS: &str = "SEALBUS BUS";

/// What an agent needs to join a bus. Cheap to clone; the seed is zeroized with the last clone.
#[derive(Debug, Clone)]
pub struct Credentials {
    bus: Bus,
    credential: Credential,
    identity: Arc<SigningKey>,
}

impl Credentials {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`Problem::SeedMismatch`] if `identity` is not the key that the credential names;
    /// [`Problem::Credential`] if the credential is of another bus.
    pub fn new(bus: Bus, credential: Credential, identity: SigningKey) -> Result<Self, CredentialsError> {
        // Verified again: the parts may come from different buses.
        let roots = bus.roots();
        let credential = Credential::verify(credential.as_str(), roots.bus(), &roots.issuer)
            .map_err(|refused| CredentialsError::in_block(JWT, Problem::Credential(refused)))?;
        if *identity.public() != credential.claims().identity {
            return Err(CredentialsError::in_block(SEED, Problem::SeedMismatch));
        }
        Ok(Self { bus, credential, identity: Arc::new(identity) })
    }

    /// Reads a file, which only its owner may be able to read.
    ///
    /// # Errors
    /// [`Problem::Open`] if group or others may read or write the file; [`Problem::Io`]; what
    /// [`parse`](Self::parse) refuses. The error names the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, CredentialsError> {
        let path = path.as_ref();
        file::read(path).and_then(|text| Self::parse(&text)).map_err(|error| error.in_file(path))
    }

    /// Reads the text of a file. Times are not checked here; connecting does.
    ///
    /// # Errors
    /// A [`CredentialsError`] that names the block and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let blocks = file::blocks(text)?;
        let bus = Bus::parse(blocks.get(BUS)?).map_err(|problem| CredentialsError::in_block(BUS, problem))?;
        let roots = bus.roots();
        let credential = Credential::verify(blocks.get(JWT)?, roots.bus(), &roots.issuer)
            .map_err(|refused| CredentialsError::in_block(JWT, Problem::Credential(refused)))?;
        let identity = SigningKey::from_nkey_seed(blocks.get(SEED)?, KeyKind::User)
            .map_err(|_| CredentialsError::in_block(SEED, Problem::Seed))?;
        if *identity.public() != credential.claims().identity {
            return Err(CredentialsError::in_block(SEED, Problem::SeedMismatch));
        }
        Ok(Self { bus, credential, identity: Arc::new(identity) })
    }

    /// The text of the file. It holds the seed: zeroized on drop, for a file of mode 0600 and nothing else.
    #[must_use]
    pub fn render(&self) -> Zeroizing<String> {
        let seed = self.identity.to_nkey_seed(KeyKind::User);
        let blocks = [(JWT, self.credential.as_str()), (SEED, &seed), (BUS, &self.bus.render())];
        file::render(&blocks)
    }

    /// Writes a new file of mode 0600, whole or not at all.
    ///
    /// # Errors
    /// [`Problem::Exists`] if there is a file of that name; [`Problem::Io`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), CredentialsError> {
        let path = path.as_ref();
        file::write_new(path, self.render().as_bytes()).map_err(|error| error.in_file(path))
    }

    /// The bus: its roots of trust, servers, subjects.
    #[must_use]
    pub const fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The roots of trust.
    #[must_use]
    pub const fn roots(&self) -> &Roots {
        self.bus.roots()
    }

    /// The servers' URLs, such as `nats://127.0.0.1:4222`; at least one.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        self.bus.urls()
    }

    /// What the issuer says of this agent.
    #[must_use]
    pub const fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The identity's key: used once a session, to vouch for the session's own key.
    #[must_use]
    pub fn identity(&self) -> &SigningKey {
        &self.identity
    }
}

#[cfg(test)]
mod tests;

//! Names that people give: agents, teams, rules, buses. Short, lower-case, safe in a NATS subject token.
//!
//! ```
//! use sealbus_envelope::name::Name;
//! # fn main() -> Result<(), sealbus_envelope::reason::Refused> {
//! assert_eq!(Name::parse("supply-chain")?.as_str(), "supply-chain");
//! assert!(Name::parse("two words").is_err() && Name::parse("x.>").is_err());
//! # Ok(())
//! # }
//! ```

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::reason::{Reason, Refused};

/// The longest name, in bytes.
pub const MAX_NAME: usize = 48;

/// A name: a lower-case letter, then up to 47 letters, digits and `-`. One subject token, one file name,
/// and nothing that a shell, a log or a terminal would read as anything else.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The name in `text`.
    ///
    /// # Errors
    /// `bad_name`.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        check(text)?;
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks without allocating what [`Name::parse`] checks.
///
/// # Errors
/// `bad_name`.
pub fn check(text: &str) -> Result<(), Refused> {
    let mut bytes = text.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    if starts
        && text.len() <= MAX_NAME
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        Ok(())
    } else {
        Err(Refused::new(Reason::BadName, "name"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for Name {
    type Err = Refused;
    fn from_str(text: &str) -> Result<Self, Refused> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Name {
    type Error = Refused;
    fn try_from(text: String) -> Result<Self, Refused> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().into()
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// An agent as subjects name it: `name-shortid`, where the short id is of the identity key. Readable,
/// unique, and not transferable: a second key of the same name is a second token.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentToken(Arc<str>);

/// Characters of the short id.
const SHORT_ID: usize = 10;
/// The longest agent token, in bytes.
pub const MAX_AGENT_TOKEN: usize = MAX_NAME + 1 + SHORT_ID;

impl AgentToken {
    /// The token of the agent called `name` whose identity key is `identity`.
    #[must_use]
    pub fn new(name: &Name, identity: &crate::identity::PublicKey) -> Self {
        let hash = crate::hash::hash(crate::hash::Context::AgentToken, &[identity.as_bytes()]);
        let id = crate::hash::base32(&hash, SHORT_ID);
        Self(format!("{name}-{id}").into())
    }

    /// The token in `text`, checked for form only.
    ///
    /// # Errors
    /// `bad_name`.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    /// Checks without allocating what [`parse`](Self::parse) checks.
    ///
    /// # Errors
    /// `bad_name`.
    pub fn check(text: &str) -> Result<(), Refused> {
        let bad = Refused::new(Reason::BadName, "agent");
        let (name, id) = text.rsplit_once('-').ok_or(bad)?;
        check(name).map_err(|_| bad)?;
        if id.len() == SHORT_ID && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')) {
            Ok(())
        } else {
            Err(bad)
        }
    }

    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name part.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('-').map_or(&*self.0, |(name, _)| name)
    }
}

impl fmt::Display for AgentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AgentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl TryFrom<String> for AgentToken {
    type Error = Refused;
    fn try_from(text: String) -> Result<Self, Refused> {
        Self::parse(&text)
    }
}

impl From<AgentToken> for String {
    fn from(token: AgentToken) -> Self {
        token.0.as_ref().into()
    }
}

impl std::borrow::Borrow<str> for AgentToken {
    fn borrow(&self) -> &str {
        &self.0
    }
}

//! Whom or what an order concerns.

use std::fmt;

use crate::{
    identity::PublicKey,
    name::{AgentToken, MAX_AGENT_TOKEN, MAX_NAME, Name},
    reason::{Reason, Refused},
    wire::codec::{Reader, Writer},
};

/// What is paused as one: all that a team sends, or all that goes under a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workflow {
    /// What the members of a team send.
    Team(Name),
    /// What goes under a rule.
    Rule(Name),
}

impl Workflow {
    /// Reads what [`Display`](fmt::Display) writes: `team:NAME` or `rule:NAME`.
    ///
    /// # Errors
    /// `bad_name`.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        match text.split_once(':') {
            Some(("team", name)) => Ok(Self::Team(Name::parse(name)?)),
            Some(("rule", name)) => Ok(Self::Rule(Name::parse(name)?)),
            _ => Err(Refused::new(Reason::BadName, "workflow")),
        }
    }
}

impl fmt::Display for Workflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Team(name) => write!(f, "team:{name}"),
            Self::Rule(name) => write!(f, "rule:{name}"),
        }
    }
}

/// Whom or what an order concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An agent.
    Agent {
        /// As subjects name it.
        token: AgentToken,
        /// Its identity key, all of it: the token holds only a part of its hash.
        identity: PublicKey,
    },
    /// A workflow.
    Workflow(Workflow),
}

impl Target {
    /// The agent's token, if it is an agent.
    #[must_use]
    pub const fn agent(&self) -> Option<&AgentToken> {
        match self {
            Self::Agent { token, .. } => Some(token),
            Self::Workflow(_) => None,
        }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        match self {
            Self::Agent { token, identity } => {
                w.array(3).uint(0u8).str(token.as_str()).bin(identity.as_bytes());
            }
            Self::Workflow(Workflow::Team(name)) => {
                w.array(2).uint(1u8).str(name.as_str());
            }
            Self::Workflow(Workflow::Rule(name)) => {
                w.array(2).uint(2u8).str(name.as_str());
            }
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Refused> {
        let len = r.array_len(3)?;
        if len == 0 {
            return Err(Refused::new(Reason::WrongArity, "order.target"));
        }
        match (r.uint()?, len) {
            (0, 3) => {
                let token = AgentToken::parse(r.str(MAX_AGENT_TOKEN)?)?;
                let identity = PublicKey::from_bytes(&r.bin_array()?)?;
                let name = Name::parse(token.name())?;
                if AgentToken::new(&name, &identity) == token {
                    Ok(Self::Agent { token, identity })
                } else {
                    Err(Refused::new(Reason::OrderInvalid, "order.identity"))
                }
            }
            (1, 2) => Ok(Self::Workflow(Workflow::Team(Name::parse(r.str(MAX_NAME)?)?))),
            (2, 2) => Ok(Self::Workflow(Workflow::Rule(Name::parse(r.str(MAX_NAME)?)?))),
            _ => Err(Refused::new(Reason::WrongArity, "order.target")),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { token, .. } => token.fmt(f),
            Self::Workflow(workflow) => workflow.fmt(f),
        }
    }
}

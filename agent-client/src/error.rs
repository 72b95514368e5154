//! What can go wrong, by what the caller can do about it.

use std::{error::Error as StdError, fmt};

use sealbus_envelope::{
    order::Workflow,
    reason::{Reason, Refused},
};

/// The kind of an [`Error`]: what to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument cannot be: a malformed subject, a payload too large, no such rule.
    Usage,
    /// The policy does not allow it to this agent; nothing was sent.
    NotAllowed,
    /// The guard denied it.
    Denied,
    /// The agent is known but may not come in (quarantined, revoked, expired).
    Refused,
    /// The servers do not take the credentials.
    Unauthorized,
    /// No server can be reached.
    Unreachable,
    /// There is no guard: nothing is admitted until it is back.
    GuardUnavailable,
    /// What claims to be the guard is none, or of another bus.
    WrongGuard,
    /// A bounded buffer is full.
    Overloaded,
    /// No answer in time. Whether it took effect is unknown.
    Timeout,
    /// What was received does not verify.
    Invalid,
    /// The workflow is paused until a person resumes it; nothing was admitted. [`Error::workflow`] names it.
    WorkflowPaused,
    /// The client was closed.
    Closed,
}

impl ErrorKind {
    const fn text(self) -> &'static str {
        match self {
            Self::Usage => "invalid argument",
            Self::NotAllowed => "not allowed by the policy",
            Self::Denied => "denied by the guard",
            Self::Refused => "refused by the guard",
            Self::Unauthorized => "the server does not accept the credentials",
            Self::Unreachable => "no server can be reached",
            Self::GuardUnavailable => "the guard is not there",
            Self::WrongGuard => "this is not the guard of the bus",
            Self::Overloaded => "a buffer is full",
            Self::Timeout => "no answer in time",
            Self::Invalid => "what was received does not verify",
            Self::WorkflowPaused => "paused by the guard",
            Self::Closed => "the client is closed",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Usage => "mend the argument",
            Self::NotAllowed | Self::Denied => "ask the operator, or use what the policy allows",
            Self::Refused => "ask the security team: `sealbus why`",
            Self::Unauthorized => "check that the credentials file is of this bus: `sealbus agent show`",
            Self::Unreachable => "check the server URLs and the network",
            Self::GuardUnavailable => "start the guard: `sealbus guard`; the client recovers by itself",
            Self::WrongGuard => "check that servers and credentials are of one bus; tell the security team",
            Self::Overloaded => "slow down, or raise the limit",
            Self::Timeout => "try again",
            Self::Invalid => "tell the security team: the sender or the server is faulty or hostile",
            Self::WorkflowPaused => {
                "wait for it: `WhenPaused::Wait`, or ask who watches it: `sealbus workflow list`"
            }
            Self::Closed => "connect again",
        }
    }
}

/// An operation that failed: its kind, the stable reason if there is one, and what to do.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    reason: Option<Reason>,
    detail: String,
    workflow: Option<Workflow>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, reason: None, detail: detail.into(), workflow: None, source: None }
    }

    pub(crate) fn with_reason(kind: ErrorKind, reason: Reason, detail: impl Into<String>) -> Self {
        Self { kind, reason: Some(reason), detail: detail.into(), workflow: None, source: None }
    }

    pub(crate) fn refused(kind: ErrorKind, refused: Refused) -> Self {
        let detail = format!("{}: {}", refused.what, refused.reason.meaning());
        Self::with_reason(kind, refused.reason, detail)
    }

    pub(crate) fn caused(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    pub(crate) fn of(mut self, workflow: Workflow) -> Self {
        self.workflow = Some(workflow);
        self
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "")
    }

    /// What to match on.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The stable reason code, if guard, policy or a check gave one.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// The workflow that is paused, if that is what is wrong.
    #[must_use]
    pub const fn workflow(&self) -> Option<&Workflow> {
        self.workflow.as_ref()
    }

    /// What to do about it, in one line.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match (self.reason, self.kind) {
            (
                Some(reason),
                ErrorKind::NotAllowed | ErrorKind::Denied | ErrorKind::Refused | ErrorKind::Usage,
            ) => reason.remedy(),
            (_, kind) => kind.remedy(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.text())?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        if let Some(reason) = self.reason {
            write!(f, " [{reason}]")?;
        }
        write!(f, "; {}", self.remedy())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// What this crate's operations give.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_reason_and_the_remedy() {
        let error = Error::refused(ErrorKind::Denied, Refused::new(Reason::AboveClearance, "label"));
        let text = error.to_string();
        assert!(
            text.contains("[above_clearance]") && text.ends_with(Reason::AboveClearance.remedy()),
            "{text}"
        );
    }
}

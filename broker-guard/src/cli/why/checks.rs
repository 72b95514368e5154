//! The guard's checks in their order, for telling which one refused an envelope.

use sealbus_envelope::reason::Reason;

/// How an envelope fared in one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It passed.
    Passed,
    /// It was refused here.
    Failed,
    /// It was refused before.
    NotReached,
}

impl Outcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotReached => "not_reached",
        }
    }
}

/// One check: what it asks, the reasons it refuses for, and the part of the input where a reason that two
/// checks share tells them apart.
struct Check {
    asks: &'static str,
    reasons: &'static [Reason],
    place: Option<&'static str>,
}

const fn check(asks: &'static str, reasons: &'static [Reason]) -> Check {
    Check { asks, reasons, place: None }
}

use Reason as R;

const CHECKS: &[Check] = &[
    check("the agent is not in quarantine", &[R::Quarantined]),
    Check {
        asks: "the agent is within the rate of all its rules together",
        reasons: &[R::RateLimited],
        place: Some("sender"),
    },
    check(
        "the envelope is well-formed",
        &[
            R::Truncated,
            R::TrailingBytes,
            R::TooLarge,
            R::BadEncoding,
            R::WrongArity,
            R::UnsupportedVersion,
            R::BadLength,
            R::BadName,
            R::BadSubject,
            R::BadLabel,
            R::DuplicateParent,
            R::TooManyParents,
            R::BadTime,
            R::BadFlags,
        ],
    ),
    check("its session is known to this guard", &[R::UnknownSession]),
    check(
        "bus, sender and subject are those the broker attests",
        &[R::WrongBus, R::WrongSender, R::WrongSubject],
    ),
    check(
        "it is fresh, and session and credential are valid",
        &[R::Stale, R::FromFuture, R::Expired, R::NotYetValid, R::CertificateExpired, R::CredentialExpired],
    ),
    check(
        "its key is in use for this rule and label, and its number was not seen before",
        &[R::KeyMismatch, R::StaleKey, R::Replay],
    ),
    check(
        "the session's signature verifies",
        &[R::BadSignature, R::BadProof, R::WeakKey, R::WrongSession, R::UnknownSender],
    ),
    Check {
        asks: "the rule lets this agent publish this label on this subject",
        reasons: POLICY,
        place: Some("policy"),
    },
    check(
        "the flow grant it names is for it",
        &[R::FlowGrantUnknown, R::FlowGrantMismatch, R::FlowGrantExpired],
    ),
    check("its label dominates those of its parents", &[R::BelowParents]),
    check("its label dominates all that its sender was given to read", &[R::BelowFloor]),
    check("its key was opened in this session", &[R::UnknownKey]),
    Check { asks: "the agent is within the rule's rate", reasons: &[R::RateLimited], place: Some("rule") },
    Check {
        asks: "the agent is within the flow grant's rate",
        reasons: &[R::RateLimited],
        place: Some("flow grant"),
    },
    check(
        "there is somewhere for it to go",
        &[R::WrongPattern, R::NoRequest, R::WrongReader, R::NoResponder],
    ),
    check("the audit log has it", &[R::AuditUnavailable]),
];

const POLICY: &[Reason] = &[
    R::NoPolicy,
    R::UnknownRule,
    R::NotPublisher,
    R::NotSubscriber,
    R::SubjectOutsideRule,
    R::LabelUnknown,
    R::LabelOutOfRange,
    R::AboveClearance,
    R::AboveIntegrity,
    R::TooBigForRule,
    R::WrongPattern,
];

/// Every check in order with its outcome. Without a reason all passed; of a reason that no check gives (a
/// refused control message, say) nothing is told.
pub(super) fn story(
    reason: Option<&str>,
    place: Option<&str>,
) -> impl Iterator<Item = (&'static str, Outcome)> {
    let failed = match reason {
        None => CHECKS.len(),
        Some(code) => position(code, place).unwrap_or(usize::MAX),
    };
    let told = if failed == usize::MAX { 0 } else { CHECKS.len() };
    CHECKS.iter().take(told).enumerate().map(move |(n, check)| {
        let outcome = match n.cmp(&failed) {
            std::cmp::Ordering::Less => Outcome::Passed,
            std::cmp::Ordering::Equal => Outcome::Failed,
            std::cmp::Ordering::Greater => Outcome::NotReached,
        };
        (check.asks, outcome)
    })
}

fn position(code: &str, place: Option<&str>) -> Option<usize> {
    let reason = Reason::from_code(code)?;
    let gives = |check: &Check| check.reasons.contains(&reason);
    CHECKS
        .iter()
        .position(|check| gives(check) && check.place.is_some() && check.place == place)
        .or_else(|| CHECKS.iter().position(|check| gives(check) && check.place.is_none()))
        .or_else(|| CHECKS.iter().position(gives))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(reason: &str, place: Option<&str>) -> Option<&'static str> {
        story(Some(reason), place).find(|(_, outcome)| *outcome == Outcome::Failed).map(|(asks, _)| asks)
    }

    #[test]
    fn the_refusing_check_is_told_apart() {
        assert!(story(None, None).all(|(_, outcome)| outcome == Outcome::Passed));
        assert_eq!(
            failed("rate_limited", Some("sender")),
            Some("the agent is within the rate of all its rules together")
        );
        assert_eq!(failed("rate_limited", Some("rule")), Some("the agent is within the rule's rate"));
        assert_eq!(failed("wrong_pattern", Some("header.request")), Some("there is somewhere for it to go"));
        assert_eq!(
            failed("not_publisher", Some("policy")),
            Some("the rule lets this agent publish this label on this subject")
        );
        assert_eq!(failed("not_publisher", None), failed("not_publisher", Some("policy")));
        assert_eq!(story(Some("bad_grant"), None).count(), 0);
        assert_eq!(story(Some("from the future"), None).count(), 0);
    }
}

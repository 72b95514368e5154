//! Stable reason codes: why something was refused, in one table.
//!
//! A code never changes its meaning once released. The sender's notice, the event, the audit entry, the
//! metric and the golden vectors all use the same word.
//!
//! ```
//! use sealbus_envelope::reason::Reason;
//! assert_eq!(Reason::Replay.code(), "replay");
//! assert_eq!(Reason::from_code("replay"), Some(Reason::Replay));
//! println!("{}: {}", Reason::Replay.meaning(), Reason::Replay.remedy());
//! ```

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $meaning:literal, $remedy:literal;)*) => {
        /// Why something was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Reason {
            $(#[doc = $meaning] $name,)*
        }

        impl Reason {
            /// Every reason, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What happened, in one line for people.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do about it, in one line for people.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }

            /// The reason with this code.
            #[must_use]
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

reasons! {
    // the bytes
    Truncated = "truncated", "the bytes end before the structure does", "send the whole message";
    TrailingBytes = "trailing_bytes", "bytes follow the structure", "send exactly one structure a message";
    TooLarge = "too_large", "a size is above the limit of the format", "split the message or send a reference to it";
    BadEncoding = "bad_encoding", "not the MessagePack type, or not in its shortest form", "encode as SPEC.md says; every length and number in its shortest form";
    WrongArity = "wrong_arity", "an array has the wrong number of elements", "encode as SPEC.md says";
    UnsupportedVersion = "unsupported_version", "the format version is not known", "upgrade the older side";
    BadLength = "bad_length", "a fixed-size field has another size", "encode as SPEC.md says";
    BadName = "bad_name", "a name is empty, too long or has a character that names do not have", "use lower-case letters, digits and `-`, beginning with a letter";
    BadSubject = "bad_subject", "the subject is empty, too long, has a wildcard or a character that subjects do not have", "publish on a literal subject of visible ASCII tokens divided by single dots";
    BadLabel = "bad_label", "a label number is out of range", "use the numbers that the policy declares";
    DuplicateParent = "duplicate_parent", "one parent is named twice", "name each parent once";
    TooManyParents = "too_many_parents", "more parents than an envelope may name", "merge in steps: derive from at most 256 envelopes at a time";
    BadTime = "bad_time", "a time or lifetime is zero, out of range or ends before it begins", "check the clock and the lifetime";
    BadFlags = "bad_flags", "a flag that is not defined is set", "set only the flags that SPEC.md defines";
    BadPadding = "bad_padding", "the padding inside the ciphertext is not as it must be", "pad as SPEC.md says";

    // keys and signatures
    WeakKey = "weak_key", "a public key is of small order, not canonical or not on the curve", "make the key again";
    BadSignature = "bad_signature", "the signature does not verify strictly", "sign the exact bytes with the key that the receiver was told of";
    BadProof = "bad_proof", "the Merkle index, size or path cannot be right", "make the proof again";

    // who
    WrongBus = "wrong_bus", "it was made for another bus", "use credentials of this bus";
    WrongSender = "wrong_sender", "the sender is not who the broker or the session says", "publish under your own name";
    WrongSession = "wrong_session", "the session is not the one it must be", "use the session that the guard admitted";
    WrongSubject = "wrong_subject", "the subject inside is not the subject on the wire", "publish on the subject that the header names";
    UnknownSender = "unknown_sender", "no valid credential is known for the sender", "wait for the sender's key grant or ask the guard for it";
    UnknownSession = "unknown_session", "the guard does not know the session, or it has not said hello since the guard started", "say hello again";
    CredentialInvalid = "credential_invalid", "the credential is malformed or not signed by this bus's issuer", "ask the operator for a credential: `sealbus agent add`";
    CredentialExpired = "credential_expired", "the credential's time is over", "ask the operator for a new credential";
    NotYetValid = "not_yet_valid", "the credential, certificate or key is not valid yet", "check the clock";
    CertificateInvalid = "certificate_invalid", "the session certificate is malformed or lies about its key", "start the agent again";
    CertificateExpired = "certificate_expired", "the session's time is over", "start a new session";
    Revoked = "revoked", "the identity or session is revoked", "ask the security team: `sealbus agent show`";
    StatusExpired = "status_expired", "the status statement is past its valid-until, so revocation cannot be ruled out", "sign a fresh status statement";
    StatusInvalid = "status_invalid", "the status statement is malformed or not signed by the status key", "sign it again with the status key";
    RolledBack = "rolled_back", "a version is lower than one already seen", "restore the newest version; find out who served the old one";
    WrongRole = "wrong_role", "the credential's role does not allow this", "use a credential with the role that this needs";
    SessionInUse = "session_in_use", "the session has a live connection already", "start a new session; if you did not connect twice, somebody else holds your session key";
    WrongConnection = "wrong_connection", "not a standard NATS client connection to a server of the bus", "connect with a standard NATS client to a server that the guard knows";
    Quarantined = "quarantined", "the agent is in quarantine", "ask the security team: `sealbus why`";

    // when
    Stale = "stale", "issued longer ago than the freshness window", "check the clock, or send again";
    FromFuture = "from_future", "issued in the future", "check the clock";
    Expired = "expired", "older than its time-to-live", "send again, or with a longer time-to-live";
    Replay = "replay", "this sequence number was seen before", "never send the same envelope twice";

    // policy
    NoPolicy = "no_policy", "no valid policy is in force", "publish a signed policy";
    PolicyInvalid = "policy_invalid", "the policy bundle is malformed or lacks valid signatures of the quorum", "sign the policy again";
    UnknownTeam = "unknown_team", "the policy has no such team", "ask the operator for a credential of a team that the policy has";
    UnknownRule = "unknown_rule", "the policy has no such rule", "name a rule of the policy in force";
    NotPublisher = "not_publisher", "the rule does not name this sender as a publisher", "ask the operator, or publish under a rule that names you";
    NotSubscriber = "not_subscriber", "the rule does not name this reader as a subscriber", "ask the operator, or subscribe under a rule that names you";
    SubjectOutsideRule = "subject_outside_rule", "the subject is not matched by the rule's pattern", "publish on a subject that the rule covers";
    LabelUnknown = "label_unknown", "the policy does not declare this level, compartment or integrity rank", "use a label that the policy declares";
    LabelOutOfRange = "label_out_of_range", "the label is outside the rule's range", "use a label inside the range, or another rule";
    AboveClearance = "above_clearance", "the label is above the clearance", "use a label within the clearance";
    AboveIntegrity = "above_integrity", "the label claims more integrity than the sender may vouch for", "claim no more than your integrity ceiling";
    BelowParents = "below_parents", "the label does not dominate the labels of the parents it names", "label it at least as high as its parents";
    BelowFloor = "below_floor", "the label does not dominate what the sender was given to read", "label it at least as high as your floor, or name a flow grant";
    FlowGrantUnknown = "flow_grant_unknown", "the envelope names a flow grant that the policy does not have", "name a flow grant of the policy in force";
    FlowGrantMismatch = "flow_grant_mismatch", "the flow grant is not for this team, subject, label or size", "use the grant only for the step that it names";
    FlowGrantExpired = "flow_grant_expired", "the flow grant's time is over", "ask the operators to renew the grant";
    FanInExceeded = "fan_in_exceeded", "as many agents as the rule lets publish at once hold a key already", "wait until one of them ends, or ask the operators for a higher limit";
    WrongZone = "wrong_zone", "the connection is not where the zone of the agent's team must be", "connect to a server of the zone: `sealbus policy place`";
    AboveCeiling = "above_ceiling", "the clearance is above the ceiling of the zone", "run the agent in a higher zone, or lower its clearance";
    RateLimited = "rate_limited", "more messages than the rule's rate", "slow down";
    TooBigForRule = "too_big_for_rule", "larger than the rule's size limit", "send less, or ask for a higher limit";
    WrongPattern = "wrong_pattern", "a request on a stream rule, or a stream message on a request rule", "use the message pattern that the rule has";
    NoResponder = "no_responder", "no live agent that may answer the request is there", "start a responder";
    NoRequest = "no_request", "no open request waits for this reply", "reply once, within the deadline, and only if asked";

    // orders
    OrderInvalid = "order_invalid", "the order is malformed or lacks valid signatures of the quorum", "see who signed it, and sign it again: `sealbus order show`";
    OrderUnknown = "order_unknown", "the kind of order is not known", "upgrade the guard";
    OrderExpired = "order_expired", "the order's time is over", "make the order again";
    OrderReplayed = "order_replayed", "the order was carried out before", "make a new order if it is to be done again";
    SessionEnded = "session_ended", "an order ended the session", "start the agent again";
    WorkflowPaused = "workflow_paused", "the workflow is paused until a person resumes it", "wait for it to be resumed, or ask who watches it: `sealbus workflow list`";
    Anomalous = "anomalous", "the agent's anomaly score passed a threshold of the policy", "see what it did: `sealbus quarantine show`";
    ResponderQuarantined = "responder_quarantined", "who was to answer was taken off the bus", "ask again: another responder is picked";
    ApprovalMissing = "approval_missing", "a held envelope came without the approvals that the signed policy wants", "the guard is faulty or hostile: report it";
    ApprovalInvalid = "approval_invalid", "the approval is malformed, badly signed, or not by an approver of the rule", "sign it with a key that the policy lists for the rule";
    ApprovalDenied = "approval_denied", "an approver denied it", "ask who denied it, then send it again";
    ApprovalExpired = "approval_expired", "nobody approved it in time", "send it again when an approver is there";
    NotHeld = "not_held", "no envelope with this digest is held", "list what is held: `sealbus approvals list`";
    HoldFull = "hold_full", "as many envelopes are held as there may be", "approve or deny what is held, then send again";
    NotQuarantined = "not_quarantined", "the agent's state does not allow the change: only who is in quarantine can be released", "see who is: `sealbus quarantine list`; a revoked agent needs a new identity";
    NoEvidence = "no_evidence", "nothing is kept of the agent that waits for a decision", "see what is kept: `sealbus quarantine show`";
    StoreUnavailable = "store_unavailable", "the guard's store cannot be written, so nothing that must be durable is done", "free the guard's disk";

    // sealing
    UnknownKey = "unknown_key", "the sender key is not known", "open the key and wait for its grant";
    StaleKey = "stale_key", "the sender key was rotated away", "seal again with the current key";
    KeyMismatch = "key_mismatch", "the key does not hash to its key id", "the sender is faulty or hostile: report it";
    DecryptFailed = "decrypt_failed", "the ciphertext does not open with this key", "the sender is faulty or hostile: report it";
    BadGrant = "bad_grant", "the key grant is malformed or its fields disagree", "make the grant again";
    WrongReader = "wrong_reader", "the grant was sealed to another reader key", "ask for the key again";
    TooManyReaders = "too_many_readers", "the rule has more readers than its limit", "divide the rule";

    // admission
    NotAdmitted = "not_admitted", "there is no proof of admission", "publish through the guard";
    Denied = "denied", "the proof of admission says that the guard denied it", "see the reason in the denial";
    BadAdmission = "bad_admission", "the proof of admission is malformed or does not verify", "publish through the guard";
    OldPolicy = "old_policy", "admitted under a policy version that was already replaced", "send again";
    NewPolicy = "new_policy", "admitted under a policy version that the reader does not have yet", "fetch the policy in force, then read again";
    OldEpoch = "old_epoch", "admitted by a guard whose lease is over", "send again";

    // the service
    GuardUnavailable = "guard_unavailable", "no heartbeat from the guard", "wait; nothing is lost that was not confirmed";
    AuditUnavailable = "audit_unavailable", "the audit log cannot be written, so nothing is admitted", "free the guard's disk";
    Overloaded = "overloaded", "a bounded buffer is full", "slow down";
    Timeout = "timeout", "no answer within the deadline", "try again";
    Malformed = "malformed", "a control message is malformed", "upgrade the older side";
}

impl Reason {
    /// Whether observe mode may let it pass: faults of senders against rules and labels. Never identity,
    /// cryptography, quarantine, or anything that gives a reader more.
    #[must_use]
    pub const fn is_observable(self) -> bool {
        matches!(
            self,
            Self::NotPublisher
                | Self::LabelOutOfRange
                | Self::AboveIntegrity
                | Self::TooBigForRule
                | Self::RateLimited
                | Self::BelowParents
                | Self::BelowFloor
                | Self::FlowGrantUnknown
                | Self::FlowGrantMismatch
                | Self::FlowGrantExpired
                | Self::FanInExceeded
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::from_code(&code).ok_or_else(|| serde::de::Error::custom("unknown reason code"))
    }
}

/// A refusal: the reason, and which part of the input gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {} [{reason}]", reason.meaning())]
pub struct Refused {
    /// The stable reason.
    pub reason: Reason,
    /// The part of the input, such as `header.subject`.
    pub what: &'static str,
}

impl Refused {
    /// A refusal of `what` for `reason`.
    #[must_use]
    pub const fn new(reason: Reason, what: &'static str) -> Self {
        Self { reason, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_lead_back_to_their_reason() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
            assert!(reason.code().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(!reason.meaning().is_empty() && !reason.remedy().is_empty());
        }
    }
}

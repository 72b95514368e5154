//! What is held against an agent, and how heavily.
//!
//! Under a hostile nats-server (or leaf) an attested subject proves nothing: it can put junk there in an
//! agent's name, move an envelope to another subject, deliver it twice or late. If any of that counted, the
//! server could have every agent quarantined. What cannot be put there by anyone but the holder of the
//! session key is a *signature*, so only what the signed bytes say by themselves is evidence:
//!
//! | weight | examples | what follows |
//! | --- | --- | --- |
//! | [`Weight::Hard`] | signed header names another agent, session or bus than the session's own; a label above the clearance | quarantine at once |
//! | [`Weight::Soft`] | signed but too big, under a rule that does not name it (any more) | counts; a flood of it is quarantined |
//! | [`Weight::None`] | bad signature, undecodable, replayed, late, too fast, on another subject than it was signed for | never held against; a flood of it is disconnected |
//!
//! Pure: no IO, no clock.

use sealbus_envelope::{
    hash::Hash,
    reason::{Reason, Refused},
    time::Millis,
};

use super::state::{Cause, Trigger};

/// What the guard knows about a refused message when it reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The server says it came from the agent. Nothing else was shown.
    Attested,
    /// A signature of the session verified over the exact bytes that are objectionable, and these bytes were
    /// not seen before (a replay must not count twice).
    Signed {
        /// The digest of the envelope that is the evidence.
        envelope: Hash,
        /// Whether the content was made (its signed issued-at) long enough after the policy in force was
        /// announced that the agent must have known it.
        knew_policy: bool,
    },
}

/// How heavily something weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Not held against the agent.
    None,
    /// Counts towards a flood.
    Soft,
    /// Enough by itself.
    Hard,
}

/// How heavily `reason` weighs when it is proven by `proof`.
#[must_use]
pub const fn weigh(reason: Reason, proof: &Proof) -> Weight {
    let Proof::Signed { knew_policy, .. } = proof else { return Weight::None };
    match reason {
        // The signed header contradicts the certificate of the very session that signed it: no server and no
        // delay can bring that about, and no honest client writes it.
        Reason::WrongSender | Reason::WrongSession | Reason::WrongBus => Weight::Hard,
        // Beyond what it was ever given, if it had the time to learn what that is.
        Reason::AboveClearance
        | Reason::AboveIntegrity
        | Reason::BelowParents
        | Reason::NotPublisher
        | Reason::NotSubscriber
        | Reason::UnknownRule
        | Reason::LabelUnknown => {
            if *knew_policy {
                Weight::Hard
            } else {
                Weight::Soft
            }
        }
        // Mistakes that honest agents make, until there are too many.
        Reason::SubjectOutsideRule
        | Reason::LabelOutOfRange
        | Reason::FlowGrantUnknown
        | Reason::FlowGrantMismatch
        | Reason::TooBigForRule
        | Reason::WrongPattern
        | Reason::BadGrant
        | Reason::FromFuture
        | Reason::StaleKey => Weight::Soft,
        // Whatever else there is or will be: bytes that do not decode, signatures that do not verify, and what
        // a server does by moving, repeating, delaying or bunching honest envelopes (`wrong_subject`, `replay`,
        // `stale`, `rate_limited`: it may hold back half a minute's and deliver them at once).
        _ => Weight::None,
    }
}

/// Limits of the flood rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodLimits {
    /// Signed misconduct of weight soft that quarantines.
    pub soft: u32,
    /// Messages of no weight that disconnect.
    pub junk: u32,
    /// Time in which a count halves, in milliseconds.
    pub half_life_ms: u32,
}

impl Default for FloodLimits {
    /// About ten soft findings or a hundred pieces of junk a second, kept up for half a minute.
    fn default() -> Self {
        Self { soft: 300, junk: 3_000, half_life_ms: 20_000 }
    }
}

/// A count that halves every half-life.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Decaying {
    value: f64,
    at: Millis,
}

impl Decaying {
    fn value(&self, now: Millis, half_life_ms: u32) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "beyond 2^52 milliseconds the count is zero anyway")]
        let half_lives = now.since(self.at) as f64 / f64::from(half_life_ms.max(1));
        self.value * (-half_lives).exp2()
    }

    /// Adds one at `now` and returns the count. A clock that steps back neither decays nor grows it.
    fn add(&mut self, now: Millis, half_life_ms: u32) -> f64 {
        self.value = self.value(now, half_life_ms) + 1.0;
        self.at = self.at.max(now);
        self.value
    }
}

/// What is to be done about an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// Nothing.
    Nothing,
    /// Cut its connections: someone floods in its name. It may come back, for it may not have been the agent.
    Disconnect,
    /// Lower its limits: it is suspected.
    Watch(Cause),
    /// Nothing is left of what it was suspected for.
    Calm,
    /// Quarantine it.
    Quarantine(Cause),
}

/// What was counted about one agent. Forgotten at a restart of the guard, unlike the states.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    soft: Decaying,
    junk: Decaying,
}

impl Tally {
    /// Whether so little is left of what was counted that it may be forgotten.
    #[must_use]
    pub fn is_quiet(&self, now: Millis, limits: &FloodLimits) -> bool {
        [self.soft, self.junk].iter().all(|count| count.value(now, limits.half_life_ms) < 1.0 / 16.0)
    }

    /// Counts a refusal at `now` and says what to do. After [`Response::Disconnect`] the count starts afresh.
    #[must_use]
    pub fn note(&mut self, refused: Refused, proof: &Proof, now: Millis, limits: &FloodLimits) -> Response {
        let envelopes = match proof {
            Proof::Signed { envelope, .. } => std::slice::from_ref(envelope),
            Proof::Attested => &[],
        };
        match weigh(refused.reason, proof) {
            Weight::Hard => Response::Quarantine(Cause::found(Trigger::Evidence, refused, envelopes)),
            Weight::Soft if self.soft.add(now, limits.half_life_ms) > f64::from(limits.soft) => {
                self.soft = Decaying::default();
                Response::Quarantine(Cause::found(Trigger::Flood, refused, envelopes))
            }
            Weight::None if self.junk.add(now, limits.half_life_ms) > f64::from(limits.junk) => {
                self.junk = Decaying::default();
                Response::Disconnect
            }
            Weight::Soft | Weight::None => Response::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIGNED: Proof = Proof::Signed { envelope: [7; 32], knew_policy: true };
    const UNTOLD: Proof = Proof::Signed { envelope: [7; 32], knew_policy: false };

    #[test]
    fn without_a_signature_nothing_is_held_against_an_agent() {
        for &reason in Reason::ALL {
            assert_eq!(weigh(reason, &Proof::Attested), Weight::None, "{reason}");
        }
    }

    #[test]
    fn what_a_server_can_do_with_honest_envelopes_is_not_held_against_their_sender() {
        for reason in [
            Reason::Replay,
            Reason::Stale,
            Reason::Expired,
            Reason::WrongSubject,
            Reason::RateLimited,
            Reason::BadSignature,
            Reason::BadProof,
            Reason::Truncated,
            Reason::UnknownSession,
            Reason::GuardUnavailable,
        ] {
            assert_eq!(weigh(reason, &SIGNED), Weight::None, "{reason}");
        }
    }

    #[test]
    fn a_signed_contradiction_is_enough() {
        for reason in [Reason::WrongSender, Reason::WrongSession, Reason::WrongBus, Reason::AboveClearance] {
            assert_eq!(weigh(reason, &SIGNED), Weight::Hard, "{reason}");
            let response = Tally::default().note(
                Refused::new(reason, "header"),
                &SIGNED,
                Millis(1),
                &FloodLimits::default(),
            );
            assert!(
                matches!(&response, Response::Quarantine(cause) if cause.trigger == Trigger::Evidence && cause.envelopes == [[7; 32]]),
                "{response:?}"
            );
        }
    }

    #[test]
    fn who_could_not_know_the_policy_yet_is_given_time() {
        assert_eq!(weigh(Reason::NotPublisher, &UNTOLD), Weight::Soft);
        assert_eq!(weigh(Reason::NotPublisher, &SIGNED), Weight::Hard);
        assert_eq!(weigh(Reason::WrongSender, &UNTOLD), Weight::Hard, "its own name it always knows");
    }

    fn count(limits: FloodLimits, every_ms: u64, of: u64, proof: &Proof, reason: Reason) -> Option<u64> {
        let mut tally = Tally::default();
        (0..of).find(|n| {
            tally.note(Refused::new(reason, "x"), proof, Millis(1_000 + n * every_ms), &limits)
                != Response::Nothing
        })
    }

    #[test]
    fn a_flood_acts_and_a_trickle_never_does() {
        let limits = FloodLimits { soft: 10, junk: 20, half_life_ms: 1_000 };
        assert_eq!(count(limits, 0, 100, &SIGNED, Reason::TooBigForRule), Some(10));
        assert_eq!(count(limits, 0, 100, &Proof::Attested, Reason::BadSignature), Some(20));
        // One each half-life never sums to more than two.
        assert_eq!(count(limits, 1_000, 10_000, &SIGNED, Reason::TooBigForRule), None);
    }

    #[test]
    fn a_flood_of_junk_disconnects_and_no_more() {
        let limits = FloodLimits { soft: 1, junk: 3, half_life_ms: 1_000 };
        let mut tally = Tally::default();
        let junk = Refused::new(Reason::BadSignature, "proof");
        let responses: Vec<_> =
            (0..9).map(|_| tally.note(junk, &Proof::Attested, Millis(5), &limits)).collect();
        assert_eq!(responses.iter().filter(|response| **response == Response::Disconnect).count(), 2);
        assert!(!responses.iter().any(|response| matches!(response, Response::Quarantine(_))));
    }

    proptest! {
        #[test]
        fn nothing_unsigned_ever_quarantines(
            steps in proptest::collection::vec((proptest::sample::select(Reason::ALL), 0u64..50), 0..400)
        ) {
            let limits = FloodLimits { soft: 1, junk: 1, half_life_ms: 60_000 };
            let (mut tally, mut now) = (Tally::default(), 0);
            for (reason, later) in steps {
                now += later;
                let refused = Refused::new(reason, "x");
                let response = tally.note(refused, &Proof::Attested, Millis(now), &limits);
                prop_assert!(!matches!(response, Response::Quarantine(_)));
            }
        }
    }
}

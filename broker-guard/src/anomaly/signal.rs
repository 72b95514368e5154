//! The signals: what is looked for, what it costs, and how far it may take an agent.
//!
//! How far a signal may go depends on who can bring it about. A hostile server can drop, hold back, bunch, move
//! and repeat what an agent sent, and can put anything unsigned in its name; if that could add up to a
//! quarantine, the server could take whom it likes off the bus. So only what rests on bytes that the agent's own
//! session signed counts towards quarantine; the rest makes it *watched* at most.

use std::fmt;

/// How far a signal may take an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// Counted and shown, never held against anybody: anyone may have sent it.
    Counted,
    /// Rests on the server's word (when, from where, in what order): makes an agent watched, never more.
    Attested,
    /// Rests on what a session of the agent signed: adds up to quarantine.
    Signed,
    /// Proof by itself: acts at once, whatever the thresholds say.
    Hard,
}

impl Standing {
    /// The word for it in tables.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Attested => "attested",
            Self::Signed => "signed",
            Self::Hard => "hard",
        }
    }
}

/// One signal, as the policy names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// Which.
    pub kind: SignalKind,
    /// Its name in `[anomaly.weights]`, events and metrics. Never changes its meaning.
    pub name: &'static str,
    /// How far it may go.
    pub standing: Standing,
    /// What one full occurrence adds to the score, in hundredths, unless the policy says otherwise.
    pub cost: u32,
    /// What it means, in a sentence or two.
    pub doc: &'static str,
}

impl Signal {
    /// Whether the policy may give it another cost: proof acts at once whatever it costs, and what is only
    /// counted must not be held against anybody.
    #[must_use]
    pub const fn weighs(&self) -> bool {
        matches!(self.standing, Standing::Attested | Standing::Signed)
    }
}

macro_rules! signals {
    ($($kind:ident, $name:literal, $standing:ident, $cost:literal, $doc:literal;)*) => {
        /// What is looked for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum SignalKind { $(#[doc = $doc] $kind,)* }

        /// Every signal, by kind.
        pub const SIGNALS: &[Signal] = &[$(Signal {
            kind: SignalKind::$kind, name: $name, standing: Standing::$standing, cost: $cost, doc: $doc,
        },)*];

        impl SignalKind {
            /// The signal's name.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$kind => $name,)* } }
            /// How far it may go.
            #[must_use]
            pub const fn standing(self) -> Standing { match self { $(Self::$kind => Standing::$standing,)* } }
        }
    };
}

signals! {
    BadContent, "bad-content", Hard, 1_000,
        "content under a valid session signature that no honest client makes, such as another agent's name or a label above the clearance";
    SecondHolder, "second-holder", Hard, 1_000,
        "two different envelopes signed under one number of one key: somebody else holds the session key, or a copy of the machine runs";
    Junk, "junk", Counted, 0,
        "messages on its subjects that no session of it signed: anybody at the server may have put them there";
    TwoPlaces, "two-places", Attested, 100,
        "a session from a place where it never was, while another of its sessions lives elsewhere";
    Replay, "replay", Attested, 10,
        "an envelope that was sent before";
    Gap, "gap", Attested, 60,
        "sequence numbers that never came, more than its connection usually loses";
    Denials, "denials", Signed, 10,
        "a signed envelope that was denied for what an honest agent gets wrong now and then";
    LabelUp, "label-up", Signed, 60,
        "a level above any that it used before";
    LabelSideways, "label-sideways", Signed, 60,
        "a compartment that it never used before";
    LabelDown, "label-down", Signed, 60,
        "a label below any that it used before under the rule: what was secret may leave by it";
    NewSubject, "new-subject", Signed, 40,
        "a subject that it never used before, if it seldom uses new ones";
    NewReader, "new-reader", Attested, 20,
        "its key handed to a reader that never got one of it before";
    Rate, "rate", Signed, 120,
        "more messages than its own history of the hour of the day lets expect, in a minute, an hour or a day";
    Size, "size", Signed, 80,
        "larger messages, or more bytes in an hour or a day, than its own history lets expect";
    Pace, "pace", Signed, 60,
        "messages at shorter intervals than its own: more within one second than its busiest seconds let expect";
    UntrueParents, "untrue-parents", Signed, 60,
        "an envelope said to derive from what its sender was never given, or from a source of a lower label than that has; over a log also from what never was admitted";
    KeySweep, "key-sweep", Attested, 100,
        "subscriptions to many different rules in a short time, more than it ever read";
    Silence, "silence", Attested, 100,
        "nothing from a publisher that was never silent this long at this hour of the day";
    Churn, "churn", Attested, 40,
        "connections that come and go more often than its own usually do";
    FailedAuth, "failed-auth", Attested, 25,
        "a login with its identity that was refused";
}

/// How many signals there are.
pub const COUNT: usize = SIGNALS.len();

impl SignalKind {
    /// Its place in [`SIGNALS`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The signal of that name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Signal> {
    SIGNALS.iter().find(|signal| signal.name == name)
}

#[cfg(test)]
mod tests {
    use sealbus_envelope::name::Name;

    use super::*;

    #[test]
    fn every_signal_has_a_name_that_a_policy_can_write() {
        for (place, signal) in SIGNALS.iter().enumerate() {
            assert!(Name::parse(signal.name).is_ok(), "{}", signal.name);
            assert_eq!(named(signal.name).map(|found| found.kind), Some(signal.kind));
            assert_eq!(signal.kind.index(), place);
            assert_eq!(signal.weighs(), signal.cost > 0 && signal.standing != Standing::Hard);
        }
    }
}

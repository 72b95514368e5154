//! Which of our reasons and signals are a technique of MITRE ATLAS.
//!
//! Ids and names are those of ATLAS 5.6.0 (`dist/ATLAS.yaml` of github.com/mitre-atlas/atlas-data, Apache-2.0).
//! Most reasons are in no entry, on purpose: a signature that does not verify or a label out of range is as
//! well a fault as an attack, and a wrong technique sends an analyst the wrong way. Prompt injection
//! (AML.T0051) is never claimed: the guard cannot read what made an agent act.

use sealbus_envelope::reason::Reason;
use serde_json::{Value, json};

use super::Event;

/// The version of ATLAS that the entries are from.
pub const VERSION: &str = "5.6.0";

/// A technique, under the tactic that it serves here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Technique {
    /// Its id.
    pub uid: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The tactic's id and name.
    pub tactic: (&'static str, &'static str),
}

/// A stolen credential or session key at work.
const VALID_ACCOUNTS: Technique =
    Technique { uid: "AML.T0012", name: "Valid Accounts", tactic: ("AML.TA0004", "Initial Access") };
/// What an agent read would leave under a label that more may read.
const EXFILTRATION: Technique = Technique {
    uid: "AML.T0025",
    name: "Exfiltration via Cyber Means",
    tactic: ("AML.TA0010", "Exfiltration"),
};
/// A flood.
const DENIAL_OF_SERVICE: Technique =
    Technique { uid: "AML.T0029", name: "Denial of AI Service", tactic: ("AML.TA0011", "Impact") };
/// A flood of what people must look at: ATLAS names actions "that require a human-in-the-loop".
const CHAFF: Technique = Technique {
    uid: "AML.T0046",
    name: "Spamming AI System with Chaff Data",
    tactic: ("AML.TA0011", "Impact"),
};
/// One agent in another's name.
const IMPERSONATION: Technique =
    Technique { uid: "AML.T0073", name: "Impersonation", tactic: ("AML.TA0007", "Defense Evasion") };
/// Keys asked for across the whole bus.
const COLLECTION: Technique =
    Technique { uid: "AML.T0085", name: "Data from AI Services", tactic: ("AML.TA0009", "Collection") };

/// By reason code.
pub const BY_REASON: &[(Reason, Technique)] = &[
    (Reason::WrongSender, IMPERSONATION),
    (Reason::SessionInUse, VALID_ACCOUNTS),
    (Reason::BelowFloor, EXFILTRATION),
    (Reason::BelowParents, EXFILTRATION),
    (Reason::RateLimited, DENIAL_OF_SERVICE),
    (Reason::HoldFull, CHAFF),
];

/// By signal of the anomaly detector, as `[anomaly.weights]` of the policy names it.
pub const BY_SIGNAL: &[(&str, Technique)] = &[
    ("second-holder", VALID_ACCOUNTS),
    ("two-places", VALID_ACCOUNTS),
    ("label-down", EXFILTRATION),
    ("rate", DENIAL_OF_SERVICE),
    ("key-sweep", COLLECTION),
];

/// The techniques that an event points to, each once. Signals are looked for in what the event says gave its
/// reason.
#[must_use]
pub fn techniques(event: &Event) -> Vec<Technique> {
    let mut found = Vec::new();
    let by_reason = BY_REASON.iter().filter(|(reason, _)| event.reason == Some(*reason));
    let words =
        event.what.iter().flat_map(|what| what.split(|c: char| !(c.is_ascii_lowercase() || c == '-')));
    let by_signal =
        words.flat_map(|word| BY_SIGNAL.iter().filter(move |(signal, _)| *signal == word)).map(|(_, t)| t);
    for technique in by_reason.map(|(_, technique)| technique).chain(by_signal) {
        if !found.contains(technique) {
            found.push(*technique);
        }
    }
    found
}

/// The same as OCSF's `attacks`; none if there is no technique.
pub(super) fn attacks(event: &Event) -> Option<Value> {
    let attacks: Vec<Value> = techniques(event)
        .iter()
        .map(|technique| {
            let (uid, name) = technique.tactic;
            json!({
                "technique": {
                    "uid": technique.uid, "name": technique.name,
                    "src_url": format!("https://atlas.mitre.org/techniques/{}", technique.uid),
                },
                "tactic": { "uid": uid, "name": name },
                "version": VERSION,
            })
        })
        .collect();
    (!attacks.is_empty()).then(|| attacks.into())
}

#[cfg(test)]
mod tests {
    use sealbus_envelope::time::Millis;

    use super::*;
    use crate::{anomaly::SIGNALS, events::Kind};

    #[test]
    fn a_reason_and_its_signals_give_each_technique_once() {
        let mut event = Event::new(Kind::Anomaly, Millis(0)).because(Reason::RateLimited);
        event.what = Some("rate, size, label-down (3.2)".to_owned());
        assert_eq!(techniques(&event), [DENIAL_OF_SERVICE, EXFILTRATION]);
        assert_eq!(techniques(&Event::new(Kind::Denied, Millis(0)).because(Reason::BadSignature)), []);
    }

    #[test]
    fn every_signal_in_the_table_is_one() {
        for (name, _) in BY_SIGNAL {
            assert!(SIGNALS.iter().any(|signal| signal.name == *name), "{name}");
        }
    }
}

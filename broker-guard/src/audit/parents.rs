//! Whether parents are true: what an envelope says it derives from was admitted before it, and its sender was given the
//! key to read it.
//!
//! No check on the guard's hot path rests on this: what an agent was given to read counts against it whatever it says
//! of its sources. The log answers it afterwards, whole; the guard asks it, of what it remembers, to tell the anomaly
//! detector ([`anomaly::parents`](crate::anomaly::parents)). Who names parents that it could not have read made them
//! up, or has them from outside the bus; both are worth a look.
//!
//! Pure: entries come as an iterator, in the log's order. Two passes, so that only envelopes that somebody names
//! as a parent are kept in memory.
//!
//! ```
//! use sealbus_guard::audit::parents::Lineage;
//! let mut lineage = Lineage::default();
//! // First pass: lineage.note(entry) for each; second: lineage.check(leaf, entry).
//! assert_eq!(lineage.checked(), 0);
//! ```

use std::collections::{HashMap, HashSet};

use sealbus_envelope::label::Label;
use serde::Serialize;

use super::{
    entry::{Admitted, Body, Entry},
    hex::Hex,
};

/// What is wrong with a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The log has no envelope with this digest before the one that names it.
    Unknown,
    /// No key for its session, rule and label was handed to the sender before.
    NotGiven,
    /// The envelope's label does not dominate the parent's real one, and it names no flow grant. The guard, which sees
    /// more than the log keeps, goes by the label that it says the parent has.
    Below,
}

/// A parent that is not true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The leaf of the envelope that names it.
    pub leaf: u64,
    /// That envelope's sender.
    pub sender: String,
    /// That envelope's id.
    pub envelope: Hex<16>,
    /// The parent's digest.
    pub parent: Hex<32>,
    /// What is wrong.
    pub fault: Fault,
}

/// What an envelope was sealed for, by which one tells who was given its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sealed {
    session: Hex<32>,
    rule: String,
    label: Label,
}

#[derive(Debug)]
struct Parent {
    sender: String,
    sealed: Sealed,
}

/// What is known of envelopes that are named as parents.
#[derive(Debug, Default)]
pub struct Lineage {
    /// Named by somebody; found in the first pass.
    named: HashSet<Hex<32>>,
    /// Of those, what was admitted so far.
    admitted: HashMap<Hex<32>, Parent>,
    /// Who was given keys for what, so far.
    given: HashMap<Sealed, HashSet<String>>,
    checked: u64,
}

impl Lineage {
    /// First pass: notes which envelopes are named as parents.
    pub fn note(&mut self, entry: &Entry<'_>) {
        if let Body::Admitted(admitted) = &entry.body {
            self.named.extend(admitted.parents.iter().copied());
        }
    }

    /// Second pass, over the same entries in the same order: what is wrong with the parents that this entry names.
    pub fn check(&mut self, leaf: u64, entry: &Entry<'_>) -> Vec<Finding> {
        match &entry.body {
            Body::KeyGranted(granted) => {
                let sealed = Sealed {
                    session: granted.sender_session,
                    rule: granted.rule.to_string(),
                    label: granted.label,
                };
                self.given.entry(sealed).or_default().insert(granted.reader.to_string());
                Vec::new()
            }
            Body::Admitted(admitted) => {
                let findings = self.findings(leaf, admitted);
                if self.named.contains(&admitted.digest) {
                    let sealed = Sealed {
                        session: admitted.session,
                        rule: admitted.rule.to_string(),
                        label: admitted.label,
                    };
                    self.admitted
                        .insert(admitted.digest, Parent { sender: admitted.sender.to_string(), sealed });
                }
                findings
            }
            _ => Vec::new(),
        }
    }

    /// How many parents were looked at.
    #[must_use]
    pub const fn checked(&self) -> u64 {
        self.checked
    }

    fn findings(&mut self, leaf: u64, admitted: &Admitted<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for parent in admitted.parents.iter() {
            self.checked += 1;
            findings.extend(self.fault(admitted, parent).map(|fault| Finding {
                leaf,
                sender: admitted.sender.to_string(),
                envelope: admitted.envelope,
                parent: *parent,
                fault,
            }));
        }
        findings
    }

    fn fault(&self, admitted: &Admitted<'_>, parent: &Hex<32>) -> Option<Fault> {
        let Some(known) = self.admitted.get(parent) else { return Some(Fault::Unknown) };
        let own = known.sender == admitted.sender;
        let readers = self.given.get(&known.sealed);
        let given = || readers.is_some_and(|readers| readers.contains(admitted.sender.as_ref()));
        let above = admitted.label.dominates(known.sealed.label) || admitted.flow_grant.is_some();
        judge(own, given, above)
    }
}

/// What is wrong with a parent that was admitted: `own`, if the same agent sealed it; `given`, whether it was handed
/// the key; `above`, whether it keeps to the parent's real label.
pub(crate) fn judge(own: bool, given: impl FnOnce() -> bool, above: bool) -> Option<Fault> {
    // What it published itself it knows without a key of another's.
    if !own && !given() {
        return Some(Fault::NotGiven);
    }
    (!above).then_some(Fault::Below)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use sealbus_envelope::{
        label::{Compartments, Integrity, Level},
        time::Millis,
    };

    use super::*;
    use crate::audit::entry::{KeyGranted, Position};

    fn label(level: u8) -> Label {
        Label::new(Level::new(level).unwrap(), Compartments::EMPTY, Integrity::LOWEST)
    }

    fn entry(body: Body<'static>) -> Entry<'static> {
        Entry { position: Position { epoch: 1, n: 1 }, time: Millis(1), body }
    }

    fn admitted(digest: u8, sender: &'static str, level: u8, parents: &[u8]) -> Entry<'static> {
        let parents: Vec<Hex<32>> = parents.iter().map(|parent| Hex([*parent; 32])).collect();
        entry(Body::Admitted(Admitted {
            digest: Hex([digest; 32]),
            envelope: Hex([digest; 16]),
            sender: sender.into(),
            session: Hex([sender.len().try_into().unwrap(); 32]),
            rule: "notes".into(),
            subject: "notes.x".into(),
            label: label(level),
            flow_grant: None,
            parents: parents.into(),
            policy_version: 1,
            guard_time: Millis(1),
            confirm: false,
            observed: None,
        }))
    }

    fn given(sender: &'static str, level: u8, reader: &'static str) -> Entry<'static> {
        entry(Body::KeyGranted(KeyGranted {
            key: Hex([9; 32]),
            sender: sender.into(),
            sender_session: Hex([sender.len().try_into().unwrap(); 32]),
            reader: reader.into(),
            reader_session: Hex([8; 32]),
            rule: "notes".into(),
            label: label(level),
        }))
    }

    fn faults(entries: &[Entry<'_>]) -> Vec<Fault> {
        let mut lineage = Lineage::default();
        entries.iter().for_each(|entry| lineage.note(entry));
        let check = |(entry, leaf)| lineage.check(leaf, entry);
        entries.iter().zip(0..).flat_map(check).map(|finding| finding.fault).collect()
    }

    #[test]
    fn a_true_parent_was_admitted_before_and_given_to_who_names_it() {
        let told = [given("ann", 1, "bertha"), admitted(1, "ann", 1, &[]), admitted(2, "bertha", 1, &[1])];
        assert_eq!(faults(&told), []);
        let own = [admitted(1, "ann", 1, &[]), admitted(2, "ann", 1, &[1])];
        assert_eq!(faults(&own), [], "its own");
    }

    #[test]
    fn made_up_parents_are_found() {
        let [key, first, second] =
            [given("ann", 1, "bertha"), admitted(1, "ann", 1, &[]), admitted(2, "bertha", 1, &[1])];
        assert_eq!(faults(&[key.clone(), admitted(2, "bertha", 1, &[7])]), [Fault::Unknown]);
        assert_eq!(faults(&[key.clone(), second.clone(), first.clone()]), [Fault::Unknown], "it came later");
        assert_eq!(faults(&[first.clone(), second.clone()]), [Fault::NotGiven]);
        assert_eq!(faults(&[first.clone(), second.clone(), key]), [Fault::NotGiven], "the key came later");
        let other = given("ann", 2, "bertha");
        assert_eq!(faults(&[other, first, second]), [Fault::NotGiven], "a key for another label");
        let lied = [given("ann", 1, "bertha"), admitted(1, "ann", 1, &[]), admitted(2, "bertha", 0, &[1])];
        assert_eq!(faults(&lied), [Fault::Below], "it said its parent was lower than it is");
    }
}

//! A policy over what was decided under another: which recorded envelopes it would decide otherwise.
//!
//! The log holds sender, rule, subject, label and flow grant of each envelope. It does not hold what its sender
//! had been given to read, the labels of its parents, its size, nor how fast envelopes came. So a fault against
//! one of these stays as it was decided, unless the new policy observes where the old one enforced, or the other
//! way round.

use std::collections::BTreeMap;

use sealbus_envelope::{identity::Claims, label::Label, name::Name, reason::Reason, time::Millis};

use super::{
    explain::{Act, Question, Verdict, verdict},
    trial::Trial,
};
use crate::{
    audit::entry::{Admitted, Body, Denied, Entry},
    taint::Floor,
};

/// Envelopes that are named of each change.
const EXAMPLES: usize = 3;

/// How an envelope would fare now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// It was admitted and would be denied.
    Denied,
    /// It was denied and would be admitted.
    Admitted,
    /// It was admitted as it should be, or denied, and would be let pass by observe mode.
    Observed,
    /// Observe mode let it pass, and it would be admitted as it should be.
    Cleared,
}

impl Turn {
    /// The turn in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Admitted => "admitted",
            Self::Observed => "observed",
            Self::Cleared => "cleared",
        }
    }
}

/// What changes together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// How they fare.
    pub turn: Turn,
    /// The sender's token.
    pub agent: String,
    /// The rule.
    pub rule: String,
    /// Why they are denied or observed now; of those admitted, why they were not.
    pub reason: String,
}

/// How often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// How many envelopes.
    pub envelopes: u64,
    /// The first ones' ids.
    pub examples: Vec<String>,
    /// When it was last.
    pub last: Millis,
}

/// What a policy would have decided.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// Envelopes that were judged.
    pub judged: u64,
    /// Refusals that no policy decides: signatures, replays, rates, quarantine.
    pub not_policy: u64,
    /// Envelopes of senders whose credential is not known.
    pub unknown: BTreeMap<String, u64>,
    /// What changes.
    pub changes: BTreeMap<Key, Count>,
}

impl Replay {
    /// Judges one entry. `claims` gives the credential of a sender by its token.
    pub fn enter<'c>(
        &mut self,
        trial: &Trial,
        entry: &Entry<'_>,
        claims: impl Fn(&str) -> Option<&'c Claims>,
    ) {
        match &entry.body {
            Body::Admitted(admitted) => match claims(&admitted.sender) {
                Some(who) => self.admitted(trial, entry.time, admitted, who),
                None => *self.unknown.entry(admitted.sender.to_string()).or_default() += 1,
            },
            Body::Denied(denied) => self.denied(trial, entry.time, denied, claims),
            _ => {}
        }
    }

    fn admitted(&mut self, trial: &Trial, time: Millis, admitted: &Admitted<'_>, who: &Claims) {
        self.judged += 1;
        let grant = admitted.flow_grant.as_deref().and_then(|name| Name::parse(name).ok());
        let past = Past { rule: &admitted.rule, subject: &admitted.subject, label: admitted.label, time };
        let was = admitted.observed.as_deref();
        let (turn, reason) = match past.ask(trial, who, grant.as_ref()) {
            Verdict::Deny(reason) => (Turn::Denied, reason.code()),
            Verdict::Allow { observed: Some(now) } if was.is_none() => (Turn::Observed, now.code()),
            Verdict::Allow { observed: Some(_) } => return,
            Verdict::Allow { observed: None } => match was {
                None => return,
                Some(was) if of_policy(was) => (Turn::Cleared, was),
                Some(_) if observes(trial, &admitted.rule, who) => return,
                Some(was) => (Turn::Denied, was),
            },
        };
        self.count(
            turn,
            &admitted.sender,
            &admitted.rule,
            reason,
            time,
            1,
            Some(admitted.envelope.to_string()),
        );
    }

    fn denied<'c>(
        &mut self,
        trial: &Trial,
        time: Millis,
        denied: &Denied<'_>,
        claims: impl Fn(&str) -> Option<&'c Claims>,
    ) {
        let (Some(sender), Some(rule), Some(subject), Some(label)) =
            (&denied.sender, &denied.rule, &denied.subject, denied.label)
        else {
            self.not_policy += denied.count;
            return;
        };
        let observable = Reason::from_code(&denied.reason).is_some_and(Reason::is_observable);
        if !of_policy(&denied.reason) && !observable {
            self.not_policy += denied.count;
            return;
        }
        let Some(who) = claims(sender) else {
            *self.unknown.entry(sender.to_string()).or_default() += denied.count;
            return;
        };
        self.judged += denied.count;
        let turn = match (Past { rule, subject, label, time }).ask(trial, who, None) {
            Verdict::Deny(_) => return,
            Verdict::Allow { observed: Some(_) } => Turn::Observed,
            Verdict::Allow { observed: None } if of_policy(&denied.reason) => Turn::Admitted,
            Verdict::Allow { observed: None } if observes(trial, rule, who) => Turn::Observed,
            Verdict::Allow { observed: None } => return,
        };
        let id = denied.envelope.map(|id| id.to_string());
        self.count(turn, sender, rule, &denied.reason, time, denied.count, id);
    }

    #[expect(clippy::too_many_arguments, reason = "what is counted, and what it is counted by")]
    fn count(
        &mut self,
        turn: Turn,
        agent: &str,
        rule: &str,
        reason: &str,
        time: Millis,
        envelopes: u64,
        id: Option<String>,
    ) {
        let key = Key { turn, agent: agent.to_owned(), rule: rule.to_owned(), reason: reason.to_owned() };
        let count = self.changes.entry(key).or_default();
        count.envelopes += envelopes;
        count.last = count.last.max(time);
        count.examples.extend(id.filter(|_| count.examples.len() < EXAMPLES));
    }
}

/// What the log holds of an envelope.
struct Past<'p> {
    rule: &'p str,
    subject: &'p str,
    label: Label,
    time: Millis,
}

impl Past<'_> {
    fn ask(&self, trial: &Trial, who: &Claims, grant: Option<&Name>) -> Verdict {
        let floor = Floor::default();
        let question = |act| Question {
            who,
            act,
            subject: self.subject,
            rule: Some(self.rule),
            label: Some(self.label),
            size: 0,
            parents: &[],
            floor: &floor,
            grant,
            now: self.time,
        };
        match verdict(trial, &question(Act::Publish), self.rule) {
            // The log does not tell a question from an answer.
            asked @ (Verdict::Deny(Reason::NotPublisher)
            | Verdict::Allow { observed: Some(Reason::NotPublisher) }) => {
                let answered = verdict(trial, &question(Act::Answer), self.rule);
                if answered.is_allowed() { answered } else { asked }
            }
            verdict => verdict,
        }
    }
}

/// Whether the policy lets faults of this sender under the rule pass.
fn observes(trial: &Trial, rule: &str, who: &Claims) -> bool {
    let rule = trial.records().rules.iter().find(|known| known.name.as_str() == rule);
    rule.is_some_and(|rule| trial.tables().observes(rule, who))
}

/// Whether a reason follows from what the log holds.
fn of_policy(code: &str) -> bool {
    Reason::from_code(code).is_some_and(|reason| {
        matches!(
            reason,
            Reason::UnknownTeam
                | Reason::UnknownRule
                | Reason::NotPublisher
                | Reason::NotSubscriber
                | Reason::SubjectOutsideRule
                | Reason::LabelUnknown
                | Reason::LabelOutOfRange
                | Reason::AboveClearance
                | Reason::AboveIntegrity
        )
    })
}

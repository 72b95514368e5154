//! The policy's checks in their order, and what each looks at.

use std::cmp::Ordering;

use sealbus_envelope::{
    label::{Integrity, Label},
    name::Name,
    policy::{MessageKind, Oversight, Party, Rule, Who},
    reason::Reason,
};

use super::{Act, Decided, Outcome, Question, Step};
use crate::policy::trial::Trial;

/// Which function decided: two of them may give the same reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The rule.
    Rule,
    /// What was read before.
    Flow,
    /// One label, to be read.
    Label,
}

/// One check: what it asks, and the reasons it denies for. One without reasons is made when it happens.
struct Check {
    asks: &'static str,
    stage: Stage,
    reasons: &'static [Reason],
    fact: fn(&Facts<'_>) -> String,
}

const fn check(
    asks: &'static str,
    stage: Stage,
    reasons: &'static [Reason],
    fact: fn(&Facts<'_>) -> String,
) -> Check {
    Check { asks, stage, reasons, fact }
}

use Reason as R;

const ROLE: Check =
    check("its credential is an agent's", Stage::Rule, &[R::WrongRole], |f| f.question.who.name.to_string());
const TEAM: Check = check("the policy knows its team", Stage::Rule, &[R::UnknownTeam], |f| f.team());
const ZONE: Check = check("it connects where its zone is", Stage::Rule, &[], |f| f.zone());
const RULE: Check = check("the policy has the rule", Stage::Rule, &[R::UnknownRule], |f| {
    f.of_rule(|rule| format!("{}: {}", rule.name, rule.pattern.as_str()))
});
const PUBLISHES: Check = check("the rule names it as a publisher", Stage::Rule, &[R::NotPublisher], |f| {
    f.of_rule(|rule| parties(&rule.publishers))
});
const SUBSCRIBES: Check = check("the rule names it as a subscriber", Stage::Rule, &[R::NotSubscriber], |f| {
    f.of_rule(|rule| parties(&rule.subscribers))
});
const ASKED: Check = check("the rule is one to ask under", Stage::Rule, &[R::WrongPattern], |f| {
    f.of_rule(|rule| kind(rule.kind))
});
const SUBJECT: Check =
    check("the rule takes the subject", Stage::Rule, &[R::SubjectOutsideRule, R::BadSubject], |f| {
        f.of_rule(|rule| format!("{} in {}", f.question.subject, rule.pattern.as_str()))
    });
const DECLARED: Check =
    check("the policy declares the label", Stage::Rule, &[R::LabelUnknown], |f| f.label(f.label));
const RANGE: Check = check("the rule accepts the label", Stage::Rule, &[R::LabelOutOfRange], |f| {
    f.of_rule(|rule| f.range(rule))
});
const CLEARED: Check =
    check("the label is within its clearance", Stage::Rule, &[R::AboveClearance], |f| f.clearance());
const RANK: Check =
    check("it may vouch for the label's integrity", Stage::Rule, &[R::AboveIntegrity], |f| f.ceiling());
const SIZE: Check = check("the rule takes the size", Stage::Rule, &[R::TooBigForRule], |f| {
    f.of_rule(|rule| format!("{} of {} bytes", f.question.size, rule.max_bytes))
});
const GRANT: Check = check(
    "the flow grant it names is for this",
    Stage::Flow,
    &[R::FlowGrantUnknown, R::FlowGrantMismatch, R::FlowGrantExpired, R::BadSubject, R::TooManyParents],
    |f| f.grant(),
);
const PARENTS: Check =
    check("the label dominates those of its parents", Stage::Flow, &[R::BelowParents], |f| {
        let labels: Vec<_> = f.question.parents.iter().map(|label| f.label(Some(*label))).collect();
        if labels.is_empty() { "it names none".to_owned() } else { labels.join(", ") }
    });
const FLOOR: Check =
    check("the label dominates what it was given to read", Stage::Flow, &[R::BelowFloor], |f| {
        let read: Vec<_> = f
            .question
            .floor
            .rules()
            .map(|(rule, _, label)| format!("{} under {rule}", f.label(Some(label))))
            .collect();
        if read.is_empty() { "nothing".to_owned() } else { read.join(", ") }
    });
const RATE: Check = check("it keeps to the rule's rate", Stage::Flow, &[], |f| {
    f.of_rule(|rule| {
        rule.rate.map_or_else(
            || "no limit".to_owned(),
            |rate| format!("{} a second, {} at once", rate.per_second, rate.burst),
        )
    })
});
const FAN_IN: Check = check("the rule has room for its key", Stage::Flow, &[], |f| {
    f.of_rule(|rule| {
        rule.fan_in.map_or_else(|| "no limit".to_owned(), |most| format!("{most} agents at once"))
    })
});
const HELD: Check = check("people approve it", Stage::Flow, &[], |f| f.holds());
const OPEN: Check =
    check("a request waits for its answer", Stage::Flow, &[], |f| f.of_rule(|rule| kind(rule.kind)));
const READS_SOME: Check =
    check("some label of the rule is within its clearance", Stage::Rule, &[R::AboveClearance], |f| {
        let of_rule = f.of_rule(|rule| f.range(rule));
        format!("{of_rule}; cleared to {}", f.clearance())
    });
const READ_DECLARED: Check =
    check("the policy declares the label", Stage::Label, &[R::LabelUnknown], |f| f.label(f.label));
const READ_RANGE: Check = check("the rule carries the label", Stage::Label, &[R::LabelOutOfRange], |f| {
    f.of_rule(|rule| f.range(rule))
});
const READ_CLEARED: Check =
    check("the label is within its clearance", Stage::Label, &[R::AboveClearance], |f| f.clearance());

const PUBLISH: &[&Check] = &[
    &ROLE, &TEAM, &ZONE, &RULE, &PUBLISHES, &SUBJECT, &DECLARED, &RANGE, &CLEARED, &RANK, &SIZE, &GRANT,
    &PARENTS, &FLOOR, &RATE, &FAN_IN, &HELD,
];
const ANSWER: &[&Check] = &[
    &ROLE,
    &TEAM,
    &ZONE,
    &RULE,
    &ASKED,
    &SUBSCRIBES,
    &SUBJECT,
    &DECLARED,
    &RANGE,
    &CLEARED,
    &RANK,
    &SIZE,
    &GRANT,
    &PARENTS,
    &FLOOR,
    &RATE,
    &FAN_IN,
    &OPEN,
];
const SUBSCRIBE: &[&Check] = &[&ROLE, &TEAM, &ZONE, &RULE, &SUBSCRIBES, &SUBJECT, &READS_SOME];
const READ: &[&Check] = &[
    &ROLE,
    &TEAM,
    &ZONE,
    &RULE,
    &SUBSCRIBES,
    &SUBJECT,
    &READS_SOME,
    &READ_DECLARED,
    &READ_RANGE,
    &READ_CLEARED,
];

fn list(act: Act) -> &'static [&'static Check] {
    match act {
        Act::Publish => PUBLISH,
        Act::Answer => ANSWER,
        Act::Subscribe => READ,
    }
}

/// How many checks the question passed: more is closer to being allowed.
pub(super) fn reached(act: Act, decided: Decided) -> usize {
    match decided {
        Decided::Allowed(None) => usize::MAX,
        Decided::Allowed(Some(_)) => usize::MAX - 1,
        Decided::Denied(stage, reason) => position(list(act), Some(stage), reason).unwrap_or(0),
    }
}

fn position(checks: &[&Check], stage: Option<Stage>, reason: Reason) -> Option<usize> {
    checks
        .iter()
        .position(|check| check.reasons.contains(&reason) && stage.is_none_or(|stage| check.stage == stage))
}

pub(super) fn steps(
    trial: &Trial,
    question: &Question<'_>,
    rule: Option<&Rule>,
    label: Option<Label>,
    decided: Decided,
) -> Vec<Step> {
    let facts = Facts { trial, question, rule, label };
    let checks = match question.act {
        Act::Subscribe if question.label.is_none() => SUBSCRIBE,
        act => list(act),
    };
    let (failed, observed) = match decided {
        Decided::Denied(stage, reason) => (position(checks, Some(stage), reason).unwrap_or(0), None),
        Decided::Allowed(observed) => (checks.len(), observed),
    };
    let observed = observed.and_then(|reason| position(checks, None, reason));
    let team = trial.tables().team(question.who.team.as_str());
    let anywhere = team.is_none_or(|team| team.zone.is_none());
    let outcome = |n: usize, check: &Check| match n.cmp(&failed) {
        Ordering::Greater => Outcome::NotReached,
        Ordering::Equal => Outcome::Failed,
        Ordering::Less if anywhere && check.asks == ZONE.asks => Outcome::Passed,
        Ordering::Less if check.reasons.is_empty() => Outcome::Later,
        Ordering::Less if observed == Some(n) => Outcome::Observed,
        Ordering::Less
            if observed.is_some_and(|first| n > first)
                && check.reasons.iter().any(|reason| reason.is_observable()) =>
        {
            Outcome::Unrecorded
        }
        Ordering::Less => Outcome::Passed,
    };
    checks
        .iter()
        .enumerate()
        .map(|(n, check)| Step { asks: check.asks, outcome: outcome(n, check), fact: (check.fact)(&facts) })
        .collect()
}

/// What the checks look at, in words.
struct Facts<'f> {
    trial: &'f Trial,
    question: &'f Question<'f>,
    rule: Option<&'f Rule>,
    label: Option<Label>,
}

impl Facts<'_> {
    fn of_rule(&self, say: impl FnOnce(&Rule) -> String) -> String {
        self.rule.map_or_else(|| "no such rule".to_owned(), say)
    }

    fn label(&self, label: Option<Label>) -> String {
        label.map_or_else(|| "no label".to_owned(), |label| self.trial.tables().show(label))
    }

    fn range(&self, rule: &Rule) -> String {
        let (low, high) = (self.label(Some(rule.labels.low)), self.label(Some(rule.labels.high)));
        if low == high { low } else { format!("from {low} to {high}") }
    }

    fn team(&self) -> String {
        let (claims, tables) = (self.question.who, self.trial.tables());
        match tables.team(claims.team.as_str()) {
            Some(team) => {
                let mode = match team.oversight {
                    Some(Oversight::Directed) => ", directed: a deviation pauses all that it sends",
                    Some(Oversight::OpenEnded) => ", open-ended: being watched lowers no limits",
                    None => "",
                };
                let observed = if team.observe { ", under observation" } else { "" };
                format!("{}{mode}{observed}", team.name)
            }
            None => format!("`{}` is none of: {}", claims.team, names(tables.teams.iter().map(|t| &t.name))),
        }
    }

    fn zone(&self) -> String {
        let (claims, tables) = (self.question.who, self.trial.tables());
        let zone = tables.team(claims.team.as_str()).and_then(|team| team.zone.as_ref());
        match zone {
            Some(zone) => format!("zone {zone}"),
            None => "its team has no zone".to_owned(),
        }
    }

    fn clearance(&self) -> String {
        match self.trial.tables().effective_clearance(self.question.who) {
            Some(clearance) => {
                let shown = Label::new(clearance.level, clearance.compartments, Integrity::LOWEST);
                let shown = self.label(Some(shown));
                shown.rsplit_once('/').map_or(shown.clone(), |(cleared, _)| cleared.to_owned())
            }
            None => "nothing".to_owned(),
        }
    }

    fn ceiling(&self) -> String {
        let (claims, tables) = (self.question.who, self.trial.tables());
        let Some(team) = tables.team(claims.team.as_str()) else { return "nothing".to_owned() };
        let rank = claims.integrity_ceiling.min(team.integrity_ceiling);
        let name = tables.integrity.get(usize::from(rank.number())).map_or("?", Name::as_str);
        format!("{name} at most")
    }

    fn holds(&self) -> String {
        let grant = self.question.grant.and_then(|named| {
            self.trial.records().grants.iter().find(|grant| grant.name == *named)?.approval.as_ref()
        });
        let holds = self.rule.and_then(|rule| rule.hold.as_ref()).into_iter().chain(grant);
        let holds: Vec<String> = holds.map(ToString::to_string).collect();
        if holds.is_empty() {
            "nobody need".to_owned()
        } else {
            format!("held for {}", holds.join(", and for "))
        }
    }

    fn grant(&self) -> String {
        let Some(named) = self.question.grant else { return "it names none".to_owned() };
        match self.trial.records().grants.iter().find(|grant| grant.name == *named) {
            Some(grant) => format!(
                "{named}: team {} from {} on {} to {} on {}",
                grant.team,
                self.label(Some(grant.from_label)),
                grant.from.as_str(),
                self.label(Some(grant.to_label)),
                grant.to.as_str()
            ),
            None => format!("{named} is not in the policy"),
        }
    }
}

fn parties(parties: &[Party]) -> String {
    let shown: Vec<String> = parties
        .iter()
        .map(|party| {
            let who = match &party.who {
                Who::Team(team) => team.to_string(),
                Who::Agent(agent) => format!("agent {agent}"),
            };
            party.queue.as_ref().map_or(who.clone(), |queue| format!("{who} (queue {queue})"))
        })
        .collect();
    shown.join(", ")
}

fn names<'n>(names: impl Iterator<Item = &'n Name>) -> String {
    names.map(Name::as_str).collect::<Vec<_>>().join(", ")
}

fn kind(kind: MessageKind) -> String {
    match kind {
        MessageKind::Stream => "a stream rule".to_owned(),
        MessageKind::Request { deadline_ms } => format!("a request rule, answered within {deadline_ms} ms"),
    }
}

//! Why a policy allows or denies: one question, the rule that answers it, and every check in order.
//!
//! The verdict is the one of [`decide`](super::decide), whose functions the guard calls for every envelope; this
//! only finds the check that a reason came from. So an explanation cannot say one thing and the guard do another.

mod checks;

use sealbus_envelope::{
    identity::{BusId, Claims, Role, SessionId},
    keys::KeyId,
    label::Label,
    name::Name,
    reason::Reason,
    subject::{Pattern, Subject},
    time::Millis,
    wire::{EnvelopeId, Flags, Header, HeaderFields, Parent},
};

use super::{compile::CompiledRule, trial::Trial};
use crate::taint::Floor;
use checks::Stage;

/// What an agent wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Publish, or ask under a request rule.
    Publish,
    /// Answer a request.
    Answer,
    /// Subscribe, or serve under a request rule.
    Subscribe,
}

/// May this agent do this?
#[derive(Debug, Clone)]
pub struct Question<'q> {
    /// The agent's credential.
    pub who: &'q Claims,
    /// What it wants to do.
    pub act: Act,
    /// The literal subject; to subscribe, a pattern.
    pub subject: &'q str,
    /// The rule it names. Without one, every rule that takes the subject is asked.
    pub rule: Option<&'q str>,
    /// The envelope's label; without one the rule's default. To subscribe: the label of what it wants to read.
    pub label: Option<Label>,
    /// The envelope's size on the wire, in bytes.
    pub size: usize,
    /// The labels of the envelopes it says it derives from.
    pub parents: &'q [Label],
    /// What it was given to read.
    pub floor: &'q Floor,
    /// The flow grant that the envelope names.
    pub grant: Option<&'q Name>,
    /// The time.
    pub now: Millis,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed.
    Allow {
        /// Only because observe mode lets this pass.
        observed: Option<Reason>,
    },
    /// Denied.
    Deny(Reason),
}

impl Verdict {
    /// Whether it is allowed.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Allow { .. })
    }

    /// The reason against it: what denied it, or what observe mode let pass.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Allow { observed } => observed,
            Self::Deny(reason) => Some(reason),
        }
    }
}

/// How the question fared in one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It was denied here.
    Failed,
    /// It would have been denied here, and observe mode let it pass.
    Observed,
    /// Observe mode keeps the first fault only: whether there was one here too is not known.
    Unrecorded,
    /// It was denied before.
    NotReached,
    /// The policy alone does not decide it: what it depends on is known when it happens.
    Later,
}

impl Outcome {
    /// The outcome in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Observed => "observed",
            Self::Unrecorded => "unrecorded",
            Self::NotReached => "not_reached",
            Self::Later => "later",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it asks.
    pub asks: &'static str,
    /// How the question fared.
    pub outcome: Outcome,
    /// What it looked at.
    pub fact: String,
}

/// Why a policy allows or denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule that was asked; none if no rule takes the subject.
    pub rule: Option<Name>,
    /// The label, that of the question or the rule's default.
    pub label: Option<Label>,
    /// The checks, in the order the guard makes them.
    pub steps: Vec<Step>,
    /// The other rules that take the subject, with their verdicts.
    pub others: Vec<(Name, Verdict)>,
}

/// Answers a question.
#[must_use]
pub fn explain(trial: &Trial, question: &Question<'_>) -> Explanation {
    let rules: Vec<&str> = match question.rule {
        Some(rule) => vec![rule],
        None => candidates(trial, question).iter().map(|rule| rule.name.as_str()).collect(),
    };
    let mut answers: Vec<_> = rules.iter().map(|rule| (*rule, decide(trial, question, rule))).collect();
    // The rule that allows it, else the one that came closest: ties go to the first in the policy.
    answers.sort_by_key(|(_, decided)| std::cmp::Reverse(checks::reached(question.act, *decided)));
    let mut answers = answers.into_iter();
    let Some((rule, decided)) = answers.next() else {
        return Explanation {
            verdict: Verdict::Deny(Reason::SubjectOutsideRule),
            rule: None,
            label: question.label,
            steps: Vec::new(),
            others: Vec::new(),
        };
    };
    let record = trial.records().rules.iter().find(|record| record.name.as_str() == rule);
    let label = question.label.or_else(|| record.map(|rule| rule.default_label));
    Explanation {
        verdict: decided.into(),
        rule: Name::parse(rule).ok(),
        label,
        steps: checks::steps(trial, question, record, label, decided),
        others: answers
            .filter_map(|(rule, decided)| Some((Name::parse(rule).ok()?, decided.into())))
            .collect(),
    }
}

/// The verdict under one rule, without the story.
#[must_use]
pub fn verdict(trial: &Trial, question: &Question<'_>, rule: &str) -> Verdict {
    decide(trial, question, rule).into()
}

/// The rules whose pattern takes the subject; of those that name the agent, if any do.
fn candidates<'t>(trial: &'t Trial, question: &Question<'_>) -> Vec<&'t CompiledRule> {
    let policy = trial.compiled();
    let mut rules: Vec<&CompiledRule> = match question.act {
        Act::Subscribe => match Pattern::parse(question.subject) {
            Ok(pattern) => {
                let mut rules = policy.rules_overlapping(&pattern);
                rules.retain(|rule| rule.pattern.covers(&pattern));
                rules
            }
            Err(_) => Vec::new(),
        },
        Act::Publish => policy.rules_matching(question.subject),
        Act::Answer => {
            let mut rules = policy.rules_matching(question.subject);
            rules.retain(|rule| rule.is_request());
            rules
        }
    };
    let Ok(who) = policy.principal(question.who) else { return rules };
    let part = |rule: &CompiledRule| match question.act {
        Act::Publish => rule.lets_publish(&who),
        Act::Answer | Act::Subscribe => rule.subscribers.names(&who),
    };
    if rules.iter().any(|rule| part(rule)) {
        rules.retain(|rule| part(rule));
    }
    rules
}

/// What was decided, and at which stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decided {
    Allowed(Option<Reason>),
    Denied(Stage, Reason),
}

impl From<Decided> for Verdict {
    fn from(decided: Decided) -> Self {
        match decided {
            Decided::Allowed(observed) => Self::Allow { observed },
            Decided::Denied(_, reason) => Self::Deny(reason),
        }
    }
}

fn decide(trial: &Trial, question: &Question<'_>, rule: &str) -> Decided {
    let decided = match question.act {
        Act::Subscribe => subscribe(trial, question, rule),
        Act::Publish | Act::Answer => write(trial, question, rule),
    };
    match decided {
        Ok(observed) => Decided::Allowed(observed),
        Err((stage, reason)) => Decided::Denied(stage, reason),
    }
}

fn write(trial: &Trial, question: &Question<'_>, rule: &str) -> Result<Option<Reason>, (Stage, Reason)> {
    let policy = trial.compiled();
    let policy_says = |reason| (Stage::Rule, reason);
    let who = agent(trial, question)?;
    let default = policy.rule(rule).ok_or((Stage::Rule, Reason::UnknownRule))?.default_label;
    let (subject, label) = (question.subject, question.label.unwrap_or(default));
    let allowed = if question.act == Act::Answer {
        policy.may_answer(&who, rule, subject, label, question.size)
    } else {
        policy.may_publish(&who, rule, subject, label, question.size)
    };
    let mut faults = allowed.map_err(policy_says)?.faults;
    let flow_says = |reason| (Stage::Flow, reason);
    let bytes = header(question, rule, label).map_err(flow_says)?;
    let header = Header::decode(&bytes).map_err(|refused| flow_says(refused.reason))?;
    policy
        .check_flow(question.who, question.floor, &header, question.size, question.now, &mut faults)
        .map_err(|refused| flow_says(refused.reason))?;
    Ok(faults.observed().map(|fault| fault.reason))
}

fn subscribe(trial: &Trial, question: &Question<'_>, rule: &str) -> Result<Option<Reason>, (Stage, Reason)> {
    let policy = trial.compiled();
    let who = agent(trial, question)?;
    let pattern = Pattern::parse(question.subject).map_err(|refused| (Stage::Rule, refused.reason))?;
    // The client subscribes in the queue group that the rule names.
    let queue = policy.rule(rule).and_then(|rule| rule.subscribers.queue_of(&who)).map(Name::as_str);
    policy.may_subscribe(&who, rule, &pattern, queue).map_err(|reason| (Stage::Rule, reason))?;
    if let Some(label) = question.label {
        policy.may_receive(&who, rule, label).map_err(|reason| (Stage::Label, reason))?;
    }
    Ok(None)
}

fn agent(trial: &Trial, question: &Question<'_>) -> Result<super::decide::Principal, (Stage, Reason)> {
    if question.who.role != Role::Agent {
        return Err((Stage::Rule, Reason::WrongRole));
    }
    trial.compiled().principal(question.who).map_err(|reason| (Stage::Rule, reason))
}

/// The header that such an envelope has, in what the policy looks at.
fn header(question: &Question<'_>, rule: &str, label: Label) -> Result<Vec<u8>, Reason> {
    let parents = (0..=u8::MAX).zip(question.parents);
    let fields = HeaderFields {
        bus: BusId::from_bytes([0; 32]),
        id: EnvelopeId::from_bytes([0; 16]),
        sender: question.who.token(),
        session: SessionId::from_bytes([0; 32]),
        rule: Name::parse(rule).map_err(|refused| refused.reason)?,
        subject: Subject::parse(question.subject).map_err(|refused| refused.reason)?,
        label,
        flow_grant: question.grant.cloned(),
        key: KeyId::from_bytes([0; 32]),
        sequence: 0,
        issued_at: question.now,
        ttl_ms: 1,
        parents: parents.map(|(n, label)| Parent { digest: [n; 32], label: *label }).collect(),
        request: None,
        flags: Flags::NONE,
    };
    fields.encode().map_err(|refused| refused.reason)
}

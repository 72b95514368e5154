//! `sealbus policy explain`.

use std::fmt::Write as _;

use sealbus_envelope::name::Name;
use serde_json::{Value, json};

use super::{
    super::{
        failure::{Exit, Failure},
        init::parse_name,
        output::{BAD, FAINT, GOOD, Output, STRONG, paint},
    },
    asked::{PolicyArg, WhoArg, label, read_under},
};
use crate::{
    clock::now,
    policy::{
        cases::DEFAULT_SIZE,
        explain::{Act, Explanation, Outcome, Question, Step, Verdict, explain},
        trial::Trial,
    },
    taint::Floor,
};

const EXAMPLES: &str = "\
Examples:
  sealbus policy explain --agent alice --publish findings.licence
  sealbus policy explain --agent alice --publish hello.world --floor deps-item=internal/deps
  sealbus policy explain --team analyst --subscribe 'deps.item.>' --label confidential/deps
  sealbus policy explain --policy new.toml --team collector --publish deps.item.x --size 100000

The checks are those of the guard, in its order. A label is
level[/compartment+compartment[/integrity]]; without one the rule's default applies. Exit code 3
if the policy denies it.";

/// Explain what the policy says to an agent: the rule, and each check in order
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("act").required(true).args(["publish", "reply", "subscribe"]))]
pub(crate) struct Args {
    #[command(flatten)]
    who: WhoArg,
    /// May it publish on this subject (ask, if it is a request rule's)?
    #[arg(long, value_name = "SUBJECT")]
    publish: Option<String>,
    /// May it answer a request on this subject?
    #[arg(long, value_name = "SUBJECT")]
    reply: Option<String>,
    /// May it subscribe to this pattern (serve, if it is a request rule's)?
    #[arg(long, value_name = "PATTERN")]
    subscribe: Option<String>,
    /// The envelope's label; to subscribe: the label that it wants to read
    #[arg(long)]
    label: Option<String>,
    /// The rule that the envelope names
    #[arg(long)]
    rule: Option<String>,
    /// The envelope's size on the wire, in bytes
    #[arg(long, default_value_t = DEFAULT_SIZE, value_name = "BYTES")]
    size: usize,
    /// The label of an envelope it derives from; may be given several times
    #[arg(long = "parent", value_name = "LABEL")]
    parents: Vec<String>,
    /// What the agent was given to read, and under which rule; may be given several times
    #[arg(long, value_name = "RULE=LABEL")]
    floor: Vec<String>,
    /// The flow grant that the envelope names
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    flow_grant: Option<Name>,
    #[command(flatten)]
    policy: PolicyArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let trial = args.policy.trial()?;
    let who = args.who.claims(&trial, &args.policy.bus)?;
    let acts = [(Act::Publish, &args.publish), (Act::Answer, &args.reply), (Act::Subscribe, &args.subscribe)];
    let act = acts.into_iter().find_map(|(act, subject)| Some((act, subject.as_deref()?)));
    let (act, subject) = act.unwrap_or((Act::Publish, ""));
    let mut floor = Floor::default();
    for text in &args.floor {
        let (rule, read) = read_under(&trial, text)?;
        trial.read_under(&mut floor, &rule, read);
    }
    let question = Question {
        who: &who,
        act,
        subject,
        rule: args.rule.as_deref(),
        label: args.label.as_deref().map(|text| label(&trial, text)).transpose()?,
        size: args.size,
        parents: &args.parents.iter().map(|text| label(&trial, text)).collect::<Result<Vec<_>, _>>()?,
        floor: &floor,
        grant: args.flow_grant.as_ref(),
        now: now(),
    };
    let answer = explain(&trial, &question);
    output.show(&object(&trial, &question, &answer), text(&trial, &question, &answer))?;
    if answer.verdict.is_allowed() { Ok(()) } else { Err(Failure::shown(Exit::Denied)) }
}

fn text(trial: &Trial, question: &Question<'_>, answer: &Explanation) -> String {
    let head = match answer.verdict {
        Verdict::Allow { observed: None } => paint(GOOD, "allowed".to_owned()).to_string(),
        Verdict::Allow { observed: Some(reason) } => {
            paint(BAD, format!("allowed under observation, else denied: {reason}")).to_string()
        }
        Verdict::Deny(reason) => paint(BAD, format!("denied: {reason}")).to_string(),
    };
    let wants = match question.act {
        Act::Publish => "publish on",
        Act::Answer => "answer on",
        Act::Subscribe => "subscribe to",
    };
    let who = question.who;
    let mut out =
        format!("{head}\n  agent  {} of team {}, to {wants} {}", who.name, who.team, question.subject);
    let rule = answer.rule.as_ref().map_or("none takes this subject", Name::as_str);
    let _ = write!(out, "\n  rule   {rule}");
    if let Some(label) = answer.label {
        let default = if question.label.is_none() { " (the rule's default)" } else { "" };
        let _ = write!(out, "\n  label  {}{default}", trial.tables().show(label));
    }
    if !answer.steps.is_empty() {
        let width = answer.steps.iter().map(|step| step.asks.chars().count()).max().unwrap_or(0);
        out.push_str("\n\n  checks, in order");
        for step in &answer.steps {
            let _ = write!(out, "\n    {}", line(step, width));
        }
    }
    for (rule, verdict) in &answer.others {
        let said = match verdict {
            Verdict::Allow { .. } => "allows it too: name one with `--rule`".to_owned(),
            Verdict::Deny(reason) => format!("denies it: {reason}"),
        };
        let _ = write!(out, "\n\n  rule {rule} {said}");
    }
    if let Some(reason) = answer.verdict.reason() {
        let _ =
            write!(out, "\n\n  {}\n  {}: {}", reason.meaning(), paint(STRONG, "what to do"), reason.remedy());
    }
    out
}

fn line(step: &Step, width: usize) -> String {
    let Step { asks, outcome, fact } = step;
    let row = format!("{asks:<width$}  {fact}");
    match outcome {
        Outcome::Passed => format!("{} {row}", paint(GOOD, "✓")),
        Outcome::Failed => format!("{} {row}", paint(BAD, "✗")),
        Outcome::Observed => format!("{} {row} (observed)", paint(BAD, "!")),
        Outcome::Unrecorded => format!("? {row} (observe mode records the first fault only)"),
        Outcome::Later => format!("○ {row} (known when it happens)"),
        Outcome::NotReached => paint(FAINT, format!("· {asks}")).to_string(),
    }
}

fn object(trial: &Trial, question: &Question<'_>, answer: &Explanation) -> Value {
    let steps: Vec<Value> = answer
        .steps
        .iter()
        .map(|step| json!({ "check": step.asks, "result": step.outcome.as_str(), "fact": step.fact }))
        .collect();
    let others: Vec<Value> = answer
        .others
        .iter()
        .map(|(rule, verdict)| json!({ "rule": rule, "allowed": verdict.is_allowed(), "reason": verdict.reason() }))
        .collect();
    json!({
        "agent": question.who.name,
        "team": question.who.team,
        "subject": question.subject,
        "policy_version": trial.version(),
        "allowed": answer.verdict.is_allowed(),
        "observed": matches!(answer.verdict, Verdict::Allow { observed: Some(_) }),
        "reason": answer.verdict.reason(),
        "rule": answer.rule,
        "label": answer.label.map(|label| trial.tables().show(label)),
        "checks": steps,
        "others": others,
    })
}

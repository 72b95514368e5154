//! `sealbus policy test`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{
    super::{
        busdir::BusArg,
        failure::{Exit, Failure},
        output::{BAD, GOOD, Output, paint},
        registry::Registry,
    },
    asked::load,
    source,
};
use crate::{
    clock::now,
    policy::{
        cases::{CaseResult, Cases},
        explain::Verdict,
    },
};

const EXAMPLES: &str = "\
Examples:
  sealbus policy test policy-cases.toml
  sealbus policy test policy-cases.toml --policy new.toml --json

A case:
  [[case]]
  name    = \"a collector writes nothing confidential\"
  team    = \"collector\"                 or agent = \"alice\", or both
  publish = \"deps.item.serde\"           or reply = SUBJECT, or subscribe = PATTERN
  label   = \"confidential/deps\"
  expect  = \"deny\"                      or \"allow\"
  reason  = \"above_clearance\"

Also: rule, size, parents = [LABEL], floor = [\"RULE=LABEL\"], flow_grant, at, clearance and
expect_rule.
Exit code 1 if a case fails, 64 if the cases or the policy cannot be read.";

/// Test a policy with cases: who shall be allowed what
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file of cases
    #[arg(default_value = "policy-cases.toml")]
    cases: PathBuf,
    /// The policy file or signed bundle to test
    #[arg(long, default_value = "policy.toml", value_name = "FILE")]
    policy: PathBuf,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let trial = load(&args.policy, &args.bus)?;
    let registry = args.bus.open().and_then(|dir| Registry::read(&dir)).ok();
    let cases = Cases::read(&trial, &source(&args.cases)?, |agent| {
        Some(registry.as_ref()?.get(agent)?.credential.claims().clone())
    })?;
    let results = cases.run(&trial, now());
    let failed = results.iter().filter(|result| !result.wrong.is_empty()).count();
    let object = json!({
        "cases": results.iter().map(object).collect::<Vec<_>>(),
        "passed": results.len() - failed,
        "failed": failed,
    });
    let mut lines: Vec<String> = results.iter().map(line).collect();
    let style = if failed == 0 { GOOD } else { BAD };
    lines.push(paint(style, format!("{} passed, {failed} failed", results.len() - failed)).to_string());
    output.show(&object, lines.join("\n"))?;
    if failed == 0 { Ok(()) } else { Err(Failure::shown(Exit::Failure)) }
}

fn line(result: &CaseResult) -> String {
    let said = match result.explanation.verdict {
        Verdict::Allow { observed: None } => "allowed".to_owned(),
        Verdict::Allow { observed: Some(reason) } => format!("allowed, observed: {reason}"),
        Verdict::Deny(reason) => format!("denied: {reason}"),
    };
    if result.wrong.is_empty() {
        return format!("{} {}  ({said})", paint(GOOD, "✓"), result.name);
    }
    let wrong = result.wrong.join("; ");
    format!("{} {}\n    {wrong}", paint(BAD, "✗"), result.name)
}

fn object(result: &CaseResult) -> Value {
    let explanation = &result.explanation;
    json!({
        "name": result.name,
        "passed": result.wrong.is_empty(),
        "wrong": result.wrong,
        "allowed": explanation.verdict.is_allowed(),
        "reason": explanation.verdict.reason(),
        "rule": explanation.rule,
    })
}

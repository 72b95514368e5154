//! `sealbus policy observed`.

use sealbus_envelope::time::Millis;
use serde_json::json;

use super::{
    super::{
        audit::unreadable,
        busdir::BusArg,
        failure::Failure,
        output::{BAD, GOOD, Output, paint, table},
        registry::Registry,
        when::{parse, rfc3339},
    },
    replay::senders,
};
use crate::{
    audit::search::{Filter, search},
    clock::now,
    policy::observed::{Observed, Scope},
};

const EXAMPLES: &str = "\
Examples:
  sealbus policy observed
  sealbus policy observed --since 7d --json

Reads the audit log: envelopes that were admitted because a rule, a team or the whole policy is
under observation. Mend what is listed, then remove `observe` where nothing is left.";

/// Summarise what observe mode let pass, and what can be enforced now
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Not before: a time such as `2026-01-31T12:00:00Z`, or how long ago, such as `90s`, `15m`, `2h`, `7d`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Millis>,
    #[command(flatten)]
    bus: BusArg,
}

pub(super) fn parse_time(text: &str) -> Result<Millis, String> {
    parse(text, now())
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let (bundle, _) = dir.bundle()?;
    let senders = senders(&Registry::read(&dir)?);
    let filter = Filter { since: args.since, kind: Some("admitted".to_owned()), ..Filter::default() };
    let mut observed = Observed::default();
    for found in search(&dir.config.audit_dir, filter).map_err(|error| unreadable(&dir, error))? {
        observed.enter(&found.map_err(|error| unreadable(&dir, error))?.entry);
    }
    let team_of = |token: &str| senders.get(token).map(|claims| claims.team.to_string());
    let scopes = observed.scopes(bundle.records(), team_of);
    let faults: Vec<_> = observed
        .faults
        .iter()
        .map(|(key, count)| {
            json!({
                "rule": key.rule, "agent": key.agent, "reason": key.reason,
                "envelopes": count.envelopes, "last": rfc3339(count.last),
            })
        })
        .collect();
    let told: Vec<_> = scopes
        .iter()
        .map(|(scope, faults)| json!({ "scope": scope.to_string(), "faults": faults, "advice": advice(scope, *faults) }))
        .collect();
    let object = json!({ "admitted": observed.admitted, "faults": faults, "observed": told });
    let mut lines = Vec::new();
    if observed.faults.is_empty() {
        lines.push(format!("Of {} admitted envelopes observe mode let none pass", observed.admitted));
    } else {
        let rows: Vec<Vec<String>> = observed
            .faults
            .iter()
            .map(|(key, count)| {
                let (rule, agent, reason) = (key.rule.clone(), key.agent.clone(), key.reason.clone());
                vec![rule, agent, reason, count.envelopes.to_string(), rfc3339(count.last)]
            })
            .collect();
        lines.push(table(&["RULE", "AGENT", "WOULD BE DENIED", "TIMES", "LAST"], &rows));
    }
    if scopes.is_empty() {
        lines.push("The policy in force observes nothing: every fault is denied".to_owned());
    }
    for (scope, faults) in &scopes {
        let sign = if *faults == 0 { paint(GOOD, "✓") } else { paint(BAD, "!") }.to_string();
        lines.push(format!("{sign} {}", advice(scope, *faults)));
    }
    output.show(&object, lines.join("\n"))
}

fn advice(scope: &Scope, faults: u64) -> String {
    let place = match scope {
        Scope::Everything => "`observe` at the top".to_owned(),
        scope => format!("`observe` from {scope}"),
    };
    match faults {
        0 => format!("remove {place}: nothing would have been denied"),
        1 => format!("keep {place} for now: 1 envelope would have been denied"),
        n => format!("keep {place} for now: {n} envelopes would have been denied"),
    }
}

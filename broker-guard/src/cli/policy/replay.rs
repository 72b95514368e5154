//! `sealbus policy replay`.

use std::{collections::HashMap, path::PathBuf};

use sealbus_envelope::{identity::Claims, time::Millis};
use serde_json::json;

use super::{
    super::{
        audit::unreadable,
        busdir::BusArg,
        failure::Failure,
        output::{Output, table},
        registry::Registry,
        when::rfc3339,
    },
    asked::load,
    observed::parse_time,
};
use crate::{
    audit::search::{Filter, search},
    policy::replay::{Replay, Turn},
};

const EXAMPLES: &str = "\
Examples:
  sealbus policy replay new.toml --since 7d
  sealbus policy replay new.toml --config /etc/sealbus --json

Runs a policy over the decisions in the audit log and tells which would be others. The log does
not hold what a sender was given to read, the labels of parents, sizes and rates: faults against
these stay as they were decided, but for observe mode.";

/// Run a new policy over recorded decisions: what would have changed
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The policy file or signed bundle
    policy: PathBuf,
    /// Not before: a time such as `2026-01-31T12:00:00Z`, or how long ago, such as `90s`, `15m`, `2h`, `7d`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Millis>,
    #[command(flatten)]
    bus: BusArg,
}

/// The credentials that were issued, by the agents' tokens.
pub(super) fn senders(registry: &Registry) -> HashMap<String, Claims> {
    registry
        .iter()
        .map(|(_, entry)| {
            let claims = entry.credential.claims();
            (claims.token().to_string(), claims.clone())
        })
        .collect()
}

const NOT_REPLAYED: &str = "Not in the log, so not replayed: what senders were given to read, labels of parents, \
                            sizes, rates";

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let trial = load(&args.policy, &args.bus)?;
    let senders = senders(&Registry::read(&dir)?);
    let filter = Filter { since: args.since, ..Filter::default() };
    let mut replay = Replay::default();
    for found in search(&dir.config.audit_dir, filter).map_err(|error| unreadable(&dir, error))? {
        let found = found.map_err(|error| unreadable(&dir, error))?;
        replay.enter(&trial, &found.entry, |token| senders.get(token));
    }
    let changes: Vec<_> = replay
        .changes
        .iter()
        .map(|(key, count)| {
            json!({
                "turn": key.turn.as_str(), "agent": key.agent, "rule": key.rule, "reason": key.reason,
                "envelopes": count.envelopes, "examples": count.examples, "last": rfc3339(count.last),
            })
        })
        .collect();
    let object = json!({
        "judged": replay.judged,
        "not_decided_by_policy": replay.not_policy,
        "unknown_senders": replay.unknown,
        "changes": changes,
        "not_replayed": NOT_REPLAYED,
    });
    let mut lines = vec![format!("Recorded decisions judged again: {}", replay.judged)];
    if replay.changes.is_empty() {
        lines.push("None would be another".to_owned());
    } else {
        let rows: Vec<Vec<String>> = replay
            .changes
            .iter()
            .map(|(key, count)| {
                let turn = match key.turn {
                    Turn::Denied => "now denied",
                    Turn::Admitted => "now admitted",
                    Turn::Observed => "now let pass",
                    Turn::Cleared => "no fault any more",
                };
                let example = count.examples.first().cloned().unwrap_or_else(|| "-".to_owned());
                let (agent, rule, reason) = (key.agent.clone(), key.rule.clone(), key.reason.clone());
                vec![turn.to_owned(), agent, rule, reason, count.envelopes.to_string(), example]
            })
            .collect();
        lines.push(table(&["TURN", "AGENT", "RULE", "REASON", "TIMES", "FOR EXAMPLE"], &rows));
    }
    for (token, envelopes) in &replay.unknown {
        lines.push(format!("{envelopes} of `{token}` not judged: no such credential was issued here"));
    }
    match replay.not_policy {
        0 => {}
        1 => lines.push("1 refusal is none that a policy decides".to_owned()),
        n => lines.push(format!("{n} refusals are none that a policy decides")),
    }
    lines.push(NOT_REPLAYED.to_owned());
    output.show(&object, lines.join("\n"))
}

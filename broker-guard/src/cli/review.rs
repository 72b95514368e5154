//! `sealbus review`.

use std::{collections::BTreeMap, io::IsTerminal as _, path::PathBuf};

use sealbus_envelope::{policy::Oversight, time::Millis};

use super::{
    audit::unreadable,
    busdir::{BusArg, BusDir},
    failure::{Exit, Failure},
    output::Output,
    registry::Registry,
    when,
};
use crate::{
    audit::search::{Filter, search},
    clock::now,
    keyfile::replace_public,
    oversight::review::{Background, Collector, html, markdown},
    policy::{self, source::PolicySource},
};

const EXAMPLES: &str = "\
Examples:
  sealbus review --since 7d --html review.html
  sealbus review --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z --md january.md
  sealbus review --since 1d --team research
  sealbus review --since 7d --json | jq '.findings[] | select(.severity == \"critical\")'

From the audit log alone: run `sealbus audit verify` first where that matters. What is new is
what the log before the period does not have; the log holds no payloads and no sizes.";

/// How many entries are read between two signs of life.
const STEP: u64 = 100_000;

/// Review a period: who did what, what is new, what nearly went wrong
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// From when: a time such as `2026-01-31T12:00:00Z`, or how long ago, such as `12h`, `7d`
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Millis,
    /// Until when, now if not given
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Millis>,
    /// Only what this team's agents did
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// Write it as a page to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write it as Markdown to this file
    #[arg(long, value_name = "FILE")]
    md: Option<PathBuf>,
    #[command(flatten)]
    bus: BusArg,
}

fn parse_time(text: &str) -> Result<Millis, String> {
    when::parse(text, now())
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let until = args.until.unwrap_or_else(now);
    if args.since >= until {
        let remedy = "give a `--since` that is earlier than `--until`";
        return Err(Failure::told(Exit::Config, "empty_period", "the period is empty", remedy));
    }
    let background = background(&dir, args.team.as_deref())?;
    let mut collector = Collector::new(background, args.since, until);
    let progress = std::io::stderr().is_terminal() && !output.is_json();
    let mut read = 0_u64;
    let filter = Filter { until: Some(until), ..Filter::default() };
    for found in search(&dir.config.audit_dir, filter).map_err(|error| unreadable(&dir, error))? {
        let found = found.map_err(|error| unreadable(&dir, error))?;
        collector.enter(&found.entry);
        read += 1;
        if progress && read.is_multiple_of(STEP) {
            output.remark(format_args!("{read} entries read, up to {}", when::rfc3339(found.entry.time)));
        }
    }
    let review = collector.finish();
    for (path, text) in [(&args.md, markdown as fn(&_) -> String), (&args.html, html as fn(&_) -> String)] {
        if let Some(path) = path {
            replace_public(path, text(&review).as_bytes())?;
            output.remark(format_args!("Written: {}", path.display()));
        }
    }
    if output.is_json() {
        return output.show(&review, "");
    }
    match (&args.md, &args.html) {
        (None, None) => output.text(markdown(&review).trim_end()),
        _ => Ok(()),
    }
}

/// What policy and registry add to the log. Without a policy at hand the report has less, and is one all the same.
fn background(dir: &BusDir, team: Option<&str>) -> Result<Background, Failure> {
    let (bundle, _) = dir.bundle()?;
    let (tables, records) = (bundle.tables(), bundle.records());
    if let Some(unknown) = team.filter(|team| tables.team(team).is_none()) {
        let names: Vec<_> = tables.teams.iter().map(|team| team.name.as_str()).collect();
        let message = format!("the policy has no team `{}`", unknown.escape_debug());
        let remedy = format!("one of: {}", names.join(", "));
        return Err(Failure::told(Exit::Config, "unknown_team", message, remedy));
    }
    let of_agents = Registry::read(dir)?;
    let teams = of_agents.iter().map(|(_, entry)| {
        let claims = entry.credential.claims();
        (claims.token().to_string(), claims.team.to_string())
    });
    let open_ended = tables.teams.iter().filter(|team| team.oversight == Some(Oversight::OpenEnded));
    Ok(Background {
        bus: dir.config.roots.name.to_string(),
        teams: teams.collect(),
        open_ended: open_ended.map(|team| team.name.to_string()).collect(),
        rates: records.rules.iter().filter_map(|rule| Some((rule.name.to_string(), rule.rate?))).collect(),
        grants: reasons(dir),
        tables: Some(tables.clone()),
        team: team.map(ToOwned::to_owned),
    })
}

/// Why each flow grant is in the policy: that is in the file that people review, not in what is signed.
fn reasons(dir: &BusDir) -> BTreeMap<String, String> {
    let path = dir.policy();
    let Ok(text) = std::fs::read_to_string(&path) else { return BTreeMap::new() };
    let checked = policy::check(&PolicySource::new(path.display().to_string(), text));
    let grants = checked.map(|checked| checked.policy.grants).unwrap_or_default();
    grants.into_iter().map(|grant| (grant.record.name.to_string(), grant.reason)).collect()
}

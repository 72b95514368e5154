//! `sealbus graph blast-radius`.

use sealbus_envelope::{policy::Tables, time::Millis};
use serde_json::{Value, json};

use super::{
    super::{
        audit::unreadable,
        busdir::BusArg,
        failure::Failure,
        output::{BAD, FAINT, Output, STRONG, paint, table},
        when::rfc3339,
    },
    reach::{reach_drawing, reach_json},
    show::{FormatArg, PERMIT_HEAD, permit_json, permit_row, reached_row},
    world::{World, WorldArgs, time},
};
use crate::{
    audit::search::{Filter, search},
    graph::{BlastRadius, Envelope, Permit, Reached, Suspects},
};

const EXAMPLES: &str = "\
Examples:
  sealbus graph blast-radius collector-1
  sealbus graph blast-radius collector-1 --since 2h
  sealbus graph blast-radius collector-1 --since 7d --json | jq '.log.own[].digest'

What whoever has the agent's key can read and write, and whom its words get to. With --since, also
which envelopes in the audit log are suspect if the key was stolen then. A revoked agent counts as
it was before.";

/// Show what a stolen key of an agent is worth, and what it may have touched
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The agent
    agent: String,
    /// When the key was stolen: a time, or how long ago, such as `2h`
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    world: WorldArgs,
    #[command(flatten)]
    format: FormatArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let since = time(args.since.as_deref(), "since")?;
    let world = args.world.open(Some(&args.agent))?;
    let tables = &world.records.tables;
    let graph = world.graph();
    let radius = graph.blast_radius(&args.agent)?;
    let suspects = since.map(|since| suspects(&world, &args.agent, since)).transpose()?;
    args.format.show(
        output,
        || {
            let permits = |permits: &[Permit<'_>]| -> Vec<Value> {
                permits.iter().map(|permit| permit_json(tables, permit)).collect()
            };
            json!({
                "agent": args.agent,
                "policy_version": world.version,
                "writes": permits(&radius.writes),
                "reads": permits(&radius.reads),
                "reach": reach_json(tables, &radius.reach),
                "forgets_between_sessions": radius.forgets,
                "log": suspects.as_ref().map(|(suspects, since)| suspects_json(tables, suspects, *since)),
            })
        },
        || reach_drawing(tables, &radius.reach),
        || {
            let mut text = radius_text(tables, &radius);
            if let Some((suspects, since)) = &suspects {
                text.push_str(&suspects_text(tables, suspects, *since));
            }
            text
        },
    )
}

/// The same in few lines, for a page about the agent: as JSON, and what it writes, reads and reaches.
pub(crate) fn radius(bus: &BusArg, agent: &str) -> Result<(Value, Vec<String>), Failure> {
    let world = WorldArgs::of(bus.clone()).open(Some(agent))?;
    let tables = &world.records.tables;
    let graph = world.graph();
    let radius = graph.blast_radius(agent)?;
    let permits = |permits: &[Permit<'_>]| -> Vec<Value> {
        permits.iter().map(|permit| permit_json(tables, permit)).collect()
    };
    let json = json!({
        "policy_version": world.version,
        "writes": permits(&radius.writes),
        "reads": permits(&radius.reads),
        "reach": reach_json(tables, &radius.reach),
    });
    let rules = |permits: &[Permit<'_>]| -> String {
        let mut names: Vec<_> = permits.iter().map(|permit| permit.rule.to_string()).collect();
        names.dedup();
        few(&names)
    };
    let names =
        |reached: &Reached<'_>| reached.holders.iter().map(|h| h.name().to_string()).collect::<Vec<_>>();
    let direct: Vec<_> = radius.direct().flat_map(names).collect();
    let onwards: Vec<_> = radius.transitive().flat_map(names).collect();
    let lines = vec![
        format!("write under {}; read under {}", rules(&radius.writes), rules(&radius.reads)),
        format!("reach {}; if passed on {}", few(&direct), few(&onwards)),
    ];
    Ok((json, lines))
}

/// The first few names, and how many more there are.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 3;
    match names.len() {
        0 => "nothing".to_owned(),
        n if n <= SHOWN => names.join(", "),
        n => format!(
            "{} and {} more",
            names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "),
            n - SHOWN
        ),
    }
}

fn suspects(world: &World, agent: &str, since: Millis) -> Result<(Suspects, Millis), Failure> {
    let dir = &world.dir;
    let mut suspects = Suspects::of(agent, since);
    for found in search(&dir.config.audit_dir, Filter::default()).map_err(|error| unreadable(dir, error))? {
        let found = found.map_err(|error| unreadable(dir, error))?;
        suspects.read(found.leaf, &found.entry);
    }
    Ok((suspects, since))
}

fn radius_text(tables: &Tables, radius: &BlastRadius<'_>) -> String {
    let own = |permits: &[Permit<'_>]| -> Vec<Vec<String>> {
        let rows = permits.iter().map(|permit| permit_row(tables, permit));
        rows.map(|row| row.into_iter().skip(1).collect()).collect()
    };
    let head = PERMIT_HEAD.get(1..).unwrap_or_default();
    let direct: Vec<_> = radius.direct().map(|reached| reached_row(tables, reached)).collect();
    let onwards: Vec<_> = radius.transitive().map(|reached| reached_row(tables, reached)).collect();
    let reached = ["HOPS", "AGENTS", "LOWEST LABELS"];
    let part = |title: &str, head: &[&str], rows: &[Vec<String>]| {
        let rows = if rows.is_empty() { "nothing".to_owned() } else { table(head, rows) };
        format!("{}\n{rows}\n\n", paint(STRONG, title))
    };
    let mut text = String::new();
    text += &part("Can write", head, &own(&radius.writes));
    text += &part("Can read, from now on and what it was given before", head, &own(&radius.reads));
    text += &part("Its words reach by themselves", &reached, &direct);
    text += &part("Its words reach if others pass them on", &reached, &onwards);
    if radius.forgets {
        text += &format!(
            "{} the taint of team `{}` ends with a session: a thief can read in one session and write\n  \
             below that in another; all that is read above can go wherever is written above\n\n",
            paint(BAD, "●"),
            radius.reach.start.team
        );
    }
    let text = text.trim_end().to_owned();
    let until = format_args!("All this until `{}` is revoked or quarantined", radius.reach.start.name());
    format!("{text}\n\n{}", paint(FAINT, until))
}

fn suspects_text(tables: &Tables, suspects: &Suspects, since: Millis) -> String {
    let rows = |envelopes: &[Envelope]| -> Vec<Vec<String>> {
        let row = |envelope: &Envelope| {
            vec![
                rfc3339(envelope.time),
                envelope.envelope.to_string(),
                envelope.sender.clone(),
                envelope.subject.clone(),
                tables.show(envelope.label),
            ]
        };
        envelopes.iter().take(ROWS).map(row).collect()
    };
    let head = ["WHEN", "ENVELOPE", "FROM", "SUBJECT", "LABEL"];
    let mut text =
        format!("\n\n{}", paint(STRONG, format_args!("In the audit log since {}", rfc3339(since))));
    for (title, envelopes) in [
        ("envelopes of the agent itself", &suspects.own),
        ("envelopes of others that say they derive from those", &suspects.derived),
    ] {
        text += &format!("\n\n{} {title}", envelopes.len());
        if !envelopes.is_empty() {
            text += &format!("\n{}", table(&head, &rows(envelopes)));
        }
        if envelopes.len() > ROWS {
            text += &format!("\n… and {} more: `--json` lists all", envelopes.len() - ROWS);
        }
    }
    let exposed: Vec<Vec<String>> = suspects
        .exposed
        .iter()
        .map(|(agent, exposure)| {
            vec![agent.clone(), rfc3339(exposure.since), exposure.from.clone(), exposure.sent.to_string()]
        })
        .collect();
    text += &format!(
        "\n\n{} agents were given keys of suspect senders, directly or through others",
        exposed.len()
    );
    if !exposed.is_empty() {
        text += &format!("\n{}", table(&["AGENT", "SINCE", "FROM", "SENT SINCE"], &exposed));
    }
    let given: Vec<Vec<String>> = suspects
        .given
        .iter()
        .map(|((rule, _), (label, keys))| vec![rule.clone(), tables.show(*label), keys.to_string()])
        .collect();
    text += &format!("\n\n{} kinds of keys the agent itself was given", given.len());
    if !given.is_empty() {
        text += &format!("\n{}", table(&["RULE", "LABEL", "KEYS"], &given));
    }
    text += &format!("\n\n{} attempts of it were denied; {} entries read", suspects.denied, suspects.entries);
    text += "\n\nWhat the log cannot tell:";
    for limit in suspects.limits() {
        text += &format!("\n  · {limit}");
    }
    text
}

/// The most rows of a list of envelopes.
const ROWS: usize = 20;

fn suspects_json(tables: &Tables, suspects: &Suspects, since: Millis) -> Value {
    let list = |envelopes: &[Envelope]| -> Vec<Value> {
        let object = |envelope: &Envelope| {
            json!({
                "leaf": envelope.leaf,
                "time": rfc3339(envelope.time),
                "digest": envelope.digest.to_string(),
                "envelope": envelope.envelope.to_string(),
                "sender": envelope.sender,
                "rule": envelope.rule,
                "subject": envelope.subject,
                "label": tables.show(envelope.label),
            })
        };
        envelopes.iter().map(object).collect()
    };
    let exposed = suspects.exposed.iter().map(|(agent, exposure)| {
        json!({ "agent": agent, "since": rfc3339(exposure.since), "from": exposure.from, "sent": exposure.sent })
    });
    let given = suspects.given.iter().map(
        |((rule, _), (label, keys))| json!({ "rule": rule, "label": tables.show(*label), "keys": keys }),
    );
    json!({
        "since": rfc3339(since),
        "own": list(&suspects.own),
        "derived": list(&suspects.derived),
        "exposed": exposed.collect::<Vec<_>>(),
        "given": given.collect::<Vec<_>>(),
        "denied": suspects.denied,
        "entries": suspects.entries,
        "begins": suspects.begins.map(rfc3339),
        "ends": suspects.ends.map(rfc3339),
        "limits": suspects.limits(),
    })
}

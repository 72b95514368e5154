//! `sealbus quarantine show`: who, why, how sure, what was kept, what it could do, what can be done, on one screen.

use std::path::Path;

use sealbus_envelope::{time::Millis, wire::MAX_ENVELOPE};
use serde_json::{Value, json};

use super::{
    super::{
        busdir::BusArg,
        failure::{Exit, Failure},
        graph::radius,
        output::{BAD, FAINT, GOOD, Output, STRONG, paint, word},
        page::AddressArg,
        registry::Registry,
        session::printable,
        when::{relative, rfc3339},
    },
    report,
};
use crate::{
    clock::now,
    quarantine::{
        report::{AgentReport, StepReport},
        state::State,
    },
};

const EXAMPLES: &str = "\
Examples:
  sealbus quarantine show mallory
  sealbus quarantine show mallory --json | jq .evidence

Who and why, what the servers said, what was kept, the whole story, what the agent could do, and
the commands that decide. Asks the guard; if none runs, reads its store in the bus directory.";

/// The widest line, in characters.
const WIDTH: usize = 100;
/// Changes that are shown; `--json` has all.
const STEPS: usize = 5;
/// Kept envelopes that are shown.
const KEPT: usize = 3;

/// Show all about one agent: why it is off the bus or watched, and what can be done
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The agent: its name, or as subjects name it
    agent: String,
    #[command(flatten)]
    address: AddressArg,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let (agents, from) = report::read(args.address.of(&dir.config), &dir)?;
    let Some(agent) = agents.into_iter().find(|agent| report::is_called(agent, &args.agent)) else {
        let message = format!("`{}` was never watched or off the bus", args.agent);
        let remedy = "see `sealbus quarantine list --all`; to take it off: `sealbus quarantine add`";
        return Err(Failure::told(Exit::Failure, "not_quarantined", message, remedy));
    };
    let name = printable(agent.agent.rsplit_once('-').map_or(agent.agent.as_str(), |(name, _)| name));
    // Who has no credential in the registry here has neither a team nor a radius that could be told.
    let known = Registry::read(&dir)?;
    let team = known.find(&name).ok().map(|entry| entry.credential.claims().team.to_string());
    let radius = radius(&args.bus, &name).ok();
    let on = on_this_bus(&args.bus.config);
    let (looks, orders) = (looks(&agent, &name, &on), orders(&agent, &name, &on));
    let mut object = json!(agent);
    if let Some(map) = object.as_object_mut() {
        map.insert("from".to_owned(), from.into());
        map.insert("team".to_owned(), json!(team));
        map.insert("blast_radius".to_owned(), radius.as_ref().map_or(Value::Null, |(json, _)| json.clone()));
        let commands = |all: &[Command]| all.iter().map(|(_, command)| command.clone()).collect::<Vec<_>>();
        map.insert("looks".to_owned(), json!(commands(&looks)));
        map.insert("orders".to_owned(), json!(commands(&orders)));
    }
    let radius = radius.map(|(_, text)| text);
    let (team, commands) = (team.as_deref(), [("look", looks.as_slice()), ("decide", &orders)]);
    output.show(&object, text(&agent, team, from, radius.as_deref(), commands, now()))
}

/// What a command does, and the command: to be pasted as it is.
type Command = (&'static str, String);

/// What names the bus in a command, if it must be named.
fn on_this_bus(config: &Path) -> String {
    if config == Path::new("sealbus.toml") {
        return String::new();
    }
    format!(" --config {}", word(&config.display().to_string()))
}

/// What else there is to see.
fn looks(agent: &AgentReport, name: &str, on: &str) -> Vec<Command> {
    let short = |digest: &String| digest.get(..16).unwrap_or(digest).to_owned();
    let cause = agent.cause.envelopes.first().map(short);
    let mut looks = Vec::new();
    looks.extend(cause.map(|digest| ("the cause, by checks", format!("sealbus why {digest}{on}"))));
    looks.push(("what it did before", format!("sealbus why {name}{on}")));
    looks.push(("suspect messages", format!("sealbus graph blast-radius {name} --since 24h{on}")));
    looks
}

/// What can be done, and how.
fn orders(agent: &AgentReport, name: &str, on: &str) -> Vec<Command> {
    let order = |what: &str| format!("sealbus quarantine {what} {name} --reason '…'{on}");
    let mut orders = Vec::new();
    match agent.state {
        State::Quarantined => {
            orders.push(("let it back", order("release")));
            orders.push(("never let it back", order("revoke")));
        }
        State::Normal | State::Watched | State::Released => {
            orders.push(("take it off the bus", order("add")));
        }
        State::Revoked => {}
    }
    if agent.evidence.waiting > 0 {
        if !agent.state.is_barred() {
            orders.push(("deliver what was kept", order("replay")));
        }
        orders.push(("discard what was kept", order("discard")));
    }
    orders
}

fn text(
    agent: &AgentReport,
    team: Option<&str>,
    from: &str,
    radius: Option<&[String]>,
    commands: [(&str, &[Command]); 2],
    now: Millis,
) -> String {
    let mut lines = Vec::new();
    let style = match agent.state {
        State::Quarantined | State::Revoked => BAD,
        State::Watched => STRONG,
        State::Normal | State::Released => GOOD,
    };
    let since = Millis(agent.since);
    let times = if agent.times > 1 { format!(", {} times so far", agent.times) } else { String::new() };
    lines.push(format!(
        "{}  {}  since {} ({}){times}",
        paint(STRONG, &agent.agent),
        paint(style, agent.state),
        rfc3339(since),
        relative(since, now)
    ));
    let mut field =
        |name: &str, value: String| lines.push(cut(&format!("  {name:<10} {}", printable(&value))));
    let cause = &agent.cause;
    // An order says itself why; its reason code is only what state it is about.
    let why = match (agent.state, &cause.order) {
        (State::Released, Some(_)) => "people let it back".to_owned(),
        (_, Some(_)) => "people ordered it".to_owned(),
        _ => format!("{} [{}]", cause.meaning, cause.reason),
    };
    field("why", why);
    let what = if cause.order.is_some() { String::new() } else { format!(": {}", cause.what) };
    field("by", format!("{}{what}", report::who(cause)));
    if let Some(order) = &cause.order {
        field("said", order.why.clone());
    }
    if let Some(score) = agent.score {
        field("score", format!("{score:.2}"));
    }
    let team = team.map(|team| format!(", of team {team}")).unwrap_or_default();
    field("identity", format!("{}{team}", agent.identity));
    field("servers", servers(agent));
    let evidence = &agent.evidence;
    let mut kept = match (evidence.waiting, evidence.dropped) {
        (0, 0) => "nothing waits".to_owned(),
        (waiting, dropped) => {
            format!("{waiting} kept ({} KiB), {dropped} more counted", evidence.bytes.div_ceil(1024))
        }
    };
    for (count, what) in
        [(evidence.delivered, "delivered"), (evidence.refused, "refused"), (evidence.discarded, "discarded")]
    {
        if count > 0 {
            kept += &format!(", {count} {what}");
        }
    }
    if evidence.replaying {
        kept += "; a replay is under way";
    }
    field("evidence", evidence.fault.clone().unwrap_or(kept));
    let mut newest: Vec<_> = evidence.newest.iter().collect();
    newest.sort_by_key(|kept| (!kept.trigger, std::cmp::Reverse(kept.n)));
    for kept in newest.into_iter().take(KEPT) {
        let digest = kept.digest.as_deref().map_or("unreadable", |digest| digest.get(..16).unwrap_or(digest));
        let fate = kept.fate.as_deref().unwrap_or(if kept.trigger { "the cause" } else { "waits" });
        field(
            "",
            format!(
                "{digest} {} under {}, {} B, {}: {fate}",
                kept.subject,
                kept.rule.as_deref().unwrap_or("?"),
                kept.size.min(u32::try_from(MAX_ENVELOPE).unwrap_or(u32::MAX)),
                kept.reason
            ),
        );
    }
    let earlier = agent.history.len().saturating_sub(STEPS);
    for (n, step) in agent.history.iter().skip(earlier).enumerate() {
        field(if n == 0 { "story" } else { "" }, story(step));
    }
    if earlier > 0 {
        field("", format!("and {earlier} changes before: --json has them"));
    }
    for (n, line) in radius.unwrap_or_default().iter().enumerate() {
        field(if n == 0 { "could" } else { "" }, line.clone());
    }
    for (title, commands) in commands {
        for (n, (what, command)) in commands.iter().enumerate() {
            let name = if n == 0 { title } else { "" };
            // Never cut: half a command is another one.
            lines.push(format!("  {name:<10} {:<22} {command}", format!("{what}:")));
        }
    }
    if from == "store" {
        lines.push(paint(FAINT, "  No guard runs: this is what its store says").to_string());
    }
    lines.join("\n")
}

fn servers(agent: &AgentReport) -> String {
    let connections = agent.connections.iter().filter(|connection| !connection.lobby);
    let mut names: Vec<_> = connections.map(|connection| connection.server.clone()).collect();
    let open = names.len();
    names.dedup();
    let open = if open == 0 {
        "no connection".to_owned()
    } else {
        format!("{open} connections at {}", names.join(", "))
    };
    match &agent.enforced {
        Some(seen) if agent.state.is_barred() && seen.confirmed => {
            format!("confirmed: {} connections cut, no server holds one; now {open}", seen.cut)
        }
        Some(seen) if agent.state.is_barred() => {
            format!(
                "NOT confirmed: {} left, no answer from {}; now {open}",
                seen.left,
                seen.silent.join(", ")
            )
        }
        None if agent.state.is_barred() => format!("being asked; now {open}"),
        _ => format!("{open}, {} sessions", agent.sessions),
    }
}

fn story(step: &StepReport) -> String {
    let why = step.cause.order.as_ref().map_or_else(|| step.cause.reason.clone(), |order| order.why.clone());
    format!("{} {}, {}: {why}", rfc3339(Millis(step.at)), step.state, report::who(&step.cause))
}

fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(std::iter::once('…')).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use serde_json::json;

    use super::*;

    fn cause(trigger: &str, order: &Value) -> Value {
        json!({
            "trigger": trigger, "reason": "above_clearance", "meaning": "the label is above the clearance",
            "what": "header.label", "envelopes": ["7f".repeat(32)], "order": order,
        })
    }

    fn agent() -> AgentReport {
        let order = json!({ "id": "ab".repeat(16), "signers": ["UANNA23456", "UBOB234567"],
            "why": "its owner found and mended the bug, and tested it for a week in the staging environment" });
        let kept: Vec<Value> = (1..=64)
            .map(|n| {
                json!({ "n": n, "time": 1, "subject": "collect.web.raw", "size": 1024, "reason": "quarantined",
                    "trigger": n == 1, "digest": "7f".repeat(32), "session": "5a".repeat(32),
                    "rule": "collect-web-raw", "label": [1, 0, 0], "fate": null })
            })
            .collect();
        let step = |state: &str, cause: Value| json!({ "at": 1, "state": state, "cause": cause });
        serde_json::from_value(json!({
            "agent": "collector-7-abcdefghij", "identity": "U".repeat(56), "state": "quarantined",
            "since": 1_790_000_000_000_u64, "times": 2, "cause": cause("evidence", &Value::Null),
            "history": [
                step("watched", cause("anomaly", &Value::Null)),
                step("quarantined", cause("evidence", &Value::Null)),
                step("released", cause("order", &order)),
                step("watched", cause("anomaly", &Value::Null)),
                step("quarantined", cause("evidence", &Value::Null)),
                step("released", cause("order", &order)),
                step("quarantined", cause("evidence", &Value::Null)),
            ],
            "score": 4.25, "sessions": 0, "connections": [],
            "enforced": { "at": 2, "confirmed": true, "cut": 3, "left": 0, "silent": [] },
            "evidence": { "waiting": 1000, "bytes": 1_024_000, "dropped": 40_000, "delivered": 12,
                "refused": 3, "discarded": 0, "replaying": false, "fault": null, "newest": kept },
        }))
        .unwrap()
    }

    #[test]
    fn it_all_fits_on_one_screen() {
        let agent = agent();
        let radius =
            ["write under a, b; read under c".to_owned(), "reach d and 7 more; if passed on e".to_owned()];
        let (looks, orders) = (looks(&agent, "collector-7", ""), orders(&agent, "collector-7", ""));
        let commands: [(&str, &[Command]); 2] = [("look", &looks), ("decide", &orders)];
        let text =
            text(&agent, Some("collector"), "guard", Some(&radius), commands, Millis(1_790_000_060_000));
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert!(plain.lines().count() <= 24, "{plain}");
        assert!(plain.lines().all(|line| line.chars().count() <= WIDTH), "{plain}");
        for part in [
            "collector-7-abcdefghij  quarantined",
            "above_clearance",
            "hard evidence",
            "confirmed",
            "4.25",
            "1000 kept",
            "the cause",
            "UANNA234",
            "reach d and 7 more",
            "sealbus quarantine release collector-7 --reason",
            "sealbus quarantine revoke collector-7 --reason",
            "sealbus why 7f7f7f7f7f7f7f7f\n",
            "sealbus graph blast-radius collector-7",
        ] {
            assert!(plain.contains(part), "{part}: {plain}");
        }
    }

    #[test]
    fn what_the_agent_said_does_not_act_on_the_terminal() {
        let mut agent = agent();
        if let Some(kept) = agent.evidence.newest.first_mut() {
            kept.rule = Some("\u{1b}[2Jgone".to_owned());
        }
        let text = text(&agent, None, "store", None, [("look", &[]), ("decide", &[])], Millis(1));
        assert!(!text.contains("\u{1b}[2J"), "{text}");
    }

    #[test]
    fn commands_name_the_bus_as_it_was_named() {
        assert_eq!(on_this_bus(Path::new("sealbus.toml")), "");
        assert_eq!(on_this_bus(Path::new("mybus")), " --config mybus");
        assert_eq!(on_this_bus(Path::new("my bus's")), r" --config 'my bus'\''s'");
    }
}

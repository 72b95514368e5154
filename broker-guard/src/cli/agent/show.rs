//! `sealbus agent show`.

use sealbus_envelope::{
    identity::KeyKind,
    label::Label,
    policy::{MessageKind, Rule},
};
use serde_json::json;

use super::{
    super::{
        busdir::BusArg,
        failure::Failure,
        output::{BAD, GOOD, Output, STRONG, paint},
        registry::{Registry, revoked_at},
        when::{relative, rfc3339},
    },
    list,
};
use crate::clock::now;

const EXAMPLES: &str = "\
Examples:
  sealbus agent show alice";

/// Show an agent: its credential, and what the policy lets it do
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the agent
    name: String,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let (bundle, _) = dir.bundle()?;
    let status = dir.status(&bundle)?;
    let registry = Registry::read(&dir)?;
    let entry = registry.find(&args.name)?;
    let (claims, tables, now) = (entry.credential.claims(), bundle.tables(), now());
    let reach = tables.effective_clearance(claims).map(|clearance| {
        let ceiling = tables
            .team(claims.team.as_str())
            .map_or(claims.integrity_ceiling, |team| claims.integrity_ceiling.min(team.integrity_ceiling));
        tables.show(Label::new(clearance.level, clearance.compartments, ceiling))
    });
    let rules = |named: &dyn Fn(&Rule) -> bool| -> Vec<&Rule> {
        let active = claims.role == sealbus_envelope::identity::Role::Agent;
        bundle.rules().iter().filter(|rule| active && named(rule)).collect()
    };
    let publishes = rules(&|rule| rule.names_publisher(claims));
    let reads = rules(&|rule| rule.subscriber(claims).is_some());
    if output.is_json() {
        let mut object = list::object(entry, &status, now);
        let names =
            |rules: &[&Rule]| -> Vec<String> { rules.iter().map(|rule| rule.name.to_string()).collect() };
        if let Some(map) = object.as_object_mut() {
            map.insert("reach".to_owned(), json!(reach));
            map.insert("publishes".to_owned(), json!(names(&publishes)));
            map.insert("subscribes".to_owned(), json!(names(&reads)));
        }
        return output.object(&object);
    }
    let state = list::state(entry, &status, now);
    let mut lines = vec![
        paint(STRONG, &claims.name).to_string(),
        format!("  on the wire  {}", claims.token()),
        format!("  identity     {}", claims.identity.to_nkey(KeyKind::User)),
        format!("  team         {} ({})", claims.team, format!("{:?}", claims.role).to_lowercase()),
        format!("  state        {}", paint(if state == "valid" { GOOD } else { BAD }, state)),
    ];
    if let Some(at) = revoked_at(&status, entry) {
        let reason = entry.reason.as_deref().unwrap_or("no reason was noted");
        lines.push(format!("  revoked      {} ({reason})", rfc3339(at)));
    }
    let until = claims.validity.not_after;
    lines.push(format!("  expires      {} ({})", rfc3339(until), relative(until, now)));
    let reach = reach.unwrap_or_else(|| "nothing: the policy does not know the team".to_owned());
    lines.push(format!("  may reach    {reach}"));
    for (what, rules) in [("may publish", publishes), ("may read", reads)] {
        let mut what = what;
        for rule in &rules {
            let kind = if matches!(rule.kind, MessageKind::Request { .. }) { ", request" } else { "" };
            lines.push(format!("  {what:<11}  {} (rule `{}`{kind})", rule.pattern.as_str(), rule.name));
            what = "";
        }
        if rules.is_empty() {
            lines.push(format!("  {what:<11}  nothing"));
        }
    }
    output.text(lines.join("\n"))
}

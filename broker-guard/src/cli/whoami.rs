//! `sealbus whoami`: what the bus lets an agent do, as the signed policy says it to the agent itself.

use std::fmt::Write as _;

use sealbus_client::Client;
use sealbus_envelope::{
    identity::Claims,
    label::Label,
    policy::{FlowGrant, MessageKind, Records, Rule},
};
use serde_json::{Value, json};

use super::{
    failure::{Exit, Failure},
    output::{Output, STRONG, paint},
    runtime,
    session::{self, CredsArg},
    when::rfc3339,
};

const EXAMPLES: &str = "\
Examples:
  sealbus whoami --creds agents/alice.creds
  sealbus whoami --json | jq '.rules[].name'

Connects as the agent. The rules come with proofs under the policy keys' signatures, so this is
what the quorum signed and not what a guard says.";

/// Show what an agent may do: its team, clearance, rules, flow grants and taint floor
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    creds: CredsArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let credentials = args.creds.load()?;
    runtime()?.block_on(async {
        let client = args.creds.connect().await?;
        let records = client.records().ok_or_else(|| {
            Failure::told(Exit::Failure, "no_policy", "the guard sent no policy", "see `sealbus status`")
        })?;
        let shown = Shown { client: &client, claims: credentials.credential().claims(), records: &records };
        output.show(&shown.object(), shown.text())?;
        client.close().await.map_err(session::failure)
    })
}

struct Shown<'a> {
    client: &'a Client,
    claims: &'a Claims,
    records: &'a Records,
}

impl Shown<'_> {
    fn label(&self, label: Label) -> String {
        self.records.tables.show(label)
    }

    /// What it may read, and the most it may claim.
    fn reach(&self) -> String {
        let clearance = self.records.tables.effective_clearance(self.claims).unwrap_or_default();
        let team = self.records.tables.team(self.claims.team.as_str());
        let ceiling = team.map_or(self.claims.integrity_ceiling, |team| {
            team.integrity_ceiling.min(self.claims.integrity_ceiling)
        });
        self.label(Label::new(clearance.level, clearance.compartments, ceiling))
    }

    fn zones(&self) -> Vec<String> {
        let team = self.records.tables.team(self.claims.team.as_str());
        match team.and_then(|team| team.zone.as_ref()) {
            Some(zone) => vec![zone.to_string()],
            None => self.claims.zones.iter().map(ToString::to_string).collect(),
        }
    }

    fn may(&self, rule: &Rule) -> Vec<&'static str> {
        let request = matches!(rule.kind, MessageKind::Request { .. });
        let sends = if request { "ask" } else { "publish" };
        let reads = if request { "answer" } else { "subscribe" };
        let mut may = Vec::new();
        if rule.names_publisher(self.claims) {
            may.push(sends);
        } else if self.records.tables.observes(rule, self.claims) {
            may.push(if request { "ask (observed)" } else { "publish (observed)" });
        }
        if rule.subscriber(self.claims).is_some() {
            may.push(reads);
        }
        may
    }

    /// Those that its own team may use.
    fn grants(&self) -> impl Iterator<Item = &FlowGrant> {
        self.records.grants.iter().filter(|grant| grant.team == self.claims.team)
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n", paint(STRONG, self.client.token()));
        let zones = self.zones();
        let floor = self.client.floor();
        let read = if floor == Label::BOTTOM { "nothing yet".to_owned() } else { self.label(floor) };
        for (name, value) in [
            ("team", self.claims.team.to_string()),
            ("may reach", self.reach()),
            ("zone", if zones.is_empty() { "any".to_owned() } else { zones.join(", ") }),
            ("read so far", read),
            ("policy", format!("version {}", self.client.policy_version().unwrap_or_default())),
        ] {
            let _ = writeln!(out, "  {name:<12} {value}");
        }
        for rule in &self.records.rules {
            let _ = write!(
                out,
                "\n  {:<20} {:<24} {}\n  {:20} {} to {}",
                rule.name.as_str(),
                rule.pattern.as_str(),
                self.may(rule).join(", "),
                "",
                self.label(rule.labels.low),
                self.label(rule.labels.high),
            );
        }
        for grant in self.grants() {
            let _ = write!(
                out,
                "\n  grant {:<14} {} to {}: {} to {}, until {}",
                grant.name.as_str(),
                grant.from.as_str(),
                grant.to.as_str(),
                self.label(grant.from_label),
                self.label(grant.to_label),
                rfc3339(grant.expires),
            );
        }
        out
    }

    fn object(&self) -> Value {
        let rules: Vec<Value> = self
            .records
            .rules
            .iter()
            .map(|rule| {
                json!({
                    "name": rule.name,
                    "pattern": rule.pattern.as_str(),
                    "may": self.may(rule),
                    "lowest_label": self.label(rule.labels.low),
                    "highest_label": self.label(rule.labels.high),
                    "max_bytes": rule.max_bytes,
                })
            })
            .collect();
        let grants: Vec<Value> = self
            .grants()
            .map(|grant| {
                json!({
                    "name": grant.name,
                    "from": grant.from.as_str(),
                    "to": grant.to.as_str(),
                    "from_label": self.label(grant.from_label),
                    "to_label": self.label(grant.to_label),
                    "expires": rfc3339(grant.expires),
                })
            })
            .collect();
        json!({
            "agent": self.client.token(),
            "team": self.claims.team,
            "may_reach": self.reach(),
            "zones": self.zones(),
            "floor": self.label(self.client.floor()),
            "policy_version": self.client.policy_version(),
            "rules": rules,
            "flow_grants": grants,
        })
    }
}

//! `sealbus approvals people`: who may approve what, by the signed policy and the status statement in force.

use std::collections::{BTreeMap, BTreeSet};

use sealbus_envelope::{
    identity::{KeyKind, PublicKey, Status},
    name::Name,
    policy::Bundle,
};
use serde::Serialize;
use serde_json::json;

use crate::{
    cli::{
        busdir::BusArg,
        failure::Failure,
        output::{BAD, Output, paint, table},
        when::rfc3339,
    },
    oversight::holds::{Wanted, WantedBy, strike},
};

const EXAMPLES: &str = "\
Examples:
  sealbus approvals people
  sealbus approvals people --json | jq -r '.people[] | select(.revoked_at).name'";

/// List who may approve, which keys are revoked, and whether enough people are left
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    bus: BusArg,
}

/// A key that a person approves with.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Approver {
    pub(super) name: Name,
    #[serde(serialize_with = "nkey")]
    pub(super) key: PublicKey,
    /// On which lists it stands.
    pub(super) lists: BTreeSet<Name>,
    /// Since when it counts nothing.
    pub(super) revoked_at: Option<String>,
}

/// What wants approvals, and how many different people are left to give them.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Left {
    pub(super) wanted_by: String,
    pub(super) approvals: u8,
    pub(super) people: usize,
}

impl Left {
    /// Whether nothing gets through it any more.
    pub(super) fn too_few(&self) -> bool {
        self.people < usize::from(self.approvals)
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let Self { wanted_by, approvals, people } = self;
        format!(
            "{wanted_by} wants {approvals}, and {people} {} left",
            if *people == 1 { "is" } else { "are" }
        )
    }
}

fn nkey<S: serde::Serializer>(key: &PublicKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&key.to_nkey(KeyKind::User))
}

/// Every key that the policy names beside a person, by name.
pub(super) fn approvers(bundle: &Bundle, status: &Status) -> Vec<Approver> {
    let mut found: BTreeMap<(Name, [u8; 32]), Approver> = BTreeMap::new();
    for wanted in wanted(bundle) {
        for list in wanted.hold.lists {
            for (name, key) in list.people {
                let revoked = status.revoked.iter().find(|revoked| revoked.identity == key);
                let approver = found.entry((name.clone(), *key.as_bytes())).or_insert_with(|| Approver {
                    name,
                    key,
                    lists: BTreeSet::new(),
                    revoked_at: revoked.map(|revoked| rfc3339(revoked.at)),
                });
                approver.lists.insert(list.name.clone());
            }
        }
    }
    found.into_values().collect()
}

/// What is left of each hold when the keys that the statement revokes count nothing.
pub(super) fn left(bundle: &Bundle, status: &Status) -> Vec<Left> {
    let mut wanted: Vec<Wanted> = wanted(bundle).collect();
    strike(&mut wanted, status);
    let count = |wanted: &Wanted| {
        let people = wanted.hold.lists.iter().flat_map(|list| &list.people);
        people.map(|(name, _)| name).collect::<BTreeSet<_>>().len()
    };
    wanted
        .iter()
        .map(|one| Left { wanted_by: one.by.text(), approvals: one.hold.approvals, people: count(one) })
        .collect()
}

fn wanted(bundle: &Bundle) -> impl Iterator<Item = Wanted> {
    let rules = bundle
        .rules()
        .iter()
        .filter_map(|rule| Some(Wanted { by: WantedBy::Rule(rule.name.clone()), hold: rule.hold.clone()? }));
    let grants = bundle.grants().iter().filter_map(|grant| {
        Some(Wanted { by: WantedBy::Grant(grant.name.clone()), hold: grant.approval.clone()? })
    });
    rules.chain(grants)
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let dir = args.bus.open()?;
    let (bundle, _) = dir.bundle()?;
    let status = dir.status(&bundle)?;
    let (people, holds) = (approvers(&bundle, &status), left(&bundle, &status));
    if output.is_json() {
        return output.object(&json!({ "people": people, "holds": holds }));
    }
    if holds.is_empty() {
        return output.text("The policy in force holds nothing for people.");
    }
    let rows: Vec<Vec<String>> = people
        .iter()
        .map(|one| {
            let lists: Vec<&str> = one.lists.iter().map(Name::as_str).collect();
            let state = match &one.revoked_at {
                None => "valid".to_owned(),
                Some(at) => paint(BAD, format_args!("revoked {at}")).to_string(),
            };
            vec![one.name.to_string(), lists.join(", "), state, one.key.to_nkey(KeyKind::User)]
        })
        .collect();
    let mut text = table(&["NAME", "LISTS", "STATE", "KEY"], &rows);
    for hold in &holds {
        let line = hold.text();
        text = if hold.too_few() {
            format!("{text}\n{}: nothing gets through", paint(BAD, line))
        } else {
            format!("{text}\n{line}")
        };
    }
    output.text(text)
}

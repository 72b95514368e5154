//! Where teams and data may be, by the zones of a policy, and what contradicts that.

use std::collections::BTreeMap;

use sealbus_envelope::{
    label::{Clearance, Compartments, Label, Level},
    policy::{Rule, Tables, Team, Who, Zone, ZoneTls},
};

use super::trial::Trial;

/// Where a team's agents may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamPlace {
    /// The team.
    pub team: String,
    /// Its clearance in words.
    pub clearance: String,
    /// Its zone; none is anywhere.
    pub zone: Option<String>,
    /// What the zone demands of a connection, in words.
    pub connects: String,
}

/// Data of one sort: a level and compartments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPlace {
    /// Level and compartments in words.
    pub class: String,
    /// The rules that carry it.
    pub rules: Vec<String>,
    /// The zones that may hold it.
    pub zones: Vec<String>,
    /// The teams that are given it.
    pub readers: Vec<String>,
}

/// Where everything may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// Each team.
    pub teams: Vec<TeamPlace>,
    /// Each class of data that a rule carries, at its highest.
    pub data: Vec<DataPlace>,
    /// What contradicts it.
    pub contradictions: Vec<String>,
}

/// Places everything in `trial`.
#[must_use]
pub fn place(trial: &Trial) -> Placement {
    let tables = trial.tables();
    let mut placement = Placement::default();
    for team in &tables.teams {
        placement.teams.push(TeamPlace {
            team: team.name.to_string(),
            clearance: class(tables, team.clearance),
            zone: team.zone.as_ref().map(ToString::to_string),
            connects: zone_of(tables, team).map_or_else(|| "to any server".to_owned(), connects),
        });
    }
    let mut classes: BTreeMap<(Level, u64), Vec<&Rule>> = BTreeMap::new();
    for rule in &trial.records().rules {
        let Label { level, compartments, .. } = rule.labels.high;
        classes.entry((level, compartments.bits())).or_default().push(rule);
    }
    for ((level, bits), rules) in classes {
        let clearance = Clearance { level, compartments: Compartments::from_bits(bits) };
        let holds = |zone: &&Zone| zone.ceiling.meet(clearance) == clearance;
        placement.data.push(DataPlace {
            class: class(tables, clearance),
            rules: rules.iter().map(|rule| rule.name.to_string()).collect(),
            zones: tables.zones.iter().filter(holds).map(|zone| zone.name.to_string()).collect(),
            readers: readers(tables, &rules, clearance),
        });
    }
    placement.contradictions = contradictions(tables, &placement.data);
    placement
}

fn contradictions(tables: &Tables, data: &[DataPlace]) -> Vec<String> {
    let mut found = Vec::new();
    if tables.zones.is_empty() {
        return found;
    }
    for team in &tables.teams {
        match zone_of(tables, team) {
            None => found.push(format!("team {} has no zone: its agents may run anywhere", team.name)),
            Some(zone) if zone.ceiling.meet(team.clearance) != team.clearance => found.push(format!(
                "team {} is cleared to {}, above the ceiling of zone {}, {}: its agents are refused",
                team.name,
                class(tables, team.clearance),
                zone.name,
                class(tables, zone.ceiling)
            )),
            Some(_) => {}
        }
    }
    for zone in &tables.zones {
        if connects(zone) == ANYWHERE {
            found.push(format!(
                "zone {} names no server, cluster, tag or TLS: every connection is in it",
                zone.name
            ));
        }
        if !tables.teams.iter().any(|team| team.zone.as_ref() == Some(&zone.name)) {
            found.push(format!("zone {} has no team", zone.name));
        }
    }
    for class in data {
        if class.zones.is_empty() {
            let rules = class.rules.join(", ");
            found.push(format!("{} (rules {rules}) is above the ceiling of every zone", class.class));
        }
        for team in &class.readers {
            let team = tables.team(team);
            let zone = team.and_then(|team| Some((team, zone_of(tables, team)?)));
            if let Some((team, zone)) = zone.filter(|(_, zone)| !class.zones.contains(&zone.name.to_string()))
            {
                found.push(format!(
                    "team {} is given {} in zone {}, which may not hold it",
                    team.name, class.class, zone.name
                ));
            }
        }
    }
    found
}

/// Teams that a rule gives the whole class.
fn readers(tables: &Tables, rules: &[&Rule], class: Clearance) -> Vec<String> {
    let named = |team: &&Team| {
        rules
            .iter()
            .flat_map(|rule| &rule.subscribers)
            .any(|party| matches!(&party.who, Who::Team(name) if *name == team.name))
            && team.clearance.meet(class) == class
    };
    tables.teams.iter().filter(named).map(|team| team.name.to_string()).collect()
}

fn zone_of<'t>(tables: &'t Tables, team: &Team) -> Option<&'t Zone> {
    tables.zone(team.zone.as_ref()?.as_str())
}

const ANYWHERE: &str = "to any server";

/// What a zone demands of a connection.
fn connects(zone: &Zone) -> String {
    let mut demands = Vec::new();
    if !zone.servers.is_empty() {
        demands.push(format!("to {}", zone.servers.join(", ")));
    }
    demands.extend(zone.cluster.as_ref().map(|cluster| format!("in cluster {cluster}")));
    if !zone.tags.is_empty() {
        demands.push(format!("tagged {}", zone.tags.join(", ")));
    }
    match zone.tls {
        ZoneTls::Any => {}
        ZoneTls::Encrypted => demands.push("over TLS".to_owned()),
        ZoneTls::Verified => demands.push("over TLS with a client certificate".to_owned()),
    }
    if zone.ca.is_some() {
        demands.push("of its own authority".to_owned());
    }
    if demands.is_empty() { ANYWHERE.to_owned() } else { demands.join(", ") }
}

/// Level and compartments in the policy's words.
fn class(tables: &Tables, clearance: Clearance) -> String {
    let label = Label { level: clearance.level, compartments: clearance.compartments, ..Label::TOP };
    let shown = tables.show(label);
    shown.rsplit_once('/').map_or(shown.clone(), |(class, _)| class.to_owned())
}

//! Zones: where agents may run, and where they might not.

use sealbus_envelope::{
    label::{Clearance, Compartments, Level},
    name::Name,
    policy::{Zone, ZoneTls},
};

use super::{Change, Effect};
use crate::policy::trial::Trial;

pub(super) fn changes(old: &Trial, new: &Trial) -> Vec<Change> {
    let mut found = Vec::new();
    for is in &new.tables().teams {
        let Some(was) = old.tables().team(is.name.as_str()) else { continue };
        let (before, after) = (zone_of(old, was.zone.as_ref()), zone_of(new, is.zone.as_ref()));
        let name = |zone: Option<&Zone>| {
            zone.map_or_else(|| "anywhere".to_owned(), |zone| format!("zone {}", zone.name))
        };
        let moved = format!("team {} runs in {} → {}", is.name, name(before), name(after));
        for (effect, differs) in both(before, after) {
            let what = if was.zone == is.zone {
                format!("team {}, {}: {differs}", is.name, name(after))
            } else {
                format!("{moved}: {differs}")
            };
            found.push(Change { effect, what });
        }
        if was.zone != is.zone && both(before, after).is_empty() {
            found.push(Change { effect: Effect::Changes, what: moved });
        }
    }
    // A credential may name zones too, of which nobody knows here: where no team tells of a change, the zone does.
    for is in &new.tables().zones {
        let told =
            |trial: &Trial| trial.tables().teams.iter().any(|team| team.zone.as_ref() == Some(&is.name));
        let Some(was) = old.tables().zone(is.name.as_str()).filter(|_| !(told(old) && told(new))) else {
            continue;
        };
        for (effect, differs) in both(Some(was), Some(is)) {
            found.push(Change { effect, what: format!("zone {}: {differs}", is.name) });
        }
    }
    found
}

fn zone_of<'t>(trial: &'t Trial, name: Option<&Name>) -> Option<&'t Zone> {
    trial.tables().zone(name?.as_str())
}

/// What the second lets in that the first does not, and the other way round.
fn both(was: Option<&Zone>, is: Option<&Zone>) -> Vec<(Effect, String)> {
    let mut found: Vec<_> = looser(was, is).into_iter().map(|what| (Effect::Opens, what)).collect();
    found.extend(looser(is, was).into_iter().map(|what| (Effect::Closes, what)));
    found
}

/// In what `to` is looser than `from`. No zone lets in from anywhere.
fn looser(from: Option<&Zone>, to: Option<&Zone>) -> Vec<String> {
    let Some(from) = from else { return Vec::new() };
    let any = Zone {
        name: from.name.clone(),
        ceiling: Clearance { level: Level::HIGHEST, compartments: Compartments::ALL },
        servers: Vec::new(),
        cluster: None,
        tags: Vec::new(),
        tls: ZoneTls::Any,
        ca: None,
    };
    let to = to.unwrap_or(&any);
    let mut found = Vec::new();
    let mut say = |differs: bool, what: &str| {
        if differs {
            found.push(what.to_owned());
        }
    };
    let beyond = |server| !from.servers.contains(server);
    say(!from.servers.is_empty() && (to.servers.is_empty() || to.servers.iter().any(beyond)), "servers");
    say(from.cluster.is_some() && to.cluster != from.cluster, "cluster");
    say(from.tags.iter().any(|tag| !to.tags.contains(tag)), "tags");
    say((to.tls as u8) < (from.tls as u8), "TLS");
    say(from.ca.is_some() && to.ca != from.ca, "certificate authority");
    say(from.ceiling.meet(to.ceiling) != to.ceiling, "ceiling");
    found
}

//! How people watch over workflows, how many sign an order, and from when on the detector acts.

use sealbus_envelope::{
    order::OrderKind,
    policy::{AnomalyRecord, Oversight, Rule, Supervision},
};

use super::{Change, Effect};
use crate::{anomaly::SIGNALS, policy::trial::Trial};

pub(super) fn changes(old: &Trial, new: &Trial) -> Vec<Change> {
    let mut found = Vec::new();
    modes(old, new, &mut found);
    let of = |trial: &Trial| trial.records().supervision.clone().unwrap_or_default();
    let (was, is) = (of(old), of(new));
    orders(&was, &is, &mut found);
    anomaly(&was.anomaly, &is.anomaly, &mut found);
    found
}

fn modes(old: &Trial, new: &Trial, found: &mut Vec<Change>) {
    for is in &new.tables().teams {
        let was = old.tables().team(is.name.as_str()).and_then(|was| was.oversight);
        mode(&format!("team {}", is.name), true, was, is.oversight, found);
    }
    for is in &new.records().rules {
        let named = old.records().rules.iter().find(|was| was.name == is.name);
        let was = match named {
            Some(was) => was.oversight,
            // Under another name: a directed rule that it takes the place of.
            None => replaced(old, is),
        };
        mode(&format!("rule {}", is.name), false, was, is.oversight, found);
    }
}

/// The mode of a directed rule that let the same parties send on some of these subjects, if the old policy had one.
fn replaced(old: &Trial, is: &Rule) -> Option<Oversight> {
    let sends = |was: &&Rule| {
        was.publishers.iter().any(|party| is.publishers.iter().any(|other| other.who == party.who))
    };
    let mut before = old.records().rules.iter().filter(|was| was.pattern.overlaps(&is.pattern));
    before.find(|was| was.oversight == Some(Oversight::Directed) && sends(was)).and_then(|was| was.oversight)
}

fn mode(what: &str, is_team: bool, was: Option<Oversight>, is: Option<Oversight>, found: &mut Vec<Change>) {
    use Oversight::{Directed, OpenEnded};
    let (effect, meaning) = match (was, is) {
        (was, is) if was == is => return,
        (_, Some(Directed)) => (Effect::Closes, "the first deviation pauses all of it"),
        (Some(Directed), _) => (Effect::Opens, "a deviation pauses nothing any more"),
        (_, Some(OpenEnded)) if is_team => (Effect::Opens, "being watched lowers no limits"),
        (Some(OpenEnded), None) if is_team => (Effect::Closes, "being watched lowers its limits"),
        _ => (Effect::Changes, "reports name it so"),
    };
    let shown = |mode: Option<Oversight>| mode.map_or("none", Oversight::code);
    found.push(Change {
        effect,
        what: format!("{what}, oversight: {} → {}: {meaning}", shown(was), shown(is)),
    });
}

fn orders(was: &Supervision, is: &Supervision, found: &mut Vec<Change>) {
    for kind in OrderKind::ALL {
        let (before, after) = (was.quorum(kind), is.quorum(kind));
        let shown = |keys: usize| if keys == 0 { "as always".to_owned() } else { keys.to_string() };
        step(&format!("signatures on {kind}"), before, after, false, shown, found);
    }
}

fn anomaly(was: &AnomalyRecord, is: &AnomalyRecord, found: &mut Vec<Change>) {
    let score = |hundredths: u32| format!("{}.{:02}", hundredths / 100, hundredths % 100);
    let ms = |ms: u32| format!("{ms} ms");
    step("anomaly, watched from score", was.watch, is.watch, true, score, found);
    step("anomaly, quarantined from score", was.quarantine, is.quarantine, true, score, found);
    step("anomaly, half-life of a score", was.half_life_ms, is.half_life_ms, false, ms, found);
    step("anomaly, warm-up", was.warm_up_ms, is.warm_up_ms, true, ms, found);
    let messages = |n: u32| format!("{n} messages");
    step("anomaly, warm-up", was.warm_up_messages, is.warm_up_messages, true, messages, found);
    if was.divert != is.divert {
        let what = match is.divert {
            true => "anomaly: who is quarantined may connect again, and is kept busy apart",
            false => "anomaly: who is quarantined is refused",
        };
        found.push(Change { effect: Effect::Changes, what: what.to_owned() });
    }
    for signal in SIGNALS {
        let cost = |record: &AnomalyRecord| {
            let own = record.weights.iter().find(|(name, _)| name.as_str() == signal.name);
            own.map_or(signal.cost, |(_, cost)| *cost)
        };
        step(&format!("anomaly, weight of {}", signal.name), cost(was), cost(is), false, score, found);
    }
}

/// A number that changed: more of it opens, or less does.
fn step<T: Ord + Copy>(
    what: &str,
    was: T,
    is: T,
    more_opens: bool,
    shown: impl Fn(T) -> String,
    found: &mut Vec<Change>,
) {
    if was == is {
        return;
    }
    let effect = if (is > was) == more_opens { Effect::Opens } else { Effect::Closes };
    found.push(Change { effect, what: format!("{what}: {} → {}", shown(was), shown(is)) });
}

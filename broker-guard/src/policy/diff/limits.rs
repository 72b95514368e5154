//! Limits of rules, observe mode, taint scopes, flow grants, keys: what is not a flow and yet opens or closes.

use sealbus_envelope::{
    label::{Clearance, Label},
    policy::{FlowGrant, Hold, MessageKind, Rate, Records, Rule, TaintScope, Team, Who},
};

use super::{Change, Effect};
use crate::policy::trial::Trial;

pub(super) fn changes(old: &Trial, new: &Trial) -> Vec<Change> {
    let mut all = Changes { old, new, found: Vec::new() };
    all.rules();
    all.teams();
    all.grants();
    all.tables();
    all.found
}

struct Changes<'c> {
    old: &'c Trial,
    new: &'c Trial,
    found: Vec<Change>,
}

impl Changes<'_> {
    fn push(&mut self, effect: Effect, what: String) {
        self.found.push(Change { effect, what });
    }

    /// A limit that rose opens; `None` is no limit.
    fn limit<T: Ord + Copy>(
        &mut self,
        what: &str,
        was: Option<T>,
        is: Option<T>,
        show: impl Fn(T) -> String,
    ) {
        let shown = |limit: Option<T>| limit.map_or_else(|| "no limit".to_owned(), &show);
        let effect = match (was, is) {
            (was, is) if was == is => return,
            (None, Some(_)) => Effect::Closes,
            (Some(_), None) => Effect::Opens,
            (Some(was), Some(is)) if is > was => Effect::Opens,
            _ => Effect::Closes,
        };
        self.push(effect, format!("{what}: {} → {}", shown(was), shown(is)));
    }

    fn switch(&mut self, what: &str, was: bool, is: bool) {
        match (was, is) {
            (false, true) => self.push(Effect::Opens, format!("{what} comes under observation: faults pass")),
            (true, false) => self.push(Effect::Closes, format!("{what} is no longer under observation")),
            _ => {}
        }
    }

    fn rules(&mut self) {
        for is in &self.new.records().rules {
            let named = self.old.records().rules.iter().find(|rule| rule.name == is.name);
            if let Some(was) = named {
                self.rule(was, is);
                continue;
            }
            // Under another name: what its publishers could do on these subjects before, at most.
            let same = |was: &&Rule| {
                was.pattern.overlaps(&is.pattern)
                    && was
                        .publishers
                        .iter()
                        .any(|party| is.publishers.iter().any(|other| other.who == party.who))
            };
            let before: Vec<&Rule> = self.old.records().rules.iter().filter(same).collect();
            let (name, pattern) = (&is.name, is.pattern.as_str());
            let Some(first) = before.first() else {
                // Its flows are told as such; that others than its publishers may send is not among them.
                self.switch(&format!("rule {name}"), false, is.observe);
                continue;
            };
            self.push(
                Effect::Changes,
                format!("rule {name} is new; on {pattern} envelopes named rule {}", first.name),
            );
            let per_second = most(before.iter().map(|rule| rule.rate.map(|rate| rate.per_second)));
            let burst = most(before.iter().map(|rule| rule.rate.map(|rate| rate.burst)));
            let rate = per_second.zip(burst).map(|(per_second, burst)| Rate { per_second, burst });
            self.rate(&format!("rule {name}, rate"), rate, is.rate);
            let bytes = before.iter().map(|rule| rule.max_bytes).max();
            self.limit(&format!("rule {name}, size"), bytes, Some(is.max_bytes), |n| format!("{n} bytes"));
            let fan_in = most(before.iter().map(|rule| rule.fan_in));
            self.limit(&format!("rule {name}, fan-in"), fan_in, is.fan_in, |n| n.to_string());
            self.switch(&format!("rule {name}"), before.iter().any(|rule| rule.observe), is.observe);
            let loosest = before
                .iter()
                .map(|rule| rule.hold.as_ref())
                .reduce(|loose, hold| if stricter(loose, hold) { hold } else { loose });
            self.hold(&format!("rule {name}, hold"), loosest.flatten(), is.hold.as_ref());
        }
    }

    /// Who must approve: less of it, or more who may, opens.
    fn hold(&mut self, what: &str, was: Option<&Hold>, is: Option<&Hold>) {
        if was == is {
            return;
        }
        let effect = match (stricter(was, is), stricter(is, was)) {
            (true, false) => Effect::Opens,
            (false, true) => Effect::Closes,
            // Other people, or fewer approvals in less time: something passes that did not.
            (false, false) => Effect::Opens,
            // The same people, asked in another order.
            (true, true) => Effect::Changes,
        };
        self.push(effect, format!("{what}: {} → {}", show_hold(was), show_hold(is)));
    }

    fn rule(&mut self, was: &Rule, is: &Rule) {
        let name = &is.name;
        self.rate(&format!("rule {name}, rate"), was.rate, is.rate);
        self.limit(&format!("rule {name}, size"), Some(was.max_bytes), Some(is.max_bytes), |n| {
            format!("{n} bytes")
        });
        self.limit(&format!("rule {name}, fan-in"), was.fan_in, is.fan_in, |n| n.to_string());
        self.switch(&format!("rule {name}"), was.observe, is.observe);
        self.hold(&format!("rule {name}, hold"), was.hold.as_ref(), is.hold.as_ref());
        if let (MessageKind::Request { deadline_ms: was }, MessageKind::Request { deadline_ms: is }) =
            (was.kind, is.kind)
            && was != is
        {
            self.push(Effect::Changes, format!("rule {name}, deadline: {was} ms → {is} ms"));
        }
        if was.default_label != is.default_label {
            let (was, is) =
                (self.old.tables().show(was.default_label), self.new.tables().show(is.default_label));
            self.push(Effect::Changes, format!("rule {name}, default label: {was} → {is}"));
        }
        for party in &is.subscribers {
            let before = was.subscribers.iter().find(|other| other.who == party.who);
            if before.is_some_and(|before| before.queue != party.queue) {
                let who = super::text(&party.who);
                self.push(Effect::Changes, format!("rule {name}, queue group of {who} is another"));
            }
        }
    }

    /// Both numbers count: a rate rose if either did.
    fn rate(&mut self, what: &str, was: Option<Rate>, is: Option<Rate>) {
        if let (Some(was), Some(is)) = (was, is)
            && was != is
            && (is.per_second > was.per_second || is.burst > was.burst)
        {
            return self
                .push(Effect::Opens, format!("{what}: {} → {}", show_pair(pair(was)), show_pair(pair(is))));
        }
        self.limit(what, was.map(pair), is.map(pair), show_pair);
    }

    fn teams(&mut self) {
        let (old, new) = (self.old, self.new);
        let names_agents = |records: &Records| {
            let parties =
                |rule: &Rule| rule.publishers.iter().chain(&rule.subscribers).cloned().collect::<Vec<_>>();
            records.rules.iter().flat_map(parties).any(|party| matches!(party.who, Who::Agent(_)))
        };
        for is in &new.tables().teams {
            let name = &is.name;
            let Some(was) = old.tables().team(name.as_str()) else {
                self.push(Effect::Changes, format!("team {name} is new"));
                self.switch(&format!("team {name}"), false, is.observe);
                continue;
            };
            let reach = |trial: &Trial, team: &Team| {
                let Clearance { level, compartments } = team.clearance;
                trial.tables().show(Label::new(level, compartments, team.integrity_ceiling))
            };
            if (was.clearance, was.integrity_ceiling) != (is.clearance, is.integrity_ceiling) {
                let rose = was.clearance.meet(is.clearance) != is.clearance
                    || is.integrity_ceiling > was.integrity_ceiling;
                // What it opens between teams is among the flows; of an agent that a rule names by itself
                // nobody knows the team here.
                let effect =
                    if rose && names_agents(new.records()) { Effect::Opens } else { Effect::Changes };
                self.push(
                    effect,
                    format!("team {name}, clearance: {} → {}", reach(old, was), reach(new, is)),
                );
            }
            match (was.taint, is.taint) {
                (TaintScope::Agent, TaintScope::Session) => self
                    .push(Effect::Opens, format!("team {name} forgets what it read when its session ends")),
                (TaintScope::Session, TaintScope::Agent) => {
                    self.push(Effect::Closes, format!("team {name} is held to what it read in all sessions"));
                }
                _ => {}
            }
            self.switch(&format!("team {name}"), was.observe, is.observe);
        }
        for was in old.tables().teams.iter().filter(|was| new.tables().team(was.name.as_str()).is_none()) {
            self.push(Effect::Closes, format!("team {} is gone: its agents are refused", was.name));
        }
    }

    fn grants(&mut self) {
        let (old, new) = (&self.old.records().grants, &self.new.records().grants);
        for is in new {
            let what = format!("flow grant {}: {}", is.name, self.describe(self.new, is));
            match old.iter().find(|was| was.name == is.name) {
                Some(was) if was == is => {}
                _ if old.iter().any(|was| permits(was, is)) => {
                    self.push(Effect::Changes, format!("{what}, which was allowed before"))
                }
                _ => self.push(Effect::Opens, what),
            }
        }
        for was in old.iter().filter(|was| !new.iter().any(|is| permits(is, was))) {
            let what = format!("flow grant {}: {}", was.name, self.describe(self.old, was));
            self.push(Effect::Closes, what);
        }
    }

    fn describe(&self, trial: &Trial, grant: &FlowGrant) -> String {
        let until =
            i64::try_from(grant.expires.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        format!(
            "team {} from {} on {} to {} on {} until {}{}",
            grant.team,
            trial.tables().show(grant.from_label),
            grant.from.as_str(),
            trial.tables().show(grant.to_label),
            grant.to.as_str(),
            until.map_or_else(|| "the end of time".to_owned(), |until| until.to_string()),
            grant.approval.as_ref().map(|hold| format!(", if approved by {hold}")).unwrap_or_default(),
        )
    }

    fn tables(&mut self) {
        let (old, new) = (self.old.tables(), self.new.tables());
        self.switch("everything", old.observe, new.observe);
        self.limit("readers of one key", Some(old.max_readers), Some(new.max_readers), |n| n.to_string());
        self.limit("freshness", Some(old.freshness_ms), Some(new.freshness_ms), |n| format!("{n} ms"));
        for (what, old, new) in [
            ("levels", &old.levels, &new.levels),
            ("compartments", &old.compartments, &new.compartments),
            ("integrity", &old.integrity, &new.integrity),
        ] {
            if !new.starts_with(old) {
                // Labels are numbers on the wire: what was sealed reads as something else.
                self.push(Effect::Opens, format!("{what} are renumbered: what was sealed is relabelled"));
            }
        }
        // A file says nothing of keys.
        if self.old.version() > 0 && self.new.version() > 0 {
            for _ in new.guards.iter().filter(|guard| !old.guards.contains(guard)) {
                self.push(Effect::Opens, "another guard may admit".to_owned());
            }
            for _ in old.guards.iter().filter(|guard| !new.guards.contains(guard)) {
                self.push(Effect::Closes, "a guard may no longer admit".to_owned());
            }
            if old.status_key != new.status_key {
                self.push(Effect::Opens, "another key signs status statements".to_owned());
            }
        }
    }
}

/// Whether whatever `narrow` lets pass `wide` lets pass too.
fn permits(wide: &FlowGrant, narrow: &FlowGrant) -> bool {
    let within =
        |wide: Option<u32>, narrow: Option<u32>| wide.is_none_or(|wide| narrow.is_some_and(|n| n <= wide));
    wide.team == narrow.team
        && wide.from.covers(&narrow.from)
        && wide.to.covers(&narrow.to)
        && wide.from_label.dominates(narrow.from_label)
        && narrow.to_label.dominates(wide.to_label)
        && narrow.expires <= wide.expires
        && stricter(narrow.approval.as_ref(), wide.approval.as_ref())
        && within(wide.max_bytes, narrow.max_bytes)
        && within(wide.rate.map(|rate| rate.per_second), narrow.rate.map(|rate| rate.per_second))
        && within(wide.rate.map(|rate| rate.burst), narrow.rate.map(|rate| rate.burst))
}

/// Whether whatever passes `strict` passes `loose` too.
fn stricter(strict: Option<&Hold>, loose: Option<&Hold>) -> bool {
    let Some(loose) = loose else { return true };
    let may = |key| loose.lists.iter().flat_map(|list| &list.people).any(|(_, other)| other == key);
    strict.is_some_and(|strict| {
        strict.approvals >= loose.approvals
            && strict.deadline_ms <= loose.deadline_ms
            && strict.lists.iter().flat_map(|list| &list.people).all(|(_, key)| may(key))
    })
}

fn show_hold(hold: Option<&Hold>) -> String {
    hold.map_or_else(|| "nobody need approve".to_owned(), Hold::to_string)
}

const fn pair(rate: Rate) -> (u32, u32) {
    (rate.per_second, rate.burst)
}

fn show_pair((per_second, burst): (u32, u32)) -> String {
    format!("{per_second} a second, {burst} at once")
}

/// The loosest of several limits, where `None` is none.
fn most<T: Ord>(limits: impl Iterator<Item = Option<T>>) -> Option<T> {
    limits.collect::<Option<Vec<T>>>()?.into_iter().max()
}

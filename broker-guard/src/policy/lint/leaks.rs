//! Flows that end below their level though each step is allowed.
//!
//! With floors enforced there are three: flow grants that together lift more than any of them says, a team whose
//! floor is forgotten with its session, and observe mode, which lets every step pass. The search is exact for what
//! the policy can tell: along each step the lowest label is followed, and no lower one can be reached by another.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ops::Range,
};

use sealbus_envelope::{
    label::{Label, LabelRange},
    name::Name,
    policy::{FlowGrant, MessageKind, Party, Rule, TaintScope, Who},
};

use super::{
    super::{
        diagnostic::{Code, Finding, Findings},
        flows::{readable, writable},
    },
    View,
};

/// Steps after which the search for chains of grants ends.
const MOST_STEPS: usize = 2_000_000;

pub(super) fn lint(view: &View<'_>, findings: &mut Findings) {
    let map = Map::new(view);
    map.grants(findings);
    for team in view.policy.teams.iter().map(|team| &team.record) {
        if team.taint == TaintScope::Session
            && let Some(down) = map.write_down(&team.name, None)
        {
            let message = format!("team `{}` forgets what it read when its session ends: {down}", team.name);
            findings.push(
                Finding::error(Code::ForgetfulTeam, message, view.places.taint(&team.name), "forgets")
                    .warning()
                    .help(
                        "an agent that keeps a memory between sessions writes down what it remembers: leave `taint` \
                         out, or be sure that its harness starts it empty",
                    ),
            );
        }
    }
    map.observed(findings);
}

/// Who reads and who writes which rules.
struct Map<'m> {
    view: &'m View<'m>,
    rules: Vec<&'m Rule>,
    reads: HashMap<&'m Who, Vec<usize>>,
    writes: HashMap<&'m Who, Vec<usize>>,
}

/// Information at one label, under one rule, and how it came there.
#[derive(Clone)]
struct State<'m> {
    rule: usize,
    label: Label,
    path: Vec<Hop<'m>>,
}

/// One step: who took it, by which grant, to which rule, at which label.
#[derive(Clone, Copy)]
struct Hop<'m> {
    who: &'m Who,
    grant: Option<&'m FlowGrant>,
    rule: usize,
    label: Label,
}

/// What a team may read and then publish lower, were it not held to its floor.
struct Down {
    read: String,
    written: String,
}

impl std::fmt::Display for Down {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it reads {}, then publishes {}", self.read, self.written)
    }
}

impl<'m> Map<'m> {
    fn new(view: &'m View<'m>) -> Self {
        let rules: Vec<&Rule> = view.rules().collect();
        let mut map = Self { view, rules, reads: HashMap::new(), writes: HashMap::new() };
        for (n, rule) in map.rules.iter().enumerate() {
            let both = matches!(rule.kind, MessageKind::Request { .. });
            let parties = |list: &'m [Party]| list.iter().map(|party| &party.who);
            for (who, publishes) in parties(&rule.publishers)
                .map(|who| (who, true))
                .chain(parties(&rule.subscribers).map(|who| (who, false)))
            {
                if publishes || both {
                    push_new(map.writes.entry(who).or_default(), n);
                }
                if !publishes || both {
                    push_new(map.reads.entry(who).or_default(), n);
                }
            }
        }
        map
    }

    fn rule(&self, n: usize) -> Option<&'m Rule> {
        self.rules.get(n).copied()
    }

    fn readable(&self, who: &Who, rule: &Rule) -> Option<LabelRange> {
        readable(rule.labels, self.view.trial.clearance_of(&party(who)))
    }

    /// The lowest label at least `least` that `who` can write under the rule.
    fn lowest(&self, who: &Who, rule: &Rule, least: Label) -> Option<Label> {
        let party = party(who);
        let trial = self.view.trial;
        let range = writable(rule.labels, trial.clearance_of(&party), trial.ceiling_of(&party))?;
        let label = range.low.join(least);
        range.contains(label).then_some(label)
    }

    fn grants(&self, findings: &mut Findings) {
        let grants: Vec<&FlowGrant> = self.view.policy.grants.iter().map(|grant| &grant.record).collect();
        if grants.len() < 2 {
            return;
        }
        let mut steps = 0;
        for &first in &grants {
            let lifted = self.lifted(first);
            if lifted.is_empty() {
                continue;
            }
            let mut reported = HashSet::new();
            let mut lowest: HashMap<usize, Vec<Label>> = HashMap::new();
            let who = Who::Team(first.team.clone());
            let Some((who, _)) = self.writes.get_key_value(&who) else { continue };
            let mut queue: VecDeque<State<'m>> = self.lift(who, first, &[]).collect();
            while let Some(state) = queue.pop_front() {
                steps += 1;
                if steps > MOST_STEPS {
                    // Never silently: what is not searched may leak.
                    let message = "the flow grants make too many chains to search them all for leaks";
                    findings.push(
                        Finding::error(
                            Code::LeaksNotSearched,
                            message,
                            self.view.places.grant(&first.name),
                            "the search ended here",
                        )
                        .warning()
                        .help("narrow the grants, so that fewer of them can follow one another"),
                    );
                    return;
                }
                let known = lowest.entry(state.rule).or_default();
                if known.iter().any(|known| state.label.dominates(*known)) {
                    continue;
                }
                known.push(state.label);
                self.report(first, &lifted, &state, &grants, &mut reported, findings);
                queue.extend(self.onward(&state, &grants));
            }
        }
    }

    /// What a grant lifts: the highest label that its team reads under each rule it covers.
    fn lifted(&self, grant: &FlowGrant) -> Vec<(usize, Label)> {
        let reads = self.reads.get(&Who::Team(grant.team.clone()));
        let covered = reads.into_iter().flatten().filter_map(|n| Some((*n, self.rule(*n)?)));
        covered
            .filter(|(_, rule)| grant.from.covers(&rule.pattern))
            .filter_map(|(n, rule)| {
                let range = self.readable(&Who::Team(grant.team.clone()), rule)?;
                let top = range.high.meet(grant.from_label);
                range.contains(top).then_some((n, top))
            })
            .collect()
    }

    /// Where the holder of a grant can put what it lifts.
    fn lift(
        &self,
        who: &'m Who,
        grant: &'m FlowGrant,
        path: &[Hop<'m>],
    ) -> impl Iterator<Item = State<'m>> + use<'_, 'm> {
        let path = path.to_vec();
        self.writes.get(who).into_iter().flatten().filter_map(move |n| {
            let rule = self.rule(*n).filter(|rule| grant.to.overlaps(&rule.pattern))?;
            let label = self.lowest(who, rule, grant.to_label)?;
            Some(state(&path, Hop { who, grant: Some(grant), rule: *n, label }))
        })
    }

    /// Where it goes from there, with the floor of whoever read it and without.
    fn onward(&self, at: &State<'m>, grants: &[&'m FlowGrant]) -> Vec<State<'m>> {
        let Some(rule) = self.rule(at.rule) else { return Vec::new() };
        let both = matches!(rule.kind, MessageKind::Request { .. });
        let askers = rule.publishers.iter().filter(|_| both);
        let mut next = Vec::new();
        for who in rule.subscribers.iter().chain(askers).map(|party| &party.who) {
            if !self.readable(who, rule).is_some_and(|range| range.contains(at.label)) {
                continue;
            }
            for n in self.writes.get(who).into_iter().flatten() {
                let label = self.rule(*n).and_then(|rule| self.lowest(who, rule, at.label));
                next.extend(label.map(|label| state(&at.path, Hop { who, grant: None, rule: *n, label })));
            }
            let of_use = |grant: &&&FlowGrant| {
                matches!(who, Who::Team(team) if *team == grant.team)
                    && grant.from.covers(&rule.pattern)
                    && grant.lifts(at.label)
            };
            for grant in grants.iter().filter(of_use) {
                next.extend(self.lift(who, grant, &at.path));
            }
        }
        next
    }

    fn report(
        &self,
        first: &'m FlowGrant,
        lifted: &[(usize, Label)],
        at: &State<'m>,
        grants: &[&FlowGrant],
        reported: &mut HashSet<&'m str>,
        findings: &mut Findings,
    ) {
        let Some(last) = at.path.iter().rev().find_map(|hop| hop.grant) else { return };
        let declared = |from: Label| {
            at.label.dominates(from)
                || grants.iter().any(|grant| grant.lifts(from) && at.label.dominates(grant.to_label))
        };
        let Some((origin, from)) = lifted.iter().find(|(_, from)| !declared(*from)) else { return };
        if last.name == first.name || !reported.insert(last.name.as_str()) {
            return;
        }
        let view = self.view;
        let name = |n: usize| self.rule(n).map_or("?", |rule| rule.name.as_str());
        let path: Vec<String> = at
            .path
            .iter()
            .map(|hop| {
                let by = hop.grant.map(|grant| format!(" by `{}`", grant.name)).unwrap_or_default();
                format!("{}{by} → `{}` at {}", show(hop.who), name(hop.rule), view.show(hop.label))
            })
            .collect();
        let message = format!(
            "flow grants `{}` and `{}` together let {} of rule `{}` end at {}, which neither says",
            first.name,
            last.name,
            view.show(*from),
            name(*origin),
            view.show(at.label)
        );
        findings.push(
            Finding::error(Code::LeakingGrants, message, view.places.grant(&last.name), "lifts it again")
                .also(view.places.grant(&first.name), "lifts it first")
                .warning()
                .help(format!(
                    "the way: `{}` → {}; narrow `from` or `from_label` of `{}`, or say the whole step in one grant",
                    name(*origin),
                    path.join(" → "),
                    last.name
                )),
        );
    }

    /// A way for a team to write down, were it not held to its floor; under `only` that rule, if given.
    fn write_down(&self, team: &Name, only: Option<&Rule>) -> Option<Down> {
        let who = Who::Team(team.clone());
        let read = self.reads.get(&who)?.iter().filter_map(|n| self.rule(*n));
        let written: Vec<&Rule> = match only {
            Some(rule) => self.rules.iter().copied().filter(|one| one.name == rule.name).collect(),
            None => self.writes.get(&who)?.iter().filter_map(|n| self.rule(*n)).collect(),
        };
        let lowest: Vec<(&Rule, Label)> = written
            .into_iter()
            .filter_map(|rule| Some((rule, self.lowest(&who, rule, Label::BOTTOM)?)))
            .collect();
        let (from, high, (to, low)) =
            read.filter_map(|from| Some((from, self.readable(&who, from)?.high))).find_map(
                |(from, high)| Some((from, high, *lowest.iter().find(|(_, low)| !low.dominates(high))?)),
            )?;
        Some(Down {
            read: format!("{} under `{}`", self.view.show(high), from.name),
            written: format!("{} under `{}`", self.view.show(low), to.name),
        })
    }

    fn observed(&self, findings: &mut Findings) {
        let view = self.view;
        let mut warn = |what: String, span: Range<usize>, down: Option<(&Name, Down)>| {
            let way = down.map(|(team, down)| format!("; say of team `{team}`: {down}")).unwrap_or_default();
            let message =
                format!("{what} is under observation: neither rules nor floors hold, only clearances{way}");
            findings.push(
                Finding::error(Code::Observed, message, span, "faults are recorded and let pass")
                    .warning()
                    .help("see `sealbus policy observed`; remove `observe` when nothing would be denied"),
            );
        };
        let teams = || view.policy.teams.iter().map(|team| &team.record);
        if let Some(on) = view.places.raw.observe.as_ref().filter(|on| on.value) {
            let down = teams().find_map(|team| Some((&team.name, self.write_down(&team.name, None)?)));
            warn("the whole policy".to_owned(), on.span.clone(), down);
        }
        for team in teams().filter(|team| team.observe) {
            let raw = view.places.teams.get(team.name.as_str()).and_then(|(_, raw)| raw.observe.as_ref());
            let span = raw.map_or_else(|| view.places.team(&team.name), |on| on.span.clone());
            let down = self.write_down(&team.name, None).map(|down| (&team.name, down));
            warn(format!("team `{}`", team.name), span, down);
        }
        for rule in self.rules.iter().filter(|rule| rule.observe) {
            let raw = view.places.rules.get(rule.name.as_str()).and_then(|(_, raw)| raw.observe.as_ref());
            let span = raw.map_or_else(|| view.places.rule(&rule.name), |on| on.span.clone());
            let down = teams().find_map(|team| Some((&team.name, self.write_down(&team.name, Some(rule))?)));
            warn(format!("rule `{}`", rule.name), span, down);
        }
    }
}

fn push_new(list: &mut Vec<usize>, n: usize) {
    if list.last() != Some(&n) {
        list.push(n);
    }
}

fn state<'m>(path: &[Hop<'m>], hop: Hop<'m>) -> State<'m> {
    let path = path.iter().copied().chain([hop]).collect();
    State { rule: hop.rule, label: hop.label, path }
}

fn party(who: &Who) -> Party {
    Party { who: who.clone(), queue: None }
}

fn show(who: &Who) -> String {
    match who {
        Who::Team(team) => format!("team `{team}`"),
        Who::Agent(agent) => format!("agent `{agent}`"),
    }
}

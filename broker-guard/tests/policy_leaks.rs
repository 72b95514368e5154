//! The search for flow grants that leak together, against a search of every rule and label that knows no order
//! of labels beyond the definition.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fmt::Write as _};

use proptest::prelude::*;
use sealbus_envelope::time::Millis;
use sealbus_guard::policy::{self, diagnostic::Code, source::PolicySource};

const LEVELS: usize = 4;
const RANKS: usize = 2;
const TEAMS: usize = 3;
const RULES: usize = 4;

/// Level and rank: as much of a label as shows what is above what.
type Label = (usize, usize);

fn dominates(a: Label, b: Label) -> bool {
    a.0 >= b.0 && a.1 <= b.1
}

#[derive(Debug, Clone)]
struct Rule {
    from: usize,
    to: usize,
    request: bool,
    levels: (usize, usize),
}

#[derive(Debug, Clone)]
struct Grant {
    team: usize,
    from: usize,
    to: usize,
    lifts: Label,
    gives: Label,
}

#[derive(Debug, Clone)]
struct World {
    ceilings: Vec<usize>,
    rules: Vec<Rule>,
    grants: Vec<Grant>,
}

/// Mostly a ring of teams, each with a grant to lift what it hands on: chains are rare otherwise.
fn a_world() -> impl Strategy<Value = World> {
    let levels = prop::collection::vec(0..LEVELS, 3).prop_map(|all| {
        (all.iter().copied().min().unwrap_or_default(), all.iter().copied().max().unwrap_or_default())
    });
    let rule = (0..TEAMS, 0..TEAMS, prop::bool::weighted(0.2), levels, prop::bool::weighted(0.8));
    let two = || (0..LEVELS, 0..LEVELS);
    let lifts = (two(), 0..RANKS).prop_map(|((a, b), rank)| (a.max(b), rank));
    let gives = (two(), 0..RANKS).prop_map(|((a, b), rank)| (a.min(b), rank));
    let grant = (0..RULES, 0..RULES, 0..TEAMS, lifts, gives, prop::bool::weighted(0.8));
    let ceilings = prop::collection::vec(0..RANKS, TEAMS);
    (ceilings, prop::collection::vec(rule, RULES), prop::collection::vec(grant, 2..7)).prop_map(
        |(ceilings, rules, grants)| {
            let rules = rules.into_iter().enumerate().map(|(n, (from, to, request, levels, ring))| {
                let (from, to) = if ring { (n % TEAMS, (n + 1) % TEAMS) } else { (from, to) };
                Rule { from, to, request, levels }
            });
            let grants = grants.into_iter().map(|(from, to, team, lifts, gives, ring)| {
                let (to, team) = if ring { ((from + 1) % RULES, (from + 1) % TEAMS) } else { (to, team) };
                Grant { team, from, to, lifts, gives }
            });
            World { ceilings, rules: rules.collect(), grants: grants.collect() }
        },
    )
}

impl World {
    fn text(&self) -> String {
        let mut text =
            String::from("levels = [\"l0\", \"l1\", \"l2\", \"l3\"]\nintegrity = [\"r0\", \"r1\"]\n");
        for (n, ceiling) in self.ceilings.iter().enumerate() {
            let _ =
                write!(text, "[teams.t{n}]\nclearance = {{ level = \"l3\" }}\nintegrity = \"r{ceiling}\"\n");
        }
        for (n, rule) in self.rules.iter().enumerate() {
            let Rule { from, to, request, levels: (low, high) } = rule;
            let kind = if *request { "request" } else { "stream" };
            let _ = write!(
                text,
                "[rules.r{n}]\npattern = \"s{n}\"\nkind = \"{kind}\"\npublishers = [\"t{from}\"]\n\
                 subscribers = [\"t{to}\"]\nlabels = {{ level = {{ min = \"l{low}\", max = \"l{high}\" }} }}\n\
                 default = {{ level = \"l{low}\", integrity = \"r0\" }}\n"
            );
        }
        for (n, grant) in self.grants.iter().enumerate() {
            let Grant { team, from, to, lifts, gives } = grant;
            let _ = write!(
                text,
                "[grants.g{n}]\nteam = \"t{team}\"\nfrom = \"s{from}\"\nto = \"s{to}\"\n\
                 from_label = {{ level = \"l{}\", integrity = \"r{}\" }}\n\
                 to_label = {{ level = \"l{}\", integrity = \"r{}\" }}\nexpires = 2027-06-30\nreason = \"test\"\n",
                lifts.0, lifts.1, gives.0, gives.1
            );
        }
        text
    }

    fn reads(&self, team: usize, rule: usize) -> bool {
        let rule = &self.rules[rule];
        rule.to == team || (rule.request && rule.from == team)
    }

    fn writes(&self, team: usize, rule: usize, (level, rank): Label) -> bool {
        let rule = &self.rules[rule];
        (rule.from == team || (rule.request && rule.to == team))
            && (rule.levels.0..=rule.levels.1).contains(&level)
            && rank <= self.ceilings[team]
    }

    fn labels(&self, rule: usize) -> impl Iterator<Item = Label> + use<> {
        let (low, high) = self.rules[rule].levels;
        (low..=high).flat_map(|level| (0..RANKS).map(move |rank| (level, rank)))
    }

    /// Whether information of some rule and label ends at one that neither dominates it nor is what a single
    /// grant says.
    fn leaks(&self) -> bool {
        (0..self.rules.len()).any(|rule| self.labels(rule).any(|label| self.leaks_from(rule, label)))
    }

    fn leaks_from(&self, rule: usize, origin: Label) -> bool {
        let mut seen = BTreeSet::from([(rule, origin)]);
        let mut open = vec![(rule, origin)];
        while let Some((rule, label)) = open.pop() {
            let said = dominates(label, origin)
                || self.grants.iter().any(|g| dominates(g.lifts, origin) && dominates(label, g.gives));
            if !said {
                return true;
            }
            for team in (0..TEAMS).filter(|team| self.reads(*team, rule)) {
                for next in 0..self.rules.len() {
                    for at in self.labels(next).filter(|at| self.writes(team, next, *at)) {
                        let lifted = |g: &Grant| {
                            g.team == team
                                && (g.from, g.to) == (rule, next)
                                && dominates(g.lifts, label)
                                && dominates(at, g.gives)
                        };
                        let may = dominates(at, label) || self.grants.iter().any(lifted);
                        if may && seen.insert((next, at)) {
                            open.push((next, at));
                        }
                    }
                }
            }
        }
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn chains_of_grants_are_warned_of_exactly_where_they_leak(world in a_world()) {
        let reviewed = policy::review(&PolicySource::new("random.toml", world.text()), Millis(0));
        let Ok(reviewed) = reviewed else {
            return Err(TestCaseError::fail(format!("{:?}", reviewed.unwrap_err().as_slice())));
        };
        let warned = reviewed.warnings.as_slice().iter().any(|finding| finding.code == Code::LeakingGrants);
        prop_assert_eq!(warned, world.leaks(), "{}", world.text());
    }
}

#[test]
fn some_random_policies_leak_and_some_do_not() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let worlds: Vec<World> = (0..300).map(|_| a_world().new_tree(&mut runner).unwrap().current()).collect();
    let leaking = worlds.iter().filter(|world| world.leaks()).count();
    assert!((10..290).contains(&leaking), "{leaking} of 300 leak");
}

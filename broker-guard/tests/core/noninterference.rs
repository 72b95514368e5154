//! Non-interference: whatever agents do and say, no information reaches who is not cleared for it, and none is
//! passed off as more trustworthy than it is, but along a named flow grant or where observe mode lets it.
//!
//! Information is followed as tokens. Whatever an agent says is taken to hold everything that it was ever given to
//! open, and whatever a key is handed to is taken to know everything that was ever sealed with it: agents say what they
//! like of parents, labels and sources, and a key's own bytes may tell what its maker knows. The guard's decisions are
//! also compared one by one with those of [`reference`](super::reference).

use std::collections::{BTreeSet, HashMap};

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use sealbus_envelope::{
    control::{self, Readers, Subscribed, kind, verb},
    hash::Hash,
    label::{Clearance, Compartments, Integrity, Label, LabelRange, Level},
    name::Name,
    policy::{self, MessageKind, Party, Rate, Records, Tables, TaintScope, Who},
    reason::Reason,
    subject::Pattern,
    wire::Parent,
};
use sealbus_guard::audit::entry::Body;

use super::{
    reference::{Exception, Law, Mark, Person, Reading, Rule, Saying, Team, Wish, matches, outcome},
    world::{Agent, Did, START, Sending, World, name},
};

const PATTERNS: [&str; 5] = ["a.>", "a.x", "*.x", "b.x", ">"];
const PLACES: [&str; 3] = ["a.x", "a.y", "b.x"];
const RULES: [&str; 4] = ["r-one", "r-two", "r-three", "r-four"];
const EXCEPTIONS: [&str; 3] = ["g-one", "g-two", "g-none"];
const PEOPLE: usize = 3;
/// Two sessions of each agent.
const SEATS: usize = 2 * PEOPLE;
const HOUR: u64 = 3_600_000;

// ---- what is tried ----

fn a_mark(most: &Mark) -> impl Strategy<Value = Mark> + use<> {
    let all: Vec<u8> = most.compartments.iter().copied().collect();
    let some = 0..=all.len();
    (0..=most.level, prop::sample::subsequence(all, some), 0..=most.rank).prop_map(
        |(level, compartments, rank)| Mark { level, compartments: compartments.into_iter().collect(), rank },
    )
}

/// Mostly able, so that many wishes get as far as the last check.
fn able(most: &Mark) -> impl Strategy<Value = Mark> + use<> {
    prop_oneof![2 => Just(most.clone()), 1 => a_mark(most)]
}

fn some_teams() -> impl Strategy<Value = BTreeSet<usize>> {
    prop_oneof![
        3 => Just((0..PEOPLE).collect()),
        2 => prop::collection::btree_set(0..PEOPLE, 1..=PEOPLE),
    ]
}

fn a_team(most: &Mark) -> impl Strategy<Value = Team> + use<> {
    (able(most), any::<bool>(), prop::bool::weighted(0.04)).prop_map(|(cleared, forgets, observed)| Team {
        cleared,
        forgets,
        observed,
    })
}

fn a_rule(most: &Mark, name: &'static str) -> impl Strategy<Value = Rule> + use<> {
    (
        prop::sample::select(PATTERNS.to_vec()),
        prop::bool::weighted(0.25),
        (some_teams(), some_teams()),
        (a_mark(most), able(most), able(most)),
        prop::option::weighted(0.15, 1..3_u32),
        prop::bool::weighted(0.04),
    )
        .prop_map(
            move |(pattern, request, (publishers, subscribers), (a, b, ranks), fan_in, observed)| Rule {
                name,
                pattern,
                request,
                publishers,
                subscribers,
                low: Mark {
                    level: a.level.min(b.level).saturating_sub(1),
                    compartments: a.compartments.intersection(&b.compartments).copied().collect(),
                    rank: ranks.rank.max(a.rank),
                },
                high: Mark {
                    level: a.level.max(b.level),
                    compartments: a.compartments.union(&b.compartments).copied().collect(),
                    rank: ranks.rank.min(b.rank).min(a.rank),
                },
                fan_in,
                observed,
            },
        )
}

fn an_exception(most: &Mark, name: &'static str) -> impl Strategy<Value = Exception> + use<> {
    let pattern = || prop_oneof![1 => Just(">"), 2 => prop::sample::select(PATTERNS.to_vec())];
    let (lowest, highest) =
        (Mark { level: 0, compartments: BTreeSet::new(), ..most.clone() }, Mark { rank: 0, ..most.clone() });
    (
        0..PEOPLE,
        (pattern(), pattern()),
        (
            prop_oneof![2 => Just(highest), 1 => a_mark(most)],
            prop_oneof![2 => Just(lowest), 1 => a_mark(most)],
        ),
        prop::bool::weighted(0.1),
        prop::sample::select(vec![HOUR, 1_000_000 * HOUR]),
    )
        .prop_map(move |(team, (from, to), (from_mark, to_mark), small, ends)| Exception {
            name,
            team,
            from,
            to,
            from_mark,
            to_mark,
            small,
            ends: START.0 + ends,
        })
}

fn a_law(most: &Mark) -> impl Strategy<Value = Law> + use<> {
    let rules: Vec<_> = RULES.iter().map(|name| prop::option::weighted(0.9, a_rule(most, name))).collect();
    let exceptions: Vec<_> =
        EXCEPTIONS[..2].iter().map(|name| prop::option::weighted(0.8, an_exception(most, name))).collect();
    let declared = most.clone();
    (prop::collection::vec(a_team(most), PEOPLE), rules, exceptions, prop::bool::weighted(0.04)).prop_map(
        move |(teams, rules, exceptions, observed)| Law {
            declared: declared.clone(),
            teams,
            rules: rules.into_iter().flatten().collect(),
            exceptions: exceptions.into_iter().flatten().collect(),
            observed,
        },
    )
}

#[derive(Debug, Clone)]
struct Universe {
    laws: Vec<Law>,
    people: Vec<Person>,
}

fn a_universe() -> impl Strategy<Value = Universe> {
    (prop::sample::select(vec![0, 1, 1, 2]), 0..3_u8, 0..3_u8).prop_flat_map(|(level, compartments, rank)| {
        let most = Mark { level, compartments: (0..compartments).collect(), rank };
        let person = |team: usize| able(&most).prop_map(move |papers| Person { team, papers });
        let people: Vec<_> = (0..PEOPLE).map(person).collect();
        (prop::collection::vec(a_law(&most), 1..3), people)
            .prop_map(|(laws, people)| Universe { laws, people })
    })
}

/// Which mark: an end of the rule's range, or any.
#[derive(Debug, Clone)]
enum Choice {
    Low,
    High,
    Any(Mark),
}

#[derive(Debug, Clone)]
enum Step {
    Read { who: usize, rule: usize },
    Open { who: usize, rule: usize, mark: Choice, asker: Option<usize>, hand_out: bool, fit: bool },
    HandOut { key: usize },
    Say { key: usize, place: usize, exception: Option<usize>, parents: Vec<Mark>, reply: bool, fit: bool },
    Hello { who: usize },
    Leave { who: usize },
    Return { who: usize },
    Replace { law: usize },
    Restart,
    Pass { ms: u64 },
}

fn a_step() -> impl Strategy<Value = Step> {
    // One more of each than is declared.
    let wide = Mark { level: 3, compartments: (0..3).collect(), rank: 3 };
    let (who, rule) = (0..SEATS, 0..RULES.len());
    let choice = prop_oneof![3 => Just(Choice::Low), 2 => Just(Choice::High), 1 => a_mark(&wide).prop_map(Choice::Any)];
    prop_oneof![
        4 => (who.clone(), rule.clone()).prop_map(|(who, rule)| Step::Read { who, rule }),
        8 => (
            who.clone(), rule, choice, prop::option::weighted(0.3, who.clone()), prop::bool::weighted(0.8),
            prop::bool::weighted(0.8),
        ).prop_map(|(who, rule, mark, asker, hand_out, fit)| Step::Open { who, rule, mark, asker, hand_out, fit }),
        5 => any::<usize>().prop_map(|key| Step::HandOut { key }),
        16 => (
            any::<usize>(), 0..PLACES.len(), prop::option::weighted(0.5, 0..EXCEPTIONS.len()),
            prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(a_mark(&wide), 1..3)], any::<bool>(),
            prop::bool::weighted(0.85),
        ).prop_map(|(key, place, exception, parents, reply, fit)| {
            Step::Say { key, place, exception, parents, reply, fit }
        }),
        1 => who.clone().prop_map(|who| Step::Hello { who }),
        1 => who.clone().prop_map(|who| Step::Leave { who }),
        2 => who.prop_map(|who| Step::Return { who }),
        1 => (0..2_usize).prop_map(|law| Step::Replace { law }),
        1 => Just(Step::Restart),
        1 => prop::sample::select(vec![1_000, 20_000, 2 * HOUR]).prop_map(|ms| Step::Pass { ms }),
    ]
}

// ---- the same for the guard ----

fn label(mark: &Mark) -> Label {
    let bits = mark.compartments.iter().fold(0, |bits, one| bits | 1 << one);
    Label::new(
        Level::new(mark.level).unwrap(),
        Compartments::from_bits(bits),
        Integrity::new(mark.rank).unwrap(),
    )
}

fn clearance(mark: &Mark) -> Clearance {
    Clearance { level: label(mark).level, compartments: label(mark).compartments }
}

fn team_name(team: usize) -> Name {
    name(&format!("team{team}"))
}

fn records(law: &Law, tables: Tables) -> Records {
    let names =
        |what: &str, count: usize| (0..count).map(|n| name(&format!("{what}{n}"))).collect::<Vec<_>>();
    let party = |team: &usize| Party { who: Who::Team(team_name(*team)), queue: None };
    let team = |(n, team): (usize, &Team)| policy::Team {
        name: team_name(n),
        clearance: clearance(&team.cleared),
        integrity_ceiling: label(&team.cleared).integrity,
        zone: None,
        oversight: None,
        taint: if team.forgets { TaintScope::Session } else { TaintScope::Agent },
        observe: team.observed,
    };
    let rule = |rule: &Rule| policy::Rule {
        name: name(rule.name),
        pattern: Pattern::parse(rule.pattern).unwrap(),
        kind: if rule.request { MessageKind::Request { deadline_ms: 10_000 } } else { MessageKind::Stream },
        publishers: rule.publishers.iter().map(party).collect(),
        subscribers: rule.subscribers.iter().map(party).collect(),
        labels: LabelRange { low: label(&rule.low), high: label(&rule.high) },
        default_label: label(&rule.low),
        max_bytes: 1 << 20,
        rate: None,
        fan_in: rule.fan_in,
        hold: None,
        oversight: None,
        observe: rule.observed,
    };
    let grant = |one: &Exception| policy::FlowGrant {
        name: name(one.name),
        team: team_name(one.team),
        from: Pattern::parse(one.from).unwrap(),
        to: Pattern::parse(one.to).unwrap(),
        from_label: label(&one.from_mark),
        to_label: label(&one.to_mark),
        max_bytes: one.small.then_some(1),
        rate: Some(Rate { per_second: 1_000_000, burst: 1_000_000 }),
        expires: sealbus_envelope::time::Millis(one.ends),
        approval: None,
    };
    Records {
        supervision: None,
        tables: Tables {
            levels: names("level", usize::from(law.declared.level) + 1),
            compartments: names("compartment", law.declared.compartments.len()),
            integrity: names("rank", usize::from(law.declared.rank) + 1),
            teams: law.teams.iter().enumerate().map(team).collect(),
            observe: law.observed,
            ..tables
        },
        rules: law.rules.iter().map(rule).collect(),
        grants: law.exceptions.iter().map(grant).collect(),
    }
}

// ---- the trace ----

/// A piece of information: whose it was when it was first said, and what it may be told under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Token {
    said: usize,
    mark: Mark,
}

struct Seat {
    person: usize,
    agent: Agent,
    /// Sessions are told apart for ever.
    session: usize,
    live: bool,
    /// By rule: the pattern, and whether it serves.
    reads: HashMap<&'static str, (&'static str, bool)>,
}

struct Key {
    seat: usize,
    session: usize,
    sending: Sending,
    rule: &'static str,
    mark: Mark,
    asker: Option<usize>,
    open: bool,
    /// Who the guard knows to hold it, by session.
    granted: BTreeSet<usize>,
    /// From when on it is refused.
    stale: Option<u64>,
    /// All that was ever sealed with it, or that its bytes may tell.
    tells: BTreeSet<Token>,
}

struct Asked {
    request: Hash,
    asker: usize,
    responder: usize,
    rule: &'static str,
    place: &'static str,
    until: u64,
}

#[derive(Debug, Default)]
struct Counts {
    handed: usize,
    said: usize,
    excepted: usize,
    observed: usize,
    below_floor: usize,
    replies: usize,
}

struct Trace {
    world: Option<World>,
    laws: Vec<Law>,
    law: Law,
    people: Vec<Person>,
    seats: Vec<Seat>,
    keys: Vec<Key>,
    readings: Vec<Reading>,
    asked: Vec<Asked>,
    observed: HashMap<Hash, Option<Reason>>,
    sessions: usize,
    counts: Counts,
}

impl Trace {
    fn new(universe: &Universe) -> Self {
        let Universe { laws, people } = universe.clone();
        let law = laws[0].clone();
        let world = World::under(|tables| records(&law, tables));
        let mut trace = Self {
            laws,
            law,
            people,
            seats: vec![],
            keys: vec![],
            readings: vec![],
            asked: vec![],
            observed: HashMap::new(),
            sessions: 0,
            counts: Counts::default(),
            world: Some(world),
        };
        for seat in 0..SEATS {
            let person = seat / 2;
            let Person { team, papers } = trace.people[person].clone();
            let agent = if seat % 2 == 0 {
                trace.world().agent_as(&format!("agent{person}"), &format!("team{team}"), |claims| {
                    claims.clearance = clearance(&papers);
                    claims.integrity_ceiling = label(&papers).integrity;
                })
            } else {
                trace.world.as_ref().unwrap().restart(&trace.seats[seat - 1].agent)
            };
            let session = trace.next_session();
            trace.seats.push(Seat { person, agent, session, live: false, reads: HashMap::new() });
            trace.hello(seat);
        }
        trace
    }

    fn world(&mut self) -> &mut World {
        self.world.as_mut().unwrap()
    }

    fn now(&self) -> u64 {
        self.world.as_ref().unwrap().now.0
    }

    fn next_session(&mut self) -> usize {
        self.sessions += 1;
        self.sessions
    }

    /// Says hello with all its open keys: to a guard that knows them nothing changes, to a new one each is tried anew.
    fn hello(&mut self, seat: usize) {
        let mine = self.open_keys(seat);
        self.hello_with(seat, &mine);
    }

    fn open_keys(&self, seat: usize) -> Vec<usize> {
        let session = self.seats[seat].session;
        (0..self.keys.len()).filter(|&key| self.keys[key].session == session && self.keys[key].open).collect()
    }

    fn hello_with(&mut self, seat: usize, mine: &[usize]) {
        let known = self.seats[seat].live;
        let keys: Vec<&Sending> = mine.iter().map(|&key| &self.keys[key].sending).collect();
        let message = self.seats[seat].agent.hello_message(&keys);
        let agent = &self.seats[seat].agent;
        let did = self.world.as_mut().unwrap().control(agent, verb::HELLO, message);
        self.seats[seat].live = true;
        if known {
            return;
        }
        for &key in mine {
            self.keys[key].open = false;
        }
        for &key in mine {
            self.judge_open(&did, key);
        }
    }

    fn wish(&self, key: usize) -> Wish<'_> {
        let key = &self.keys[key];
        Wish {
            person: self.seats[key.seat].person,
            session: key.session,
            rule: key.rule,
            mark: &key.mark,
            answers: key.asker.is_some(),
        }
    }

    fn verdict(&self, key: usize) -> Result<Option<Reason>, Reason> {
        let wish = self.wish(key);
        let person = &self.people[wish.person];
        let of = |key: &Key| self.seats[key.seat].person;
        let others: BTreeSet<usize> = self
            .keys
            .iter()
            .filter(|other| other.open && other.rule == wish.rule && other.asker.is_some() == wish.answers)
            .map(of)
            .filter(|other| *other != wish.person)
            .collect();
        let faults = self.law.key_faults(person, &wish, &self.readings, others.len(), self.now());
        let observed = self.law.rule(wish.rule).is_some_and(|rule| self.law.observes(rule, person));
        outcome(&faults, observed)
    }

    fn judge_open(&mut self, did: &Did, key: usize) {
        let agent = &self.seats[self.keys[key].seat].agent;
        let told: Vec<Readers> = did.told(agent, kind::READERS);
        let told = told.iter().find(|told| told.key == self.keys[key].sending.key.id());
        let refused = told.unwrap().refused;
        assert_eq!(
            refused,
            self.verdict(key).err(),
            "opening {:?} for {:?}",
            self.keys[key].mark,
            self.keys[key].rule
        );
        if refused.is_some() {
            return;
        }
        let of = |key: &Key| (key.session, key.rule, key.mark.clone(), key.asker);
        let purpose = of(&self.keys[key]);
        self.keys[key].open = true;
        let same: Vec<usize> = (0..self.keys.len())
            .filter(|&other| self.keys[other].open && of(&self.keys[other]) == purpose)
            .collect();
        // Two epochs are in use at once.
        for &old in &same[..same.len().saturating_sub(2)] {
            self.keys[old].open = false;
        }
    }

    fn open(
        &mut self,
        seat: usize,
        rule: &'static str,
        choice: &Choice,
        asker: Option<usize>,
    ) -> Option<usize> {
        if !self.seats[seat].live {
            return None;
        }
        let mark = match (choice, self.law.rule(rule)) {
            (Choice::Any(mark), _) => mark.clone(),
            (Choice::Low, Some(rule)) => rule.low.clone(),
            (Choice::High, Some(rule)) => rule.high.clone(),
            (_, None) => return None,
        };
        let (asker, to) = match asker.filter(|asker| *asker != seat) {
            Some(asker) => (Some(self.seats[asker].session), Some(self.seats[asker].agent.session())),
            None => (None, None),
        };
        let epoch = u32::try_from(self.keys.len()).unwrap();
        let sending = self.seats[seat].agent.make_key(rule, label(&mark), epoch, to);
        let did = self.seats[seat].agent.open(self.world.as_mut().unwrap(), &[&sending]);
        self.keys.push(Key {
            seat,
            session: self.seats[seat].session,
            sending,
            rule,
            mark,
            asker,
            open: false,
            granted: BTreeSet::new(),
            stale: None,
            tells: BTreeSet::new(),
        });
        let key = self.keys.len() - 1;
        self.judge_open(&did, key);
        self.keys[key].open.then_some(key)
    }

    /// All that the owner of a key may know, and the rule that it came under; none is its own.
    fn knows(&self, key: usize) -> Vec<(Option<&'static str>, Token)> {
        let wish = self.wish(key);
        let person = &self.people[wish.person];
        let own = Mark { level: 0, compartments: BTreeSet::new(), rank: self.law.trust(person) };
        let mut knows = vec![(None, Token { said: self.keys.len() + key, mark: own })];
        for reading in self.law.counts(wish.person, wish.session, &self.readings) {
            let tokens = self.keys[reading.key].tells.iter();
            knows.extend(tokens.map(|token| (Some(reading.rule), token.clone())));
        }
        knows
    }

    /// What goes into a key: all that its owner knows. What may not be told under its label goes only where a grant
    /// lifts it, or observe mode looks on, and is worth the label from there on.
    fn carry(&mut self, key: usize, exceptions: &[Exception], observed: bool) {
        let mark = self.keys[key].mark.clone();
        for (rule, token) in self.knows(key) {
            let token = if mark.may_tell(&token.mark) {
                token
            } else {
                let of_rule =
                    |one: &&Exception| rule.is_some_and(|rule| self.law.excepts(one, rule, &token.mark));
                let excepted = exceptions.iter().any(|one| of_rule(&one));
                assert!(
                    excepted || observed,
                    "what is marked {:?} and came under {rule:?} is told under {mark:?}",
                    token.mark
                );
                self.counts.excepted += usize::from(excepted);
                Token { mark: mark.clone(), ..token }
            };
            self.keys[key].tells.insert(token);
        }
    }

    /// Nobody on the bus holds the key who is not cleared for all that it tells.
    fn check_holders(&self, key: usize) {
        let handed = |reading: &&Reading| reading.key == key && !reading.lost;
        let holding = |seat: &&Seat| {
            seat.live && self.readings.iter().filter(handed).any(|reading| reading.session == seat.session)
        };
        for seat in self.seats.iter().filter(holding) {
            for token in &self.keys[key].tells {
                assert!(
                    self.law.cleared(&self.people[seat.person], &token.mark),
                    "agent{} is told what is marked {:?}",
                    seat.person,
                    token.mark
                );
            }
        }
    }

    fn hand_out(&mut self, key: usize) {
        if !self.keys[key].open {
            return;
        }
        let from = self.keys[key].seat;
        for to in 0..SEATS {
            if to == from || !self.seats[to].live {
                continue;
            }
            let (sender, reader) = (&self.seats[from].agent, &self.seats[to].agent);
            let did = sender.grant(self.world.as_mut().unwrap(), &self.keys[key].sending, &[reader]);
            let handed = !reader.granted(&did).is_empty();
            let verdict = self.verdict(key);
            let may = verdict.is_ok() && self.may_hold(to, key);
            assert_eq!(handed, may, "handing {:?} to agent{}", self.keys[key].mark, self.seats[to].person);
            if let Err(refused) = verdict {
                self.counts.below_floor += usize::from(refused == Reason::BelowFloor);
                assert!(did.denials(sender).iter().all(|told| *told == refused), "{refused:?}");
            }
            if handed {
                self.handed(key, to, verdict.unwrap_or_default().is_some());
            }
        }
    }

    fn handed(&mut self, key: usize, to: usize, observed: bool) {
        self.counts.handed += 1;
        let seat = &self.seats[to];
        let forgets = self.law.teams[self.people[seat.person].team].forgets;
        let (person, session) = (seat.person, seat.session);
        let exceptions: Vec<Exception> = {
            let wish = self.wish(key);
            let team = self.people[wish.person].team;
            let of_use = |one: &&Exception| {
                one.team == team && wish.mark.may_tell(&one.to_mark) && self.now() < one.ends
            };
            self.law.exceptions.iter().filter(of_use).cloned().collect()
        };
        // Its bytes may tell all that its maker knows by now.
        self.carry(key, &exceptions, observed);
        let (rule, mark) = (self.keys[key].rule, self.keys[key].mark.clone());
        let covered = self.law.rule(rule).map(|rule| rule.pattern).into_iter().collect();
        self.readings.push(Reading { person, session, forgets, rule, covered, mark, key, lost: false });
        self.keys[key].granted.insert(session);
        self.check_holders(key);
    }

    fn may_hold(&self, to: usize, key: usize) -> bool {
        let (seat, key) = (&self.seats[to], &self.keys[key]);
        let asked = key.asker.is_some();
        let wants = match key.asker {
            Some(asker) => asker == seat.session,
            None => seat.reads.contains_key(key.rule),
        };
        wants && self.law.may_read(&self.people[seat.person], key.rule, &key.mark, asked)
    }

    fn say(
        &mut self,
        key: usize,
        place: &'static str,
        exception: Option<&'static str>,
        parents: &[Mark],
        reply: bool,
    ) {
        let (from, session) = (self.keys[key].seat, self.keys[key].session);
        if self.seats[from].session != session || !self.seats[from].live {
            return;
        }
        let (rule, now) = (self.keys[key].rule, self.now());
        let request = self.asked.iter().filter(|_| reply).find(|asked| asked.responder == session);
        let request = request.map(|asked| (asked.request, asked.place));
        let place = request.map_or(place, |(_, place)| place);

        let world = self.world.as_mut().unwrap();
        let agent = &self.seats[from].agent;
        let mut say = agent.say(world, &mut self.keys[key].sending, place);
        say.fields.flow_grant = exception.map(name);
        let parents_named =
            (1..).zip(parents).map(|(n, parent)| Parent { digest: [n; 32], label: label(parent) });
        say.fields.parents = parents_named.collect();
        say.fields.request = request.map(|(digest, _)| digest);
        let (digest, bytes) = agent.seal(&self.keys[key].sending, &say);
        let did = world.envelope(agent, place, &bytes);

        let answers = request.is_some();
        let expected = self.expect(key, place, exception, parents, request.map(|(digest, _)| digest));
        let forwarded = did.forwarded();
        match expected {
            Err(refused) => {
                assert_eq!(
                    did.denied(agent),
                    refused,
                    "{:?} on {place} by {exception:?}",
                    self.keys[key].mark
                );
                self.counts.below_floor += usize::from(refused == Reason::BelowFloor);
            }
            Ok(observed) => {
                assert_eq!(
                    (forwarded.len(), did.denials(agent)),
                    (1, vec![]),
                    "{:?} on {place} by {exception:?}",
                    self.keys[key].mark
                );
                self.observed.insert(digest, observed);
                self.counts.said += 1;
                self.counts.observed += usize::from(observed.is_some());
                self.counts.replies += usize::from(answers);
                if let Some((request, _)) = request {
                    self.asked.retain(|asked| asked.request != request);
                } else if self.law.rule(rule).is_some_and(|rule| rule.request) {
                    let responder = self.boxed(forwarded[0].subject());
                    let until = now + 10_000;
                    self.asked.push(Asked { request: digest, asker: session, responder, rule, place, until });
                }
                let used: Vec<Exception> =
                    exception.and_then(|named| self.law.exception(named)).cloned().into_iter().collect();
                self.carry(key, &used, observed.is_some());
                self.check_holders(key);
            }
        }
    }

    fn boxed(&self, subject: &str) -> usize {
        let wire = &self.world.as_ref().unwrap().wire;
        let of = |seat: &&Seat| {
            wire.session_box(seat.agent.token(), &seat.agent.session(), kind::REQUEST) == subject
        };
        self.seats.iter().find(of).unwrap().session
    }

    fn expect(
        &self,
        key: usize,
        place: &'static str,
        exception: Option<&'static str>,
        parents: &[Mark],
        request: Option<Hash>,
    ) -> Result<Option<Reason>, Reason> {
        let now = self.now();
        let with = &self.keys[key];
        if with.open && with.stale.is_some_and(|from| now >= from) {
            return Err(Reason::StaleKey);
        }
        let mut wish = self.wish(key);
        wish.answers = request.is_some();
        let person = &self.people[wish.person];
        let saying = Saying { wish, subject: place, parents, exception };
        let faults = self.law.faults(person, &saying, &self.readings, now);
        let rule = self.law.rule(with.rule);
        let observed = rule.is_some_and(|rule| self.law.observes(rule, person));
        let noted = outcome(&faults, observed)?;
        if !with.open {
            return Err(Reason::UnknownKey);
        }
        if !rule.is_some_and(|rule| rule.request) {
            return Ok(noted);
        }
        let live = |session: usize| self.seats.iter().any(|seat| seat.live && seat.session == session);
        match self.asked.iter().find(|asked| Some(asked.request) == request) {
            Some(asked) if asked.rule != with.rule || now > asked.until || !live(asked.asker) => {
                Err(Reason::NoRequest)
            }
            Some(asked) if with.asker != Some(asked.asker) => Err(Reason::WrongReader),
            Some(_) => Ok(noted),
            None if with.asker.is_some() => Err(Reason::WrongPattern),
            None => {
                let serves = |seat: &Seat| {
                    seat.live
                        && with.granted.contains(&seat.session)
                        && seat.reads.get(with.rule).is_some_and(|(pattern, _)| matches(pattern, place))
                };
                if self.seats.iter().any(serves) { Ok(noted) } else { Err(Reason::NoResponder) }
            }
        }
    }

    fn leave(&mut self, seat: usize) {
        let agent = &self.seats[seat].agent;
        let bye = control::encode(&control::Bye {}).unwrap();
        self.world.as_mut().unwrap().control(agent, verb::BYE, bye);
        let session = self.seats[seat].session;
        self.seats[seat].live = false;
        self.seats[seat].reads.clear();
        for key in &mut self.keys {
            key.open &= key.session != session;
            key.granted.remove(&session);
        }
    }

    fn replace(&mut self, law: usize) {
        let Some(law) = self.laws.get(law).cloned() else { return };
        let tables = self.world().policy.tables.clone();
        let records = records(&law, tables);
        self.world().replace_with(records);
        self.law = law;
        for reading in &mut self.readings {
            reading.covered.extend(self.law.rule(reading.rule).map(|rule| rule.pattern));
            reading.forgets &= self.law.teams[self.people[reading.person].team].forgets;
        }
        for seat in &mut self.seats {
            let person = &self.people[seat.person];
            let law = &self.law;
            seat.reads.retain(|rule, (pattern, serves)| law.may_subscribe(person, rule, pattern, *serves));
        }
        let stale = self.now() + 2_000;
        for key in 0..self.keys.len() {
            let lost =
                |seat: &&Seat| self.keys[key].granted.contains(&seat.session) && !self.holds(seat, key);
            let lost: BTreeSet<usize> = self.seats.iter().filter(lost).map(|seat| seat.session).collect();
            if !lost.is_empty() {
                self.keys[key].stale.get_or_insert(stale);
            }
            for reading in self.readings.iter_mut().filter(|reading| reading.key == key) {
                reading.lost |= lost.contains(&reading.session);
            }
        }
        // What is under way still passes.
        self.world().pass(2_000);
    }

    /// A rule under which the agent may open such a key.
    fn fit_rule(
        &self,
        seat: usize,
        rule: usize,
        asker: Option<usize>,
        fit: bool,
    ) -> (&'static str, Option<usize>) {
        let team = |seat: usize| self.people[self.seats[seat].person].team;
        let suits = |rule: &&Rule| match asker {
            Some(asker) => {
                rule.request
                    && rule.subscribers.contains(&team(seat))
                    && rule.publishers.contains(&team(asker))
            }
            None => rule.publishers.contains(&team(seat)),
        };
        let rules: Vec<&Rule> = self.law.rules.iter().filter(|_| fit).filter(suits).collect();
        match rule.checked_rem(rules.len()) {
            Some(rule) => (rules[rule].name, asker),
            None => (RULES[rule], asker.filter(|_| !fit)),
        }
    }

    /// A key that is open; to answer, one for the answer, made if need be.
    fn fit_key(&mut self, key: usize, reply: bool) -> Option<usize> {
        if reply {
            let now = self.now();
            let seat =
                |session: usize| self.seats.iter().position(|seat| seat.live && seat.session == session);
            let to = self
                .asked
                .iter()
                .filter(|asked| now <= asked.until)
                .find_map(|asked| Some((seat(asked.responder)?, seat(asked.asker)?, asked.rule)));
            if let Some((responder, asker, rule)) = to {
                let asked = self.seats[asker].session;
                let for_it = |key: &Key| {
                    key.open && key.asker == Some(asked) && key.rule == rule && key.seat == responder
                };
                return self.keys.iter().position(for_it).or_else(|| {
                    let key = self.open(responder, rule, &Choice::High, Some(asker))?;
                    self.hand_out(key);
                    Some(key)
                });
            }
        }
        let open: Vec<usize> = (0..self.keys.len()).filter(|&key| self.keys[key].open).collect();
        key.checked_rem(open.len()).map(|key| open[key])
    }

    fn fit_place(&self, key: usize, place: usize) -> &'static str {
        let rule = self.law.rule(self.keys[key].rule);
        let inside: Vec<&'static str> = PLACES
            .into_iter()
            .filter(|place| rule.is_some_and(|rule| matches(rule.pattern, place)))
            .collect();
        place.checked_rem(inside.len()).map_or(PLACES[place], |place| inside[place])
    }

    fn fit_exception(&self, key: usize, place: &str) -> Option<&'static str> {
        let wish = self.wish(key);
        let team = self.people[wish.person].team;
        let fits =
            |one: &&Exception| one.team == team && matches(one.to, place) && wish.mark.may_tell(&one.to_mark);
        self.law.exceptions.iter().find(fits).map(|one| one.name)
    }

    fn holds(&self, seat: &Seat, key: usize) -> bool {
        let place = self.seats.iter().position(|other| other.session == seat.session);
        place.is_some_and(|place| self.may_hold(place, key))
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Read { who, rule } => {
                let rule = RULES[*rule];
                let Some(Rule { pattern, request, .. }) = self.law.rule(rule).cloned() else { return };
                if !self.seats[*who].live {
                    return;
                }
                let message = control::Subscribe {
                    id: u32::try_from(RULES.iter().position(|known| *known == rule).unwrap()).unwrap(),
                    rule: name(rule),
                    pattern: Pattern::parse(pattern).unwrap(),
                    serve: request,
                };
                let agent = &self.seats[*who].agent;
                let message = control::encode(&message).unwrap();
                let did = self.world.as_mut().unwrap().control(agent, verb::SUBSCRIBE, message);
                let told: Vec<Subscribed> = did.told(agent, kind::SUBSCRIBED);
                let person = &self.people[self.seats[*who].person];
                let may = self.law.may_subscribe(person, rule, pattern, request);
                assert_eq!(told[0].refused.is_none(), may);
                if may {
                    self.seats[*who].reads.insert(rule, (pattern, request));
                }
            }
            Step::Open { who, rule, mark, asker, hand_out, fit } => {
                let (rule, asker) = self.fit_rule(*who, *rule, *asker, *fit);
                if let Some(key) = self.open(*who, rule, mark, asker)
                    && *hand_out
                {
                    self.hand_out(key);
                }
            }
            Step::HandOut { key } => {
                let open: Vec<usize> = (0..self.keys.len()).filter(|&key| self.keys[key].open).collect();
                if let Some(key) = key.checked_rem(open.len()) {
                    self.hand_out(open[key]);
                }
            }
            Step::Say { key, place, exception, parents, reply, fit } => {
                let exception = exception.map(|which| EXCEPTIONS[which]);
                if *fit {
                    let Some(key) = self.fit_key(*key, *reply) else { return };
                    let place = self.fit_place(key, *place);
                    let exception = exception.and_then(|_| self.fit_exception(key, place));
                    self.say(key, place, exception, parents, *reply);
                } else if let Some(key) = key.checked_rem(self.keys.len()) {
                    self.say(key, PLACES[*place], exception, parents, *reply);
                }
            }
            Step::Hello { who } => {
                if self.seats[*who].live {
                    self.hello(*who);
                }
            }
            Step::Leave { who } => {
                if self.seats[*who].live {
                    self.leave(*who);
                }
            }
            Step::Return { who } => {
                if self.seats[*who].live {
                    self.leave(*who);
                }
                let world = self.world.as_ref().unwrap();
                let agent = world.restart(&self.seats[*who].agent);
                self.seats[*who].agent = agent;
                self.seats[*who].session = self.next_session();
                self.hello(*who);
            }
            Step::Replace { law } => self.replace(*law),
            Step::Restart => {
                self.world = self.world.take().map(World::restarted);
                self.asked.clear();
                let open: Vec<Vec<usize>> = (0..SEATS).map(|seat| self.open_keys(seat)).collect();
                for key in &mut self.keys {
                    // The new guard knows the keys of nobody who has not said hello to it.
                    key.open = false;
                    key.granted.clear();
                    key.stale = None;
                }
                for (seat, open) in open.iter().enumerate() {
                    let live = std::mem::take(&mut self.seats[seat].live);
                    self.seats[seat].reads.clear();
                    self.seats[seat].agent.rejoin(self.world.as_ref().unwrap());
                    if live {
                        self.hello_with(seat, open);
                    }
                }
            }
            Step::Pass { ms } => {
                self.world().pass(*ms);
            }
        }
    }

    /// What observe mode let pass is what the log says.
    fn end(mut self) -> Counts {
        for entry in self.world().log() {
            if let Body::Admitted(admitted) = entry.body {
                let noted = self.observed.remove(&admitted.digest.0).expect("logged, and not forwarded");
                assert_eq!(admitted.observed.as_deref(), noted.map(Reason::code));
            }
        }
        assert!(self.observed.is_empty(), "forwarded, and not logged");
        self.counts
    }
}

/// All read all they may, so that most steps find something to do.
fn settle(trace: &mut Trace) {
    for who in 0..SEATS {
        for rule in 0..RULES.len() {
            trace.step(&Step::Read { who, rule });
        }
    }
}

fn run(universe: &Universe, steps: &[Step]) -> Counts {
    let mut trace = Trace::new(universe);
    settle(&mut trace);
    for step in steps {
        trace.step(step);
        // Denials of one second are told together.
        trace.world().pass(1_000);
    }
    trace.end()
}

/// The property is of no use if everything is denied, or nothing.
#[test]
fn the_traces_get_somewhere() {
    let mut runner = TestRunner::deterministic();
    let strategy = (a_universe(), prop::collection::vec(a_step(), 100..120));
    let mut counts = Counts::default();
    for _ in 0..24 {
        let (universe, steps) = strategy.new_tree(&mut runner).unwrap().current();
        let more = run(&universe, &steps);
        counts.handed += more.handed;
        counts.said += more.said;
        counts.excepted += more.excepted;
        counts.observed += more.observed;
        counts.below_floor += more.below_floor;
        counts.replies += more.replies;
    }
    let Counts { handed, said, excepted, observed, below_floor, replies } = counts;
    let enough =
        handed > 100 && said > 100 && excepted > 20 && observed > 5 && below_floor > 5 && replies > 0;
    assert!(enough, "{counts:?}");
}

fn config() -> ProptestConfig {
    let set = std::env::var_os("PROPTEST_CASES").is_some();
    let config = ProptestConfig { max_shrink_iters: 120, ..ProptestConfig::default() };
    if set { config } else { ProptestConfig { cases: 96, ..config } }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn no_information_flows_but_upwards_or_along_a_grant(
        universe in a_universe(), steps in prop::collection::vec(a_step(), 1..120),
    ) {
        run(&universe, &steps);
    }
}

//! The reference: what the policy means, as slowly and plainly as it can be said. Sets instead of bits, subjects
//! tried one by one instead of patterns compared, every reading remembered instead of a floor that rises.
//! Shares nothing with the guard but the reasons' names.

use std::collections::{BTreeMap, BTreeSet};

use sealbus_envelope::reason::Reason;

/// How secret, in which compartments, how trustworthy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) level: u8,
    pub(crate) compartments: BTreeSet<u8>,
    pub(crate) rank: u8,
}

impl Mark {
    /// Whether what is marked `other` may be told under this mark: no less secret, no more trusted.
    pub(crate) fn may_tell(&self, other: &Self) -> bool {
        self.is_no_less_secret_than(other) && self.rank <= other.rank
    }

    pub(crate) fn is_no_less_secret_than(&self, other: &Self) -> bool {
        self.level >= other.level && other.compartments.iter().all(|one| self.compartments.contains(one))
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            level: self.level.max(other.level),
            compartments: self.compartments.union(&other.compartments).copied().collect(),
            rank: self.rank.min(other.rank),
        }
    }
}

/// Every subject that the patterns below can tell apart.
const SUBJECTS: [&str; 9] = ["a", "b", "a.x", "a.y", "b.x", "b.z", "c.x", "a.x.y", "b.x.y"];

pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let (pattern, subject): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), subject.split('.').collect());
    let rest = pattern.last() == Some(&">");
    let begins = pattern.len() - usize::from(rest);
    (if rest { subject.len() > begins } else { subject.len() == begins })
        && pattern.iter().zip(&subject).all(|(p, s)| *p == "*" || *p == ">" || p == s)
}

fn all_of(pattern: &str) -> impl Iterator<Item = &'static str> {
    SUBJECTS.into_iter().filter(move |subject| matches(pattern, subject))
}

#[derive(Debug, Clone)]
pub(crate) struct Team {
    pub(crate) cleared: Mark,
    pub(crate) forgets: bool,
    pub(crate) observed: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) pattern: &'static str,
    pub(crate) request: bool,
    pub(crate) publishers: BTreeSet<usize>,
    pub(crate) subscribers: BTreeSet<usize>,
    pub(crate) low: Mark,
    pub(crate) high: Mark,
    pub(crate) fan_in: Option<u32>,
    pub(crate) observed: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Exception {
    pub(crate) name: &'static str,
    pub(crate) team: usize,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) from_mark: Mark,
    pub(crate) to_mark: Mark,
    pub(crate) small: bool,
    pub(crate) ends: u64,
}

/// A policy.
#[derive(Debug, Clone)]
pub(crate) struct Law {
    pub(crate) declared: Mark,
    pub(crate) teams: Vec<Team>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) exceptions: Vec<Exception>,
    pub(crate) observed: bool,
}

/// An agent: its team and what its credential lets it.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) team: usize,
    pub(crate) papers: Mark,
}

/// A key that was handed to a session.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) person: usize,
    pub(crate) session: usize,
    /// Whether the team's members were taken to forget between sessions, and are ever since.
    pub(crate) forgets: bool,
    pub(crate) rule: &'static str,
    /// All that the rule covered since: the key opens what is sealed there.
    pub(crate) covered: BTreeSet<&'static str>,
    pub(crate) mark: Mark,
    pub(crate) key: usize,
    /// It lost its right to the key, which is refused soon after. A guard that starts again does not know that any more:
    /// then only the servers' permissions keep what is sealed with the key from who has it.
    pub(crate) lost: bool,
}

/// What somebody wants to do with a key.
pub(crate) struct Wish<'a> {
    pub(crate) person: usize,
    pub(crate) session: usize,
    pub(crate) rule: &'static str,
    pub(crate) mark: &'a Mark,
    /// It is for an answer.
    pub(crate) answers: bool,
}

/// What somebody wants to say.
pub(crate) struct Saying<'a> {
    pub(crate) wish: Wish<'a>,
    pub(crate) subject: &'a str,
    pub(crate) parents: &'a [Mark],
    pub(crate) exception: Option<&'a str>,
}

/// Faults in the order in which they are looked for.
pub(crate) type Faults = Vec<Reason>;

impl Law {
    pub(crate) fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    pub(crate) fn exception(&self, name: &str) -> Option<&Exception> {
        self.exceptions.iter().find(|exception| exception.name == name)
    }

    pub(crate) fn cleared(&self, person: &Person, mark: &Mark) -> bool {
        person.papers.is_no_less_secret_than(mark)
            && self.teams[person.team].cleared.is_no_less_secret_than(mark)
    }

    /// The most that an agent may vouch for: what it makes up itself is worth that.
    pub(crate) fn trust(&self, person: &Person) -> u8 {
        person.papers.rank.min(self.teams[person.team].cleared.rank)
    }

    pub(crate) fn observes(&self, rule: &Rule, person: &Person) -> bool {
        self.observed || rule.observed || self.teams[person.team].observed
    }

    pub(crate) fn may_read(&self, person: &Person, rule: &str, mark: &Mark, asked: bool) -> bool {
        let Some(rule) = self.rule(rule) else { return false };
        let named = if asked { &rule.publishers } else { &rule.subscribers };
        // Under a rule whose messages are not answered any more, nobody reads answers.
        let answered = rule.request || !asked;
        // Whether a sender keeps to the range is noted where senders are observed; who reads needs clearance.
        let noted = rule.observed || self.observed || self.teams.iter().any(|team| team.observed);
        let ranged = noted || rule.takes(mark);
        let cleared = self.declares(mark) && self.cleared(person, mark);
        answered && named.contains(&person.team) && ranged && cleared
    }

    pub(crate) fn may_subscribe(&self, person: &Person, rule: &str, pattern: &str, serves: bool) -> bool {
        self.rule(rule).is_some_and(|rule| {
            rule.request == serves
                && rule.subscribers.contains(&person.team)
                && all_of(pattern).all(|subject| matches(rule.pattern, subject))
                && self.cleared(person, &rule.low)
        })
    }

    fn declares(&self, mark: &Mark) -> bool {
        self.declared.is_no_less_secret_than(mark) && self.declared.rank >= mark.rank
    }

    /// What counts against a session: what it was given, and what the agent was in its other sessions, unless
    /// the team's members are taken to forget between sessions.
    pub(crate) fn counts<'r>(
        &self,
        person: usize,
        session: usize,
        readings: &'r [Reading],
    ) -> Vec<&'r Reading> {
        let counts =
            |reading: &&Reading| reading.session == session || (reading.person == person && !reading.forgets);
        readings.iter().filter(counts).collect()
    }

    /// Whether `exception` is one for what was given so.
    pub(crate) fn excepts(&self, exception: &Exception, rule: &str, mark: &Mark) -> bool {
        let Some(rule) = self.rule(rule) else { return false };
        exception.from_mark.may_tell(mark)
            && all_of(rule.pattern).all(|subject| matches(exception.from, subject))
    }

    /// As the guard keeps it: by rule and what that covered, all of it together.
    fn below_floor(&self, mark: &Mark, counts: &[&Reading], exception: Option<&Exception>) -> bool {
        let mut floor: BTreeMap<(&str, &str), Mark> = BTreeMap::new();
        let entries = counts.iter().flat_map(|reading| reading.covered.iter().map(move |on| (reading, *on)));
        for (reading, on) in entries {
            let of_rule = (reading.rule, on);
            let held =
                floor.get(&of_rule).map_or_else(|| reading.mark.clone(), |held| held.and(&reading.mark));
            floor.insert(of_rule, held);
        }
        floor.iter().any(|((rule, on), read)| {
            let there = |exception: &Exception| all_of(on).all(|subject| matches(exception.from, subject));
            let excepted = |exception: &Exception| there(exception) && self.excepts(exception, rule, read);
            !mark.may_tell(read) && !exception.is_some_and(excepted)
        })
    }

    fn of_use(&self, exception: &Exception, person: &Person, rule: &Rule, mark: &Mark, now: u64) -> bool {
        let somewhere = all_of(rule.pattern).any(|subject| matches(exception.to, subject));
        exception.team == person.team
            && somewhere
            && mark.may_tell(&exception.to_mark)
            && now < exception.ends
    }

    /// What is wrong with a key that somebody wants to open or to hand out. `others`: how many other agents have
    /// one open in the same direction.
    pub(crate) fn key_faults(
        &self,
        person: &Person,
        wish: &Wish<'_>,
        readings: &[Reading],
        others: usize,
        now: u64,
    ) -> Faults {
        let Some(rule) = self.rule(wish.rule) else { return vec![Reason::UnknownRule] };
        let mut faults = rule.party_faults(person, wish.answers);
        faults.extend(self.mark_faults(person, rule, wish.mark));
        let counts = self.counts(wish.person, wish.session, readings);
        let usable = self.exceptions.iter().filter(|one| self.of_use(one, person, rule, wish.mark, now));
        let mut ways = std::iter::once(None).chain(usable.map(Some));
        if ways.all(|way| self.below_floor(wish.mark, &counts, way)) {
            faults.push(Reason::BelowFloor);
        }
        if rule.fan_in.is_some_and(|most| others >= most as usize) {
            faults.push(Reason::FanInExceeded);
        }
        faults
    }

    /// What is wrong with an envelope.
    pub(crate) fn faults(
        &self,
        person: &Person,
        saying: &Saying<'_>,
        readings: &[Reading],
        now: u64,
    ) -> Faults {
        let Saying { wish, subject, parents, exception } = saying;
        let Some(rule) = self.rule(wish.rule) else { return vec![Reason::UnknownRule] };
        let mut faults = rule.party_faults(person, wish.answers);
        if !matches(rule.pattern, subject) {
            faults.push(Reason::SubjectOutsideRule);
        }
        faults.extend(self.mark_faults(person, rule, wish.mark));
        let named = exception.map(|name| self.exception(name));
        let wrong = named.and_then(|named| match named {
            None => Some(Reason::FlowGrantUnknown),
            Some(one) if one.misfits(person, subject, wish.mark) => Some(Reason::FlowGrantMismatch),
            Some(one) if now >= one.ends => Some(Reason::FlowGrantExpired),
            Some(_) => None,
        });
        faults.extend(wrong);
        let exception = named.flatten().filter(|_| wrong.is_none());
        let told = |parent: &Mark| {
            wish.mark.may_tell(parent) || exception.is_some_and(|one| one.from_mark.may_tell(parent))
        };
        if !parents.iter().all(told) {
            faults.push(Reason::BelowParents);
        }
        if self.below_floor(wish.mark, &self.counts(wish.person, wish.session, readings), exception) {
            faults.push(Reason::BelowFloor);
        }
        faults
    }

    fn mark_faults(&self, person: &Person, rule: &Rule, mark: &Mark) -> Faults {
        let mut faults = vec![];
        if !self.declares(mark) {
            faults.push(Reason::LabelUnknown);
        }
        if !rule.takes(mark) {
            faults.push(Reason::LabelOutOfRange);
        }
        if !self.cleared(person, mark) {
            faults.push(Reason::AboveClearance);
        }
        if mark.rank > self.trust(person) {
            faults.push(Reason::AboveIntegrity);
        }
        faults
    }
}

impl Rule {
    /// The low end of a range is its least secret and most trusted one.
    fn takes(&self, mark: &Mark) -> bool {
        mark.may_tell(&self.low) && self.high.may_tell(mark)
    }

    fn party_faults(&self, person: &Person, answers: bool) -> Faults {
        match answers {
            true if !self.request => vec![Reason::WrongPattern],
            true if !self.subscribers.contains(&person.team) => vec![Reason::NotSubscriber],
            false if !self.publishers.contains(&person.team) => vec![Reason::NotPublisher],
            _ => vec![],
        }
    }
}

impl Exception {
    fn misfits(&self, person: &Person, subject: &str, mark: &Mark) -> bool {
        self.team != person.team || !matches(self.to, subject) || !mark.may_tell(&self.to_mark) || self.small
    }
}

/// What becomes of faults: the one it is refused for, or else the first that is only noted.
pub(crate) fn outcome(faults: &[Reason], observed: bool) -> Result<Option<Reason>, Reason> {
    const NOTED: [Reason; 10] = [
        Reason::NotPublisher,
        Reason::LabelOutOfRange,
        Reason::AboveIntegrity,
        Reason::BelowParents,
        Reason::BelowFloor,
        Reason::FlowGrantUnknown,
        Reason::FlowGrantMismatch,
        Reason::FlowGrantExpired,
        Reason::FanInExceeded,
        Reason::RateLimited,
    ];
    match faults.iter().find(|fault| !(observed && NOTED.contains(fault))) {
        Some(refused) => Err(*refused),
        None => Ok(faults.first().copied()),
    }
}

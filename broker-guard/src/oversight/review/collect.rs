//! One pass over the log.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sealbus_envelope::{label::Label, policy::Rate, time::Millis};

use super::{
    Activity, Background, Denials, GrantUse, Happened, NearRate, NewFlow, NewReader, Review,
    findings::{self, NOT_CONFIRMED},
};
use crate::audit::entry::{
    Admitted, Body, Connection, ConnectionResult, Denied, Entry, HoldEnded, KeyGranted, Order, Quarantine,
};

/// Peaks are counted in windows of this length.
const WINDOW_MS: u64 = 10_000;
/// From this part of a limit on somebody came near it, in percent.
const NEAR: u64 = 80;
/// The most of anything that is kept one by one.
const MOST: usize = 50_000;
/// The most subjects that are named of an agent.
const MAX_SUBJECTS: usize = 100;

type LabelKey = (u8, u64, u8);

#[derive(Debug, Default)]
struct Sender {
    did: Activity,
    flows: BTreeMap<String, BTreeMap<LabelKey, Flow>>,
    peaks: BTreeMap<String, Peak>,
    seen_before: bool,
}

#[derive(Debug)]
struct Flow {
    label: Label,
    known: bool,
    times: u64,
    first: Millis,
}

#[derive(Debug, Default)]
struct Peak {
    window: u64,
    count: u64,
    peak: u64,
    at: Millis,
}

/// The first key of a sender under a rule that a reader was given: its label, when, and whether that was before the
/// period.
type FirstKey = (Label, Millis, bool);

/// Reads entries, oldest first.
#[derive(Debug)]
pub struct Collector {
    background: Background,
    before: Millis,
    review: Review,
    senders: BTreeMap<String, Sender>,
    /// By reader: whose keys under which rule it was given.
    readers: BTreeMap<String, BTreeMap<(String, String), FirstKey>>,
    readings: usize,
    denials: BTreeMap<(String, String, String), Denials>,
    observed: BTreeMap<(String, String, String), Denials>,
    logins: BTreeMap<(String, String, String), Denials>,
    grants: BTreeMap<(String, String), (u64, u64)>,
    places: BTreeSet<(String, String)>,
    held: HashMap<[u8; 32], (Millis, Millis)>,
    first_entry: Option<Millis>,
}

impl Collector {
    /// Nothing read yet. The period is from `since` up to `until`.
    #[must_use]
    pub fn new(background: Background, since: Millis, until: Millis) -> Self {
        let review = Review {
            bus: background.bus.clone(),
            since,
            until,
            team: background.team.clone(),
            ..Review::default()
        };
        Self {
            before: since.minus(until.since(since)),
            background,
            review,
            senders: BTreeMap::new(),
            readers: BTreeMap::new(),
            readings: 0,
            denials: BTreeMap::new(),
            observed: BTreeMap::new(),
            logins: BTreeMap::new(),
            grants: BTreeMap::new(),
            places: BTreeSet::new(),
            held: HashMap::new(),
            first_entry: None,
        }
    }

    /// Takes the next entry.
    pub fn enter(&mut self, entry: &Entry<'_>) {
        let time = entry.time;
        self.first_entry.get_or_insert(time);
        if time >= self.review.until {
            return;
        }
        let now = time >= self.review.since;
        if now {
            self.review.entries += 1;
        }
        match &entry.body {
            Body::Admitted(admitted) => self.admitted(admitted, time, now),
            Body::Denied(denied) => self.denied(denied, time, now),
            Body::KeyGranted(granted) => self.granted(granted, time, now),
            Body::Connection(connection) => self.connection(connection, time, now),
            Body::Session(session) if now && session.event == "hello" => {
                if let Some(sender) = self.sender(&session.agent) {
                    sender.did.sessions += 1;
                }
            }
            Body::Held(held) if self.held.len() < MOST => {
                self.held.insert(held.digest.0, (time, held.until));
            }
            Body::HoldEnded(ended) => self.hold_ended(ended, time, now),
            Body::Quarantine(change) if now => self.state(change, time),
            Body::Order(order) if now => self.order(order, time),
            Body::Workflow(workflow) if now => {
                let about = workflow.agent.as_deref().is_none_or(|agent| self.is_of_team(agent));
                let team = self.background.team.as_ref().map(|team| format!("team:{team}"));
                if about || team.as_deref() == Some(&*workflow.workflow) {
                    let what = format!("{} by {}", workflow.to, workflow.trigger);
                    let detail = workflow.detail.as_deref().unwrap_or_default();
                    self.happened(|review| &mut review.workflows, time, &workflow.workflow, what, detail);
                }
            }
            Body::PolicyChange(change) if now => {
                let what = match change.from {
                    Some(from) => format!("version {from} to {}", change.to),
                    None => format!("version {}, the first", change.to),
                };
                self.happened(
                    |review| &mut review.changes,
                    time,
                    &change.what,
                    what,
                    &change.digest.to_string(),
                );
            }
            Body::Gap(gap) if now => {
                let to = gap.to.map_or_else(|| "unknown".to_owned(), |to| to.to_string());
                let what = format!("entries {} to {to} of start {} may be missing", gap.from, gap.epoch);
                self.happened(|review| &mut review.log, time, "gap", what, &format!("{:?}", gap.cause));
            }
            Body::Pruned(pruned) if now => {
                let what = format!("entries before leaf {} removed", pruned.before);
                self.happened(|review| &mut review.log, time, "pruned", what, "");
            }
            _ => {}
        }
    }

    fn is_of_team(&self, agent: &str) -> bool {
        let Some(team) = &self.background.team else { return true };
        self.background.teams.get(agent) == Some(team)
    }

    /// What is kept of a sender; none if it is not asked for, or one too many.
    fn sender(&mut self, agent: &str) -> Option<&mut Sender> {
        if !self.is_of_team(agent) {
            return None;
        }
        if !self.senders.contains_key(agent) {
            if self.senders.len() >= MOST {
                self.review.left_out += 1;
                return None;
            }
            let team = self.background.teams.get(agent).cloned();
            let open_ended = team.as_ref().is_some_and(|team| self.background.open_ended.contains(team));
            let did = Activity { agent: agent.to_owned(), team, open_ended, ..Activity::default() };
            self.senders.insert(agent.to_owned(), Sender { did, ..Sender::default() });
        }
        self.senders.get_mut(agent)
    }

    fn admitted(&mut self, admitted: &Admitted<'_>, time: Millis, now: bool) {
        let (since, before) = (self.review.since, self.before);
        let label_text = now.then(|| self.background.label(admitted.label));
        let Some(sender) = self.sender(&admitted.sender) else { return };
        if now {
            sender.did.messages += 1;
            sender.did.first.get_or_insert(time);
            sender.did.last = Some(time);
            if sender.did.subjects.len() < MAX_SUBJECTS {
                if !sender.did.subjects.contains(&*admitted.subject) {
                    sender.did.subjects.insert(admitted.subject.to_string());
                }
            } else if !sender.did.subjects.contains(&*admitted.subject) {
                sender.did.more_subjects += 1;
            }
            if let Some(text) = label_text {
                *sender.did.labels.entry(text).or_default() += 1;
            }
            let peak = match sender.peaks.get_mut(&*admitted.rule) {
                Some(peak) => peak,
                None => sender.peaks.entry(admitted.rule.to_string()).or_default(),
            };
            peak.add(time);
        } else {
            sender.seen_before = true;
            if time >= before && time < since {
                sender.did.before += 1;
            }
        }
        let flows = match sender.flows.get_mut(&*admitted.rule) {
            Some(flows) => flows,
            None => sender.flows.entry(admitted.rule.to_string()).or_default(),
        };
        let label = admitted.label;
        let key = (label.level.number(), label.compartments.bits(), label.integrity.number());
        let flow = flows.entry(key).or_insert(Flow { label, known: !now, times: 0, first: time });
        if now {
            flow.times += 1;
        }
        if let Some(reason) = admitted.observed.as_deref().filter(|_| now) {
            sender.did.observed += 1;
            let id = admitted.envelope.to_string();
            let key = (&*admitted.sender, reason, &*admitted.rule);
            note(&mut self.observed, key, 1, time, Some(id), &mut self.review.left_out);
        }
        if let Some(grant) = &admitted.flow_grant {
            let used = self.grants.entry((grant.to_string(), admitted.sender.to_string())).or_default();
            if now {
                used.0 += 1;
            } else if time >= before {
                used.1 += 1;
            }
        }
    }

    fn denied(&mut self, denied: &Denied<'_>, time: Millis, now: bool) {
        let agent = denied.sender.as_deref().unwrap_or("unknown");
        let before = self.before;
        if agent == "unknown" && self.background.team.is_some() {
            return;
        }
        let Some(sender) = self.sender(agent) else { return };
        if now {
            sender.did.denied += denied.count;
            let key = (agent, &*denied.reason, denied.rule.as_deref().unwrap_or("-"));
            let id = denied.envelope.map(|id| id.to_string());
            note(&mut self.denials, key, denied.count, time, id, &mut self.review.left_out);
        } else if time >= before {
            sender.did.denied_before += denied.count;
        }
    }

    fn granted(&mut self, granted: &KeyGranted<'_>, time: Millis, now: bool) {
        if !self.is_of_team(&granted.sender) && !self.is_of_team(&granted.reader) {
            return;
        }
        let key = (granted.sender.to_string(), granted.rule.to_string());
        if self.readers.get(&*granted.reader).is_some_and(|of| of.contains_key(&key)) {
            return;
        }
        if self.readings >= MOST {
            self.review.left_out += 1;
            return;
        }
        self.readings += 1;
        let of = self.readers.entry(granted.reader.to_string()).or_default();
        of.insert(key, (granted.label, time, !now));
    }

    fn connection(&mut self, connection: &Connection<'_>, time: Millis, now: bool) {
        let agent = connection.agent.as_deref().unwrap_or("unknown");
        if !self.is_of_team(agent) {
            return;
        }
        match connection.result {
            ConnectionResult::Accepted => {
                let place = (agent.to_owned(), connection.server.to_string());
                let new = self.places.len() < MOST && self.places.insert(place);
                let elsewhere = || self.places.iter().filter(|(of, _)| of == agent).nth(1).is_some();
                if now && new && elsewhere() {
                    let what = format!("connected at {}", connection.server);
                    self.happened(
                        |review| &mut review.new_places,
                        time,
                        agent,
                        what,
                        "it was never there before",
                    );
                }
            }
            ConnectionResult::Lobby | ConnectionResult::Refused if now => {
                let key = (agent, connection.reason.as_deref().unwrap_or("refused"), &*connection.server);
                note(&mut self.logins, key, 1, time, None, &mut self.review.left_out);
            }
            _ => {}
        }
    }

    fn hold_ended(&mut self, ended: &HoldEnded<'_>, time: Millis, now: bool) {
        let begun = self.held.remove(&ended.digest.0);
        if !now || !self.is_of_team(&ended.sender) {
            return;
        }
        let people = ended.people.join(", ");
        let waited = ended.waited_ms / 1000;
        let near = begun.is_some_and(|(begun, until)| {
            time.since(begun).saturating_mul(100) > until.since(begun).saturating_mul(NEAR)
        });
        if ended.released {
            self.review.released += 1;
            if near {
                let what = format!("approved late, after {waited} s, when its time was nearly over");
                self.happened(
                    |review| &mut review.holds,
                    time,
                    &ended.sender,
                    what,
                    &ended.envelope.to_string(),
                );
            }
        } else {
            let reason = ended.reason.as_deref().unwrap_or_default();
            let by = if people.is_empty() { String::new() } else { format!(" by {people}") };
            let what = format!("not released after {waited} s{by}: {reason}");
            self.happened(|review| &mut review.holds, time, &ended.sender, what, &ended.envelope.to_string());
        }
    }

    fn state(&mut self, change: &Quarantine<'_>, time: Millis) {
        // The second entry of a quarantine only says whether every server confirmed it.
        if change.confirmed == Some(true) || !self.is_of_team(&change.agent) {
            return;
        }
        if change.confirmed == Some(false) {
            let detail = change.detail.as_deref().unwrap_or_default();
            return self.happened(
                |review| &mut review.states,
                time,
                &change.agent,
                NOT_CONFIRMED.to_owned(),
                detail,
            );
        }
        let what = format!("{} to {}", change.from, change.to);
        let detail = match &change.detail {
            Some(detail) => format!("{}: {detail}", change.reason),
            None => change.reason.to_string(),
        };
        self.happened(|review| &mut review.states, time, &change.agent, what, &detail);
    }

    fn order(&mut self, order: &Order<'_>, time: Millis) {
        let what = match (&order.reason, order.accepted) {
            (_, true) => format!("{}, signed by {}", order.order, order.signers.len()),
            (reason, false) => {
                format!("{} refused: {}", order.order, reason.as_deref().unwrap_or("unknown"))
            }
        };
        let detail = order.why.as_deref().unwrap_or_default();
        self.happened(|review| &mut review.orders, time, &order.target, what, detail);
    }

    /// Each is an act of a person or of the guard against an agent: beyond [`MOST`] nobody reads them anyway.
    fn happened(
        &mut self,
        of: fn(&mut Review) -> &mut Vec<Happened>,
        time: Millis,
        subject: &str,
        what: String,
        detail: &str,
    ) {
        let list = of(&mut self.review);
        if list.len() >= MOST {
            self.review.left_out += 1;
            return;
        }
        let (subject, detail) = (subject.to_owned(), detail.to_owned());
        list.push(Happened { time, subject, what, detail });
    }

    /// The report.
    #[must_use]
    pub fn finish(mut self) -> Review {
        self.review.compared = self.first_entry.is_some_and(|first| first <= self.before);
        let known_history = self.first_entry.is_some_and(|first| first < self.review.since);
        for (agent, sender) in std::mem::take(&mut self.senders) {
            self.finish_sender(&agent, sender, known_history);
        }
        self.review.agents.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| a.agent.cmp(&b.agent)));
        for (reader, of) in std::mem::take(&mut self.readers) {
            for ((sender, rule), (label, first, known)) in of {
                if !known && known_history {
                    let label = self.background.label(label);
                    let new = NewReader { reader: reader.clone(), sender, rule, label, first };
                    self.review.new_readers.push(new);
                }
            }
        }
        self.review.denials = most_first(self.denials);
        self.review.observed = most_first(self.observed);
        self.review.refused_logins = most_first(self.logins);
        let reasons = &self.background.grants;
        let used = self.grants.into_iter().filter(|(_, (times, _))| *times > 0);
        self.review.grants = used
            .map(|((grant, agent), (times, before))| {
                let reason = reasons.get(&grant).cloned();
                GrantUse { grant, agent, times, before, reason }
            })
            .collect();
        self.review.grants.sort_by_key(|used| std::cmp::Reverse(used.times));
        self.review.findings = findings::find(&self.review);
        self.review
    }

    fn finish_sender(&mut self, agent: &str, sender: Sender, known_history: bool) {
        let Sender { did, flows, peaks, seen_before } = sender;
        for (rule, labels) in flows {
            for flow in labels.into_values().filter(|flow| !flow.known && known_history) {
                let label = self.background.label(flow.label);
                self.review.new_flows.push(NewFlow {
                    agent: agent.to_owned(),
                    rule: rule.clone(),
                    label,
                    times: flow.times,
                    first: flow.first,
                    new_agent: !seen_before,
                });
            }
        }
        for (rule, peak) in peaks {
            let Some(Rate { per_second, burst }) = self.background.rates.get(&rule).copied() else {
                continue;
            };
            let limit = u64::from(burst) + u64::from(per_second) * (WINDOW_MS / 1000);
            if peak.peak * 100 > limit * NEAR {
                let (agent, at) = (agent.to_owned(), peak.at);
                self.review.near_rates.push(NearRate { agent, rule, peak: peak.peak, limit, at });
            }
        }
        if did.messages + did.denied + did.before + did.sessions > 0 {
            self.review.agents.push(did);
        }
    }
}

impl Peak {
    fn add(&mut self, time: Millis) {
        let window = time.0 / WINDOW_MS;
        if window != self.window {
            (self.window, self.count) = (window, 0);
        }
        self.count += 1;
        if self.count > self.peak {
            (self.peak, self.at) = (self.count, time);
        }
    }
}

fn note(
    all: &mut BTreeMap<(String, String, String), Denials>,
    (agent, reason, rule): (&str, &str, &str),
    times: u64,
    time: Millis,
    example: Option<String>,
    left_out: &mut u64,
) {
    let key = (agent.to_owned(), reason.to_owned(), rule.to_owned());
    if all.len() >= MOST && !all.contains_key(&key) {
        *left_out += 1;
        return;
    }
    let of = all.entry(key).or_insert_with(|| Denials {
        agent: agent.to_owned(),
        reason: reason.to_owned(),
        rule: rule.to_owned(),
        ..Denials::default()
    });
    of.times += times;
    of.last = of.last.max(time);
    if example.is_some() {
        of.example = example;
    }
}

fn most_first(all: BTreeMap<(String, String, String), Denials>) -> Vec<Denials> {
    let mut list: Vec<Denials> = all.into_values().collect();
    list.sort_by_key(|denials| std::cmp::Reverse(denials.times));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted() {
        let mut collector = Collector::new(Background::default(), Millis(0), Millis(10));
        for _ in 0..MOST + 3 {
            collector.happened(|review| &mut review.states, Millis(1), "alice", String::new(), "");
        }
        assert_eq!((collector.review.states.len(), collector.review.left_out), (MOST, 3));
    }
}

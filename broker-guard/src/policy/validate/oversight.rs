//! Human oversight and what only the guard goes by: holds and who approves, quorums of orders, the detector's settings.

use sealbus_envelope::identity::{KeyKind, PublicKey};
use sealbus_envelope::name::Name;
use sealbus_envelope::order::OrderKind;
use sealbus_envelope::policy::{
    AnomalyRecord, ApproverList, Hold, MAX_APPROVALS, MAX_LISTS, MAX_PEOPLE, MAX_SIGNATURES, Oversight,
    Supervision,
};

use super::Resolver;
use crate::anomaly::SIGNALS;
use crate::policy::diagnostic::{Code, Finding, nearest};
use crate::policy::names::checked_name;
use crate::policy::source::{At, RawAnomaly, RawApprovers, RawAsked, RawHold, RawPolicy, RawRule};

/// The highest score that a policy can name.
const MAX_SCORE: f64 = 10_000.0;

impl Resolver<'_> {
    pub(super) fn approvers(
        &mut self,
        name: &At<String>,
        raw: &RawApprovers,
    ) -> Option<(Name, Vec<(Name, PublicKey)>)> {
        let list = checked_name("list of approvers", name, self.findings);
        if raw.people.is_empty() || raw.people.len() > MAX_PEOPLE {
            let message = format!("the list `{}` names {} people", name.value, raw.people.len());
            self.findings.push(
                Finding::error(Code::EmptyList, message, raw.span.clone(), "not a list of approvers").help(
                    format!("write `NAME = \"U…\"`, the public nkey of each of 1 to {MAX_PEOPLE} people"),
                ),
            );
        }
        let mut people: Vec<(Name, PublicKey)> = Vec::with_capacity(raw.people.len());
        for (person, key) in &raw.people {
            let name = checked_name("person", person, self.findings);
            let Ok(public) = PublicKey::from_nkey(&key.value, KeyKind::User) else {
                let message = format!("`{}` is not a public key", key.value);
                self.findings.push(
                    Finding::error(
                        Code::InvalidValue,
                        message,
                        key.span.clone(),
                        "not an nkey that starts with U",
                    )
                    .help("make one with `sealbus approvals key`, and write the public half here"),
                );
                continue;
            };
            if let Some((other, _)) = people.iter().find(|(_, of)| *of == public) {
                let message = format!("`{}` and `{other}` have the same key", person.value);
                self.findings.push(
                    Finding::error(Code::Duplicate, message, key.span.clone(), "again here").help(
                        "each person has a key of their own: two names on one key would be two approvals",
                    ),
                );
            }
            people.extend(name.map(|name| (name, public)));
        }
        Some((list?, people))
    }

    pub(super) fn hold(&mut self, raw: Option<&RawHold>) -> Option<Option<Hold>> {
        let Some(raw) = raw else { return Some(None) };
        let approvals =
            raw.approvals.as_ref().and_then(|n| self.number("approvals", n, u64::from(MAX_APPROVALS)));
        let deadline = raw.deadline.as_ref().and_then(|written| self.duration_up_to("deadline", written, 24));
        let lists = raw.approvers.as_ref()?;
        if lists.value.is_empty() || lists.value.len() > MAX_LISTS {
            let message = format!("`approvers` names {} lists", lists.value.len());
            self.findings.push(
                Finding::error(Code::EmptyList, message, lists.span.clone(), "nobody could approve")
                    .help(format!("name 1 to {MAX_LISTS} lists, each declared as `[approvers.NAME]`")),
            );
            return None;
        }
        let mut resolved = Some(Vec::with_capacity(lists.value.len()));
        for (n, RawAsked { list, after }) in lists.value.iter().enumerate() {
            self.once(lists.value.iter().take(n).map(|asked| &asked.list), list);
            let after_ms = match after {
                Some(after) => self.duration_up_to("after", after, 24),
                None => Some(0),
            };
            let number = self.approver_lists.number(list, self.findings);
            let people = number.and_then(|n| self.people.get(usize::from(n)).cloned());
            let one = Name::parse(&list.value).ok().zip(after_ms).zip(people);
            resolved = resolved.zip(one).map(|(mut all, ((name, after_ms), people))| {
                all.push(ApproverList { name, after_ms, people });
                all
            });
        }
        let hold =
            Hold { approvals: u8::try_from(approvals?).ok()?, deadline_ms: deadline?, lists: resolved? };
        self.check_hold(raw, &hold);
        Some(Some(hold))
    }

    fn check_hold(&mut self, raw: &RawHold, hold: &Hold) {
        let people = hold.different_people();
        // What is wrong with a list was reported there.
        let whole = hold.lists.iter().all(|list| !list.people.is_empty());
        if whole && people < usize::from(hold.approvals) {
            let message = format!("{} must approve, and only {people} may", hold.approvals);
            self.findings.push(
                Finding::error(Code::Conflict, message, raw.span.clone(), "nothing would ever be approved")
                    .help("name more people, or ask for fewer approvals"),
            );
        }
        if let Some(late) = hold.lists.iter().find(|list| list.after_ms >= hold.deadline_ms) {
            let message = format!("the list `{}` would be told when the time is over", late.name);
            self.findings.push(
                Finding::error(Code::Conflict, message, raw.span.clone(), "told too late")
                    .help("let `after` be shorter than `deadline`"),
            );
        }
    }

    pub(super) fn oversight(&mut self, written: Option<&At<String>>) -> Option<Oversight> {
        let choices = [Oversight::Directed, Oversight::OpenEnded].map(|mode| (mode.code(), mode));
        self.choice("oversight", written, choices)
    }

    /// A directed workflow is held to tight limits, so they are written down: a default is nobody's decision.
    pub(super) fn tight_limits(&mut self, name: &At<String>, raw: &RawRule) {
        let directed = |written: &Option<At<String>>| {
            written.as_ref().is_some_and(|mode| mode.value == Oversight::Directed.code())
        };
        let why = if directed(&raw.oversight) {
            format!("the rule `{}` is directed", name.value)
        } else {
            // Who serves a request rule sends its answers under it.
            let serves = raw.kind.as_ref().is_some_and(|kind| kind.value == "request");
            let servers = raw.subscribers.iter().filter(|_| serves);
            let senders = raw.publishers.iter().chain(servers).flat_map(|list| &list.value);
            let teams = senders.filter(|party| !party.agent).map(|party| &party.name.value);
            let Some(team) = teams.into_iter().find(|team| self.directed_teams.contains(*team)) else {
                return;
            };
            format!("the team `{team}`, which sends under the rule `{}`, is directed", name.value)
        };
        for (key, missing, example) in [
            ("rate", raw.rate.is_none(), "rate = { per_second = 5, burst = 20 }"),
            ("max_bytes", raw.max_bytes.is_none(), "max_bytes = 65536"),
        ] {
            if !missing {
                continue;
            }
            let message = format!("{why}, and it states no `{key}`");
            let help = format!(
                "write what the workflow needs and no more, such as `{example}`: more than that pauses it"
            );
            self.findings.push(
                Finding::error(Code::MissingKey, message, raw.span.clone(), "without a limit of its own")
                    .help(help),
            );
        }
    }

    pub(super) fn supervision(&mut self, raw: &RawPolicy) -> Option<Supervision> {
        let written = raw.orders.is_some() || raw.anomaly.is_some();
        let mut quorums = Vec::new();
        for (kind, keys) in raw.orders.iter().flatten() {
            let Some(known) = OrderKind::from_code(&kind.value) else {
                let codes = OrderKind::ALL.map(OrderKind::code);
                self.unknown("order", kind, &codes);
                continue;
            };
            let most = u64::try_from(MAX_SIGNATURES).unwrap_or(u64::MAX);
            let keys = self.number(&kind.value, keys, most).and_then(|n| u8::try_from(n).ok());
            quorums.extend(keys.map(|keys| (known, keys)));
        }
        quorums.sort_by_key(|(kind, _)| kind.number());
        let anomaly = raw.anomaly.as_ref().map(|raw| self.anomaly(raw)).unwrap_or_default();
        written.then_some(Supervision { quorums, anomaly })
    }

    fn anomaly(&mut self, raw: &RawAnomaly) -> AnomalyRecord {
        let mut record = AnomalyRecord::default();
        for (written, field) in [(&raw.watch, &mut record.watch), (&raw.quarantine, &mut record.quarantine)] {
            if let Some(score) = written.as_ref().and_then(|score| self.score(score, 0.01)) {
                *field = score;
            }
        }
        if let Some(low) =
            raw.quarantine.as_ref().or(raw.watch.as_ref()).filter(|_| record.quarantine < record.watch)
        {
            let message = "who is quarantined was not watched before";
            self.findings.push(
                Finding::error(
                    Code::Conflict,
                    message,
                    low.span.clone(),
                    "`quarantine` is lower than `watch`",
                )
                .help("let `quarantine` be at least `watch`"),
            );
        }
        for (key, written, field) in [
            ("half_life", &raw.half_life, &mut record.half_life_ms),
            ("warm_up", &raw.warm_up, &mut record.warm_up_ms),
        ] {
            if let Some(ms) = written.as_ref().and_then(|written| self.duration_up_to(key, written, 7 * 24)) {
                *field = ms;
            }
        }
        if let Some(n) = &raw.warm_up_messages {
            record.warm_up_messages =
                self.number("warm_up_messages", n, 1_000_000).unwrap_or(record.warm_up_messages);
        }
        record.divert = raw.divert.as_ref().is_some_and(|on| on.value);
        for (signal, cost) in &raw.weights {
            if !SIGNALS.iter().any(|known| known.weighs() && known.name == signal.value) {
                let weighed = SIGNALS.iter().filter(|known| known.weighs());
                let names: Vec<&str> = weighed.map(|known| known.name).collect();
                self.unknown("signal", signal, &names);
                continue;
            }
            let cost = self.score(cost, 0.0);
            record.weights.extend(Name::parse(&signal.value).ok().zip(cost));
        }
        record.weights.sort();
        record
    }

    /// In hundredths, as it is signed.
    fn score(&mut self, written: &At<f64>, least: f64) -> Option<u32> {
        if !(least..=MAX_SCORE).contains(&written.value) {
            let message = format!("`{}` is out of range", written.value);
            self.findings.push(
                Finding::error(Code::InvalidValue, message, written.span.clone(), "not a score")
                    .help(format!("write a number from {least} to {MAX_SCORE}")),
            );
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from nought to a million, as was checked"
        )]
        Some((written.value * 100.0).round() as u32)
    }

    fn unknown(&mut self, what: &str, written: &At<String>, known: &[&str]) {
        let message = format!("unknown {what} `{}`", written.value);
        let help = match nearest(&written.value, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of: {}", known.join(", ")),
        };
        self.findings
            .push(Finding::error(Code::UnknownKey, message, written.span.clone(), "not known").help(help));
    }
}

//! What a reader of the review is to look at, most pressing first, each with the command that digs deeper.

use sealbus_envelope::time::Millis;
use serde::Serialize;

use super::{Activity, Happened, Review};

/// How pressing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody must decide now.
    Critical,
    /// Something was wrong.
    High,
    /// Worth a look.
    Medium,
    /// To know.
    Low,
}

impl Severity {
    /// The word.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// One thing to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How pressing.
    pub severity: Severity,
    /// In one line.
    pub title: String,
    /// What it rests on.
    pub detail: String,
    /// The command that tells more.
    pub command: String,
}

/// The most findings of one sort that stand alone.
const ALONE: usize = 5;
/// From so many denials on they are worth a line, if they are this many times as many as before.
const MANY_DENIALS: u64 = 10;
/// The same of messages.
const MANY_MESSAGES: u64 = 100;
const TIMES: u64 = 5;
/// Beside the changes of state: a server did not confirm one.
pub(super) const NOT_CONFIRMED: &str = "not confirmed";

/// The findings of a review whose lists are filled.
pub(super) fn find(review: &Review) -> Vec<Finding> {
    let mut found = Vec::new();
    states(review, &mut found);
    workflows(review, &mut found);
    holds(review, &mut found);
    orders(review, &mut found);
    activity(review, &mut found);
    newcomers(review, &mut found);
    log(review, &mut found);
    // Stable: of one severity, in the order in which they were found.
    found.sort_by_key(|finding| finding.severity);
    found
}

fn finding(severity: Severity, title: String, detail: impl Into<String>, command: String) -> Finding {
    Finding { severity, title, detail: detail.into(), command }
}

/// How many, in the right number.
fn counted(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

fn len<T>(all: &[T]) -> u64 {
    u64::try_from(all.len()).unwrap_or(u64::MAX)
}

/// A token's name: what people type.
fn name(token: &str) -> &str {
    token.rsplit_once('-').map_or(token, |(name, _)| name)
}

fn search(since: Millis, rest: &str) -> String {
    format!("sealbus audit search {rest} --since {}", super::markdown::time(since))
}

/// Puts the first few alone and the rest on one line.
fn some<T>(
    items: &[T],
    found: &mut Vec<Finding>,
    one: impl Fn(&T) -> Finding,
    rest: impl Fn(usize) -> Finding,
) {
    found.extend(items.iter().take(ALONE).map(&one));
    match items.get(ALONE..) {
        None | Some([]) => {}
        Some([last]) => found.push(one(last)),
        Some(more) => found.push(rest(more.len())),
    }
}

/// What each subject was last said to be.
fn last(all: &[Happened]) -> impl Iterator<Item = &Happened> {
    let is_last = |(place, one): &(usize, &Happened)| {
        !all.iter().skip(place + 1).any(|later| later.subject == one.subject)
    };
    all.iter().enumerate().filter(is_last).map(|(_, one)| one)
}

fn states(review: &Review, found: &mut Vec<Finding>) {
    let changes: Vec<_> = review.states.iter().filter(|state| state.what != NOT_CONFIRMED).cloned().collect();
    let off: Vec<_> = last(&changes).filter(|state| state.what.ends_with("to quarantined")).collect();
    some(
        &off,
        found,
        |state| {
            let title = format!("{} is in quarantine", state.subject);
            let command = format!("sealbus quarantine show {}", name(&state.subject));
            finding(Severity::Critical, title, &state.detail, command)
        },
        |n| {
            let title = format!("{n} more agents are in quarantine");
            finding(Severity::Critical, title, "", "sealbus quarantine list".to_owned())
        },
    );
    for left in review.states.iter().filter(|state| state.what == NOT_CONFIRMED) {
        let title = format!("not every server confirmed that {} is off the bus", left.subject);
        let command = format!("sealbus quarantine show {}", name(&left.subject));
        found.push(finding(Severity::Critical, title, &left.detail, command));
    }
    let watched: Vec<_> = review.states.iter().filter(|state| state.what.ends_with("to watched")).collect();
    some(
        &watched,
        found,
        |state| {
            let title = format!("{} was watched", state.subject);
            let command = format!("sealbus quarantine show {}", name(&state.subject));
            finding(Severity::Medium, title, &state.detail, command)
        },
        |n| {
            let title = format!("{n} more times an agent was watched");
            finding(Severity::Medium, title, "", search(review.since, "--kind quarantine"))
        },
    );
    let back: Vec<_> = review
        .states
        .iter()
        .filter(|state| state.what.ends_with("to released") || state.what.ends_with("to revoked"))
        .collect();
    some(
        &back,
        found,
        |state| {
            let title = format!("{} went from {}", state.subject, state.what);
            finding(Severity::Low, title, &state.detail, search(review.since, "--kind order"))
        },
        |n| {
            let title = format!("{n} more agents were released or revoked");
            finding(Severity::Low, title, "", search(review.since, "--kind quarantine"))
        },
    );
}

fn workflows(review: &Review, found: &mut Vec<Finding>) {
    for workflow in last(&review.workflows).filter(|workflow| workflow.what.starts_with("paused")) {
        let title = format!("{} is paused", workflow.subject);
        let command = format!("sealbus workflow show {}", workflow.subject);
        found.push(finding(Severity::Critical, title, &workflow.detail, command));
    }
    let over = review.workflows.iter().filter(|one| one.what == "paused by breaker");
    let over: Vec<_> = over.filter(|one| last(&review.workflows).all(|last| last != *one)).collect();
    some(
        &over,
        found,
        |workflow| {
            let title = format!("{} was paused by its breaker, and went on", workflow.subject);
            let command = format!("sealbus workflow show {}", workflow.subject);
            finding(Severity::High, title, &workflow.detail, command)
        },
        |n| {
            let title = format!("{n} more times a breaker paused a workflow");
            finding(Severity::High, title, "", search(review.since, "--kind workflow"))
        },
    );
}

fn holds(review: &Review, found: &mut Vec<Finding>) {
    let expired =
        review.holds.iter().filter(|hold| hold.what.ends_with("approval_expired")).collect::<Vec<_>>();
    some(
        &expired,
        found,
        |hold| {
            let title = format!("nobody answered for what {} sent", hold.subject);
            finding(Severity::High, title, &hold.what, format!("sealbus why {}", hold.detail))
        },
        |n| {
            let title = format!("{n} more held envelopes were not answered in time");
            finding(Severity::High, title, "", search(review.since, "--reason approval_expired"))
        },
    );
    let late: Vec<_> = review.holds.iter().filter(|hold| hold.what.starts_with("approved late")).collect();
    if let Some(first) = late.first() {
        let title = counted(
            len(&late),
            "approval came when its time was nearly over",
            "approvals came when their time was nearly over",
        );
        let command = format!("sealbus why {}", first.detail);
        found.push(finding(Severity::Medium, title, "ask more people, or sooner", command));
    }
}

fn orders(review: &Review, found: &mut Vec<Finding>) {
    let refused: Vec<_> = review.orders.iter().filter(|order| order.what.contains("refused")).collect();
    if let Some(first) = refused.first() {
        let title = counted(len(&refused), "order was refused", "orders were refused");
        let detail = format!("the first: {} {}", first.what, first.subject);
        found.push(finding(Severity::Medium, title, detail, search(review.since, "--kind order")));
    }
    let given: Vec<_> = review.orders.iter().filter(|order| !order.what.contains("refused")).collect();
    if !given.is_empty() {
        let title = counted(len(&given), "order was carried out", "orders were carried out");
        let detail = given.iter().take(ALONE).map(|order| format!("{} ({})", order.what, order.subject));
        let detail = detail.collect::<Vec<_>>().join("; ");
        found.push(finding(Severity::Low, title, detail, search(review.since, "--kind order")));
    }
    let policies: Vec<_> = review.changes.iter().filter(|change| change.subject == "bundle").collect();
    if let Some(last) = policies.last() {
        let title = counted(len(&policies), "policy came into force", "policies came into force");
        let detail = if policies.len() > 1 { format!("the last: {}", last.what) } else { last.what.clone() };
        found.push(finding(Severity::Medium, title, detail, "sealbus policy history".to_owned()));
    }
}

fn activity(review: &Review, found: &mut Vec<Finding>) {
    let passed: u64 = review.observed.iter().map(|observed| observed.times).sum();
    if let Some(most) = review.observed.first() {
        let title = counted(
            passed,
            "envelope would be denied but for observe mode",
            "envelopes would be denied but for observe mode",
        );
        let detail = format!("most: {} under {}: {} ({})", most.agent, most.rule, most.reason, most.times);
        found.push(finding(Severity::Medium, title, detail, "sealbus policy observed".to_owned()));
    }
    let more: Vec<&Activity> = review
        .agents
        .iter()
        .filter(|did| did.denied >= MANY_DENIALS && did.denied >= did.denied_before.saturating_mul(TIMES))
        .collect();
    some(
        &more,
        found,
        |did| {
            let title = format!("{} was denied {} times", did.agent, did.denied);
            let detail = match did.denied_before {
                _ if !review.compared => String::new(),
                0 => "never in the period before".to_owned(),
                n => format!("{n} times in the period before"),
            };
            let rest = format!("--agent {} --kind denied", did.agent);
            finding(Severity::Medium, title, detail, search(review.since, &rest))
        },
        |n| {
            let title = format!("{n} more agents were denied far more often than before");
            finding(Severity::Medium, title, "", search(review.since, "--kind denied"))
        },
    );
    let louder = |did: &&Activity| {
        let much = did.messages >= MANY_MESSAGES && did.before > 0;
        review.compared && much && did.messages >= did.before.saturating_mul(TIMES)
    };
    let louder: Vec<&Activity> = review.agents.iter().filter(louder).collect();
    some(
        &louder,
        found,
        |did| {
            let title = format!("{} sent {} messages", did.agent, did.messages);
            let detail = format!("{} in the period before", did.before);
            finding(Severity::Medium, title, detail, search(review.since, &format!("--agent {}", did.agent)))
        },
        |n| {
            let title = format!("{n} more agents sent far more than before");
            finding(Severity::Medium, title, "", search(review.since, "--kind admitted"))
        },
    );
    if let Some(nearest) = review.near_rates.iter().max_by_key(|near| near.peak * 1000 / near.limit.max(1)) {
        let title = counted(len(&review.near_rates), "sender came near a rate", "senders came near a rate");
        let detail = format!(
            "nearest: {} under {}: {} of {} in ten seconds",
            nearest.agent, nearest.rule, nearest.peak, nearest.limit
        );
        found.push(finding(
            Severity::Low,
            title,
            detail,
            search(review.since, &format!("--agent {} --kind admitted", nearest.agent)),
        ));
    }
    if let Some(most) = review.grants.first() {
        let times: u64 = review.grants.iter().map(|used| used.times).sum();
        let title = counted(times, "message went by a flow grant", "messages went by a flow grant");
        let detail = format!("most: {} by {} ({})", most.grant, most.agent, most.times);
        let rest = format!("--agent {} --kind admitted", most.agent);
        found.push(finding(Severity::Low, title, detail, search(review.since, &rest)));
    }
}

fn newcomers(review: &Review, found: &mut Vec<Finding>) {
    some(
        &review.new_readers,
        found,
        |new| {
            let title = format!("{} reads {} for the first time", new.reader, new.sender);
            let detail = format!("under {}, at {}", new.rule, new.label);
            finding(
                Severity::Medium,
                title,
                detail,
                format!("sealbus graph blast-radius {}", name(&new.reader)),
            )
        },
        |n| {
            let title = format!("{n} more readers were given a sender's keys for the first time");
            finding(Severity::Medium, title, "", search(review.since, "--kind key_granted"))
        },
    );
    some(
        &review.new_flows,
        found,
        |new| {
            let who = if new.new_agent { "a new agent" } else { "for the first time" };
            let title = format!("{} sent under {} at {}", new.agent, new.rule, new.label);
            let detail = format!("{who}, {}", counted(new.times, "time", "times"));
            finding(Severity::Low, title, detail, search(review.since, &format!("--agent {}", new.agent)))
        },
        |n| {
            let title = format!("{n} more flows are new");
            finding(Severity::Low, title, "see them below", "sealbus graph show".to_owned())
        },
    );
    some(
        &review.new_places,
        found,
        |place| {
            let title = format!("{} {}", place.subject, place.what);
            let rest = format!("--agent {} --kind connection", place.subject);
            finding(Severity::Medium, title, &place.detail, search(review.since, &rest))
        },
        |n| {
            let title = format!("{n} more agents connected where they never were before");
            finding(Severity::Medium, title, "", search(review.since, "--kind connection"))
        },
    );
    let refused: u64 = review.refused_logins.iter().map(|login| login.times).sum();
    if let Some(most) = review.refused_logins.first() {
        let title = counted(refused, "login was not let in", "logins were not let in");
        let detail = format!("most: {} ({}, {})", most.agent, most.reason, most.times);
        found.push(finding(Severity::Low, title, detail, search(review.since, "--kind connection")));
    }
}

fn log(review: &Review, found: &mut Vec<Finding>) {
    for gap in review.log.iter().filter(|one| one.subject == "gap").take(ALONE) {
        let title = "the audit log has a gap".to_owned();
        let detail = format!("{} ({})", gap.what, gap.detail);
        found.push(finding(Severity::Medium, title, detail, "sealbus audit verify".to_owned()));
    }
    if review.left_out > 0 {
        let title = "not everything is in this report".to_owned();
        let detail = format!("there was too much: {} entries were not counted one by one", review.left_out);
        let command = "sealbus review --since 1d".to_owned();
        found.push(finding(Severity::Medium, title, detail, command));
    }
}

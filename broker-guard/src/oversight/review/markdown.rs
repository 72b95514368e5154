//! The review as Markdown: a table of contents is not needed, because what matters stands first.

use std::fmt::Write as _;

use sealbus_envelope::time::Millis;

use super::{Denials, Happened, Review};

/// Rows of a table; the rest is in the JSON form.
pub(super) const ROWS: usize = 50;

/// A section's title, what it means, its table, and how many rows there are in all.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    pub(super) head: &'static [&'static str],
    pub(super) rows: Vec<Vec<String>>,
    pub(super) all: usize,
    /// What it says if there is nothing.
    pub(super) none: &'static str,
}

/// A time as RFC 3339 in UTC, to the second.
pub(super) fn time(time: Millis) -> String {
    let seconds = i64::try_from(time.seconds()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{} ms", time.0), |time| time.to_string())
}

fn minute(at: Millis) -> String {
    let text = time(at);
    text.get(..16).map_or_else(|| text.clone(), |minute| minute.replace('T', " "))
}

/// The numbers at the top, each with what it counts.
pub(super) fn numbers(review: &Review) -> Vec<(String, String)> {
    let sum = |of: fn(&super::Activity) -> u64| review.agents.iter().map(of).sum::<u64>();
    let active = review.agents.iter().filter(|did| did.messages > 0).count();
    let against = |what: &str, before: u64| match review.compared {
        true => format!("{what}; {before} before"),
        false => what.to_owned(),
    };
    let pauses = review.workflows.iter().filter(|one| one.what.starts_with("paused")).count();
    let quarantines = review.states.iter().filter(|one| one.what.ends_with("quarantined")).count();
    vec![
        (active.to_string(), "agents sent".to_owned()),
        (sum(|did| did.messages).to_string(), against("messages", sum(|did| did.before))),
        (sum(|did| did.denied).to_string(), against("denied", sum(|did| did.denied_before))),
        (sum(|did| did.observed).to_string(), "let pass by observe mode".to_owned()),
        ((review.new_flows.len() + review.new_readers.len()).to_string(), "new flows, readers".to_owned()),
        (pauses.to_string(), "pauses".to_owned()),
        (quarantines.to_string(), "quarantines".to_owned()),
    ]
}

/// Every section below the findings.
pub(super) fn sections(review: &Review) -> Vec<Section> {
    let mut all = vec![agents(review), flows(review), readers(review)];
    let denials = &["Agent", "Reason", "Rule", "Times", "Last", "For example"];
    all.push(denied(
        "Denials",
        "What was refused. One example each: `sealbus why ID`.",
        denials,
        &review.denials,
        "Nothing was denied.",
    ));
    all.push(denied(
        "Let pass by observe mode",
        "What would be denied if the policy did not observe.",
        denials,
        &review.observed,
        "Nothing was let pass that would be denied.",
    ));
    all.push(section(
        "Near a limit",
        "Senders that used more than four fifths of a rule's rate in some ten seconds.",
        &["Agent", "Rule", "Most in 10 s", "Limit", "When"],
        review.near_rates.iter().map(|near| {
            let (peak, limit) = (near.peak.to_string(), near.limit.to_string());
            vec![near.agent.clone(), near.rule.clone(), peak, limit, minute(near.at)]
        }),
        "Nobody came near a rate.",
    ));
    let head = &["When", "Agent", "What", "Why"];
    all.push(happened("Watched and quarantined", "", head, &review.states, "Nobody."));
    let head = &["When", "Workflow", "What", "Why"];
    all.push(happened("Workflows paused and resumed", "", head, &review.workflows, "None."));
    let mut holds = happened(
        "Held for approval",
        "What was not released, and what was released when its time was nearly over.",
        &["When", "Agent", "What", "Envelope"],
        &review.holds,
        "Nothing that was held was denied or late.",
    );
    if review.released > 0 {
        holds.none = "What was held was released in good time.";
    }
    all.push(holds);
    all.push(happened("Orders", "", &["When", "Of", "Order", "Why"], &review.orders, "None."));
    let head = &["When", "Of", "What", "Digest"];
    all.push(happened("Policy and status", "", head, &review.changes, "Neither changed."));
    all.push(section(
        "Flow grants used",
        "Each lets information flow to a label that its floor forbids, for the reason that the policy states.",
        &["Grant", "Agent", "Times", "Before", "Reason"],
        review.grants.iter().map(|used| {
            let reason = used.reason.clone().unwrap_or_else(|| "not in the policy in force".to_owned());
            let (times, before) = (used.times.to_string(), used.before.to_string());
            vec![used.grant.clone(), used.agent.clone(), times, before, reason]
        }),
        "None was used.",
    ));
    let head = &["When", "Agent", "What", "Why it is here"];
    all.push(happened("New places", "", head, &review.new_places, "Everybody was where it always is."));
    let head = &["Agent", "Reason", "Server", "Times", "Last", ""];
    all.push(denied("Logins not let in", "", head, &review.refused_logins, "None."));
    all.push(happened("The log itself", "", &["When", "Of", "What", "Why"], &review.log, "It has no gap."));
    all
}

fn section(
    title: &'static str,
    about: &'static str,
    head: &'static [&'static str],
    rows: impl ExactSizeIterator<Item = Vec<String>>,
    none: &'static str,
) -> Section {
    let all = rows.len();
    Section { title, about, head, rows: rows.take(ROWS).collect(), all, none }
}

fn agents(review: &Review) -> Section {
    let rows = review.agents.iter().map(|did| {
        let team = did.team.clone().unwrap_or_else(|| "-".to_owned());
        let team = if did.open_ended { format!("{team} (open-ended)") } else { team };
        let before = if review.compared { did.before.to_string() } else { "-".to_owned() };
        let more = did.subjects.len().saturating_sub(3);
        let mut subjects = did.subjects.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        if more > 0 || did.more_subjects > 0 {
            let plus = if did.more_subjects > 0 { "+" } else { "" };
            let _ = write!(subjects, " and {more}{plus} more");
        }
        let labels: Vec<_> = did.labels.keys().take(3).cloned().collect();
        let (denied, observed) = (did.denied.to_string(), did.observed.to_string());
        let last = did.last.map(minute).unwrap_or_default();
        let (agent, sent) = (did.agent.clone(), did.messages.to_string());
        vec![agent, team, sent, before, denied, observed, subjects, labels.join(", "), last]
    });
    section(
        "Who did what",
        "Messages admitted, against the period of the same length before.",
        &["Agent", "Team", "Messages", "Before", "Denied", "Observed", "Subjects", "Labels", "Last"],
        rows,
        "Nobody did anything.",
    )
}

fn flows(review: &Review) -> Section {
    let rows = review.new_flows.iter().map(|new| {
        let agent = if new.new_agent { format!("{} (new)", new.agent) } else { new.agent.clone() };
        vec![agent, new.rule.clone(), new.label.clone(), new.times.to_string(), minute(new.first)]
    });
    section(
        "New flows",
        "An agent that sent under a rule at a label for the first time, as far as the log goes back.",
        &["Agent", "Rule", "Label", "Times", "First"],
        rows,
        "No flow is new.",
    )
}

fn readers(review: &Review) -> Section {
    let rows = review.new_readers.iter().map(|new| {
        let names = [&new.reader, &new.sender, &new.rule, &new.label].map(Clone::clone);
        names.into_iter().chain([minute(new.first)]).collect()
    });
    section(
        "New readers",
        "Who was given a sender's key under a rule for the first time, as far as the log goes back.",
        &["Reader", "Sender", "Rule", "Label", "First"],
        rows,
        "No reader is new.",
    )
}

fn denied(
    title: &'static str,
    about: &'static str,
    head: &'static [&'static str],
    all: &[Denials],
    none: &'static str,
) -> Section {
    let rows = all.iter().map(|denials| {
        let Denials { agent, reason, rule, times, last, example } = denials;
        let example = example.clone().unwrap_or_default();
        vec![agent.clone(), reason.clone(), rule.clone(), times.to_string(), minute(*last), example]
    });
    section(title, about, head, rows, none)
}

fn happened(
    title: &'static str,
    about: &'static str,
    head: &'static [&'static str],
    all: &[Happened],
    none: &'static str,
) -> Section {
    let rows = all
        .iter()
        .map(|one| vec![minute(one.time), one.subject.clone(), one.what.clone(), one.detail.clone()]);
    section(title, about, head, rows, none)
}

/// Text that a table takes: nothing in it ends a cell, a line or a paragraph, or is markup.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '&' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The report as Markdown.
#[must_use]
pub fn markdown(review: &Review) -> String {
    let mut out = String::new();
    let team = review.team.as_ref().map(|team| format!(", team {}", cell(team))).unwrap_or_default();
    let _ = writeln!(out, "# Review of `{}`{team}\n", review.bus);
    let _ = writeln!(
        out,
        "{} to {} (UTC), {} log entries.",
        minute(review.since),
        minute(review.until),
        review.entries
    );
    if !review.compared {
        let _ = writeln!(
            out,
            "The log does not reach back over the period before, so nothing is compared with it."
        );
    }
    out.push('\n');
    for (number, what) in numbers(review) {
        let _ = writeln!(out, "- **{number}** {what}");
    }
    let _ = writeln!(out, "\n## Look at this first\n");
    if review.findings.is_empty() {
        let _ = writeln!(out, "Nothing stands out.");
    }
    for finding in &review.findings {
        let detail =
            if finding.detail.is_empty() { String::new() } else { format!(": {}", cell(&finding.detail)) };
        let (severity, title) = (finding.severity.code(), cell(&finding.title));
        // In a code span nothing is markup but the backtick or the line that ends it.
        let command = finding.command.replace('`', "'").replace(char::is_control, " ");
        let _ = writeln!(out, "- **{severity}** {title}{detail}  \n  `{command}`");
    }
    for section in sections(review) {
        let _ = writeln!(out, "\n## {}\n", section.title);
        if section.rows.is_empty() {
            let _ = writeln!(out, "{}", section.none);
            continue;
        }
        if !section.about.is_empty() {
            let _ = writeln!(out, "{}\n", section.about);
        }
        let _ = writeln!(out, "| {} |", section.head.join(" | "));
        let _ = writeln!(out, "|{}", " --- |".repeat(section.head.len()));
        for row in &section.rows {
            let cells: Vec<_> = row.iter().map(|text| cell(text)).collect();
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
        if section.all > section.rows.len() {
            let _ = writeln!(out, "\nand {} more: `sealbus review --json`", section.all - section.rows.len());
        }
    }
    out
}

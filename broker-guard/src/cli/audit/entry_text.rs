//! An entry of the log as one line for people.

use sealbus_envelope::{label::Label, policy::Tables};

use super::super::{
    output::{BAD, FAINT, GOOD, paint},
    session::one_line,
    when::clock,
};
use crate::audit::entry::{Body, Entry};

/// One line: leaf, time, kind, what happened. Without the policy's tables a label is numbers.
pub(crate) fn line(leaf: u64, entry: &Entry<'_>, tables: Option<&Tables>) -> String {
    let kind = entry.body.kind();
    let style = match &entry.body {
        Body::Admitted(_) => GOOD,
        Body::Denied(_) | Body::Gap(_) | Body::Quarantine(_) | Body::Workflow(_) => BAD,
        _ => anstyle::Style::new(),
    };
    let date = super::super::when::date(entry.time);
    format!(
        "{} {} {}  {}",
        paint(FAINT, format_args!("{leaf:>6}")),
        paint(FAINT, format_args!("{date} {}", clock(entry.time))),
        paint(style, format_args!("{kind:<13}")),
        told(&entry.body, tables)
    )
}

/// What happened, escaped as a whole: the log keeps what was on the wire, such as the subject of a denied envelope, as
/// it came, and with it an agent could rewrite the screen of who looks into its denial.
fn told(body: &Body<'_>, tables: Option<&Tables>) -> String {
    one_line(&what(body, tables))
}

fn what(body: &Body<'_>, tables: Option<&Tables>) -> String {
    let show = |label: Label| tables.map_or_else(|| label_numbers(label), |tables| tables.show(label));
    let or = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or("?").to_owned();
    match body {
        Body::Start(start) => {
            let clean = if start.clean { "" } else { ", the last run did not close its log" };
            format!("sealbus {}{clean}", start.program)
        }
        Body::Stop => "closed in order".to_owned(),
        Body::Gap(gap) => format!("positions from {}.{} may be missing", gap.epoch, gap.from),
        Body::Admitted(a) => {
            let label = show(a.label);
            format!("{} on {} (rule {}, {label}) id {}", a.sender, a.subject, a.rule, a.envelope)
        }
        Body::Denied(d) => {
            let count = if d.count > 1 { format!(" × {}", d.count) } else { String::new() };
            let subject = d.subject.as_ref().map(|subject| format!(" on {subject}")).unwrap_or_default();
            let id = d.envelope.map(|id| format!(" id {id}")).unwrap_or_default();
            format!("{}{subject}: {}{count}{id}", or(&d.sender), d.reason)
        }
        Body::Order(o) => {
            let outcome = match &o.reason {
                Some(reason) => format!("refused: {reason}"),
                None => format!("carried out, signed by {}", o.signers.len()),
            };
            let why = o.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            format!("{} {}: {outcome}{why}", o.order, o.target)
        }
        Body::Connection(c) => {
            let result = format!("{:?}", c.result).to_lowercase();
            let reason = c.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!("{} at {}: {result}{reason}", or(&c.agent), c.server)
        }
        Body::Session(s) => format!("{} {} ({})", s.agent, s.event, short(&s.session.to_string())),
        Body::KeyGranted(k) => {
            format!("{} to {} (rule {}, {})", k.sender, k.reader, k.rule, show(k.label))
        }
        Body::PolicyChange(p) => {
            let from = p.from.map_or_else(|| "none".to_owned(), |from| from.to_string());
            format!("{} {from} to {}", p.what, p.to)
        }
        Body::Quarantine(q) => match (q.confirmed, q.detail.as_deref().unwrap_or_default()) {
            // Its reason is what it was off the bus for.
            (None, _) if q.to == "released" => format!("{} {} to {}", q.agent, q.from, q.to),
            (None, _) => format!("{} {} to {}: {}", q.agent, q.from, q.to, q.reason),
            (Some(true), detail) => format!("{} {}, confirmed: {detail}", q.agent, q.to),
            (Some(false), detail) => format!("{} {}, NOT confirmed: {detail}", q.agent, q.to),
        },
        Body::Workflow(w) => {
            let detail = w.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
            format!("{} {} by {}{detail}", w.workflow, w.to, w.trigger)
        }
        Body::Checkpoint(c) => format!("{} at {}", c.origin, c.size),
        Body::Pruned(p) => {
            let export =
                p.exported.map_or_else(|| "without an export".to_owned(), |root| format!("export {root}"));
            format!("entries before {}, to {}: {export}", p.before, super::super::when::rfc3339(p.newest))
        }
        Body::Held(h) => {
            let (label, until) = (show(h.label), clock(h.until));
            let id = h.envelope;
            format!(
                "{} on {} (rule {}, {label}) waits for {} until {until} id {id}",
                h.sender, h.subject, h.rule, h.approvals
            )
        }
        Body::Approval(a) => {
            let word = if a.approve { "approves" } else { "denies" };
            let person = a.person.as_deref().unwrap_or(&a.key);
            let outcome = a.reason.as_ref().map(|reason| format!(": refused: {reason}"));
            let outcome = outcome.unwrap_or_else(|| format!(", {} missing", a.missing));
            format!("{person} {word} {}{outcome}", short(&a.digest.to_string()))
        }
        Body::HoldEnded(h) => {
            let outcome = match &h.reason {
                None => "released".to_owned(),
                Some(reason) => format!("denied: {reason}"),
            };
            let people =
                if h.people.is_empty() { String::new() } else { format!(" by {}", h.people.join(", ")) };
            format!("{} on {} {outcome}{people} id {}", h.sender, h.subject, h.envelope)
        }
    }
}

fn short(hex: &str) -> String {
    hex.chars().take(12).collect()
}

fn label_numbers(label: Label) -> String {
    let compartments: Vec<_> = label.compartments.iter().map(|n| n.to_string()).collect();
    let compartments = if compartments.is_empty() { "-".to_owned() } else { compartments.join("+") };
    format!("{}/{compartments}/{}", label.level.number(), label.integrity.number())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::audit::{
        entry::{
            Approval, Connection, ConnectionResult, Denied, HoldEnded, Order, PolicyChange, Quarantine,
            Session, Start, Workflow,
        },
        hex::Hex,
    };
    use sealbus_envelope::time::Millis;

    /// Clears the screen, turns the direction of writing, and begins a line of its own.
    const EVIL: Cow<'static, str> = Cow::Borrowed("x\x1b[2J\u{202e}\r\n\t0 forged");

    #[test]
    fn no_text_of_the_log_steers_the_terminal_or_begins_a_line() {
        let (digest, text) = (Hex([7; 32]), || Some(EVIL));
        let bodies = [
            Body::Start(Start { previous: None, clean: true, program: EVIL }),
            Body::Denied(Denied {
                reason: EVIL,
                count: 2,
                sender: text(),
                rule: text(),
                subject: text(),
                detail: text(),
                ..Denied::default()
            }),
            Body::Order(Order {
                order: EVIL,
                digest,
                target: EVIL,
                signers: vec![EVIL],
                accepted: false,
                reason: text(),
                id: None,
                why: text(),
            }),
            Body::Connection(Connection {
                agent: text(),
                server: EVIL,
                result: ConnectionResult::Accepted,
                reason: text(),
                session: None,
                host: text(),
            }),
            Body::Session(Session { session: digest, agent: EVIL, event: EVIL }),
            Body::PolicyChange(PolicyChange { what: EVIL, from: None, to: 1, digest }),
            Body::Quarantine(Quarantine {
                agent: EVIL,
                from: EVIL,
                to: EVIL,
                reason: EVIL,
                evidence: Vec::new(),
                confirmed: None,
                detail: text(),
            }),
            Body::Workflow(Workflow {
                workflow: EVIL,
                to: EVIL,
                trigger: EVIL,
                agent: text(),
                reason: text(),
                evidence: None,
                detail: text(),
            }),
            Body::Approval(Approval {
                digest,
                person: text(),
                key: EVIL,
                approve: true,
                signed: Millis(1),
                accepted: false,
                reason: text(),
                missing: 1,
            }),
            Body::HoldEnded(HoldEnded {
                digest,
                envelope: Hex([1; 16]),
                sender: EVIL,
                rule: EVIL,
                subject: EVIL,
                released: false,
                reason: text(),
                people: vec![EVIL],
                waited_ms: 1,
            }),
        ];
        for body in &bodies {
            let shown = told(body, None);
            assert!(shown.contains("\\u{1b}[2J"), "{shown:?}");
            assert!(!shown.contains(|c: char| c.is_control() || c == '\u{202e}'), "{shown:?}");
        }
    }
}

//! An entry of the log as one line for people.

use sealbus_envelope::{label::Label, policy::Tables};

use super::super::{
    output::{BAD, FAINT, GOOD, paint},
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
        what(&entry.body, tables)
    )
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
        Body::Quarantine(q) => format!("{} {} to {}: {}", q.agent, q.from, q.to, q.reason),
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

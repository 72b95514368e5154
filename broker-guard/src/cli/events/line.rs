//! One event as one line for people.

use anstyle::Style;
use serde_json::Value;

use super::super::{
    output::{BAD, FAINT, GOOD, STRONG, paint},
    session::one_line,
    when::{clock, date},
};
use crate::{
    clock::now,
    events::ocsf::{time, unmapped},
};

/// The day is left out if it is today.
pub(super) fn line(event: &Value) -> String {
    let none = Value::Null;
    let said = unmapped(event).unwrap_or(&none);
    let text = |key: &str| said.get(key).and_then(Value::as_str).map(one_line);
    let kind = text("kind").unwrap_or_else(|| "?".to_owned());
    let style = match (event.get("severity_id").and_then(Value::as_u64), kind.as_str()) {
        (_, "started" | "audit_recovered") => GOOD,
        (Some(4..), _) => BAD.bold(),
        (_, "denied") => BAD,
        (Some(3), _) => STRONG,
        _ => Style::new(),
    };
    let when = time(event).map_or_else(String::new, |time| {
        let day = date(time);
        if day == date(now()) { clock(time) } else { format!("{day} {}", clock(time)) }
    });
    let mut parts = Vec::new();
    parts.extend(text("agent"));
    parts.extend(text("subject").map(|subject| format!("on {subject}")));
    parts.extend(text("label"));
    parts.extend(text("reason").map(|reason| paint(style, reason).to_string()));
    parts.extend(text("meaning").map(|meaning| format!("({meaning})")));
    parts.extend(said.get("count").and_then(Value::as_u64).filter(|n| *n > 1).map(|n| format!("× {n}")));
    parts.extend(text("detail"));
    parts.extend(text("envelope").map(|id| paint(FAINT, format_args!("sealbus why {id}")).to_string()));
    format!("{} {}  {}", paint(FAINT, when), paint(style, format_args!("{kind:<13}")), parts.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_text_of_an_event_steers_the_terminal_or_begins_a_line() {
        let evil = "x\x1b[2J\u{202e}\r\n\t12:00:00 forged";
        let keys = ["kind", "agent", "subject", "label", "reason", "meaning", "detail", "envelope"];
        let said: serde_json::Map<_, _> =
            keys.map(|key| (key.to_owned(), Value::from(evil))).into_iter().collect();
        let shown = line(&json!({ "unmapped": { "sealbus": said } }));
        assert_eq!(
            shown.matches("\\u{1b}[2J\\u{202e}\\u{d}\\n\\t12:00:00 forged").count(),
            keys.len(),
            "{shown:?}"
        );
        assert!(!shown.contains(['\n', '\t', '\r', '\u{202e}']) && !shown.contains("\x1b[2J"), "{shown:?}");
    }
}

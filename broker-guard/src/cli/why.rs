//! `sealbus why`: the story of one envelope, from the audit log on disk.

mod around;
mod checks;

use std::{fmt::Write as _, path::Path};

use sealbus_envelope::{
    name::{AgentToken, Name},
    policy::{Bundle, Party, Tables, Who},
    reason::Reason,
};
use serde_json::{Value, json};

use super::{
    audit::{delivery::digest_of, line},
    busdir::{BusArg, BusDir},
    failure::{Exit, Failure},
    output::{BAD, FAINT, GOOD, Output, STRONG, paint},
    session::one_line,
    when::rfc3339,
};
use crate::audit::{
    entry::{Admitted, Body, Denied},
    hex::Hex,
    search::Found,
};
use checks::{Outcome, story};

const EXAMPLES: &str = "\
Examples:
  sealbus why 9f86d081884c7d659a2feaa0c55ad015
  sealbus why 9f86d081                            the first digits are enough
  sealbus why kept/9f86d081884c7d659a2feaa0c55ad015.envelope
  sealbus why alice                               what happened to an agent
  sealbus why quarantined                         what a reason code means

The id is in the sender's error, in the event and in the audit log; a digest of the envelope, an
order's id or any other fingerprint in the log works too.";

/// Explain what became of an envelope, an order or an agent, and why
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Envelope or order id or digest in hexadecimal (the first 6 digits or more), the file of a saved
    /// envelope, an agent, or a reason code
    id: String,
    #[command(flatten)]
    bus: BusArg,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    if let Some(reason) = Reason::from_code(&args.id) {
        let object = json!({ "reason": reason, "meaning": reason.meaning(), "remedy": reason.remedy() });
        let text =
            format!("{}: {}\n  what to do: {}", paint(STRONG, reason), reason.meaning(), reason.remedy());
        return output.show(&object, text);
    }
    let dir = args.bus.open()?;
    let (bundle, _) = dir.bundle()?;
    let file = Path::new(&args.id);
    let wanted = match file.is_file() {
        true => Hex(digest_of(file)?.1).to_string(),
        false => args.id.to_ascii_lowercase(),
    };
    let found = if (6..=64).contains(&wanted.len()) && wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
        around::about(&dir, &wanted)?
    } else if AgentToken::parse(&wanted).is_ok() || Name::parse(&wanted).is_ok() {
        around::of_agent(&dir, &wanted)?
    } else {
        let message = format!("`{}` is neither an id in hexadecimal nor a reason code", args.id);
        let remedy = "give at least the first 6 digits of the envelope's id or digest, an agent's name, or the \
                      file of a saved envelope";
        return Err(Failure::told(Exit::Failure, "bad_id", message, remedy));
    };
    if found.is_empty() {
        let message = format!("the audit log has no envelope `{}`", args.id);
        let remedy = "denials in a flood are counted together without ids: `sealbus audit search --agent NAME \
                      --kind denied`; an envelope that never reached the guard is in no log";
        return Err(Failure::told(Exit::Failure, "unknown_envelope", message, remedy));
    }
    tell(&dir, &bundle, &wanted, &found, output)
}

/// The envelope's own entries in full, each with what belongs to it; then all that only name it.
fn tell(
    dir: &BusDir,
    bundle: &Bundle,
    wanted: &str,
    found: &[Found],
    output: &Output,
) -> Result<(), Failure> {
    let tables = bundle.tables();
    let one = |found: &Found| line(found.leaf, &found.entry, Some(tables));
    let (own, others): (Vec<_>, Vec<_>) =
        found.iter().partition(|found| around::is_own(&found.entry, wanted));
    for (n, found) in own.iter().enumerate() {
        let related = match &found.entry.body {
            Body::Admitted(admitted) => around::around(dir, admitted)?,
            _ => Vec::new(),
        };
        if output.is_json() {
            let mut object = object(found, tables);
            let of = |found: &Found| {
                let text = found.entry.to_json().unwrap_or_default();
                json!({ "leaf": found.leaf, "entry": serde_json::from_str::<Value>(&text).unwrap_or_default() })
            };
            let more =
                others.iter().copied().filter(|other| related.iter().all(|found| found.leaf != other.leaf));
            if let Some(map) = object.as_object_mut() {
                map.insert("related".to_owned(), related.iter().chain(more).map(of).collect());
            }
            output.object(&object)?;
            continue;
        }
        let gap = if n == 0 { "" } else { "\n" };
        output.text(format_args!("{gap}{}", text(found, bundle)))?;
        if !related.is_empty() {
            output.text("\n  who was given its key, what names it, and what became of its sender")?;
            related.iter().try_for_each(|found| output.text(one(found)))?;
        }
    }
    if output.is_json() && !own.is_empty() {
        return Ok(());
    }
    if !own.is_empty() && !others.is_empty() {
        output.text("\n  where else it is named")?;
    }
    for found in others {
        if output.is_json() {
            output.object(&object(found, tables))?;
        } else {
            output.text(one(found))?;
        }
    }
    Ok(())
}

fn text(found: &Found, bundle: &sealbus_envelope::policy::Bundle) -> String {
    let tables = bundle.tables();
    let mut out = String::new();
    let mut put = |name: &str, value: &str| out.push_str(&fact(name, value));
    let entry = &found.entry;
    let (head, reason) = match &entry.body {
        Body::Admitted(a) => {
            facts_admitted(a, tables, &mut put);
            (paint(GOOD, "admitted and forwarded").to_string(), None)
        }
        Body::Denied(d) => {
            facts_denied(d, tables, &mut put);
            (paint(BAD, format_args!("denied: {}", one_line(&d.reason))).to_string(), Some(d))
        }
        _ => return line(found.leaf, entry, Some(tables)),
    };
    put("when", &rfc3339(entry.time));
    put(
        "logged",
        &format!(
            "leaf {}, position {}; proof: sealbus audit prove {}",
            found.leaf, entry.position, found.leaf
        ),
    );
    let rule = match &entry.body {
        Body::Admitted(a) => Some(a.rule.as_ref()),
        Body::Denied(d) => d.rule.as_deref(),
        _ => None,
    };
    if let Some(rule) = rule {
        put("rule", &describe_rule(rule, bundle));
    }
    let code = reason.map(|denied| denied.reason.as_ref());
    let place = reason.and_then(|denied| denied.detail.as_deref());
    out.push_str("\n\n  checks, in order");
    for (check, outcome) in story(code, place) {
        let _ = match outcome {
            Outcome::Passed => write!(out, "\n    {} {check}", paint(GOOD, "✓")),
            Outcome::Failed => write!(out, "\n    {} {check}", paint(BAD, "✗")),
            Outcome::NotReached => write!(out, "\n    {}", paint(FAINT, format_args!("· {check}"))),
        };
    }
    if let Some(reason) = code.and_then(Reason::from_code) {
        let _ =
            write!(out, "\n\n  {}\n  {}: {}", reason.meaning(), paint(STRONG, "what to do"), reason.remedy());
    }
    format!("{head}{out}")
}

/// One line. Facts of a denied envelope are what its sender wrote, control characters included.
fn fact(name: &str, value: &str) -> String {
    format!("\n  {name:<9} {}", one_line(value))
}

fn facts_admitted(a: &Admitted<'_>, tables: &Tables, put: &mut impl FnMut(&str, &str)) {
    put("envelope", &a.envelope.to_string());
    put("digest", &a.digest.to_string());
    put("from", &a.sender);
    put("subject", &a.subject);
    put("label", &tables.show(a.label));
    for parent in a.parents.iter() {
        put("parent", &parent.to_string());
    }
    if let Some(grant) = &a.flow_grant {
        put("by grant", grant);
    }
    if let Some(observed) = &a.observed {
        put("observed", &format!("it would be denied, were it not for observe mode: {observed}"));
    }
    put("policy", &format!("version {}", a.policy_version));
}

fn facts_denied(d: &Denied<'_>, tables: &Tables, put: &mut impl FnMut(&str, &str)) {
    let unknown = "not known when it was refused";
    put("envelope", &d.envelope.map_or_else(|| unknown.to_owned(), |id| id.to_string()));
    put("from", d.sender.as_deref().unwrap_or(unknown));
    put("subject", d.subject.as_deref().unwrap_or(unknown));
    put("label", &d.label.map_or_else(|| unknown.to_owned(), |label| tables.show(label)));
    if d.count > 1 {
        put("count", &format!("stands for {} alike", d.count));
    }
    if let Some(detail) = &d.detail {
        put("where", detail);
    }
}

/// What the rule says in the policy in force, which may be newer than the entry.
fn describe_rule(name: &str, bundle: &sealbus_envelope::policy::Bundle) -> String {
    let Some(rule) = bundle.rules().iter().find(|rule| rule.name.as_str() == name) else {
        return format!("{name} (not in the policy in force)");
    };
    let parties = |parties: &[Party]| {
        let names = parties.iter().map(|party| match &party.who {
            Who::Team(name) | Who::Agent(name) => name.to_string(),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    format!(
        "{name}: {} from {} to {}",
        rule.pattern.as_str(),
        parties(&rule.publishers),
        parties(&rule.subscribers)
    )
}

fn object(found: &Found, tables: &Tables) -> Value {
    let entry: Value =
        found.entry.to_json().ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let (verdict, reason, place, label) = match &found.entry.body {
        Body::Denied(d) => ("deny", Some(d.reason.as_ref()), d.detail.as_deref(), d.label),
        Body::Admitted(a) => ("admit", None, None, Some(a.label)),
        _ => ("none", None, None, None),
    };
    let checks: Vec<Value> = story(reason, place)
        .map(|(check, outcome)| json!({ "check": check, "result": outcome.as_str() }))
        .collect();
    let known = reason.and_then(Reason::from_code);
    json!({
        "verdict": verdict,
        "leaf": found.leaf,
        "reason": reason,
        "meaning": known.map(Reason::meaning),
        "remedy": known.map(Reason::remedy),
        "label": label.map(|label| tables.show(label)),
        "checks": checks,
        "entry": entry,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fact_steers_the_terminal_or_begins_a_line() {
        let shown = fact("subject", "x\x1b[2J\u{202e}\n  verdict   admitted");
        assert_eq!(shown, "\n  subject   x\\u{1b}[2J\\u{202e}\\n  verdict   admitted");
    }
}

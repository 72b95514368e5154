//! The names a policy declares, their numbers, and what to say of a name that is not among them.

use std::collections::HashMap;
use std::ops::Range;

use sealbus_envelope::name::Name;

use super::diagnostic::{Code, Finding, Findings, nearest};
use super::source::At;

/// Names of one kind, in order.
pub(crate) struct Table {
    pub(crate) what: &'static str,
    pub(crate) unknown: Code,
    pub(crate) names: Vec<Name>,
    pub(crate) numbers: HashMap<String, (u8, Range<usize>)>,
    /// The list itself is at fault, so names missing from it are no news.
    pub(crate) faulty: bool,
}

impl Table {
    pub(crate) fn new(what: &'static str, unknown: Code) -> Self {
        Self { what, unknown, names: Vec::new(), numbers: HashMap::new(), faulty: false }
    }

    pub(crate) fn declare<'r>(
        &mut self,
        names: impl Iterator<Item = &'r At<String>>,
        most: usize,
        findings: &mut Findings,
    ) {
        for name in names {
            if let Some((_, first)) = self.numbers.get(&name.value) {
                let message = format!("{} `{}` is declared twice", self.what, name.value);
                findings.push(
                    Finding::error(Code::Duplicate, message, name.span.clone(), "declared again here")
                        .also(first.clone(), "declared first here")
                        .help("remove one of the two"),
                );
                continue;
            }
            if self.numbers.len() == most {
                let message = format!("`{}` is one {} too many", name.value, self.what);
                findings.push(
                    Finding::error(Code::TooMany, message, name.span.clone(), "the first one over the limit")
                        .help(format!("a policy has at most {most}")),
                );
                self.faulty = true;
                return;
            }
            // Kept even if the name is bad, so that its uses are not reported as unknown too.
            let number = u8::try_from(self.numbers.len()).unwrap_or(u8::MAX);
            self.numbers.insert(name.value.clone(), (number, name.span.clone()));
            self.names.extend(checked_name(self.what, name, findings));
        }
    }

    pub(crate) fn number(&self, name: &At<String>, findings: &mut Findings) -> Option<u8> {
        if let Some((number, _)) = self.numbers.get(&name.value) {
            return Some(*number);
        }
        if self.faulty {
            return None;
        }
        let message = format!("unknown {} `{}`", self.what, name.value);
        let mut declared: Vec<&str> = self.numbers.keys().map(String::as_str).collect();
        declared.sort_unstable();
        let help = match nearest(&name.value, declared.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if declared.is_empty() => format!("the policy declares no {}", self.what),
            None => format!("declared: {}", short_list(&declared)),
        };
        findings.push(Finding::error(self.unknown, message, name.span.clone(), "not declared").help(help));
        None
    }
}

fn short_list(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(12).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(shown.len());
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

pub(crate) fn checked_name(what: &str, name: &At<String>, findings: &mut Findings) -> Option<Name> {
    let checked = Name::parse(&name.value).ok();
    if checked.is_none() {
        let message = format!("invalid {what} name `{}`", name.value);
        findings.push(
            Finding::error(Code::InvalidName, message, name.span.clone(), "not a name")
                .help("begin with a lower-case letter; then up to 47 lower-case letters, digits and `-`"),
        );
    }
    checked
}

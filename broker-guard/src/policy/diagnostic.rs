//! What is wrong with a policy: many findings at once, each with a stable code, the place in the file
//! and a remedy.
//!
//! Wording: lower case, no final period, what the author wrote in backticks.

use std::fmt;
use std::ops::Range;

use miette::{Diagnostic, LabeledSpan, Severity, SourceCode};

use super::snippet::Text;
use super::source::PolicySource;

/// Stable codes of findings. Scripts may match on them: a code is never renamed or reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Code {
    /// Not TOML.
    Syntax,
    /// A key this version does not know.
    UnknownKey,
    /// A key that must be there is not.
    MissingKey,
    /// A value of another type than the key takes.
    WrongType,
    /// A value of the right type that makes no sense here.
    InvalidValue,
    /// A name with characters names cannot have.
    InvalidName,
    /// A subject pattern NATS or Sealbus does not take.
    InvalidPattern,
    /// The same name twice in one list.
    Duplicate,
    /// A list that cannot be empty is.
    EmptyList,
    /// More than the format has room for.
    TooMany,
    /// A team nobody declared.
    UnknownTeam,
    /// A zone nobody declared.
    UnknownZone,
    /// A level nobody declared.
    UnknownLevel,
    /// A compartment nobody declared.
    UnknownCompartment,
    /// An integrity rank nobody declared.
    UnknownIntegrity,
    /// A rule nobody declared.
    UnknownRule,
    /// A flow grant nobody declared.
    UnknownGrant,
    /// A list of approvers nobody declared.
    UnknownApprovers,
    /// No label lies in a rule's range.
    EmptyRange,
    /// The default label is not one the rule accepts.
    DefaultOutsideRange,
    /// The rule accepts several labels and names no default.
    DefaultMissing,
    /// A team is cleared higher than its zone.
    AboveZoneCeiling,
    /// A publisher's team cannot write any label the rule accepts, or not the default one.
    PublisherCannotWrite,
    /// A subscriber's team cannot read what the rule carries.
    SubscriberCannotRead,
    /// Fields that exclude one another.
    Conflict,
    /// A field whose enforcement does not exist in this version.
    NotEnforcedYet,
    /// Declared and never used (a warning).
    Unused,
    /// Two rules take the same subject from the same publisher and answer differently (a warning).
    OverlappingRules,
    /// No publisher of a rule writes a label that a subscriber reads (a warning).
    UnreachableRule,
    /// A pattern that reaches over everything, or over what another rule gives to others (a warning).
    WidePattern,
    /// A rule holds for people what its senders write at the default rate (a warning).
    HeldWithoutRate,
    /// A reader gets the lower levels of a rule only (a warning).
    ReaderBelowRange,
    /// A team's permissions do not fit into a NATS login.
    PermissionsTooLarge,
    /// A flow grant that is over (a warning).
    GrantExpired,
    /// A flow grant that lasts very long (a warning).
    GrantLong,
    /// A flow grant that reaches further than it can be meant to (a warning).
    GrantWide,
    /// A flow grant that can never lift anything (a warning).
    GrantUseless,
    /// Flow grants that together lift more than any of them says (a warning).
    LeakingGrants,
    /// Too many chains of flow grants to search them all (a warning).
    LeaksNotSearched,
    /// A team whose floor is forgotten can write down what it read before (a warning).
    ForgetfulTeam,
    /// A rule, a team or everything is under observation, so that no label check holds (a warning).
    Observed,
}

impl Code {
    /// The code as printed and matched on.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::UnknownKey => "unknown_key",
            Self::MissingKey => "missing_key",
            Self::WrongType => "wrong_type",
            Self::InvalidValue => "invalid_value",
            Self::InvalidName => "invalid_name",
            Self::InvalidPattern => "invalid_pattern",
            Self::Duplicate => "duplicate",
            Self::EmptyList => "empty_list",
            Self::TooMany => "too_many",
            Self::UnknownTeam => "unknown_team",
            Self::UnknownZone => "unknown_zone",
            Self::UnknownLevel => "unknown_level",
            Self::UnknownCompartment => "unknown_compartment",
            Self::UnknownIntegrity => "unknown_integrity",
            Self::UnknownRule => "unknown_rule",
            Self::UnknownGrant => "unknown_grant",
            Self::UnknownApprovers => "unknown_approvers",
            Self::EmptyRange => "empty_range",
            Self::DefaultOutsideRange => "default_outside_range",
            Self::DefaultMissing => "default_missing",
            Self::AboveZoneCeiling => "above_zone_ceiling",
            Self::PublisherCannotWrite => "publisher_cannot_write",
            Self::SubscriberCannotRead => "subscriber_cannot_read",
            Self::Conflict => "conflict",
            Self::NotEnforcedYet => "not_enforced_yet",
            Self::Unused => "unused",
            Self::OverlappingRules => "overlapping_rules",
            Self::UnreachableRule => "unreachable_rule",
            Self::WidePattern => "wide_pattern",
            Self::HeldWithoutRate => "held_without_rate",
            Self::ReaderBelowRange => "reader_below_range",
            Self::PermissionsTooLarge => "permissions_too_large",
            Self::GrantExpired => "grant_expired",
            Self::GrantLong => "grant_long",
            Self::GrantWide => "grant_wide",
            Self::GrantUseless => "grant_useless",
            Self::LeakingGrants => "leaking_grants",
            Self::LeaksNotSearched => "leaks_not_searched",
            Self::ForgetfulTeam => "forgetful_team",
            Self::Observed => "observed",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing wrong with a policy.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What kind of fault.
    pub code: Code,
    /// `Severity::Error` refuses the policy; `Severity::Warning` does not.
    pub severity: Severity,
    /// One line: what is wrong.
    pub message: String,
    /// Byte ranges of the source with a note each, the place of the fault first.
    pub places: Vec<(Range<usize>, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Finding {
    /// An error at `span`, with `note` beside the marked text.
    pub(crate) fn error(
        code: Code,
        message: impl Into<String>,
        span: Range<usize>,
        note: impl Into<String>,
    ) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            places: vec![(span, note.into())],
            help: None,
        }
    }

    /// A finding that does not refuse the policy.
    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Adds the remedy.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Marks another place that explains the fault.
    pub(crate) fn also(mut self, span: Range<usize>, note: impl Into<String>) -> Self {
        self.places.push((span, note.into()));
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Finding {}

impl Diagnostic for Finding {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.places.iter().map(|(span, note)| {
            let note = (!note.is_empty()).then(|| note.clone());
            LabeledSpan::new(note, span.start, span.len())
        })))
    }
}

/// Everything found in one policy file. As an error it renders each finding with the source.
#[derive(Debug, Clone)]
pub struct Findings {
    what: &'static str,
    source: Text,
    found: Vec<Finding>,
}

impl Findings {
    /// Nothing found yet in `source`.
    pub(crate) fn new(source: &PolicySource) -> Self {
        Self::of("policy", source)
    }

    /// Nothing found yet in a source that is `what`.
    pub(crate) fn of(what: &'static str, source: &PolicySource) -> Self {
        Self { what, source: Text::new(source.name(), source.text()), found: Vec::new() }
    }

    /// Adds one.
    pub(crate) fn push(&mut self, finding: Finding) {
        self.found.push(finding);
    }

    /// The findings in file order.
    #[must_use]
    pub fn as_slice(&self) -> &[Finding] {
        &self.found
    }

    /// Whether one of them refuses the policy.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Whether the text could not even be read.
    pub(crate) fn has_syntax_errors(&self) -> bool {
        self.found.iter().any(|finding| finding.code == Code::Syntax)
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Sorts by place in the file, so a reader mends from the top, and says each thing once.
    pub(crate) fn sort(&mut self) {
        self.found.sort_by_key(|finding| finding.places.first().map_or(0, |(span, _)| span.start));
        self.found.dedup_by(|a, b| a.code == b.code && a.message == b.message && a.places == b.places);
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.found.iter().filter(|finding| finding.severity == Severity::Error).count();
        let warnings = self.found.len() - errors;
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        write!(f, "{} `{}`: {errors} error{}", self.what, self.source.name(), plural(errors))?;
        if warnings > 0 {
            write!(f, ", {warnings} warning{}", plural(warnings))?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

impl Diagnostic for Findings {
    fn severity(&self) -> Option<Severity> {
        Some(if self.has_errors() { Severity::Error } else { Severity::Warning })
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.found.iter().map(|finding| finding as &dyn Diagnostic)))
    }
}

/// The candidate nearest to what was written, when it is near enough to be a slip.
pub(crate) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (written.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(written, candidate), candidate))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance: edits and swaps of neighbours, the slips typists make.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous_char = None;
    for (i, ca) in a.chars().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, &cb) in b.iter().enumerate() {
            let at = |row: &[usize], n: usize| row.get(n).copied().unwrap_or(usize::MAX - 1);
            let mut best =
                (at(&last, j) + usize::from(ca != cb)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = j > 0 && previous_char == Some(cb) && b.get(j - 1) == Some(&ca);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        previous_char = Some(ca);
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits_and_swaps() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("publihsers", "publishers"), 1);
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        assert_eq!(nearest("patern", ["pattern", "publishers"]), Some("pattern"));
        assert_eq!(nearest("colour", ["pattern", "publishers"]), None);
    }
}

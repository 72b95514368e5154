//! Cases for a policy, as people test code: who wants to do what, and whether the policy shall allow it.
//!
//! ```
//! use sealbus_envelope::time::Millis;
//! use sealbus_guard::policy::{self, DEFAULT_POLICY, cases::Cases, source::PolicySource, trial::Trial};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = policy::check(&PolicySource::new("policy.toml", DEFAULT_POLICY))?.policy;
//! let trial = Trial::of_policy(&policy)?;
//! let text = r#"
//!     [[case]]
//!     name    = "a collector writes nothing confidential"
//!     team    = "collector"
//!     publish = "deps.item.serde"
//!     label   = "confidential/deps"
//!     expect  = "deny"
//!     reason  = "above_clearance"
//! "#;
//! let cases = Cases::read(&trial, &PolicySource::new("cases.toml", text), |_| None)?;
//! assert!(cases.run(&trial, Millis(0)).iter().all(|result| result.wrong.is_empty()));
//! # Ok(())
//! # }
//! ```

use std::ops::Range;

use sealbus_envelope::{
    identity::Claims,
    label::{Clearance, Label},
    name::Name,
    reason::Reason,
    subject::{Pattern, Subject},
    time::Millis,
};
use serde::Deserialize;
use toml::Spanned;

use super::{
    diagnostic::{Code, Finding, Findings, nearest},
    explain::{Act, Explanation, Question, Verdict, explain},
    source::PolicySource,
    trial::Trial,
    words::parse_label,
};
use crate::taint::Floor;

/// The size of an envelope that a case says nothing of, in bytes.
pub const DEFAULT_SIZE: usize = 1024;

/// Cases that were read: every name known, every label declared.
#[derive(Debug, Clone)]
pub struct Cases(Vec<Case>);

#[derive(Debug, Clone)]
struct Case {
    name: String,
    who: Claims,
    act: Act,
    subject: String,
    rule: Option<String>,
    label: Option<Label>,
    size: usize,
    parents: Vec<Label>,
    floor: Floor,
    grant: Option<Name>,
    at: Option<Millis>,
    allow: bool,
    reason: Option<Reason>,
    by: Option<String>,
}

/// How a case went.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// The case's name.
    pub name: String,
    /// What the policy says.
    pub explanation: Explanation,
    /// In what that is not as expected; empty if the case passed.
    pub wrong: Vec<String>,
}

type Text = Option<Spanned<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCases {
    #[serde(default)]
    case: Vec<Spanned<RawCase>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: Spanned<String>,
    agent: Text,
    team: Text,
    clearance: Text,
    publish: Text,
    reply: Text,
    subscribe: Text,
    rule: Text,
    label: Text,
    #[serde(default)]
    floor: Vec<Spanned<String>>,
    #[serde(default)]
    parents: Vec<Spanned<String>>,
    flow_grant: Text,
    size: Option<Spanned<usize>>,
    at: Text,
    expect: Spanned<String>,
    reason: Text,
    expect_rule: Text,
}

impl Cases {
    /// Reads cases for the policy of `trial`. `issued` gives the credential of an agent that a case names without
    /// saying its team.
    ///
    /// # Errors
    /// Everything wrong with them, with its place.
    pub fn read(
        trial: &Trial,
        source: &PolicySource,
        issued: impl Fn(&str) -> Option<Claims>,
    ) -> Result<Self, Findings> {
        let mut findings = Findings::of("cases", source);
        let raw: RawCases = match toml::from_str(source.text()) {
            Ok(raw) => raw,
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let message = format!("not a file of cases: {}", error.message());
                findings.push(Finding::error(Code::Syntax, message, span, "here").help(FORM));
                return Err(findings);
            }
        };
        if raw.case.is_empty() {
            let message = "the file has no case";
            findings.push(Finding::error(Code::EmptyList, message, 0..0, "nothing to test").help(FORM));
        }
        let mut cases = Vec::with_capacity(raw.case.len());
        for raw in &raw.case {
            let mut reader = Reader { trial, findings: &mut findings, span: raw.span() };
            cases.extend(reader.case(raw.get_ref(), &issued));
        }
        findings.sort();
        if findings.is_empty() { Ok(Self(cases)) } else { Err(findings) }
    }

    /// Asks the policy each of them. `now` is when cases happen that do not say.
    #[must_use]
    pub fn run(&self, trial: &Trial, now: Millis) -> Vec<CaseResult> {
        self.0.iter().map(|case| case.run(trial, now)).collect()
    }
}

impl Case {
    fn run(&self, trial: &Trial, now: Millis) -> CaseResult {
        let explanation = explain(
            trial,
            &Question {
                who: &self.who,
                act: self.act,
                subject: &self.subject,
                rule: self.rule.as_deref(),
                label: self.label,
                size: self.size,
                parents: &self.parents,
                floor: &self.floor,
                grant: self.grant.as_ref(),
                now: self.at.unwrap_or(now),
            },
        );
        let verdict = explanation.verdict;
        let mut wrong = Vec::new();
        if verdict.is_allowed() != self.allow {
            wrong.push(match verdict {
                Verdict::Allow { observed: None } => "it is allowed".to_owned(),
                Verdict::Allow { observed: Some(reason) } => {
                    format!("it is allowed, because {reason} is only observed")
                }
                Verdict::Deny(reason) => format!("it is denied: {reason}"),
            });
        } else if let Some(reason) = self.reason
            && verdict.reason() != Some(reason)
        {
            let given = verdict.reason().map_or_else(|| "none".to_owned(), |reason| reason.to_string());
            wrong.push(format!("the reason is {given}, not {reason}"));
        }
        if let Some(by) = &self.by
            && explanation.rule.as_ref().map(Name::as_str) != Some(by)
        {
            let given = explanation.rule.as_ref().map_or("none", Name::as_str);
            wrong.push(format!("the rule is {given}, not {by}"));
        }
        CaseResult { name: self.name.clone(), explanation, wrong }
    }
}

const FORM: &str = "write each case as `[[case]]` with `name`, `team` or `agent`, one of `publish`, `reply` and \
                    `subscribe`, and `expect = \"allow\"` or `\"deny\"`; also `label`, `rule`, `size`, `parents`, \
                    `floor`, `flow_grant`, `at`, `reason`, `expect_rule`";

struct Reader<'r> {
    trial: &'r Trial,
    findings: &'r mut Findings,
    span: Range<usize>,
}

impl Reader<'_> {
    fn case(&mut self, raw: &RawCase, issued: &impl Fn(&str) -> Option<Claims>) -> Option<Case> {
        let acts =
            [(Act::Publish, &raw.publish), (Act::Answer, &raw.reply), (Act::Subscribe, &raw.subscribe)];
        let mut acts = acts.into_iter().filter_map(|(act, subject)| Some((act, subject.as_ref()?)));
        let act = acts.next();
        if act.is_none() || acts.next().is_some() {
            let message =
                format!("case `{}` must have one of `publish`, `reply` and `subscribe`", raw.name.get_ref());
            self.wrong(Code::Conflict, message, self.span.clone(), "this case", "say what is wanted");
        }
        let subject = act.and_then(|(act, subject)| self.subject(act, subject));
        let who = self.who(raw, issued);
        let label = self.optional(raw.label.as_ref(), Self::label);
        let parents: Vec<_> = raw.parents.iter().map(|label| self.label(label)).collect();
        let floor: Vec<_> = raw.floor.iter().map(|read| self.read(read)).collect();
        let grant = self.optional(raw.flow_grant.as_ref(), |reader, name| {
            reader.name(name, "flow grant", Code::UnknownGrant)
        });
        let at = self.optional(raw.at.as_ref(), Self::time);
        let allow = self.choice(&raw.expect, "expect", [("allow", true), ("deny", false)]);
        let reason = self.optional(raw.reason.as_ref(), Self::reason);
        let mut held = Floor::default();
        for (rule, label) in floor.into_iter().collect::<Option<Vec<_>>>()? {
            self.trial.read_under(&mut held, &rule, label);
        }
        Some(Case {
            name: raw.name.get_ref().clone(),
            who: who?,
            act: act?.0,
            subject: subject?,
            rule: raw.rule.as_ref().map(|rule| rule.get_ref().clone()),
            label: label?,
            size: raw.size.as_ref().map_or(DEFAULT_SIZE, |size| *size.get_ref()),
            parents: parents.into_iter().collect::<Option<_>>()?,
            floor: held,
            grant: grant?,
            at: at?,
            allow: allow?,
            reason: reason?,
            by: raw.expect_rule.as_ref().map(|rule| rule.get_ref().clone()),
        })
    }

    fn wrong(&mut self, code: Code, message: impl Into<String>, span: Range<usize>, note: &str, help: &str) {
        self.findings.push(Finding::error(code, message, span, note).help(help));
    }

    /// `Some(None)` if it is not written, `None` if it is not understood.
    fn optional<T>(
        &mut self,
        written: Option<&Spanned<String>>,
        read: impl FnOnce(&mut Self, &Spanned<String>) -> Option<T>,
    ) -> Option<Option<T>> {
        match written {
            None => Some(None),
            Some(written) => read(self, written).map(Some),
        }
    }

    fn subject(&mut self, act: Act, written: &Spanned<String>) -> Option<String> {
        let text = written.get_ref();
        let good =
            if act == Act::Subscribe { Pattern::parse(text).is_ok() } else { Subject::parse(text).is_ok() };
        if good {
            return Some(text.clone());
        }
        let message = format!("`{text}` is not a subject");
        let help = "write a literal subject such as `deps.item.serde`; only `subscribe` takes wildcards";
        self.wrong(Code::InvalidPattern, message, written.span(), "not a subject", help);
        None
    }

    fn who(&mut self, raw: &RawCase, issued: &impl Fn(&str) -> Option<Claims>) -> Option<Claims> {
        let agent =
            self.optional(raw.agent.as_ref(), |reader, name| reader.name(name, "agent", Code::InvalidName))?;
        let mut claims = match (&raw.team, &agent) {
            (Some(team), agent) => {
                // A team that the policy does not have is a case too: `unknown_team`.
                let team = self.name(team, "team", Code::InvalidName)?;
                self.trial.member(agent.as_ref().unwrap_or(&team), &team)
            }
            (None, Some(agent)) => {
                let found = issued(agent.as_str());
                if found.is_none() {
                    let message = format!("no credential was issued to `{agent}`");
                    let help = "say its team with `team = \"NAME\"`, or name its bus with `--config`";
                    let span = raw.agent.as_ref().map_or(0..0, Spanned::span);
                    self.wrong(Code::MissingKey, message, span, "of which team?", help);
                }
                found?
            }
            (None, None) => {
                let message = format!("case `{}` does not say who", raw.name.get_ref());
                let help = "write `team = \"NAME\"`, `agent = \"NAME\"` or both";
                self.wrong(Code::MissingKey, message, self.span.clone(), "nobody here", help);
                return None;
            }
        };
        if let Some(written) = &raw.clearance {
            let limit = self.label(written)?;
            claims.clearance =
                claims.clearance.meet(Clearance { level: limit.level, compartments: limit.compartments });
            // A label without a rank has the lowest; that is no limit anybody wrote.
            if written.get_ref().matches('/').count() == 2 {
                claims.integrity_ceiling = claims.integrity_ceiling.min(limit.integrity);
            }
        }
        Some(claims)
    }

    fn label(&mut self, written: &Spanned<String>) -> Option<Label> {
        let read = parse_label(self.trial.tables(), written.get_ref());
        read.map_err(|error| {
            let help = "write `level/compartment+compartment/integrity` in the policy's words";
            self.wrong(Code::InvalidValue, error.to_string(), written.span(), "not a label", help);
        })
        .ok()
    }

    /// `RULE=LABEL`.
    fn read(&mut self, written: &Spanned<String>) -> Option<(Name, Label)> {
        let parts = written.get_ref().split_once('=');
        let read = parts.and_then(|(rule, label)| {
            Some((Name::parse(rule).ok()?, parse_label(self.trial.tables(), label).ok()?))
        });
        if read.is_none() {
            let message = format!("`{}` does not say what was read", written.get_ref());
            let help = "write `RULE=LABEL`: the rule it was read under, and a label in the policy's words";
            self.wrong(Code::InvalidValue, message, written.span(), "not RULE=LABEL", help);
        }
        read
    }

    fn name(&mut self, written: &Spanned<String>, what: &str, code: Code) -> Option<Name> {
        let name = Name::parse(written.get_ref()).ok();
        if name.is_none() {
            let message = format!("invalid {what} name `{}`", written.get_ref());
            let help = "begin with a lower-case letter; then up to 47 lower-case letters, digits and `-`";
            self.wrong(code, message, written.span(), "not a name", help);
        }
        name
    }

    fn time(&mut self, written: &Spanned<String>) -> Option<Millis> {
        let time: Option<jiff::Timestamp> = written.get_ref().parse().ok();
        let millis = time.and_then(|time| u64::try_from(time.as_millisecond()).ok()).map(Millis);
        if millis.is_none() {
            let message = format!("`{}` is not a time", written.get_ref());
            let help = "write a time with its zone, such as `\"2027-06-30T12:00:00Z\"`";
            self.wrong(Code::InvalidValue, message, written.span(), "not a time", help);
        }
        millis
    }

    fn reason(&mut self, written: &Spanned<String>) -> Option<Reason> {
        let reason = Reason::from_code(written.get_ref());
        if reason.is_none() {
            let codes = Reason::ALL.iter().map(|reason| reason.code());
            let help = match nearest(written.get_ref(), codes) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write a reason code such as `above_clearance`; see `sealbus why CODE`".to_owned(),
            };
            let message = format!("`{}` is not a reason code", written.get_ref());
            self.wrong(Code::InvalidValue, message, written.span(), "unknown reason", &help);
        }
        reason
    }

    fn choice<T: Copy, const N: usize>(
        &mut self,
        written: &Spanned<String>,
        key: &str,
        choices: [(&str, T); N],
    ) -> Option<T> {
        let found = choices.iter().find(|(name, _)| *name == written.get_ref()).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
            let message = format!("`{}` is not a value of `{key}`", written.get_ref());
            let help = format!("write {}", names.join(" or "));
            self.wrong(Code::InvalidValue, message, written.span(), "unknown value", &help);
        }
        found
    }
}

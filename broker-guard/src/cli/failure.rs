//! How a command fails: with a code for scripts, and for people what is wrong, where, and what to do.

use std::{error::Error, fmt, io, process::ExitCode};

use miette::{Diagnostic, MietteSpanContents, SourceCode, SourceSpan, SpanContents as _};
use sealbus_client::CredentialsError;
use sealbus_envelope::reason::Refused;
use serde_json::{Value, json};

use crate::{
    config::ConfigError, keyfile::KeyFileError, natsserver, policy::bundle::BundleError,
    policy::diagnostic::Findings,
};

/// What the process ends with. Scripts match on these numbers, so they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// The operation did not succeed, such as an unreachable bus.
    Failure = 1,
    /// Refused by the guard or the policy.
    Denied = 3,
    /// A signature or the audit log is not what it should be.
    Unverified = 4,
    /// `policy diff`: the new policy opens something.
    Opens = 5,
    /// Configuration, key file, credentials file or policy is wrong.
    Config = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    report: Option<Box<dyn Diagnostic + Send + Sync>>,
}

impl Failure {
    /// A failure with its own rendering.
    pub(crate) fn new(exit: Exit, report: impl Diagnostic + Send + Sync + 'static) -> Self {
        Self { exit, report: Some(Box::new(report)) }
    }

    /// `message` says what is wrong and where, `remedy` what to do.
    pub(crate) fn told(
        exit: Exit,
        code: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(exit, Told { code, message: message.into(), remedy: remedy.into(), source: None })
    }

    /// As [`told`](Self::told), because of `source`.
    pub(crate) fn because(
        exit: Exit,
        code: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        let source: Option<Box<dyn Error + Send + Sync>> = Some(Box::new(source));
        Self::new(exit, Told { code, message: message.into(), remedy: remedy.into(), source })
    }

    /// A file or directory could not be handled.
    pub(crate) fn io(doing: &str, path: &std::path::Path, source: io::Error) -> Self {
        let message = format!("cannot {doing} `{}`", path.display());
        let remedy = match source.kind() {
            io::ErrorKind::NotFound => "see whether the path is right",
            io::ErrorKind::PermissionDenied => "run as the user whose file it is",
            io::ErrorKind::StorageFull => "free space on the disk",
            _ => "see whether the path is right and the disk is well",
        };
        Self::because(Exit::Failure, "io", message, remedy, source)
    }

    /// The command has shown what is wrong already; only the code is left to say.
    pub(crate) const fn shown(exit: Exit) -> Self {
        Self { exit, report: None }
    }

    /// Output could not be written. A reader that has seen enough (`| head`) is no failure.
    pub(crate) fn output(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            return Self::shown(Exit::Success);
        }
        Self::because(Exit::Failure, "output", "cannot write the output", "see where stdout leads", source)
    }

    /// What the process ends with.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// What is wrong, in one line.
    pub(crate) fn to_text(&self) -> String {
        self.report().map(ToString::to_string).unwrap_or_default()
    }

    /// What to show, if it was not shown.
    pub(crate) fn report(&self) -> Option<&(dyn Diagnostic + Send + Sync)> {
        self.report.as_deref()
    }
}

/// A failure in words.
#[derive(Debug)]
struct Told {
    code: &'static str,
    message: String,
    remedy: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Diagnostic for Told {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.remedy))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Exit::Config, error)
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Self::new(Exit::Config, error)
    }
}

impl From<Findings> for Failure {
    fn from(findings: Findings) -> Self {
        Self::new(Exit::Config, findings)
    }
}

impl From<CredentialsError> for Failure {
    fn from(error: CredentialsError) -> Self {
        let place = match (error.file(), error.block()) {
            (Some(file), Some(block)) => format!("credentials file `{}`, block `{block}`", file.display()),
            (Some(file), None) => format!("credentials file `{}`", file.display()),
            (None, Some(block)) => format!("credentials, block `{block}`"),
            (None, None) => "credentials".to_owned(),
        };
        let message = format!("{place}: {}", error.problem());
        Self::told(Exit::Config, "credentials_file", message, error.remedy())
    }
}

impl From<natsserver::ConfigError> for Failure {
    fn from(error: natsserver::ConfigError) -> Self {
        let message = format!("no nats-server configuration can be written: {error}");
        Self::told(Exit::Config, "nats_config", message, "change that value")
    }
}

impl Failure {
    /// The policy bundle at `path` cannot be used.
    pub(crate) fn bundle(path: &std::path::Path, error: &BundleError) -> Self {
        let message = match error {
            BundleError::Refused(Refused { reason, .. }) => {
                format!("policy bundle `{}` is refused: {} [{reason}]", path.display(), reason.meaning())
            }
            error => format!("policy bundle `{}`: {error}", path.display()),
        };
        let remedy = "restore the newest bundle that was signed, from a guard or a backup";
        Self::told(Exit::Config, "policy_bundle", message, remedy)
    }
}

/// A diagnostic as an object: code, message, causes, places, help, and what is related.
pub(crate) fn to_json(report: &dyn Diagnostic) -> Value {
    to_json_in(report, None)
}

fn to_json_in(report: &dyn Diagnostic, parent: Option<&dyn SourceCode>) -> Value {
    let source_code = report.source_code().or(parent);
    let mut causes = Vec::new();
    let mut cause = report.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    let places: Vec<Value> = report
        .labels()
        .into_iter()
        .flatten()
        .filter_map(|label| {
            let contents = read(source_code?, label.inner())?;
            Some(json!({
                "file": contents.name(),
                "line": contents.line() + 1,
                "column": contents.column() + 1,
                "note": label.label(),
            }))
        })
        .collect();
    let mut object = json!({ "message": report.to_string() });
    let mut put = |key: &str, value: Option<Value>| {
        if let (Some(value), Some(map)) = (value, object.as_object_mut()) {
            map.insert(key.to_owned(), value);
        }
    };
    put("code", report.code().map(|code| code.to_string().into()));
    put("severity", report.severity().map(|severity| format!("{severity:?}").to_lowercase().into()));
    put("help", report.help().map(|help| help.to_string().into()));
    put("causes", (!causes.is_empty()).then(|| causes.into()));
    put("places", (!places.is_empty()).then(|| places.into()));
    let related: Vec<Value> =
        report.related().into_iter().flatten().map(|one| to_json_in(one, source_code)).collect();
    put("related", (!related.is_empty()).then(|| related.into()));
    object
}

fn read<'a>(source: &'a dyn SourceCode, span: &SourceSpan) -> Option<MietteSpanContents<'a>> {
    let contents = source.read_span(span, 0, 0).ok()?;
    let (line, column) = (contents.line(), contents.column());
    let (data, span, count) = (contents.data(), *contents.span(), contents.line_count());
    Some(match contents.name() {
        Some(name) => MietteSpanContents::new_named(name.to_owned(), data, span, line, column, count),
        None => MietteSpanContents::new(data, span, line, column, count),
    })
}

//! Logs of long-running commands: to stderr, as text or JSON, filtered by `SEALBUS_LOG`.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::failure::{Exit, Failure};

const VARIABLE: &str = "SEALBUS_LOG";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Starts logging. `default` is the filter when `SEALBUS_LOG` is not set.
pub(crate) fn start(format: LogFormat, default: &str) -> Result<(), Failure> {
    let wanted = match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => text,
        Err(std::env::VarError::NotUnicode(_)) => return Err(bad_filter("it is not UTF-8")),
        _ => default.to_owned(),
    };
    let filter = EnvFilter::builder().parse(&wanted).map_err(|error| bad_filter(&error.to_string()))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // Only a second start in one process fails, and then the first one logs.
    drop(started);
    Ok(())
}

fn bad_filter(why: &str) -> Failure {
    let message = format!("environment variable `{VARIABLE}` is no log filter: {why}");
    let remedy = "write a level such as `info`, or levels by module such as `info,sealbus_guard::bus=debug`";
    Failure::told(Exit::Config, "log_filter", message, remedy)
}

//! What commands that speak on the bus share: credentials, the connection, its failures, safe printing.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use sealbus_client::{Client, ConnectOptions, Credentials, Error, ErrorKind, Event};
use sealbus_envelope::label::Label;

use super::failure::{Exit, Failure};

/// Who speaks.
#[derive(Debug, Clone, Args)]
pub(crate) struct CredsArg {
    /// The agent's credentials file
    #[arg(long, env = "SEALBUS_CREDS", value_name = "FILE")]
    creds: PathBuf,
}

impl CredsArg {
    /// Reads the file.
    pub(crate) fn load(&self) -> Result<Credentials, Failure> {
        Ok(Credentials::load(&self.creds)?)
    }

    /// Reads the file and joins the bus.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let credentials = self.load()?;
        ConnectOptions::new(credentials).connect().await.map_err(failure)
    }
}

/// An operation on the bus failed.
pub(crate) fn failure(error: Error) -> Failure {
    let exit = match error.kind() {
        ErrorKind::NotAllowed
        | ErrorKind::Denied
        | ErrorKind::Refused
        | ErrorKind::WorkflowPaused
        | ErrorKind::Unauthorized => Exit::Denied,
        ErrorKind::WrongGuard | ErrorKind::Invalid => Exit::Unverified,
        ErrorKind::Usage => Exit::Config,
        _ => Exit::Failure,
    };
    let code = error.reason().map_or(
        match error.kind() {
            ErrorKind::Unauthorized => "login_refused",
            ErrorKind::Unreachable => "bus_unreachable",
            ErrorKind::GuardUnavailable => "guard_unavailable",
            ErrorKind::WorkflowPaused => "workflow_paused",
            ErrorKind::WrongGuard => "wrong_guard",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Usage => "usage",
            _ => "failed",
        },
        sealbus_envelope::reason::Reason::code,
    );
    let remedy = error.remedy();
    // The remedy has a line of its own.
    let message = error.to_string();
    let message = message.strip_suffix(remedy).and_then(|text| text.strip_suffix("; ")).unwrap_or(&message);
    Failure::told(exit, code, message, remedy)
}

/// An event for people, with labels in the policy's words.
pub(crate) fn event(client: &Client, event: &Event) -> String {
    match event {
        Event::FloorChanged { floor } => {
            format!("what was given to read so far is {}", client.show_label(*floor))
        }
        event => event.to_string(),
    }
}

/// A label as the command line writes it: `level[/compartment+compartment[/integrity]]`. What is left out is
/// no compartment and the lowest rank.
pub(crate) fn label(client: &Client, text: &str) -> Result<Label, Failure> {
    let lowest = client.show_label(Label::default());
    let rank = lowest.rsplit('/').next().unwrap_or_default();
    let whole = match text.matches('/').count() {
        0 => format!("{text}/-/{rank}"),
        1 => format!("{text}/{rank}"),
        _ => text.to_owned(),
    };
    client.label(&whole).map_err(failure)
}

/// Text that may have been written by anybody, for a terminal: no control character reaches it, or an agent
/// could rewrite the screen of who watches it.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let harmless = c == '\n' || c == '\t' || !(c.is_control() || is_bidi(c));
            let (plain, escaped) = if harmless { (Some(c), None) } else { (None, Some(c.escape_unicode())) };
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

/// The same where one line is one event: a line break in the text would begin a line that looks like another event.
pub(crate) fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// Characters that change the direction of what follows, so that text reads as other than it is.
const fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A span of time on the command line: `500ms`, `5s`, `2m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let told = || "give a time such as `500ms`, `5s` or `2m`".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(told)?;
    let (number, unit) = text.split_at_checked(digits).ok_or_else(told)?;
    let number: u64 = number.parse().map_err(|_| told())?;
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(told()),
    };
    match number.checked_mul(unit) {
        Some(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err(told()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_cannot_steer_the_terminal() {
        assert_eq!(printable("grün\n\tok"), "grün\n\tok");
        assert_eq!(printable("\x1b[2Jx\u{202e}y\r"), "\\u{1b}[2Jx\\u{202e}y\\u{d}");
        assert_eq!(one_line("grün\n\tok\x1b"), "grün\\n\\tok\\u{1b}");
    }

    #[test]
    fn times_are_read() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "s", "0s", "-5s", "5h", "99999999999999999999s", "5é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}

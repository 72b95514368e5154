//! Where results go: stdout, as text or as JSON; failures to stderr.

use std::{borrow::Cow, fmt, io::Write as _};

use anstyle::{AnsiColor, Style};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use serde::Serialize;
use serde_json::json;

use super::failure::{Exit, Failure, to_json};

/// Good news.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Bad news.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// A heading, or what to look at first.
pub(crate) const STRONG: Style = Style::new().bold();
/// What may be skipped.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// Writes a command's results.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are JSON.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Shows a result: the object, or the text.
    pub(crate) fn show(&self, object: &impl Serialize, text: impl fmt::Display) -> Result<(), Failure> {
        if self.json { self.object(object) } else { self.text(text) }
    }

    /// One line of JSON.
    pub(crate) fn object(&self, object: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(object).map_err(|error| Failure::output(error.into()))?;
        self.text(text)
    }

    /// Text and a line end. Colours are left out unless stdout is a terminal.
    pub(crate) fn text(&self, text: impl fmt::Display) -> Result<(), Failure> {
        let mut stdout = anstream::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Failure::output)
    }

    /// Bytes as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Failure::output)
    }

    /// A remark on stderr, beside the result. That it cannot be written is no reason to stop.
    pub(crate) fn remark(&self, text: impl fmt::Display) {
        let _ = writeln!(anstream::stderr().lock(), "{text}");
    }

    /// A diagnostic on stderr, such as a warning.
    pub(crate) fn diagnostic(&self, report: &dyn Diagnostic) {
        let terminal = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        let theme = if terminal { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut text = String::new();
        let rendered = GraphicalReportHandler::new_themed(theme)
            .with_links(false)
            .with_width(100)
            .render_report(&mut text, report);
        if rendered.is_err() {
            text = report.to_string();
        }
        self.remark(text.trim_end());
    }

    /// Shows why the command failed and returns the process's code.
    pub(crate) fn failure(&self, failure: &Failure) -> Exit {
        if let Some(report) = failure.report() {
            if self.json {
                let _ = self.object(&json!({ "error": to_json(report), "exit": failure.exit() as u8 }));
            } else {
                self.diagnostic(report);
            }
        }
        failure.exit()
    }
}

/// Text in a style.
pub(crate) fn paint(style: Style, text: impl fmt::Display) -> impl fmt::Display {
    fmt::from_fn(move |f| write!(f, "{style}{text}{style:#}"))
}

/// A word of a command that is to be pasted into a shell.
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
    }
}

/// What to type to start this command again from the same directory: whoever built it and did not install it has no
/// `sealbus` on the path.
pub(crate) fn called() -> String {
    std::env::args().next().map_or_else(|| "sealbus".to_owned(), |name| word(&name).into_owned())
}

/// How many characters are seen of a text: those of its style are not.
fn shown(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().chars().count()
}

/// Rows in columns as wide as their widest cell; the last is not padded.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| shown(cell));
        cells.chain(head.get(column).map(|cell| shown(cell))).max().unwrap_or(0)
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.enumerate().map(|(n, cell)| {
            let room = width(n).saturating_sub(shown(cell));
            format!("{cell}{:room$}", "")
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![paint(STRONG, line(&mut head.iter().copied())).to_string()];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{BAD, paint, shown, word};

    #[test]
    fn what_is_to_be_pasted_stays_one_word() {
        assert_eq!(word("target/debug/sealbus"), "target/debug/sealbus");
        assert_eq!(word("my bus/$HOME"), "'my bus/$HOME'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word(""), "''");
    }

    #[test]
    fn a_style_takes_no_room_in_a_table() {
        assert_eq!(shown(&paint(BAD, "böse").to_string()), 4);
    }
}

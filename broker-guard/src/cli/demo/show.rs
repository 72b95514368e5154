//! How the demo looks on a terminal, in 100 columns.

use std::{cell::Cell, fmt::Display, io::Write as _, path::Path, time::Instant};

use super::super::output::{BAD, FAINT, GOOD, STRONG, called, paint, word};
use crate::demo::{
    outcome::Outcome,
    progress::{Attack, Progress},
};

const WIDTH: usize = 100;

/// Writes to stdout, or to stderr if stdout is for JSON.
pub(super) struct Show {
    json: bool,
    begun: Instant,
    step: Cell<u32>,
}

impl Show {
    pub(super) const fn new(json: bool, begun: Instant) -> Self {
        Self { json, begun, step: Cell::new(0) }
    }

    pub(super) fn progress(&self, progress: &Progress) {
        match progress {
            Progress::Step(title) => {
                self.step.set(self.step.get() + 1);
                let time = format!("{:.1} s", self.begun.elapsed().as_secs_f64());
                let title = format!("{}  {title}", self.step.get());
                let gap = WIDTH.saturating_sub(title.chars().count() + time.len());
                self.line(format_args!("\n{}{:gap$}{}", paint(STRONG, title), "", paint(FAINT, time)));
            }
            Progress::Done(text) => self.marked(paint(GOOD, "✓"), text),
            Progress::Failed(text) => self.marked(paint(BAD, "✗"), text),
            Progress::Work { who, what } => {
                for (n, line) in wrapped(what, WIDTH - 18).into_iter().enumerate() {
                    let who = if n == 0 { who } else { "" };
                    self.line(format_args!("     {}", paint(FAINT, format_args!("{who:<12} {line}"))));
                }
            }
            Progress::Attack(attack) => self.attack(attack),
        }
    }

    fn attack(&self, attack: &Attack) {
        let took = format!("{} ms", attack.took.as_millis());
        match (&attack.stopped_by, &attack.reason) {
            (Some(by), Some(reason)) => {
                self.line(format_args!(
                    "   {} {:<40} stopped by {by:<12} {reason:<22} {}",
                    paint(GOOD, "✓"),
                    attack.title,
                    paint(FAINT, format_args!("{took:>7}"))
                ));
            }
            _ => {
                let fault = attack.fault.as_deref().unwrap_or_default();
                self.line(format_args!(
                    "   {} {:<40} {}",
                    paint(BAD, "✗"),
                    attack.title,
                    paint(BAD, "NOT STOPPED")
                ));
                for line in wrapped(fault, WIDTH - 5) {
                    self.line(format_args!("     {line}"));
                }
            }
        }
    }

    fn marked(&self, mark: impl Display, text: &str) {
        let mut lines = wrapped(text, WIDTH - 5).into_iter();
        self.line(format_args!("   {mark} {}", lines.next().unwrap_or_default()));
        for line in lines {
            self.line(format_args!("     {line}"));
        }
    }

    /// The last words: the table, and what to look at next.
    pub(super) fn end(&self, outcome: &Outcome, keep: Option<&Path>) {
        let denied: Vec<_> =
            outcome.denied.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let rows = [
            ("published", outcome.published.to_string()),
            ("delivered", outcome.delivered.to_string()),
            ("lost", outcome.lost.to_string()),
            ("denied", denied.join(", ")),
            ("quarantined", outcome.quarantined.join(", ")),
            ("honest denied", outcome.honest_denied.to_string()),
        ];
        self.line("");
        for (name, value) in rows {
            for (n, line) in wrapped(&value, WIDTH - 18).into_iter().enumerate() {
                let name = if n == 0 { name } else { "" };
                self.line(format_args!("   {name:<14} {line}"));
            }
        }
        let seconds = Instant::now().duration_since(self.begun).as_secs_f64();
        self.line("");
        if outcome.is_good() {
            self.line(format_args!(
                "{} in {seconds:.1} s",
                paint(GOOD, "All as promised: nothing lost, every attack stopped, the log whole"),
            ));
        } else {
            self.line(format_args!(
                "{} after {seconds:.1} s",
                paint(BAD, "Not as promised: see the ✗ above")
            ));
        }
        match keep {
            Some(dir) => self.line(format_args!(
                "\n{at}/report.md is the report. Look closer:\n  {sealbus} audit verify --config {at}/bus\n  \
                 {sealbus} audit search --config {at}/bus",
                at = word(&dir.display().to_string()),
                sealbus = called(),
            )),
            None => {
                self.line("\nThe bus is gone again. `--keep DIR` keeps it, the audit log and the report.")
            }
        }
    }

    /// That it cannot be written is no reason to stop.
    fn line(&self, text: impl Display) {
        let _ = if self.json {
            writeln!(anstream::stderr().lock(), "{text}")
        } else {
            writeln!(anstream::stdout().lock(), "{text}")
        };
    }
}

/// Lines of at most `width` characters, broken at spaces.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    if lines.is_empty() { vec![String::new()] } else { lines }
}

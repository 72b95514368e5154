//! What a benchmark found: rows of figures, each with its unit in its name.

use std::{fmt, io::Write as _, process::ExitCode};

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

use crate::environment::Environment;

/// One measured thing: what, and its figures in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row(Vec<(&'static str, Value)>);

impl Row {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self::default().with("what", what.into())
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, figure: impl Into<Value>) -> Self {
        self.0.push((name, figure.into()));
        self
    }

    /// With three digits that count: more would be noise.
    #[must_use]
    pub(crate) fn measured(self, name: &'static str, figure: f64) -> Self {
        self.with(name, rounded(figure))
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find_map(|(known, value)| (*known == name).then_some(value))
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Everything one benchmark found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    bench: &'static str,
    environment: Environment,
    results: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) const fn new(bench: &'static str, environment: Environment) -> Self {
        Self { bench, environment, results: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Row) {
        self.results.push(row);
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(crate) fn to_json(&self) -> String {
        // Strings and finite numbers always have a JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}\n", self.bench, self.environment.lines())?;
        let mut columns: Vec<&str> = Vec::new();
        for (name, _) in self.results.iter().flat_map(|row| &row.0) {
            if !columns.contains(name) {
                columns.push(name);
            }
        }
        let cell = |row: &Row, name: &str| match row.get(name) {
            None | Some(Value::Null) => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        let widths: Vec<usize> = columns
            .iter()
            .map(|name| self.results.iter().map(|row| cell(row, name).len()).fold(name.len(), usize::max))
            .collect();
        let line = |cells: Vec<String>| {
            let padded: Vec<_> = cells
                .iter()
                .zip(&widths)
                .enumerate()
                .map(
                    |(n, (cell, &width))| {
                        if n == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                    },
                )
                .collect();
            padded.join("  ")
        };
        writeln!(f, "{}", line(columns.iter().map(ToString::to_string).collect()))?;
        for row in &self.results {
            writeln!(f, "{}", line(columns.iter().map(|name| cell(row, name)).collect()))?;
        }
        for note in &self.notes {
            write!(f, "\n{note}")?;
        }
        Ok(())
    }
}

/// Writes the result.
pub(crate) fn out(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn rounded(figure: f64) -> Value {
    if !figure.is_finite() {
        return Value::Null;
    }
    let decimals = match figure.abs() {
        x if x >= 100.0 => 0,
        x if x >= 10.0 => 1,
        x if x >= 1.0 => 2,
        _ => 3,
    };
    format!("{figure:.decimals$}").parse::<serde_json::Number>().map_or(Value::Null, Value::Number)
}

//! Reading CSV (RFC 4180, by lines) and the times in it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::super::failure::{Exit, Failure};

/// A table that is read row by row: it may be longer than memory, and come from a pipe.
pub(crate) struct Table {
    lines: io::Lines<Box<dyn BufRead>>,
    path: PathBuf,
    line: u64,
    divider: char,
    columns: Vec<String>,
}

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    /// The line of the file, from 1.
    pub(crate) line: u64,
    fields: Vec<String>,
}

impl Row {
    /// The field in a column; empty if the row is short.
    pub(crate) fn field(&self, column: usize) -> &str {
        self.fields.get(column).map_or("", |field| field.trim())
    }
}

impl Table {
    /// Opens a file, or standard input for `-`, and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let input: Box<dyn BufRead> = if path.as_os_str() == "-" {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let file = File::open(path).map_err(|error| Failure::io("read", path, error))?;
            Box::new(BufReader::new(file))
        };
        let mut table =
            Self { lines: input.lines(), path: path.to_owned(), line: 0, divider: ',', columns: Vec::new() };
        let Some(header) = table.next_line()? else {
            return Err(table.wrong(1, "the file is empty", "give a CSV file with a header"));
        };
        let header = header.trim_start_matches('\u{feff}');
        if !header.contains(',') {
            table.divider = [';', '\t'].into_iter().find(|divider| header.contains(*divider)).unwrap_or(',');
        }
        table.columns = split(header, table.divider).iter().map(|name| name.trim().to_owned()).collect();
        Ok(table)
    }

    /// The columns' names.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Where a column is, whatever its letters' case.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        let exact = self.columns.iter().position(|column| column == name);
        exact.or_else(|| self.columns.iter().position(|column| column.eq_ignore_ascii_case(name)))
    }

    /// The column of that name.
    pub(crate) fn wanted(&self, name: &str) -> Result<usize, Failure> {
        self.column(name).ok_or_else(|| {
            let there = self.columns.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            self.wrong(1, format!("there is no column `{name}`"), format!("the columns are {there}"))
        })
    }

    /// A row cannot be used.
    pub(crate) fn wrong(
        &self,
        line: u64,
        what: impl std::fmt::Display,
        remedy: impl Into<String>,
    ) -> Failure {
        let name =
            if self.path.as_os_str() == "-" { "stdin".into() } else { self.path.display().to_string() };
        Failure::told(Exit::Config, "series", format!("`{name}` line {line}: {what}"), remedy)
    }

    fn next_line(&mut self) -> Result<Option<String>, Failure> {
        self.line += 1;
        match self.lines.next() {
            None => Ok(None),
            Some(Ok(line)) => Ok(Some(line)),
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(self.wrong(self.line, "this is not UTF-8 text", "give a CSV file"))
            }
            Some(Err(error)) => Err(Failure::io("read", &self.path, error)),
        }
    }

    /// The next row; empty lines are passed over.
    pub(crate) fn row(&mut self) -> Result<Option<Row>, Failure> {
        while let Some(line) = self.next_line()? {
            if !line.trim().is_empty() {
                return Ok(Some(Row { line: self.line, fields: split(&line, self.divider) }));
            }
        }
        Ok(None)
    }
}

fn split(line: &str, divider: char) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.trim_end_matches('\r').chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            _ if character == divider && !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(character),
        }
    }
    fields.push(field);
    fields
}

/// A time in unix milliseconds: a number of seconds or milliseconds since 1970, RFC 3339, or a date with a time in
/// UTC.
pub(crate) fn time(text: &str) -> Option<u64> {
    if let Ok(number) = text.parse::<f64>() {
        // Seconds until the year 5138, milliseconds from 1973 on.
        let ms = if number.abs() < 1e11 { number * 1_000.0 } else { number };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is not negative, and the conversion saturates"
        )]
        return (ms.is_finite() && ms >= 0.0).then_some(ms as u64);
    }
    let ms = if let Ok(time) = text.parse::<jiff::Timestamp>() {
        time.as_millisecond()
    } else {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond()
    };
    u64::try_from(ms).ok()
}

/// What to write for a time.
pub(crate) const TIME_REMEDY: &str =
    "write times as unix seconds or milliseconds, as `2026-01-31T12:00:00Z` or as `2026-01-31 12:00:00`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_each_form() {
        let noon = Some(1_769_860_800_000);
        for text in [
            "1769860800",
            "1769860800000",
            "1769860800.0",
            "2026-01-31T12:00:00Z",
            "2026-01-31T13:00:00+01:00",
            "2026-01-31 12:00:00",
            "2026-01-31 12:00",
        ] {
            assert_eq!(time(text), noon, "{text}");
        }
        for text in ["", "noon", "-5", "nan", "31.01.2026"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn fields_are_divided_and_quoted() {
        assert_eq!(split("a,\"b,\"\"c\"\"\",\r", ','), ["a", "b,\"c\"", ""]);
        assert_eq!(split("a;b", ';'), ["a", "b"]);
    }
}

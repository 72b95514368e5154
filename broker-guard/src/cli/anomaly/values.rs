//! A score for each row of a column of numbers.

use std::io::{BufWriter, Write as _};

use serde_json::json;

use super::{
    super::{failure::Failure, output::Output},
    table::{TIME_REMEDY, Table, time},
};
use crate::anomaly::series::Series;

/// Names of columns that hold the time, if none is named.
const TIMES: [&str; 5] = ["time", "timestamp", "date", "datetime", "ts"];

/// Writes `row,time,value,score,alarm` for each row.
pub(super) fn run(
    mut table: Table,
    value_column: &str,
    time_column: Option<&str>,
    threshold: f64,
    output: &Output,
) -> Result<(), Failure> {
    let values = table.wanted(value_column)?;
    let times = match time_column {
        Some(name) => Some(table.wanted(name)?),
        None => TIMES.iter().find_map(|name| table.column(name)).filter(|column| *column != values),
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    if !output.is_json() {
        writeln!(out, "row,time,value,score,alarm").map_err(Failure::output)?;
    }
    let (mut series, mut rows) = (Series::default(), 0_u64);
    while let Some(row) = table.row()? {
        rows += 1;
        let shown = times.map_or("", |column| row.field(column));
        let at = match shown {
            "" => None,
            text => Some(
                time(text)
                    .ok_or_else(|| table.wrong(row.line, format!("`{text}` is no time"), TIME_REMEDY))?,
            ),
        };
        let text = row.field(values);
        let value = match text.to_ascii_lowercase().as_str() {
            "" | "nan" | "na" | "n/a" | "null" | "none" | "-" => f64::NAN,
            text => text.parse().map_err(|_| {
                let remedy = "write a number; leave the field empty where there is none";
                table.wrong(row.line, format!("`{text}` is no number"), remedy)
            })?,
        };
        let score = series.score(at, value);
        let alarm = score >= threshold;
        let written = if output.is_json() {
            let number = serde_json::Number::from_f64(value);
            let score = (score * 1e6).round() / 1e6;
            writeln!(
                out,
                "{}",
                json!({ "row": rows, "time": shown, "value": number, "score": score, "alarm": alarm })
            )
        } else {
            let shown = if shown.contains([',', '"']) {
                format!("\"{}\"", shown.replace('"', "\"\""))
            } else {
                shown.to_owned()
            };
            writeln!(out, "{rows},{shown},{text},{score:.6},{}", u8::from(alarm))
        };
        written.map_err(Failure::output)?;
    }
    out.flush().map_err(Failure::output)
}

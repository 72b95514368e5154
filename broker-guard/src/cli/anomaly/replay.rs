//! `sealbus anomaly replay`.

use std::path::PathBuf;

use sealbus_envelope::time::Millis;

use super::{
    super::{
        failure::{Exit, Failure},
        output::Output,
        policy,
    },
    alarms::Alarms,
    log,
    table::{Row, TIME_REMEDY, Table, time},
    values,
};
use crate::{
    anomaly::{Observation, Sent, Settings, series},
    clock::now,
};

const EXAMPLES: &str = "\
Examples:
  sealbus anomaly replay traffic.csv
  sealbus anomaly replay traffic.csv --policy policy.toml --watch 1.5
  sealbus anomaly replay --log guard/audit --json | jq -r 'select(.action == \"watch\") | .publisher'
  sealbus anomaly replay cpu.csv --value-column value > scores.csv
  cat cpu.csv | sealbus anomaly replay - --value-column value --time-column timestamp --json

A file of traffic has a header and the columns time, publisher, and count or size or both; subject
if you have it. A row stands for `count` messages (1) of `size` bytes each. Rows come in order of
time. Times are unix seconds or milliseconds, 2026-01-31T12:00:00Z, or 2026-01-31 12:00:00 in UTC.
The first day of each publisher teaches what is usual for it, and is no alarm.

With --value-column any column of numbers is scored by itself, in one pass, row by row:
row,time,value,score,alarm. Scores are from 0 to 1; an alarm is 0.5 or more, or --threshold. Fields
that are empty or NaN have the score 0. Exit code 64 if the file is wrong, with the line.";

/// Run the detector over a recorded series, and print the alarms
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A CSV file; `-` is standard input
    #[arg(required_unless_present = "log", conflicts_with = "log")]
    file: Option<PathBuf>,
    /// Replay the audit log in this directory
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// Take thresholds and weights from this policy file
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Watch from this score on
    #[arg(long, value_name = "SCORE")]
    watch: Option<f32>,
    /// Quarantine from this score on
    #[arg(long, value_name = "SCORE")]
    quarantine: Option<f32>,
    /// Score this column of numbers instead
    #[arg(long, value_name = "NAME", conflicts_with_all = ["log", "policy", "watch", "quarantine"])]
    value_column: Option<String>,
    /// The column of times; `time`, `timestamp` or `date` if there is one
    #[arg(long, value_name = "NAME")]
    time_column: Option<String>,
    /// Call a value an alarm from this score on, from 0 to 1
    #[arg(long, value_name = "SCORE", requires = "value_column", default_value_t = series::ALARM)]
    threshold: f64,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    if let (Some(column), Some(file)) = (&args.value_column, &args.file) {
        let table = Table::open(file)?;
        return values::run(table, column, args.time_column.as_deref(), args.threshold, output);
    }
    let mut alarms = Alarms::new(settings(args)?, output);
    match (&args.log, &args.file) {
        (Some(dir), _) => log::replay(dir, &mut alarms)?,
        (None, Some(file)) => traffic(Table::open(file)?, args.time_column.as_deref(), &mut alarms)?,
        (None, None) => {}
    }
    alarms.finish()
}

fn settings(args: &Args) -> Result<Settings, Failure> {
    let mut settings = match &args.policy {
        None => Settings::default(),
        Some(path) => {
            let checked = crate::policy::review(&policy::source(path)?, now())?;
            checked
                .policy
                .supervision()
                .map_or_else(Settings::default, |said| Settings::from_record(&said.anomaly))
        }
    };
    settings.watch = args.watch.unwrap_or(settings.watch);
    settings.quarantine = args.quarantine.unwrap_or(settings.quarantine.max(settings.watch));
    settings.checked().map_err(|error| {
        let remedy = "give thresholds above 0, `--quarantine` not below `--watch`";
        Failure::told(Exit::Config, "thresholds", error.to_string(), remedy)
    })
}

fn traffic(mut table: Table, time_column: Option<&str>, alarms: &mut Alarms<'_>) -> Result<(), Failure> {
    let times = table.wanted(time_column.unwrap_or("time"))?;
    let publishers = table.wanted("publisher")?;
    let (counts, sizes) = (table.column("count"), table.column("size"));
    let subjects = table.column("subject");
    if counts.is_none() && sizes.is_none() {
        let there = table.columns().join("`, `");
        let remedy = "name a column `count` or `size`; for any other numbers use `--value-column`";
        return Err(table.wrong(1, format!("there is neither `count` nor `size` among `{there}`"), remedy));
    }
    while let Some(row) = table.row()? {
        let text = row.field(times);
        let at =
            time(text).ok_or_else(|| table.wrong(row.line, format!("`{text}` is no time"), TIME_REMEDY))?;
        let publisher = row.field(publishers);
        if publisher.is_empty() {
            return Err(table.wrong(row.line, "the publisher is empty", "name the publisher in each row"));
        }
        let count = number(&table, &row, counts, 1)?;
        if count == 0 {
            continue;
        }
        let sent = Sent {
            count,
            ..Sent::plain(
                Millis(at),
                subjects.map_or("", |column| row.field(column)),
                number(&table, &row, sizes, 0)?,
            )
        };
        alarms.see(publisher, Observation::Sent(sent), Millis(at))?;
    }
    Ok(())
}

/// A count or size: a whole number, or `usual` where there is none.
fn number(table: &Table, row: &Row, column: Option<usize>, usual: u32) -> Result<u32, Failure> {
    let text = column.map_or("", |column| row.field(column));
    if text.is_empty() {
        return Ok(usual);
    }
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is not negative, and the conversion saturates"
    )]
    value.map(|value| value.round() as u32).ok_or_else(|| {
        table.wrong(row.line, format!("`{text}` is no count"), "write a number that is not negative")
    })
}

//! The anomaly detector on the labelled scenarios that the project ships: what it finds, how soon, whom it suspects
//! for nothing; what an attacker can train it to; what it costs the guard a message; and how its score for plain
//! series of numbers does beside simple ones.

use std::time::Duration;

use sealbus_guard::anomaly::{
    Settings,
    scenario::{self, Expect},
};

use crate::{environment::Environment, progress, report::Report, report::Row, samples::median};

mod cost;
mod series;

/// By how much an attacker raises its traffic each day.
const SLOPES: [f64; 8] = [0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 3.0];

pub(crate) fn run(budget: Duration) -> Report {
    let mut report = Report::new("anomaly", Environment::take());
    let settings = Settings::default();
    progress::say("scenarios");
    let (mut attacks, mut found, mut honest, mut suspected) = (0_u32, 0_u32, 0_u32, 0_u32);
    let mut times = Vec::new();
    for scenario in scenario::all() {
        let outcome = scenario::run(&scenario, &settings);
        let right = outcome.is_right(&scenario);
        let mut row = Row::new(scenario.name).with("must", must(scenario.expect)).with("as_it_must", right);
        if scenario.is_attack() {
            attacks += 1;
            found += u32::from(outcome.detected.is_some());
        } else {
            honest += 1;
        }
        let framed = scenario.expect == Expect::NoQuarantine;
        suspected += u32::from(!outcome.false_alarms.is_empty() && !framed);
        if let Some(detected) = outcome.detected {
            let seconds = Duration::from_millis(detected.after_ms).as_secs_f64();
            times.push(seconds);
            row = row.measured("seconds_to_detection", seconds);
            row = row.with("signal", detected.signal.map_or("-", |signal| signal.name()));
        }
        report.push(row);
    }
    report.push(
        Row::new("totals")
            .with("attacks", attacks)
            .with("detected", found)
            .with("honest", honest)
            .with("with_false_alarms", suspected)
            .measured("detection_rate", f64::from(found) / f64::from(attacks.max(1)))
            .measured("false_alarm_rate", f64::from(suspected) / f64::from((attacks + honest).max(1)))
            .measured("median_seconds_to_detection", median(&times)),
    );
    progress::say("training");
    for a_day in SLOPES {
        let training = scenario::slope(a_day, &settings);
        let mut row = Row::new(format!("raises its traffic by {:.0} % a day", a_day * 100.0))
            .measured("times_its_usual", training.reached);
        if let Some(days) = training.watched_after_days {
            row = row.measured("days_until_watched", days);
        }
        report.push(row);
    }
    progress::say("cost");
    report.push(cost::measure(budget));
    progress::say("series");
    series::measure().into_iter().for_each(|row| report.push(row));
    report.note(format!(
        "seconds_to_detection: from the beginning of the attack to the alarm that goes as far as it must, in the \
         scenario's time. framed: a server acts in the agent's name, which may make it watched and never \
         quarantined. Training: after eight honest days, until watched or for {} days at most or twelve times the \
         usual; what is usual follows by a tenth a day at most.",
        scenario::DAYS
    ));
    report.note(
        "cost: all that the guard's desk does of an envelope (checks, log on disk, admission, what is forwarded; \
         no sockets), of 32 agents in turn, 256 envelopes a signature, with and without telling the detector, in \
         turn in one run; medians, times_without of the rounds' ratios. series: made series with labels, see the source; an alarm in or up to a \
         tenth of the series after a fault's beginning finds it; alarms elsewhere, at most one for each 50 rows, are \
         false. Each method has the threshold that is best for it over all series, ours its documented one.",
    );
    report
}

const fn must(expect: Expect) -> &'static str {
    match expect {
        Expect::Nothing => "nothing",
        Expect::NoQuarantine => "framed",
        Expect::Watch => "watch",
        Expect::Quarantine => "quarantine",
    }
}

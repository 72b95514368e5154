//! Series of numbers with labelled faults, made the same way each time, and what finds the faults.
#![expect(clippy::cast_precision_loss, reason = "rows are few")]

use sealbus_guard::anomaly::{
    known::mix,
    series::{ALARM, Series},
};

use crate::report::Row;

const ROWS: usize = 4_000;
/// Five minutes.
const EVERY_MS: u64 = 300_000;
const BEGIN_MS: u64 = 1_704_067_200_000;
const DAY_ROWS: f64 = 288.0;

#[derive(Clone, Copy)]
enum Fault {
    Spike,
    Step,
    Noise,
    Flat,
    Season,
    Drop,
}

const FAULTS: [(&str, Fault); 6] = [
    ("spike", Fault::Spike),
    ("level shift", Fault::Step),
    ("more variance", Fault::Noise),
    ("flat line", Fault::Flat),
    ("broken season", Fault::Season),
    ("drop", Fault::Drop),
];

struct Made {
    values: Vec<f64>,
    /// Where faults begin.
    faults: Vec<usize>,
}

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) >> 11) as f64 / 9_007_199_254_740_992.0
    }

    fn normal(&mut self) -> f64 {
        let (a, b) = (self.next().max(1e-12), self.next());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
}

/// A series: a season of some strength, a trend, noise, and two faults.
fn make(seed: u64, fault: Fault) -> Made {
    let mut chance = Chance(seed);
    let season = if matches!(fault, Fault::Season) { 20.0 } else { chance.next() * 20.0 };
    let (noise, trend) = (0.5 + 2.0 * chance.next(), chance.next() * 0.002);
    let faults = vec![2_000 + (chance.next() * 400.0) as usize, 3_200 + (chance.next() * 400.0) as usize];
    let values = (0..ROWS)
        .map(|row| {
            let at = row as f64;
            let since = faults.iter().filter_map(|from| row.checked_sub(*from)).min();
            let (mut season, mut noise) = (season, noise);
            let mut shift = 0.0;
            match (fault, since) {
                (Fault::Spike, Some(0)) => shift = 12.0 * noise + 15.0,
                (Fault::Drop, Some(0..=5)) => shift = -12.0 * noise - 15.0,
                (Fault::Step, Some(0..=400)) => shift = 8.0 * noise + 12.0,
                (Fault::Noise, Some(0..=100)) => noise *= 6.0,
                (Fault::Flat, Some(0..=100)) => (noise, season) = (0.0, 0.0),
                (Fault::Season, Some(0..=140)) => season = -season,
                _ => {}
            }
            100.0
                + season * (std::f64::consts::TAU * at / DAY_ROWS).sin()
                + trend * at
                + noise * chance.normal()
                + shift
        })
        .collect();
    Made { values, faults }
}

/// Scores of a method.
type Method = fn(&[f64]) -> Vec<f64>;

fn ours(values: &[f64]) -> Vec<f64> {
    let mut series = Series::default();
    let times = (0_u64..).map(|row| BEGIN_MS + row * EVERY_MS);
    values.iter().zip(times).map(|(value, time)| series.score(Some(time), *value)).collect()
}

/// How many standard deviations from the mean of all before.
fn z_score(values: &[f64]) -> Vec<f64> {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0_f64);
    let score = |value: &f64| {
        let score =
            if count > 30.0 && squares > 0.0 { (value - mean).abs() / (squares / count).sqrt() } else { 0.0 };
        count += 1.0;
        let off = value - mean;
        mean += off / count;
        squares += off * (value - mean);
        score
    };
    values.iter().map(score).collect()
}

/// The same, of moving means.
fn ewma(values: &[f64]) -> Vec<f64> {
    let (mut count, mut mean, mut variance) = (0_u32, 0.0, 0.0_f64);
    let score = |value: &f64| {
        let score = if count > 30 && variance > 0.0 { (value - mean).abs() / variance.sqrt() } else { 0.0 };
        let off = if count == 0 { *value } else { value - mean };
        mean += if count == 0 { off } else { 0.05 * off };
        variance = 0.95 * (variance + 0.05 * if count == 0 { 0.0 } else { off * off });
        count += 1;
        score
    };
    values.iter().map(score).collect()
}

/// Faults found, faults missed, false alarms.
fn judge(made: &Made, scores: &[f64], threshold: f64) -> (u32, u32, u32) {
    let (mut found, mut missed, mut wrong) = (0, 0, 0);
    let reach = ROWS / 10;
    for from in &made.faults {
        let hit = scores.iter().skip(*from).take(reach).any(|score| *score >= threshold);
        if hit { found += 1 } else { missed += 1 }
    }
    let mut next = 288;
    for (row, score) in scores.iter().enumerate() {
        let in_fault = made.faults.iter().any(|from| (*from..from + reach + 100).contains(&row));
        if *score >= threshold && !in_fault && row >= next {
            wrong += 1;
            next = row + 50;
        }
    }
    (found, missed, wrong)
}

fn f1((found, missed, wrong): (u32, u32, u32)) -> f64 {
    let both = 2.0 * f64::from(found);
    both / (both + f64::from(missed) + f64::from(wrong)).max(1.0)
}

pub(super) fn measure() -> Vec<Row> {
    let made: Vec<(usize, Made)> = (0..8_u64)
        .flat_map(|seed| {
            FAULTS.iter().enumerate().map(move |(n, (_, fault))| (n, make(seed * 31 + n as u64, *fault)))
        })
        .collect();
    let methods: [(&str, Method); 3] = [("sealbus", ours), ("z-score", z_score), ("ewma", ewma)];
    let mut rows = Vec::new();
    for (name, method) in methods {
        let scored: Vec<(usize, &Made, Vec<f64>)> =
            made.iter().map(|(n, made)| (*n, made, method(&made.values))).collect();
        let total = |threshold: f64, of: Option<usize>| {
            let of_kind = scored.iter().filter(|(n, ..)| of.is_none_or(|of| of == *n));
            of_kind
                .map(|(_, made, scores)| judge(made, scores, threshold))
                .fold((0, 0, 0), |sum, (a, b, c)| (sum.0 + a, sum.1 + b, sum.2 + c))
        };
        let threshold = if name == "sealbus" {
            ALARM
        } else {
            let tried = (4..80).map(|quarters| f64::from(quarters) / 4.0);
            tried.max_by(|a, b| f1(total(*a, None)).total_cmp(&f1(total(*b, None)))).unwrap_or(3.0)
        };
        let row = |what: String, counts: (u32, u32, u32)| {
            let (found, missed, wrong) = counts;
            Row::new(what)
                .with("faults", found + missed)
                .with("found", found)
                .with("false_alarms", wrong)
                .measured("f1", f1(counts))
                .measured("threshold", threshold)
        };
        for (n, (fault, _)) in FAULTS.iter().enumerate() {
            rows.push(row(format!("series, {fault}: {name}"), total(threshold, Some(n))));
        }
        rows.push(row(format!("series, all: {name}"), total(threshold, None)));
    }
    rows
}

//! `sealbus-bench`: measures Sealbus beside what it is compared with, in one run on one machine.
//!
//! Only ratios travel from one machine to another, so each benchmark measures its baseline in the same run,
//! turn by turn, and says what the machine was and how busy.

use std::{process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};

mod agent;
mod anomaly;
mod audit;
mod end_to_end;
mod envelope;
mod environment;
mod guard;
mod isolation;
mod latency;
mod pacer;
#[cfg(feature = "peers")]
mod peers;
mod policy;
mod progress;
mod quarantine;
mod relay;
mod report;
mod rig;
mod samples;

use report::Report;

const EXAMPLES: &str = "\
Examples:
  cargo run --release -p sealbus-tests --bin sealbus-bench -- guard
  cargo run --release -p sealbus-tests --bin sealbus-bench -- latency --seconds 30 --json > latency.json
  cargo run --release -p sealbus-tests --features peers --bin sealbus-bench -- envelope
  cargo run --release -p sealbus-tests --features peers --bin sealbus-bench -- policy

Absolute figures are this machine's; compare ratios. Measure with --release, on a machine that is idle.";

/// Measures Sealbus beside what it is compared with.
#[derive(Debug, Parser)]
#[command(name = "sealbus-bench", after_help = EXAMPLES, arg_required_else_help = true)]
struct Args {
    /// What to measure
    #[arg(value_enum, required_unless_present = "list")]
    name: Option<Bench>,
    /// One JSON object on stdout instead of a table
    #[arg(long)]
    json: bool,
    /// About how long to measure, in seconds, beside setting up
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// List what can be measured
    #[arg(long, conflicts_with = "name")]
    list: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bench {
    /// Seal, verify and open envelopes, single and in batches; with `--features peers` beside Megolm and MLS
    Envelope,
    /// Messages a second: direct, through a relay that does nothing, through the guard
    Guard,
    /// Latency of the same three at 5,000 messages a second
    Latency,
    /// Seal, guard, verify and open in one run: rate, latency, latency of confirmed publishing
    EndToEnd,
    /// A policy decision at 10 to 10,000 rules, loading, memory; with `--features peers` beside Cedar
    Policy,
    /// The audit log: entries a second, time until durable and until signed, verification, proofs
    Audit,
    /// Honest flows beside one agent that floods: throughput, p99, losses, and how soon it is cut
    Isolation,
    /// From hard evidence to no more deliveries at an honest reader, and to every server's word for it
    Quarantine,
    /// The anomaly detector: detection and false alarms by scenario, what it can be trained to, cost a message
    Anomaly,
}

impl Bench {
    fn run(self, budget: Duration) -> Report {
        match self {
            Self::Envelope => envelope::run(budget),
            Self::Guard => guard::run(budget),
            Self::Latency => latency::run(budget),
            Self::EndToEnd => end_to_end::run(budget),
            Self::Policy => policy::run(budget),
            Self::Audit => audit::run(budget),
            Self::Isolation => isolation::run(budget),
            Self::Quarantine => quarantine::run(budget),
            Self::Anomaly => anomaly::run(budget),
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number of seconds from 0.01 to 86400".to_owned()),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let Some(bench) = args.name else { return report::out(&list()) };
    if cfg!(debug_assertions) {
        progress::say("this is a debug build: its figures say nothing; run with --release");
    }
    let report = bench.run(Duration::from_secs_f64(args.seconds));
    let text = if args.json { report.to_json() } else { report.to_string() };
    report::out(&text)
}

fn list() -> String {
    let names = Bench::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let lines: Vec<_> = names
        .map(|value| {
            let help = value.get_help().map(ToString::to_string).unwrap_or_default();
            format!("{:<12} {help}", value.get_name())
        })
        .collect();
    lines.join("\n")
}

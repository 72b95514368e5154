//! Every benchmark runs, for a moment, so that none of them rots between two releases.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::process::{Command, Stdio};

use serde_json::Value;

fn bench(name: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_sealbus-bench"))
        .args([name, "--json", "--seconds", "0.1"])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Says what was measured on what, and lost nothing on the way.
fn check(report: &Value, name: &str, figure: &str) {
    assert_eq!(report["bench"], name);
    assert!(report["environment"]["cores"].as_u64().unwrap() > 0);
    let results = report["results"].as_array().unwrap();
    let measured = results.iter().filter(|row| row[figure].as_f64().is_some_and(|figure| figure > 0.0));
    assert!(measured.count() > 0, "{report:#}");
    for row in results {
        assert!(row["messages_lost"].as_u64().is_none_or(|lost| lost == 0), "{report:#}");
    }
}

#[test]
fn envelope() {
    check(&bench("envelope"), "envelope", "p50_us");
}

#[test]
fn guard() {
    check(&bench("guard"), "guard", "messages_per_second");
}

#[test]
fn latency() {
    check(&bench("latency"), "latency", "p99_us");
}

#[test]
fn end_to_end() {
    check(&bench("end-to-end"), "end-to-end", "messages_per_second");
}

#[test]
fn policy() {
    check(&bench("policy"), "policy", "p50_ns");
}

/// What it measures holds on an idle machine only; that it measures is what counts here.
#[test]
fn isolation() {
    let report = bench("isolation");
    let rows = report["results"].as_array().unwrap();
    assert_eq!(rows.len(), 7, "{report:#}");
    assert!(rows.iter().all(|row| row["p99_ratio"].as_f64().is_some()), "{report:#}");
}

#[test]
fn audit() {
    check(&bench("audit"), "audit", "entries_per_second");
}

/// The totals are what the detector promises; times and costs are the machine's.
#[test]
fn anomaly() {
    let report = bench("anomaly");
    check(&report, "anomaly", "seconds_to_detection");
    check(&report, "anomaly", "times_without");
    let results = report["results"].as_array().unwrap();
    let totals = results.iter().find(|row| row["what"] == "totals").unwrap();
    assert_eq!(totals["detected"], totals["attacks"], "{report:#}");
    assert_eq!(totals["with_false_alarms"], 0, "{report:#}");
}

#[test]
fn the_list_names_every_benchmark() {
    let output = Command::new(env!("CARGO_BIN_EXE_sealbus-bench")).arg("--list").output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    let expected = [
        "envelope",
        "guard",
        "latency",
        "end-to-end",
        "policy",
        "audit",
        "isolation",
        "quarantine",
        "anomaly",
    ];
    assert_eq!(names, expected);
}

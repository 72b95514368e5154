//! `sealbus graph` on a bus directory: every query in every form, and questions that have no answer.
//!
//! After a change of wording run with `INSTA_UPDATE=always` and read the difference.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "what the tests of other commands need besides")]
mod cli;
#[expect(dead_code, reason = "what the tests of other commands need besides")]
#[path = "cli/look.rs"]
mod look;

use cli::{Place, text};
use serde_json::Value;

const AGENTS: [(&str, &str); 6] = [
    ("fetch-1", "collector"),
    ("fetch-2", "collector"),
    ("licence-1", "analyst"),
    ("merge-1", "aggregator"),
    ("report-1", "reporter"),
    ("watch-1", "observer"),
];

/// Declassifies the report for everybody.
const GRANT: &str = "\n[grants.publish-report]\nteam = \"reporter\"\nfrom = \"review.merged\"\nto = \"hello.>\"\n\
    from_label = { level = \"confidential\", compartments = [\"deps\", \"findings\", \"report\"], integrity = \"untrusted\" }\n\
    to_label = { level = \"public\" }\nexpires = \"2099-01-01\"\nreason = \"the report is for everybody\"\n";

fn bus() -> Place {
    let place = Place::with_bus();
    for (name, team) in AGENTS {
        let added = place.run(&["agent", "add", name, "--team", team, "-c", "bus"]);
        assert_eq!(added.status.code(), Some(0), "{}", text(&added.stderr));
    }
    place
}

fn snapshot(name: &str, shown: &str) {
    insta::with_settings!({
        snapshot_path => "cli/snapshots", prepend_module_to_snapshot => false, omit_expression => true,
    }, { insta::assert_snapshot!(name, shown) });
}

fn all(place: &Place, runs: &[&[&str]]) -> String {
    runs.iter().map(|args| place.see(args)).collect::<Vec<_>>().join("\n\n")
}

fn json(place: &Place, args: &[&str]) -> Value {
    let output = place.run(args);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn questions_are_answered_in_every_form() {
    let place = bus();
    let c = ["-c", "bus"];
    let path = ["graph", "path", "fetch-1", "watch-1", "--label", "internal/deps/untrusted", c[0], c[1]];
    snapshot(
        "graph-answers",
        &all(
            &place,
            &[
                &["graph", "who-can", "read", "report.final", "-c", "bus"],
                &["graph", "who-can", "write", "ask.*", "-c", "bus"],
                &["graph", "who-can", "write", "report.final", "--teams", "-c", "bus", "--json"],
                &["graph", "reach", "fetch-1", "-c", "bus"],
                &path,
                &[&path[..], &["--format", "mermaid"]].concat(),
                &[&path[..], &["--format", "dot"]].concat(),
                &[&path[..], &["--json"]].concat(),
                &["graph", "path", "watch-1", "report-1", "--label", "internal/deps/untrusted", "-c", "bus"],
                &["graph", "leaks", "-c", "bus"],
                &["graph", "blast-radius", "licence-1", "-c", "bus"],
                &["graph", "at", "--around", "analyst", "--steps", "1", "-c", "bus", "--format", "mermaid"],
                &["graph", "at", "1", "--around", "ask-analyst", "--steps", "1", "-c", "bus"],
            ],
        ),
    );
}

#[test]
fn questions_without_an_answer_say_what_was_meant() {
    let place = bus();
    snapshot(
        "graph-refused",
        &all(
            &place,
            &[
                &["graph", "reach", "fetch-3", "-c", "bus"],
                &["graph", "path", "fetch-1", "nobody", "-c", "bus"],
                &["graph", "who-can", "read", "report.fnal", "-c", "bus"],
                &["graph", "who-can", "read", "report..final", "-c", "bus"],
                &["graph", "reach", "fetch-1", "--label", "internal/dep/untrusted", "-c", "bus"],
                &["graph", "blast-radius", "fetch-1", "--since", "yesterday", "-c", "bus"],
                &["graph", "at", "--around", "analist", "-c", "bus"],
                &["graph", "at", "7", "-c", "bus"],
                &["graph", "diff", "1", "none.bundle", "-c", "bus"],
            ],
        ),
    );
}

#[test]
fn a_grant_opens_what_a_diff_and_the_leaks_tell() {
    let place = bus();
    let policy = place.read("bus/policy.toml");
    place.write("next.toml", format!("{policy}{GRANT}"));
    place.write("less.toml", policy.replacen("[\"analyst\", \"aggregator\"]", "[\"analyst\"]", 1));
    snapshot(
        "graph-changes",
        &all(
            &place,
            &[
                &["graph", "leaks", "--policy", "next.toml", "--teams", "-c", "bus"],
                &["graph", "diff", "1", "1", "-c", "bus"],
                &["graph", "diff", "1", "less.toml", "-c", "bus"],
                &["graph", "diff", "1", "less.toml", "-c", "bus", "--format", "dot"],
            ],
        ),
    );
    let leaks = json(&place, &["graph", "leaks", "--policy", "next.toml", "-c", "bus", "--json"]);
    let readers: Vec<_> = leaks["leaks"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|leak| leak["readers"].as_array().unwrap())
        .collect();
    let names: Vec<_> = readers.iter().map(|reader| reader["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fetch-1", "fetch-2", "licence-1"], "all that are not cleared for the report");
    // After the day it ends the grant opens nothing.
    let later =
        ["graph", "leaks", "--policy", "next.toml", "--teams", "--at", "2099-01-02T00:00:00Z", "-c", "bus"];
    assert!(text(&place.run(&later).stdout).starts_with("Nothing can reach"));
    let closed = json(&place, &["graph", "diff", "1", "less.toml", "-c", "bus", "--json"]);
    assert_eq!(closed["opens"], false);
    let opened = json(&place, &["graph", "diff", "less.toml", "1", "-c", "bus", "--json"]);
    assert_eq!(opened["opens"], true);
}

#[test]
fn a_revoked_agent_reaches_nobody_but_its_stolen_key_did() {
    let place = bus();
    let revoked = place.run(&["agent", "revoke", "fetch-1", "-c", "bus", "--reason", "stolen"]);
    assert_eq!(revoked.status.code(), Some(0), "{}", text(&revoked.stderr));
    let reach = place.run(&["graph", "reach", "fetch-1", "-c", "bus"]);
    assert!(text(&reach.stdout).contains("may not connect: it is revoked"), "{}", text(&reach.stdout));
    let radius = json(&place, &["graph", "blast-radius", "fetch-1", "--since", "1h", "-c", "bus", "--json"]);
    assert_eq!(radius["reach"]["agents"].as_array().unwrap().len(), 5);
    assert_eq!(radius["log"]["entries"], 0);
    let limits = radius["log"]["limits"].as_array().unwrap();
    assert!(limits.iter().any(|limit| limit == "the log is empty"), "{limits:?}");
}

//! The commands about a policy, as an operator would use them.
//!
//! After a change of wording run with `INSTA_UPDATE=always` and read the difference.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod cli;
#[path = "cli/look.rs"]
mod look;

use cli::Place;
use sealbus_envelope::{
    label::{Compartments, Integrity, Label, Level},
    time::Millis,
};
use sealbus_guard::audit::{
    entry::{Admitted, Body, Denied, Record},
    store::{AuditLog, Options},
};
use serde_json::Value;

fn snapshot(name: &str, shown: &[String]) {
    insta::with_settings!({
        snapshot_path => "cli/snapshots", prepend_module_to_snapshot => false, omit_expression => true,
    }, { insta::assert_snapshot!(name, shown.join("\n\n")) });
}

fn json(place: &Place, args: &[&str]) -> Value {
    let output = place.run(args);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A bus with the agents ana (analyst) and col (collector).
fn bus() -> Place {
    let place = Place::with_bus();
    for (agent, team) in [("ana", "analyst"), ("col", "collector")] {
        assert!(place.run(&["agent", "add", agent, "--team", team, "-c", "bus"]).status.success());
    }
    place
}

fn token(place: &Place, agent: &str) -> String {
    json(place, &["agent", "show", agent, "-c", "bus", "--json"])["token"].as_str().unwrap().to_owned()
}

#[test]
fn warnings_are_told_and_denied_where_that_is_asked() {
    let place = Place::with_bus();
    place.edit("bus/policy.toml", "pattern     = \"hello.>\"", "pattern     = \"*.>\"");
    let shown = [
        place.see(&["policy", "check", "bus/policy.toml"]),
        place.see(&["policy", "check", "bus/policy.toml", "--deny-warnings"]),
    ];
    snapshot("policy-warned", &shown);
    let found = json(&place, &["policy", "check", "bus/policy.toml", "--json"]);
    assert_eq!(found["findings"][0]["code"], "wide_pattern");
    assert_eq!(found["findings"][0]["severity"], "warning");
    let denied = json(&place, &["policy", "check", "bus/policy.toml", "--json", "--deny-warnings"]);
    assert_eq!(denied["exit"], 64);
}

#[test]
fn decisions_are_explained_check_by_check() {
    let place = bus();
    let ask = |args: &[&str]| place.see(&[&["policy", "explain", "-c", "bus"], args].concat());
    let shown = [
        ask(&["--agent", "ana", "--publish", "findings.licence"]),
        ask(&["--agent", "ana", "--publish", "hello.world", "--floor", "deps-item=internal/deps"]),
        ask(&[
            "--agent",
            "col",
            "--publish",
            "deps.item.x",
            "--label",
            "confidential/deps",
            "--size",
            "90000",
        ]),
        ask(&["--agent", "col", "--publish", "nowhere"]),
        ask(&["--team", "analyst", "--reply", "ask.analyst"]),
        ask(&["--team", "analyst", "--subscribe", "deps.item.>", "--label", "confidential/deps"]),
        ask(&["--team", "strangers", "--publish", "hello.x"]),
        ask(&["--agent", "bob", "--publish", "hello.x"]),
        ask(&["--agent", "ana", "--publish", "hello.x", "--label", "top"]),
        ask(&["--agent", "ana"]),
    ];
    snapshot("policy-explained", &shown);
    place.write(
        "observed.toml",
        place.read("bus/policy.toml").replace("[rules.hello] ", "[rules.hello]\nobserve = true "),
    );
    let args = [
        "--policy",
        "observed.toml",
        "--agent",
        "ana",
        "--publish",
        "hello.x",
        "--label",
        "internal",
        "--json",
    ];
    let observed = json(&place, &[&["policy", "explain", "-c", "bus"][..], &args].concat());
    assert_eq!((&observed["allowed"], &observed["observed"]), (&true.into(), &true.into()));
    assert_eq!(observed["reason"], "label_out_of_range");
}

#[test]
fn cases_are_run_as_people_test_code() {
    let place = bus();
    place.write(
        "policy-cases.toml",
        "[[case]]\nname = \"ana says hello\"\nagent = \"ana\"\npublish = \"hello.x\"\nexpect = \"allow\"\n\n\
         [[case]]\nname = \"col finds\"\nagent = \"col\"\npublish = \"findings.x\"\nexpect = \"allow\"\n",
    );
    place.write(
        "bad.toml",
        "[[case]]\nname = \"c\"\nteam = \"analyst\"\npublish = \"hello.>\"\nexpect = \"deny\"\n",
    );
    let policy = ["--policy", "bus/policy.toml", "-c", "bus"];
    let shown = [
        place.see(&[&["policy", "test"][..], &policy].concat()),
        place.see(&[&["policy", "test", "bad.toml"][..], &policy].concat()),
        place.see(&[&["policy", "test", "none.toml"][..], &policy].concat()),
    ];
    snapshot("policy-tested", &shown);
    let tested = json(&place, &[&["policy", "test", "--json"][..], &policy].concat());
    assert_eq!((&tested["passed"], &tested["failed"]), (&1.into(), &1.into()));
}

#[test]
fn policies_are_compared_by_what_can_flow() {
    let place = bus();
    place.write(
        "new.toml",
        place
            .read("bus/policy.toml")
            .replace("subscribers = [\"observer\"]", "subscribers = [\"observer\", \"analyst\"]")
            .replace("per_second = 500, burst = 1000", "per_second = 400, burst = 1000")
            .replace(
                "compartments = [\"deps\", \"findings\"] }\nintegrity",
                "compartments = [\"deps\", \"findings\", \"report\"] }\nintegrity",
            ),
    );
    let shown = [
        place.see(&["policy", "diff", "bus/policy.bundle", "new.toml", "-c", "bus"]),
        place.see(&["policy", "diff", "new.toml", "bus/policy.toml"]),
        place.see(&["policy", "diff", "bus/policy.toml", "bus/policy.toml"]),
    ];
    snapshot("policy-compared", &shown);
    let compared = json(&place, &["policy", "diff", "bus/policy.toml", "new.toml", "--json"]);
    assert_eq!(compared["opened"][0]["to"], "analyst");
}

#[test]
fn teams_and_data_are_placed_in_zones() {
    let place = Place::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/policy-example.toml");
    place.write("example.toml", std::fs::read(example).unwrap());
    snapshot("policy-placed", &[place.see(&["policy", "place", "--policy", "example.toml"])]);
    let placed = json(&place, &["policy", "place", "--policy", "example.toml", "--json"]);
    assert!(placed["teams"].as_array().unwrap().len() >= 6);
}

fn label(level: u8, compartments: u64, rank: u8) -> Label {
    let (level, rank) = (Level::new(level).unwrap(), Integrity::new(rank).unwrap());
    Label::new(level, Compartments::from_bits(compartments), rank)
}

#[test]
fn a_new_policy_is_run_over_what_was_decided() {
    let place = bus();
    let (ana, col) = (token(&place, "ana"), token(&place, "col"));
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let options = Options::new("sealbus/demo/guard-1");
    let mut log = AuditLog::open(&place.path("bus/guard/audit"), options, Box::new(key)).unwrap();
    let admitted = |id: u8,
                    sender: &str,
                    rule: &'static str,
                    subject: &'static str,
                    label,
                    observed: Option<&'static str>| {
        Body::Admitted(Admitted {
            digest: [id; 32].into(),
            envelope: [id; 16].into(),
            sender: sender.to_owned().into(),
            session: [1; 32].into(),
            rule: rule.into(),
            subject: subject.into(),
            label,
            flow_grant: None,
            parents: [].as_slice().into(),
            policy_version: 1,
            guard_time: Millis(1_800_000_000_000),
            confirm: false,
            observed: observed.map(Into::into),
        })
    };
    let denied = Body::Denied(Denied {
        reason: "not_publisher".into(),
        count: 2,
        envelope: Some([4; 16].into()),
        sender: Some(ana.clone().into()),
        rule: Some("deps-item".into()),
        subject: Some("deps.item.x".into()),
        label: Some(label(1, 1, 0)),
        ..Denied::default()
    });
    let bodies = [
        admitted(1, &ana, "hello", "hello.x", label(0, 0, 0), None),
        admitted(2, &col, "hello", "hello.x", label(0, 0, 0), Some("below_floor")),
        admitted(3, "gone-aaaaaaaaaa", "hello", "hello.x", label(0, 0, 0), None),
        denied,
        Body::Denied(Denied { reason: "replay".into(), count: 1, ..Denied::default() }),
    ];
    let records: Vec<_> =
        bodies.into_iter().map(|body| Record { time: Millis(1_800_000_000_000), body }).collect();
    log.append_batch(&records).unwrap();
    drop(log);

    place.write("new.toml", place.read("bus/policy.toml"));
    place.edit("new.toml", "publishers  = [\"collector\", \"analyst\",", "publishers  = [\"collector\",");
    place.edit("new.toml", "pattern     = \"deps.item.>\"", "observe = true\npattern = \"deps.item.>\"");
    let before = place.files();
    let hide = |shown: String| shown.replace(&ana, "ana-TOKEN").replace(&col, "col-TOKEN");
    let shown = [
        hide(place.see(&["policy", "replay", "new.toml", "-c", "bus"])),
        hide(place.see(&[
            "policy",
            "replay",
            "bus/policy.toml",
            "-c",
            "bus",
            "--since",
            "2030-01-01T00:00:00Z",
        ])),
        hide(place.see(&["policy", "observed", "-c", "bus"])),
    ];
    snapshot("policy-replayed", &shown);
    let replayed = json(&place, &["policy", "replay", "new.toml", "-c", "bus", "--json"]);
    let turns: Vec<_> =
        replayed["changes"].as_array().unwrap().iter().map(|change| change["turn"].clone()).collect();
    assert_eq!(turns, ["denied", "denied", "observed"], "{replayed}");
    let observed = json(&place, &["policy", "observed", "-c", "bus", "--json"]);
    assert_eq!(observed["faults"][0]["reason"], "below_floor");
    assert_eq!(place.files(), before, "asking changes nothing");
}

#[test]
fn what_can_be_enforced_again_is_told() {
    let place = Place::with_bus();
    place.edit("bus/policy.toml", "[rules.hello] ", "[rules.hello]\nobserve = true ");
    assert!(place.run(&["policy", "sign", "-c", "bus"]).status.success());
    let told = json(&place, &["policy", "observed", "-c", "bus", "--json"]);
    assert_eq!(told["observed"][0]["scope"], "rule hello");
    assert_eq!(
        told["observed"][0]["advice"],
        "remove `observe` from rule hello: nothing would have been denied"
    );
}

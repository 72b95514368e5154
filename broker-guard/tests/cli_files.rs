//! The command without a bus: directories, agents, policies; and input that is wrong, where every message
//! names the place and the remedy, nothing is half applied, and nothing crashes.
//!
//! After a change of wording run with `INSTA_UPDATE=always` and read the difference.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod cli;
#[path = "cli/look.rs"]
mod look;

use std::{os::unix::fs::PermissionsExt as _, process::Stdio};

use cli::{Place, text};
use look::seen;
use serde_json::Value;

/// What is seen in each of several runs, one snapshot.
macro_rules! all_seen {
    ($name:literal, $place:expr, $([$($arg:expr),*]),* $(,)?) => {{
        let shown: Vec<String> = vec![$($place.see(&[$($arg),*])),*];
        snapshot($name, &shown.join("\n\n"));
    }};
}

fn snapshot(name: &str, shown: &str) {
    insta::with_settings!({
        snapshot_path => "cli/snapshots", prepend_module_to_snapshot => false, omit_expression => true,
    }, { insta::assert_snapshot!(name, shown) });
}

fn mode(place: &Place, relative: &str, mode: u32) {
    std::fs::set_permissions(place.path(relative), std::fs::Permissions::from_mode(mode)).unwrap();
}

fn json(place: &Place, args: &[&str]) -> Value {
    let output = place.run(args);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn init_makes_a_whole_bus_whose_secrets_are_its_owners() {
    let place = Place::with_bus();
    let mut listing = Vec::new();
    for (path, _) in place.files() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let path = path.strip_prefix(place.path("bus")).unwrap().display().to_string();
        listing.push(format!("{mode:o} {path}"));
    }
    snapshot("init-files", &listing.join("\n"));
    for secret in ["offline", "guard", "agents", "operator"] {
        let mode = std::fs::metadata(place.path(&format!("bus/{secret}"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{secret}");
    }
    let healthy = place.run(&["doctor", "--offline-only", "-c", "bus"]);
    assert_eq!(healthy.status.code(), Some(0), "{}", text(&healthy.stdout));
}

#[test]
fn init_replaces_nothing_and_leaves_nothing_half_made() {
    let place = Place::new();
    std::fs::create_dir(place.path("used")).unwrap();
    place.write("used/something", "mine");
    place.write("bad.toml", "levels = [\"public\"\n");
    place.write("file", "");
    std::fs::create_dir(place.path("empty")).unwrap();
    let before = place.files();
    all_seen!(
        "init-refused",
        place,
        ["init", "used", "--bus", "demo"],
        ["init", "file", "--bus", "demo"],
        ["init", ".", "--bus", "demo"],
        ["init", "no/parent", "--bus", "demo"],
        ["init", "--bus", "Demo"],
        ["init", "--bus", "demo", "--url", "nats://root:secret@127.0.0.1"],
        ["init", "--bus", "demo", "--policy", "bad.toml"],
        ["init", "--bus", "demo", "--policy", "none.toml"],
    );
    assert_eq!(place.files(), before);
    let made = place.run(&["init", "empty", "--bus", "demo"]);
    assert_eq!(made.status.code(), Some(0), "an empty directory is taken: {}", text(&made.stderr));
}

#[test]
fn agents_are_added_listed_shown_and_revoked() {
    let place = Place::with_bus();
    let config = ["-c", "bus", "--json"];
    let with = |args: &[&str]| json(&place, &[args, &config].concat());
    let added = with(&["agent", "add", "alice", "--team", "analyst"]);
    assert_eq!(added["clearance"], "confidential/deps+findings/checked", "the team's, if not told otherwise");
    assert_eq!(added["credentials"], "bus/agents/alice.creds");
    let mode = std::fs::metadata(place.path("bus/agents/alice.creds")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let less = with(&[
        "agent",
        "add",
        "intern",
        "--team",
        "analyst",
        "--clearance",
        "internal",
        "--compartments",
        "deps",
        "--integrity",
        "untrusted",
        "--days",
        "1",
    ]);
    assert_eq!(less["clearance"], "internal/deps/untrusted");
    assert_eq!(with(&["agent", "show", "intern"])["reach"], "internal/deps/untrusted");
    assert_eq!(with(&["agent", "show", "alice"])["publishes"], serde_json::json!(["hello", "findings"]));

    let revoked = with(&["agent", "revoke", "alice", "--reason", "laptop stolen"]);
    assert_eq!(revoked["status_version"], 2);
    let shown = with(&["agent", "show", "alice"]);
    assert_eq!((&shown["state"], &shown["reason"]), (&"revoked".into(), &"laptop stolen".into()));
    let renewed = with(&["agent", "renew-status"]);
    assert_eq!((&renewed["status_version"], &renewed["revoked"]), (&3.into(), &1.into()));
    assert_eq!(with(&["agent", "show", "intern"])["state"], "valid");

    let before = with(&["agent", "show", "intern"]);
    with(&["agent", "renew", "intern", "--days", "30"]);
    let after = with(&["agent", "show", "intern"]);
    assert_eq!((&after["identity"], &after["reach"]), (&before["identity"], &before["reach"]));
    assert!(after["expires"].as_str() > before["expires"].as_str());
    with(&["agent", "renew", "guard", "--days", "400"]);
    let swapped = ["agent", "renew", "intern", "--creds", "bus/agents/oncall.creds", "-c", "bus"];
    assert!(place.see(&swapped).contains("exit code 64"), "the file of another agent");
    assert!(place.see(&["agent", "renew", "alice", "-c", "bus"]).contains("exit code 3"), "revoked");

    let list = place.run(&["agent", "list", "-c", "bus", "--json"]);
    let names: Vec<String> = text(&list.stdout)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["alice", "guard", "intern", "oncall"]);
}

#[test]
fn agents_that_may_not_be_are_refused_and_nothing_changes() {
    let place = Place::with_bus();
    let added = place.run(&["agent", "add", "alice", "--team", "analyst", "-c", "bus"]);
    assert_eq!(added.status.code(), Some(0));
    let before = place.files();
    all_seen!(
        "agent-refused",
        place,
        ["agent", "add", "alice", "--team", "analyst", "-c", "bus"],
        ["agent", "add", "guard", "--team", "analyst", "-c", "bus"],
        ["agent", "add", "bob", "--team", "analysts", "-c", "bus"],
        ["agent", "add", "bob", "--team", "collector", "--clearance", "secret", "-c", "bus"],
        ["agent", "add", "bob", "--team", "collector", "--compartments", "deps,report", "-c", "bus"],
        ["agent", "add", "bob", "--team", "collector", "--integrity", "trusted", "-c", "bus"],
        ["agent", "add", "bob", "--team", "collector", "--clearance", "top", "-c", "bus"],
        ["agent", "add", "Bob", "--team", "collector", "-c", "bus"],
        ["agent", "add", "bob", "--team", "collector", "--days", "0", "-c", "bus"],
        ["agent", "show", "bob", "-c", "bus"],
        ["agent", "revoke", "bob", "-c", "bus"],
        ["agent", "add", "bob", "--team", "collector", "-c", "bus", "--offline", "usb"],
    );
    assert_eq!(place.files(), before);
}

#[test]
fn a_policy_is_checked_signed_and_never_renumbered() {
    let place = Place::with_bus();
    let sign = ["policy", "sign", "-c", "bus"];
    assert!(place.see(&sign).contains("Nothing changed: version 1"));
    place.edit("bus/policy.toml", "per_second = 500", "per_second = 50");
    let signed = json(&place, &["policy", "sign", "-c", "bus", "--json"]);
    assert_eq!((&signed["version"], &signed["status_version"]), (&2.into(), &2.into()));
    let before = place.files();

    place.write("not-utf8.toml", b"\xff\xfe");
    place.write("typo.toml", place.read("bus/policy.toml").replace("publishers", "publihsers"));
    place.write("policy.toml", "");
    all_seen!(
        "policy-refused",
        place,
        ["policy", "check", "typo.toml"],
        ["policy", "check", "not-utf8.toml"],
        ["policy", "check", "none.toml"],
        ["policy", "check"],
    );
    for file in ["not-utf8.toml", "typo.toml", "policy.toml"] {
        std::fs::remove_file(place.path(file)).unwrap();
    }
    place.edit("bus/policy.toml", "\"public\", \"internal\"", "\"draft\", \"public\", \"internal\"");
    let renumbered = place.see(&sign);
    place.edit("bus/policy.toml", "\"draft\", \"public\", \"internal\"", "\"public\", \"internal\"");
    std::fs::rename(place.path("bus/offline/policy-1.seed"), place.path("away")).unwrap();
    place.edit("bus/policy.toml", "per_second = 50", "per_second = 51");
    let keyless = place.see(&sign);
    place.edit("bus/policy.toml", "per_second = 51", "per_second = 50");
    std::fs::rename(place.path("away"), place.path("bus/offline/policy-1.seed")).unwrap();
    snapshot("policy-not-signed", &format!("{renumbered}\n\n{keyless}"));
    assert_eq!(place.files(), before);
}

#[test]
fn a_wrong_configuration_is_told_with_its_place() {
    let place = Place::with_bus();
    let good = place.read("bus/sealbus.toml");
    let mut shown = vec![place.see(&["agent", "list"])];
    let issuer = good.lines().find(|line| line.starts_with("issuer")).unwrap().to_owned();
    for (from, to) in [
        ("quorum = 1 ", "quorums = 1"),
        ("quorum = 1 ", "quorum = 2 "),
        ("quorum = 1 ", "quorum = \"one\" "),
        (issuer.as_str(), "issuer = \"SAADEMO\""),
        ("nats://127.0.0.1:4222", "http://127.0.0.1:4222"),
        ("[guard]", "[guard"),
        ("127.0.0.1:9464", "localhost"),
    ] {
        place.edit("bus/sealbus.toml", from, to);
        shown.push(place.see(&["agent", "list", "-c", "bus"]));
        place.write("bus/sealbus.toml", &good);
    }
    place.write("bus/sealbus.toml", b"\xff");
    shown.push(place.see(&["guard", "-c", "bus"]));
    // Keys differ from run to run.
    let keys =
        |word: &str| word.len() == 56 && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let shown = shown.join("\n\n");
    let words: Vec<String> = shown
        .split_inclusive(|c: char| !c.is_ascii_alphanumeric())
        .map(|word| {
            let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if keys(bare) { word.replace(bare, &"K".repeat(56)) } else { word.to_owned() }
        })
        .collect();
    snapshot("config-refused", &words.concat());
}

#[test]
fn wrong_key_and_signed_files_are_told_by_name() {
    let place = Place::with_bus();
    assert_eq!(
        place.run(&["agent", "add", "alice", "--team", "analyst", "-c", "bus"]).status.code(),
        Some(0)
    );
    let mut shown = Vec::new();
    let guard = ["guard", "-c", "bus"];
    let publish = ["pub", "hello.world", "x", "--creds", "bus/agents/alice.creds"];

    mode(&place, "bus/guard/guard.seed", 0o644);
    shown.push(place.see(&guard));
    mode(&place, "bus/guard/guard.seed", 0o600);
    let seed = place.read("bus/guard/guard.seed");
    place.write("bus/guard/guard.seed", place.read("bus/guard/sys.seed"));
    shown.push(place.see(&guard));
    place.write("bus/guard/guard.seed", place.read("bus/guard/callout.seed"));
    shown.push(place.see(&guard));
    place.write("bus/guard/guard.seed", b"\xff\x00");
    shown.push(place.see(&guard));
    std::fs::remove_file(place.path("bus/guard/guard.seed")).unwrap();
    shown.push(place.see(&guard));
    place.write("bus/guard/guard.seed", seed);
    mode(&place, "bus/guard/guard.seed", 0o600);

    mode(&place, "bus/agents/alice.creds", 0o640);
    shown.push(place.see(&publish));
    mode(&place, "bus/agents/alice.creds", 0o600);
    place.edit("bus/agents/alice.creds", "-----BEGIN USER NKEY SEED-----", "-----BEGIN SEED-----");
    shown.push(place.see(&publish));
    place.write("bus/agents/alice.creds", "");
    shown.push(place.see(&publish));
    shown.push(place.see(&["pub", "hello.world", "x", "--creds", "none.creds"]));
    shown.push(place.see(&["events", "--creds", "bus"]));

    let bundle = std::fs::read(place.path("bus/policy.bundle")).unwrap();
    let mut changed = bundle.clone();
    *changed.last_mut().unwrap() ^= 1;
    place.write("bus/policy.bundle", &changed);
    shown.push(place.see(&["agent", "list", "-c", "bus"]));
    place.write("bus/policy.bundle", bundle);
    place.write("bus/status.bin", "nonsense");
    shown.push(place.see(&["agent", "list", "-c", "bus"]));
    place.write("bus/agents/registry.toml", "alice = 1");
    shown.push(place.see(&["audit", "verify", "-c", "bus"]));
    shown.push(place.see(&["why", "0123456789", "-c", "bus"]));
    shown.push(place.see(&["why", "xyz", "-c", "bus"]));
    snapshot("files-refused", &shown.join("\n\n"));
}

#[test]
fn a_wrong_environment_is_told_by_name() {
    let place = Place::with_bus();
    let mut shown = Vec::new();
    for (variable, value, args) in [
        ("SEALBUS_LOG", "=nonsense=", &["guard", "-c", "bus"][..]),
        ("SEALBUS_LOG_FORMAT", "xml", &["guard", "-c", "bus"]),
        ("SEALBUS_CREDS", "none.creds", &["sub", "hello.>"]),
        ("SEALBUS_CONFIG", "none.toml", &["agent", "list"]),
        ("NATS_SERVER", "none", &["dev"]),
    ] {
        let output = place.command(args).env(variable, value).output().unwrap();
        shown.push(seen(&format!("{}   with {variable}={value}", args.join(" ")), &output));
    }
    snapshot("environment-refused", &shown.join("\n\n"));
}

#[test]
fn a_failure_in_json_is_one_object_with_the_place() {
    let place = Place::with_bus();
    place.write("typo.toml", place.read("bus/policy.toml").replace("publishers", "publihsers"));
    let output = place.run(&["policy", "check", "typo.toml", "--json"]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(64), 1));
    let failure: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(failure["exit"], 64);
    let related = failure["error"]["related"].as_array().unwrap();
    let finding = related.iter().find(|finding| finding["code"] == "unknown_key").unwrap();
    assert_eq!(finding["places"][0]["file"], "typo.toml");
    assert!(finding["places"][0]["line"].as_u64().unwrap() > 30);
    assert!(finding["help"].as_str().unwrap().contains("publishers"));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let place = Place::new();
    for args in [&["completion", "bash"][..], &["why", "replay"], &["--help"]] {
        let mut child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(!text(&output.stderr).contains("panicked"), "{args:?}: {}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn every_shell_gets_its_completion() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = place.run(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0));
        for command in ["renew-status", "revoke-key"] {
            assert!(text(&output.stdout).contains(command), "{shell}: {command}");
        }
    }
    assert_eq!(place.run(&["completion", "cmd"]).status.code(), Some(2));
    assert_eq!(place.run(&[]).status.code(), Some(2));
}

#[test]
fn the_help_tells_the_exit_codes() {
    let place = Place::new();
    all_seen!("help", place, ["--help"], ["pub", "--help"]);
}

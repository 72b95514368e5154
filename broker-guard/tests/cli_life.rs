//! The life of a policy as operators type it: signed from hand to hand, published, looked at, rolled back.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod cli;

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use cli::{Place, text};
use sealbus_guard::natsserver::locate_or_fetch;
use serde_json::Value;

/// Killed when dropped.
struct Running(Child);

impl Running {
    /// Starts a command and waits for a line on stderr that has `ready` in it.
    fn start(command: &mut Command, ready: &str) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains(ready)), "it does not say `{ready}`");
        // Whoever writes into a pipe that nobody reads stops.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A bus directory whose ports are free, and whose quorum is two keys in two directories, `ann` and `ben`.
fn two_holders() -> Place {
    let place = Place::new();
    let url = format!("nats://127.0.0.1:{}", free_port());
    let made = place.run(&["init", "bus", "--bus", "demo", "--url", &url]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    place.edit("bus/sealbus.toml", "127.0.0.1:9464", &format!("127.0.0.1:{}", free_port()));
    let second = nkeys::KeyPair::new_user();
    place.edit(
        "bus/sealbus.toml",
        "policy_keys = [",
        &format!("policy_keys = [\"{}\", ", second.public_key()),
    );
    for holder in ["ann", "ben"] {
        std::fs::create_dir(place.path(holder)).unwrap();
    }
    std::fs::rename(place.path("bus/offline/policy-1.seed"), place.path("ann/policy-1.seed")).unwrap();
    let seed = place.path("ben/policy-1.seed");
    sealbus_guard::keyfile::create_secret(&seed, &second.seed().unwrap()).unwrap();
    place.edit("bus/sealbus.toml", "quorum = 1 ", "quorum = 2 ");
    place
}

/// Runs a command that ends with `code` and says one object.
fn says(place: &Place, code: i32, args: &[&str]) -> Value {
    let output = place.command(args).arg("--json").output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The first bundle was signed by one key, before there were two.
fn first_of_two(place: &Place) {
    place.edit("bus/sealbus.toml", "quorum = 2 ", "quorum = 1 ");
    place.edit("bus/policy.toml", "per_second = 500", "per_second = 499");
    says(place, 0, &["policy", "sign", "-c", "bus", "--out", "first", "--offline", "ann"]);
    says(place, 0, &["policy", "sign", "-c", "bus", "--add", "first", "--offline", "ben"]);
    place.edit("bus/sealbus.toml", "quorum = 1 ", "quorum = 2 ");
    place.write("bus/policy.bundle", std::fs::read(place.path("first")).unwrap());
}

#[test]
fn a_policy_goes_from_hand_to_hand_until_the_quorum_has_signed() {
    let place = two_holders();
    first_of_two(&place);
    place.edit("bus/policy.toml", "per_second = 499", "per_second = 50");
    let (ann, ben) = (["--offline", "ann"], ["--offline", "ben"]);
    let sign = |more: &[&'static str], who: [&'static str; 2]| {
        [&["policy", "sign", "-c", "bus"], more, &who].concat()
    };

    let alone = says(&place, 64, &sign(&[], ann));
    assert_eq!(alone["error"]["code"], "too_few_policy_keys");
    let begun = says(&place, 0, &sign(&["--out", "draft"], ann));
    assert_eq!((&begun["signatures"], &begun["complete"]), (&1.into(), &false.into()), "{begun}");
    assert_eq!((&begun["version"], &begun["quorum"]), (&3.into(), &2.into()));
    let shown = place.run(&sign(&["--add", "draft", "--show"], ben));
    assert!(text(&shown.stdout).contains("1 of 2 signatures; give it to another key holder"));

    // What it changes can be seen before it is signed.
    let diff = says(&place, 0, &["policy", "diff", "bus/policy.bundle", "draft", "-c", "bus"]);
    assert!(diff["settings"]["close"].to_string().contains("499 a second"), "{diff}");

    // Not enough is nothing, and one key is one signature.
    let early = says(&place, 4, &["policy", "publish", "draft", "-c", "bus", "--local"]);
    assert_eq!(early["error"]["code"], "too_few_signatures");
    let again = says(&place, 3, &sign(&["--add", "draft"], ann));
    assert_eq!(again["error"]["code"], "already_signed");
    // Who signs can hold it against the text that was reviewed.
    let reviewed = place.read("bus/policy.toml");
    place.write("reviewed.toml", reviewed.replace("per_second = 50", "per_second = 51"));
    let other = says(&place, 3, &sign(&["--add", "draft", "--policy", "reviewed.toml"], ben));
    assert_eq!(other["error"]["code"], "other_policy");
    // A draft that was changed on the way is no draft.
    let mut changed = std::fs::read(place.path("draft")).unwrap();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    place.write("changed", changed);
    says(&place, 4, &["policy", "sign", "-c", "bus", "--add", "changed", "--offline", "ben"]);

    let done = says(&place, 0, &sign(&["--add", "draft", "--policy", "bus/policy.toml"], ben));
    assert_eq!((&done["signatures"], &done["complete"]), (&2.into(), &true.into()), "{done}");
    let installed = says(&place, 0, &["policy", "publish", "draft", "-c", "bus", "--local"]);
    assert_eq!((&installed["version"], &installed["installed"]), (&3.into(), &true.into()));

    // Back to before, by both again.
    let back = ["policy", "rollback", "2", "-c", "bus", "--out", "back", "--offline", "ben"];
    assert_eq!(says(&place, 0, &back)["version"], 4);
    assert_eq!(says(&place, 0, &sign(&["--add", "back"], ann))["complete"], true);
    says(&place, 0, &["policy", "publish", "back", "-c", "bus", "--local"]);
    // The older one, complete as it is, stays where it is.
    let old = says(&place, 3, &["policy", "publish", "draft", "-c", "bus", "--local"]);
    assert_eq!(old["error"]["code"], "rolled_back");
    let history = says(&place, 0, &["policy", "history", "-c", "bus", "--local"]);
    let versions = history["versions"].as_array().unwrap();
    let numbers: Vec<_> = versions.iter().map(|version| version["version"].as_u64().unwrap()).collect();
    assert_eq!((numbers, &history["in_force"]), (vec![4, 3, 2], &4.into()));
    assert!(versions.iter().all(|version| version["signed_by"].as_array().unwrap().len() == 2));
    assert_eq!(versions[0]["changes"]["changed"], versions[1]["changes"]["changed"]);
    let table = text(&place.run(&["policy", "history", "-c", "bus", "--local"]).stdout);
    assert!(table.lines().nth(1).unwrap().ends_with("in force"), "{table}");
    assert_eq!(place.run(&["policy", "rollback", "4", "-c", "bus"]).status.code(), Some(64));
    assert_eq!(place.run(&["policy", "rollback", "9", "-c", "bus"]).status.code(), Some(64));
}

#[test]
fn a_policy_is_published_and_taken_up_by_the_guard() {
    let place = Place::new();
    let port = free_port();
    let made = place.run(&["init", "bus", "--bus", "demo", "--url", &format!("nats://127.0.0.1:{port}")]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    place.edit("bus/sealbus.toml", "127.0.0.1:9464", &format!("127.0.0.1:{}", free_port()));
    let publish = ["policy", "publish", "-c", "bus"];
    assert_eq!(says(&place, 1, &publish)["error"]["code"], "bus_unreachable");

    let mut server = Command::new(locate_or_fetch().unwrap().path());
    let _server = Running::start(server.arg("-c").arg(place.path("bus/nats/nats.conf")), "Server is ready");
    // The guard makes the bucket.
    assert_eq!(says(&place, 1, &publish)["error"]["code"], "policy_bucket");
    let _guard = Running::start(&mut place.command(&["guard", "-c", "bus"]), "the guard is ready");
    assert_eq!(says(&place, 0, &publish)["published"], true);
    assert_eq!(says(&place, 0, &publish)["already_published"], true);

    place.edit("bus/policy.toml", "per_second = 500", "per_second = 50");
    says(&place, 0, &["policy", "sign", "-c", "bus"]);
    assert_eq!(says(&place, 0, &publish)["version"], 2);
    let back = says(&place, 0, &["policy", "rollback", "1", "-c", "bus"]);
    assert_eq!(back["version"], 3);
    assert_eq!(says(&place, 0, &publish)["version"], 3);
    let version = || says(&place, 0, &["status", "-c", "bus"])["policy_version"].clone();
    while version() != 3 {
        std::thread::yield_now();
    }
    let history = says(&place, 0, &["policy", "history", "-c", "bus"]);
    assert_eq!((&history["in_force"], &history["published"]), (&3.into(), &3.into()));
    assert_eq!(history["bucket_error"], Value::Null);
    let published = |version: &Value| version["published"] == true && version["spoilt"] == false;
    assert!(history["versions"].as_array().unwrap().iter().all(published), "{history}");

    // A directory that lost its copies gets them back.
    std::fs::remove_dir_all(place.path("bus/policies")).unwrap();
    let fetched = says(&place, 0, &["policy", "history", "-c", "bus", "--fetch"]);
    assert_eq!(fetched["versions"].as_array().unwrap().len(), 3);
    assert!(place.path("bus/policies/00000001.bundle").exists());
}

//! What approvers type: on a running bus with what really waits, and about their keys.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod cli;
#[path = "cli/running.rs"]
mod running;

use cli::{Place, text};
use running::{Running, prepared, says};
use serde_json::{Value, json};

const HOLD: &str = r#"
hold        = { approvals = 2, deadline = "10m", approvers = ["duty", { list = "board", after = "5m" }] }"#;

/// Makes keys, and a signed policy by which what goes under `hello` waits for two of ann, bob and carol. Ann has a
/// second key on the board's list.
fn with_approvers(place: &Place) {
    let key = |who: &str| {
        let made = says(place, &["approvals", "key", &format!("{who}.seed"), "--json"]);
        made["public"].as_str().unwrap().to_owned()
    };
    let [ann, home, bob, carol] = ["ann", "home", "bob", "carol"].map(key);
    key("stranger");
    let rule = r#"labels      = { level = "public" }"#;
    place.edit("bus/policy.toml", rule, &format!("{rule}{HOLD}"));
    let lists = format!(
        "\n[approvers.duty]\nann = \"{ann}\"\nbob = \"{bob}\"\n\n[approvers.board]\nann = \"{home}\"\ncarol = \"{carol}\"\n"
    );
    place.write("bus/policy.toml", place.read("bus/policy.toml") + &lists);
    says(place, &["policy", "sign", "-c", "bus", "--json"]);
}

fn public(place: &Place, seed: &str) -> String {
    let shown = says(place, &["approvals", "key", seed, "--show", "--json"]);
    shown["public"].as_str().unwrap().to_owned()
}

/// Runs a command that is refused, in words and in JSON, with this exit code and error code.
fn refused(place: &Place, args: &[&str], code: i32, error: &str) -> Value {
    let output = place.run(args);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    let output = place.command(args).arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["error"]["code"], error, "{args:?}: {said}");
    said
}

#[test]
fn approvers_are_listed_and_their_keys_revoked() {
    let place = prepared();
    with_approvers(&place);
    let on = |args: &[&'static str]| [args, &["-c", "bus", "--json"]].concat();
    let people = || says(&place, &on(&["approvals", "people"]));
    let before = people();
    let names: Vec<&str> =
        before["people"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ann", "ann", "bob", "carol"]);
    assert_eq!(before["holds"], json!([{ "wanted_by": "rule hello", "approvals": 2, "people": 3 }]));

    // What cannot be meant, or cannot be done, changes nothing.
    let statement = || std::fs::read(place.path("bus/status.bin")).unwrap();
    let signed = statement();
    let revoke = ["approvals", "revoke-key"];
    let no =
        |who: &str, code, error| refused(&place, &[&revoke[..], &[who, "-c", "bus"]].concat(), code, error);
    no("nobody", 64, "unknown_approver");
    let which = no("ann", 64, "ambiguous");
    let remedy = which["error"]["help"].as_str().unwrap();
    assert!(remedy.contains("--all") && remedy.contains(&public(&place, "home.seed")), "{which}");
    let agents = says(&place, &["agent", "show", "oncall", "-c", "bus", "--json"]);
    let said = no(agents["identity"].as_str().unwrap(), 64, "agents_key");
    assert!(said["error"]["help"].as_str().unwrap().contains("sealbus agent revoke oncall"), "{said}");
    for offline in ["policy-1.seed", "status.seed"] {
        no(&public(&place, &format!("bus/offline/{offline}")), 64, "not_revocable");
    }
    let away = ["approvals", "revoke-key", "bob", "--offline", "usb", "-c", "bus"];
    refused(&place, &away, 64, "offline_key_absent");
    assert_eq!(statement(), signed);

    let bob = says(&place, &on(&["approvals", "revoke-key", "bob"]));
    assert_eq!(bob["revoked"], json!([{ "key": public(&place, "bob.seed"), "name": "bob" }]));
    assert_eq!((&bob["status_version"], &bob["too_few"]), (&3.into(), &json!([])), "{bob}");
    no("bob", 1, "revoked_already");
    assert_eq!(people()["holds"][0]["people"], 2);
    let all = text(&place.run(&["approvals", "revoke-key", "ann", "--all", "-c", "bus"]).stdout);
    assert_eq!(all.matches("is revoked (ann)").count(), 2, "{all}");
    assert!(all.contains("rule hello wants 2, and 1 is left: nothing gets through"), "{all}");
    let shown = text(&place.run(&["approvals", "people", "-c", "bus"]).stdout);
    assert_eq!((shown.matches("revoked 2").count(), shown.matches("valid").count()), (3, 1), "{shown}");
    // A key need not stand in the policy.
    let stranger = public(&place, "stranger.seed");
    let bare = says(&place, &["approvals", "revoke-key", &stranger, "-c", "bus", "--json"]);
    assert_eq!(bare["revoked"], json!([{ "key": stranger, "name": null }]));
    assert_eq!(says(&place, &on(&["agent", "renew-status"]))["revoked"], 4);
}

/// What waits, as `list` tells it.
fn waiting(place: &Place) -> Vec<Value> {
    says(place, &["approvals", "list", "-c", "bus", "--json"])["held"].as_array().unwrap().clone()
}

/// Publishes, and returns once it waits for people: the command, and the digest.
fn held(place: &Place, payload: &str) -> (Running, String) {
    let before = waiting(place).len();
    let args = ["pub", "hello.world", payload, "--creds", "bus/agents/bob.creds", "--json"];
    let waits = Running::start(place, &args);
    loop {
        let held = waiting(place);
        if held.len() > before {
            return (waits, held[before]["digest"].as_str().unwrap().to_owned());
        }
    }
}

fn decide<'a>(word: &'a str, digest: &'a str, seed: &'a str) -> [&'a str; 8] {
    ["approvals", word, digest, "--key", seed, "--yes", "-c", "bus"]
}

fn decided(place: &Place, word: &str, digest: &str, seed: &str) -> Value {
    says(place, &[&decide(word, digest, seed)[..], &["--json"]].concat())
}

#[test]
fn what_waits_is_listed_shown_and_decided() {
    let place = prepared();
    with_approvers(&place);
    let mut dev = Running::start(&place, &["dev", "--dir", "bus", "--json"]);
    assert_eq!(dev.object()["ready"], true);
    let alice = "bus/agents/alice.creds";
    assert_eq!(text(&place.run(&["approvals", "list", "-c", "bus"]).stdout), "Nothing waits for approval.\n");
    let mut reader = Running::ready(&place, &["sub", "hello.>", "--creds", alice, "--json"]);

    let (mut first, digest) = held(&place, "for two");
    let (short, shorter) = (digest.get(..16).unwrap(), digest.get(..15).unwrap());
    let list = text(&place.run(&["approvals", "list", "-c", "bus"]).stdout);
    assert!(list.contains(short) && list.contains("0 of 2") && list.contains("hello.world"), "{list}");
    let shown = text(&place.run(&["approvals", "show", short, "-c", "bus"]).stdout);
    for said in
        [digest.as_str(), "rule hello 0 of 2 approved: waits", "ann, bob (asked)", "ann, carol (asked in"]
    {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    assert!(!shown.contains("for two"), "the guard cannot read it");
    let opened = says(&place, &["approvals", "show", short, "--open", "--creds", alice, "--json"]);
    assert_eq!((&opened["opened"]["text"], &opened["held"]["digest"]), (&"for two".into(), &json!(digest)));

    // Named by enough of the digest; signed unseen only with all of it; and by an approver.
    let other = if digest.starts_with('0') { "1".repeat(16) } else { "0".repeat(16) };
    refused(&place, &["approvals", "show", shorter, "-c", "bus"], 64, "usage");
    refused(&place, &["approvals", "show", &other, "-c", "bus"], 1, "not_held");
    refused(&place, &decide("approve", shorter, "ann.seed"), 64, "usage");
    refused(&place, &decide("approve", short, "ann.seed"), 64, "usage");
    let unasked = ["approvals", "approve", short, "--key", "ann.seed", "-c", "bus"];
    refused(&place, &unasked, 64, "usage");
    refused(&place, &decide("approve", &digest, "none.seed"), 64, "key_file_io");
    refused(&place, &decide("approve", &digest, "stranger.seed"), 3, "approval_invalid");

    let ann = decided(&place, "approve", &digest, "ann.seed");
    assert_eq!((&ann["person"], &ann["missing"]), (&"ann".into(), &1.into()), "{ann}");
    let again = text(&place.run(&decide("approve", &digest, "ann.seed")).stdout);
    assert!(again.contains("ann had approved it before; 1 missing still"), "{again}");

    // A stolen key is revoked before its approval brought anything about.
    let oncall = "bus/agents/oncall.creds";
    let taken_up = ["events", "--creds", oncall, "--kind", "changed", "--count", "1", "--json"];
    let mut taken_up = Running::ready(&place, &taken_up);
    let key = public(&place, "ann.seed");
    says(&place, &["approvals", "revoke-key", &key, "-c", "bus", "--json"]);
    let told = taken_up.object();
    assert!(told["message"].to_string().contains("status"), "{told}");
    assert_eq!(waiting(&place)[0]["holds"][0]["approved"], json!([]), "what it signed counts no more");
    refused(&place, &decide("approve", &digest, "ann.seed"), 3, "approval_invalid");
    refused(&place, &decide("deny", &digest, "ann.seed"), 3, "approval_invalid");
    assert_eq!(decided(&place, "approve", &digest, "bob.seed")["missing"], 1);
    assert_eq!(waiting(&place)[0]["holds"][0]["approved"], json!(["bob"]));

    // Carried, and handed in by somebody else over the bus. Ann has another key yet.
    let sign = ["approvals", "approve", &digest, "--key", "home.seed", "--out", "ann.approval", "-c", "bus"];
    assert_eq!(says(&place, &[&sign[..], &["--json"]].concat())["approve"], true);
    let handed = says(&place, &["approvals", "submit", "ann.approval", "--creds", alice, "--json"]);
    assert_eq!((&handed["person"], &handed["state"]), (&"ann".into(), &"released".into()), "{handed}");
    let read = reader.object();
    assert_eq!((&read["payload"], &read["digest"]), (&"for two".into(), &json!(digest)));
    let (code, said) = first.ended();
    assert!(code == Some(0) && said.contains(&digest), "{code:?}: {said}");
    refused(&place, &decide("approve", &digest, "bob.seed"), 1, "not_held");

    // One no is enough.
    let (mut second, digest) = held(&place, "for nobody");
    let denied = text(&place.run(&decide("deny", &digest, "carol.seed")).stdout);
    assert!(denied.contains("carol denied it; its sender is told"), "{denied}");
    let (code, said) = second.ended();
    assert!(code == Some(3) && said.contains("approval_denied"), "{code:?}: {said}");
    assert!(waiting(&place).is_empty());
    let log = place.run(&["audit", "search", "--kind", "approval", "-c", "bus", "--json"]);
    let log = text(&log.stdout);
    assert_eq!(
        (log.matches("\"accepted\":true").count(), log.matches("\"person\":\"carol\"").count()),
        (4, 1),
        "{log}"
    );
    assert_eq!(dev.interrupt(), Some(0));
    refused(&place, &["approvals", "list", "-c", "bus"], 1, "guard_unreachable");
}

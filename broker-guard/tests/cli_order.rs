//! Orders from hand to hand, without a guard: drafts, signatures, and what is refused.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod cli;

use cli::{Place, text};
use sealbus_envelope::identity::{KeyKind, SigningKey};
use sealbus_guard::keyfile::create_secret;
use serde_json::Value;

/// A bus of which two policy keys must sign: one in `bus/offline`, the other in `second`.
fn prepared() -> Place {
    let place = Place::new();
    for args in
        [&["init", "bus", "--bus", "demo"][..], &["agent", "add", "alice", "--team", "analyst", "-c", "bus"]]
    {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    }
    let second = SigningKey::from_seed(&[7; 32]);
    std::fs::create_dir(place.path("second")).unwrap();
    create_secret(&place.path("second/policy-2.seed"), &second.to_nkey_seed(KeyKind::User)).unwrap();
    let public = second.public().to_nkey(KeyKind::User);
    place.edit("bus/sealbus.toml", "policy_keys = [", &format!("policy_keys = [\"{public}\", "));
    place.edit("bus/sealbus.toml", "quorum = 1", "quorum = 2");
    // No guard is there, whatever else this machine runs.
    place.edit("bus/sealbus.toml", "127.0.0.1:9464", "127.0.0.1:1");
    place
}

/// Runs a command: its code, and what it says.
fn run(place: &Place, args: &[&str]) -> (Option<i32>, Value) {
    let output = place.run(&[args, &["-c", "bus", "--json"]].concat());
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

fn refused(place: &Place, args: &[&str], code: i32, error: &str) {
    let (found, said) = run(place, args);
    assert_eq!(found, Some(code), "{args:?}: {said}");
    assert_eq!(said.pointer("/error/code").and_then(Value::as_str), Some(error), "{args:?}: {said}");
}

#[test]
fn an_order_goes_from_hand_to_hand() {
    let place = prepared();
    let (code, draft) = run(&place, &["taint", "clear", "alice", "--reason", "emptied"]);
    assert_eq!((code, &draft["missing"]), (Some(0), &1.into()), "{draft}");
    let file = draft["file"].as_str().unwrap();
    assert!(file.starts_with("clear_taint-alice-"), "{file}");
    assert_eq!(draft["may_sign"].as_array().unwrap().len(), 1);
    refused(&place, &["order", "submit", file], 3, "order_incomplete");
    refused(&place, &["order", "sign", file], 3, "already_signed");
    let shown = text(&place.run(&["order", "show", file, "-c", "bus"]).stdout);
    assert!(shown.contains("emptied") && shown.contains("1 more must sign"), "{shown}");
    let (code, signed) = run(&place, &["order", "sign", file, "--offline", "second"]);
    assert_eq!((code, &signed["missing"]), (Some(0), &0.into()), "{signed}");
    assert_eq!(signed["signed_by"].as_array().unwrap().len(), 2);
    assert_eq!((&signed["reason"], &signed["digest"]), (&"emptied".into(), &draft["digest"]));
    refused(&place, &["order", "submit", file], 1, "guard_unreachable");

    // With both keys in one place and no guard, the signatures are kept.
    std::fs::copy(place.path("second/policy-2.seed"), place.path("bus/offline/policy-2.seed")).unwrap();
    let kept = place.run(&["taint", "clear", "alice", "--reason", "emptied", "-c", "bus"]);
    assert_eq!(kept.status.code(), Some(1));
    assert!(text(&kept.stderr).contains("sealbus order submit clear_taint-alice-"), "{}", text(&kept.stderr));
}

#[test]
fn what_does_not_verify_is_neither_signed_nor_submitted() {
    let place = prepared();
    let clear = ["taint", "clear", "alice", "--reason", "emptied", "--out", "clear.order"];
    assert_eq!(run(&place, &clear).0, Some(0));
    let mut bytes = std::fs::read(place.path("clear.order")).unwrap();
    let text = bytes.windows(7).position(|window| window == b"emptied").unwrap();
    bytes.splice(text..text + 7, *b"stuffed");
    place.write("clear.order", bytes);
    for command in ["show", "sign", "submit"] {
        refused(&place, &["order", command, "clear.order"], 4, "order_unverified");
    }
    refused(&place, &["order", "show", "none.order"], 1, "io");
    refused(&place, &["taint", "clear", "nobody", "--reason", "x"], 1, "unknown_agent");
    refused(&place, &["taint", "clear", "alice", "--reason", "two\nlines"], 64, "order_invalid");
    refused(&place, &["taint", "show"], 1, "guard_unreachable");
}

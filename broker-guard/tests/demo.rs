//! The demo, as it is run: the real command, the real nats-server, a small project that needs no network.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use serde_json::Value;

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/demo/app");

fn demo(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealbus"));
    command.arg("demo").args(arguments).env_remove("SEALBUS_LOG").output().unwrap()
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_work_is_done_and_every_attack_is_stopped() {
    let kept = tempfile::tempdir().unwrap();
    let keep = kept.path().join("kept");
    let output = demo(&["--json", "--project", PROJECT, "--keep", keep.to_str().unwrap()]);
    assert!(output.status.success(), "{}", shown(&output));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "attacks",
            "audit",
            "delivered",
            "denied",
            "elapsed_ms",
            "honest_denied",
            "lost",
            "published",
            "quarantined",
            "report",
            "versions"
        ]
    );
    assert_eq!((&object["lost"], &object["honest_denied"]), (&0.into(), &0.into()));
    // Five dependencies and sixteen further batches without any; three analysts; and so on.
    assert!(
        object["published"].as_u64().unwrap() > 100
            && object["delivered"].as_u64() > object["published"].as_u64()
    );

    let stopped: Vec<_> = object["attacks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attack| ["name", "stopped_by", "reason"].map(|key| attack[key].as_str().unwrap_or("?")))
        .collect();
    assert_eq!(
        stopped,
        [
            ["speak_as_analyst", "nats-server", "permissions_violation"],
            ["forge_delivery", "nats-server", "permissions_violation"],
            ["read_anothers_box", "nats-server", "permissions_violation"],
            ["read_findings", "nats-server", "permissions_violation"],
            ["jetstream_api", "nats-server", "permissions_violation"],
            ["subject_not_granted", "nats-server", "permissions_violation"],
            ["ask_for_keys", "guard", "not_subscriber"],
            ["replay", "guard", "replay"],
            ["alter", "guard", "bad_signature"],
            ["frame_analyst", "guard", "unknown_session"],
            ["lower_label", "guard", "label_out_of_range"],
            ["broker_replays", "reader", "replay"],
            ["broker_alters", "reader", "bad_signature"],
            ["broker_injects", "reader", "not_admitted"],
            ["flood", "guard", "rate_limited"],
            ["above_clearance", "guard", "above_clearance"],
            ["stay_connected", "guard", "quarantined"],
            ["come_back", "guard", "quarantined"],
        ]
    );
    let denied = &object["denied"];
    for reason in ["above_clearance", "label_out_of_range", "not_subscriber", "replay"] {
        assert_eq!(denied[reason], 1, "{reason}");
    }
    let quarantined = object["quarantined"].as_array().unwrap();
    assert_eq!(quarantined.len(), 1);
    assert!(quarantined[0].as_str().unwrap().starts_with("collector-"));

    let report = &object["report"];
    assert_eq!((&report["project"], &report["packages"]), (&"app".into(), &5.into()));
    assert_eq!((&report["warnings"], &report["notes"]), (&2.into(), &4.into()));
    assert_eq!(object["audit"]["verified"], true);
    assert!(object["audit"]["entries"].as_u64().unwrap() > object["published"].as_u64().unwrap());
    assert_eq!(object["versions"]["sealbus"], env!("CARGO_PKG_VERSION"));

    let text = std::fs::read_to_string(keep.join("report.md")).unwrap();
    for finding in [
        "- **GPL-3.0-only (strong copyleft: may bind the whole program)** (licence, 1): twin 1.0.0",
        "- **no licence stated: nobody may use it** (licence, 1): deep 3.0.0",
        "- **a build script runs on the machine that builds it** (risk, 1): built 1.2.3",
        "- **a procedural macro runs inside the compiler** (risk, 1): derive 0.4.0",
        "1.0.0 (needed by 1) beside 2.0.0** (versions, 2): twin 1.0.0, twin 2.0.0",
    ] {
        assert!(text.contains(finding), "{finding} is not in\n{text}");
    }
    let verified = Command::new(env!("CARGO_BIN_EXE_sealbus"))
        .args(["audit", "verify", "--config"])
        .arg(keep.join("bus"))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", shown(&verified));
    for line in shown(&output).lines() {
        assert!(line.chars().count() <= 100 && !line.contains('\u{1b}'), "{line}");
    }
}

#[test]
fn without_a_project_it_says_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let output = demo(&["--project", empty.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let shown = shown(&output);
    assert!(shown.contains("there is no Cargo.toml in") && shown.contains("--project DIR"), "{shown}");
}

#[test]
fn nothing_is_replaced_in_a_directory_that_is_kept() {
    let used = tempfile::tempdir().unwrap();
    std::fs::write(used.path().join("mine"), "").unwrap();
    let output = demo(&["--project", PROJECT, "--keep", used.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(shown(&output).contains("is not empty"));
    assert_eq!(std::fs::read_dir(used.path()).unwrap().count(), 1);
}

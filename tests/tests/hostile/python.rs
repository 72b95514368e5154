//! The same attacks with nats-py: what refuses them is the server and the guard, not our own client.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use sealbus_envelope::{control, identity::SigningKey, reason::Reason};
use sealbus_tests::{
    bus::TestBus,
    hostile::{
        arena::{Arena, By, label, report},
        papers::{Papers, fresh_key},
    },
};
use serde_json::{Value, json};
use tokio::process::Command;

/// A Python that has nats-py: made once under the target directory.
async fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let venv = target.join("interop-venv");
    let python = venv.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").arg("-m").arg("venv").arg(&venv)).await;
    }
    let wanted = root.join("tests/interop/requirements-attacks.txt");
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(wanted))
    .await;
    python
}

async fn run(command: &mut Command) -> String {
    let output = command.kill_on_drop(true).stdin(Stdio::null()).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    sealbus_envelope::hash::hex(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_fares_no_better() {
    let python = python().await;
    let mut arena = Arena::open().await;
    let victim = arena.attacker().await;
    let credentials = arena.mobster();
    let papers = Papers::new(&credentials);
    let me = TestBus::token(&credentials);
    let wire = arena.canary.wire().clone();
    let guard = arena.canary.heartbeat().await.guard;
    let mut key = papers.make_key("tips", label(0, 0, 0), 0, None);
    let hello = papers.hello(guard, &[&key]);
    let mut envelope = || {
        let fields = papers.fields(&key, "tips.a");
        papers.seal(&mut key, &fields, b"from python")
    };
    let (envelope, second) = (envelope(), envelope());
    let seed = |key: &SigningKey| hex(key.to_seed().as_slice());
    let control_prefix = wire.control(&me, &papers.session(), "");
    let other_box = wire.session_box(&victim.token(), &victim.papers.session(), "grant");
    let given = json!({
        "url": arena.bus.url(),
        "token": papers.auth_token(),
        "seed": seed(&papers.key),
        "other_seed": seed(&fresh_key()),
        "box": wire.session_box(&me, &papers.session(), ">"),
        "control": control_prefix,
        "ingress": wire.ingress(&me, "tips.a"),
        "hello": hex(&control::encode(&hello).unwrap()),
        "other_hello": hex(&control::encode(&victim.hello_message(guard, &[])).unwrap()),
        "other_ingress": wire.ingress(&victim.token(), "tips.a"),
        "other_box": other_box,
        "envelope": hex(&envelope),
        "second": hex(&second),
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("given.json");
    sealbus_guard::keyfile::create_secret(&file, &given.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/attacks.py");
    let said = run(Command::new(python).arg(script).arg(&file)).await;
    let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = |attack: &str| {
        let line = said.iter().find(|line| line.get("attack") == Some(&attack.into()));
        line.unwrap_or_else(|| panic!("{attack} was not tried: {said:?}")).get("said").unwrap().clone()
    };

    // It is a valid session: its honest envelope is delivered, and nothing else of it.
    assert_eq!(told("an honest envelope"), Value::Null);
    let delivered = arena.delivered().await;
    assert_eq!(delivered.len(), 1, "{delivered:?}");
    assert_eq!(delivered.first().unwrap().payload, envelope);

    let stolen = told("log in with a stolen token").to_string().to_lowercase();
    assert!(stolen.contains("authorization violation"), "{stolen}");
    report("nats-py: log in with a stolen token", By::Guard, Reason::BadSignature.code());
    for attack in [
        "publish on another agent's ingress",
        "publish on a delivery subject",
        "publish into another's box",
        "publish an event",
        "purge a stream",
        "read every ingress",
        "read everything",
        "read another's box",
        "read a stream in a queue group of its own",
    ] {
        let words = told(attack).to_string().to_lowercase();
        assert!(words.contains("permissions violation"), "{attack}: {words}");
        report(&format!("nats-py: {attack}"), By::Server, "permissions violation");
    }
    for (attack, reason) in [
        ("replay", Reason::Replay),
        ("cut an envelope", Reason::Truncated),
        ("alter an envelope", Reason::BadSignature),
        ("say hello as another agent", Reason::WrongSender),
        ("ask the guard to delete a stream", Reason::BadEncoding),
    ] {
        assert_eq!(told(attack), Value::Null, "{attack}");
        arena.watch.denied(&me, reason).await;
        report(&format!("nats-py: {attack}"), By::Guard, reason.code());
    }
    arena.came_to_nothing("fourteen attacks with nats-py").await;
    assert!(arena.watch.said("quarantine", &me).is_empty());
    arena.close().await;
}

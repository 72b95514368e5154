//! The command on a running bus, as its users type it: `sealbus dev` with the real nats-server, and everything
//! else against it.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod cli;
#[path = "cli/running.rs"]
mod running;

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use cli::{Place, text};
use running::{Running, prepared, says};
use sealbus_guard::natsserver::locate_or_fetch;

#[test]
fn a_bus_is_used_watched_and_stopped() {
    let place = prepared();
    let mut dev = Running::start(&place, &["dev", "--dir", "bus", "--json"]);
    let about = dev.object();
    assert_eq!(about["ready"], true, "{about}");
    let (alice, bob) = ("bus/agents/alice.creds", "bus/agents/bob.creds");

    // Publish and subscribe.
    let mut reader = Running::ready(
        &place,
        &["sub", "hello.>", "--creds", alice, "--json", "--count", "2", "--save", "kept"],
    );
    let verdict =
        says(&place, &["pub", "hello.world", "good morning", "--creds", bob, "--confirm", "--json"]);
    let read = reader.object();
    assert_eq!((&read["payload"], &read["from"]), (&"good morning".into(), &"bob".into()));
    assert_eq!((&read["digest"], &read["position"]), (&verdict["digest"], &verdict["position"]));
    let parent = read["parent"].as_str().unwrap();
    says(&place, &["pub", "hello.again", "derived", "--creds", bob, "--parent", parent, "--json"]);
    assert_eq!(reader.object()["parents"], serde_json::json!([read["digest"]]));
    assert_eq!(reader.ended().0, Some(0), "it stops after --count");

    // Ask and answer.
    let _service = Running::ready(
        &place,
        &["reply", "ask.analyst", "--command", "wc -w", "--creds", "bus/agents/analyst.creds"],
    );
    let asked = place.run(&[
        "request",
        "ask.analyst",
        "is it risky",
        "--creds",
        "bus/agents/aggregator.creds",
        "--raw",
    ]);
    assert_eq!(text(&asked.stdout).trim(), "3", "{}", text(&asked.stderr));

    // Who they are, by what the quorum signed, and what they were given to read.
    let who = says(&place, &["whoami", "--creds", alice, "--json"]);
    assert_eq!((&who["team"], &who["floor"]), (&"analyst".into(), &"public/-/untrusted".into()), "{who}");
    let hello = who["rules"].as_array().unwrap().iter().find(|rule| rule["name"] == "hello").unwrap();
    assert_eq!(hello["may"], serde_json::json!(["publish", "subscribe"]));

    // What the policy does not grant.
    for (args, code, said) in [
        (&["pub", "report.final", "x", "--creds", bob][..], 3, "not_publisher"),
        (&["pub", "hello.world", "x", "--creds", bob, "--label", "secret"], 3, "label_out_of_range"),
        (&["pub", "hello.*", "x", "--creds", bob], 64, "bad_subject"),
        (&["pub", "hello.world", "x", "--creds", bob, "--parent", "12=public"], 64, "bad_parent"),
        (&["sub", "report.>", "--creds", bob], 3, "not_subscriber"),
        (&["events", "--creds", bob], 3, "not_an_observer"),
    ] {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(said), "{args:?}: {}", text(&output.stderr));
    }

    // The story of an envelope, the log, a proof.
    let id = read["id"].as_str().unwrap();
    let story = says(&place, &["why", id.get(..12).unwrap(), "-c", "bus", "--json"]);
    assert_eq!((&story["verdict"], &story["entry"]["admitted"]["envelope"]), (&"admit".into(), &id.into()));
    let related = story["related"].as_array().unwrap();
    assert!(related.iter().any(|found| found["entry"]["key_granted"]["reader"].is_string()), "{story}");
    assert!(
        related.iter().any(|found| found["entry"]["admitted"]["parents"][0] == read["digest"]),
        "{story}"
    );
    let agent = text(&place.run(&["why", "bob", "-c", "bus"]).stdout);
    assert!(agent.contains("accepted") && agent.contains("hello"), "{agent}");
    assert_eq!(says(&place, &["status", "-c", "bus", "--json"])["ready"], true);
    assert_eq!(says(&place, &["audit", "verify", "-c", "bus", "--json"])["verified"], true);
    let parents = says(&place, &["audit", "parents", "-c", "bus", "--json"]);
    // Of the message that says so, and of the reply, which derives from its request.
    assert_eq!((&parents["parents"], &parents["untrue"]), (&2.into(), &0.into()), "{parents}");
    let leaf = story["leaf"].to_string();
    says(&place, &["audit", "prove", &leaf, "-c", "bus", "--out", "entry.proof", "--json"]);
    let proven = says(&place, &["audit", "check-proof", "entry.proof", "-c", "bus", "--json"]);
    assert_eq!(proven["admitted"]["envelope"], id);
    place.edit("entry.proof", "\nindex ", "\nindex 1");
    assert_eq!(place.run(&["audit", "check-proof", "entry.proof", "-c", "bus"]).status.code(), Some(4));

    evidence(&place, id);

    // Nothing is wrong, and no way round the guard works.
    let doctor = place.run(&["doctor", "-c", "bus"]);
    assert_eq!(doctor.status.code(), Some(0), "{}", text(&doctor.stdout));
    assert!(text(&doctor.stdout).contains("✓ read everybody's boxes"));

    // What was given to read, and orders that clear it.
    let floors = |agent: &str| {
        let floors = says(&place, &["taint", "show", agent, "-c", "bus", "--json"]);
        (floors["floors"].as_array().unwrap().len(), floors["from"].as_str().unwrap().to_owned())
    };
    assert_eq!(floors("alice"), (1, "guard".to_owned()));
    let clear = ["taint", "clear", "alice", "--reason", "started again", "-c", "bus", "--json"];
    assert_eq!(says(&place, &clear)["accepted"], true);
    while floors("alice").0 > 0 {}
    says(&place, &[&clear[..], &["--out", "clear.order"]].concat());
    let submit = ["order", "submit", "clear.order", "-c", "bus"];
    assert_eq!(place.run(&submit).status.code(), Some(0));
    let again = place.run(&submit);
    assert_eq!(again.status.code(), Some(3));
    assert!(text(&again.stderr).contains("order_replayed"), "{}", text(&again.stderr));
    // What makes no sense now must not lie about signed until it does.
    let senseless = place.run(&["quarantine", "release", "alice", "--reason", "too early", "-c", "bus"]);
    assert_eq!(senseless.status.code(), Some(3));
    assert!(text(&senseless.stderr).contains("not_quarantined"), "{}", text(&senseless.stderr));
    let files = std::fs::read_dir(place.path("")).unwrap().map(|file| file.unwrap().file_name());
    let orders: Vec<_> = files.filter(|name| name.to_string_lossy().ends_with(".order")).collect();
    assert_eq!(orders, ["clear.order"]);
    let told =
        says(&place, &["events", "--since", "1h", "--kind", "order", "--count", "1", "-c", "bus", "--json"]);
    let told = &told["unmapped"]["sealbus"];
    assert_eq!(told["operation"], "order.clear_taint", "{told}");
    assert!(told["by"].as_str().unwrap().starts_with('U'), "{told}");
    let orders = place.run(&["audit", "search", "--kind", "order", "-c", "bus", "--json"]);
    assert_eq!(text(&orders.stdout).matches("\"accepted\":true").count(), 2, "{}", text(&orders.stdout));

    workflows(&place, bob);

    // Revoked while watched.
    let oncall = "bus/agents/oncall.creds";
    let mut watch =
        Running::ready(&place, &["events", "--creds", oncall, "--kind", "changed", "--count", "1", "--json"]);
    says(&place, &["agent", "revoke", "bob", "-c", "bus", "--json"]);
    let changed = watch.object();
    assert_eq!(
        (&changed["class_uid"], &changed["unmapped"]["sealbus"]["kind"]),
        (&6003.into(), &"changed".into())
    );
    let kept = says(
        &place,
        &["events", "--since", "1h", "--kind", "changed", "--count", "1", "-c", "bus", "--json"],
    );
    assert_eq!(kept["metadata"]["uid"], changed["metadata"]["uid"]);
    let revoked = place.run(&["pub", "hello.world", "x", "--creds", bob]);
    assert_eq!(revoked.status.code(), Some(3));
    assert!(text(&revoked.stderr).contains("[revoked]"), "{}", text(&revoked.stderr));

    // One Ctrl-C ends all of it.
    assert_eq!(dev.interrupt(), Some(0));
    let alone = place.run(&["pub", "hello.world", "x", "--creds", alice]);
    assert_eq!(alone.status.code(), Some(1), "{}", text(&alone.stderr));
    assert_eq!(place.run(&["status", "-c", "bus"]).status.code(), Some(1));
    assert_eq!(floors("alice"), (0, "store".to_owned()));
    assert_eq!(place.run(&["guard", "-c", "bus"]).status.code(), Some(1));
}

#[test]
fn a_server_that_lets_anybody_in_is_found_out() {
    let place = prepared();
    let port = place.read("bus/sealbus.toml").split("nats://127.0.0.1:").nth(1).unwrap().to_owned();
    let port = port.split('"').next().unwrap().to_owned();
    let mut server = Command::new(locate_or_fetch().unwrap().path())
        .args(["-a", "127.0.0.1", "-p", &port])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(server.stderr.take().unwrap()).lines();
    let ready = log.map_while(Result::ok).find(|line| line.contains("Server is ready"));
    let doctor = place.run(&["doctor", "-c", "bus"]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(ready.is_some());
    assert_eq!(doctor.status.code(), Some(4), "{}", text(&doctor.stdout));
    assert!(text(&doctor.stdout).contains("lets anybody in without a login"), "{}", text(&doctor.stdout));
}

/// A delivery that a reader kept leads to its entry, and a third party who has nothing but the log's public key
/// checks that.
fn evidence(place: &Place, id: &str) {
    let envelope = format!("kept/{id}.envelope");
    let prove = ["audit", "prove", "--delivery", &envelope, "-c", "bus", "--json"];
    says(place, &[&prove[..], &["--out", "delivered.proof"]].concat());
    std::fs::copy(place.path("bus/guard/audit/checkpoint"), place.path("then.checkpoint")).unwrap();
    let key = says(place, &["audit", "key", "-c", "bus", "--json"])["key"].as_str().unwrap().to_owned();

    let elsewhere = Place::new();
    for file in ["delivered.proof", "then.checkpoint"] {
        std::fs::copy(place.path(file), elsewhere.path(file)).unwrap();
    }
    let proven = says(&elsewhere, &["audit", "check-proof", "delivered.proof", "--key", &key, "--json"]);
    assert_eq!(proven["admitted"]["envelope"], id);
    says(place, &["audit", "consistency", "then.checkpoint", "-c", "bus", "--out", "since.proof", "--json"]);
    std::fs::copy(place.path("since.proof"), elsewhere.path("since.proof")).unwrap();
    let check = ["audit", "check-proof", "since.proof", "--old", "then.checkpoint", "--key", &key];
    assert_eq!(says(&elsewhere, &[&check[..], &["--json"]].concat())["verified"], true);
    elsewhere.edit("since.proof", "old ", "old 1");
    assert_eq!(elsewhere.run(&check).status.code(), Some(4));

    assert_eq!(says(place, &["why", &envelope, "-c", "bus", "--json"])["entry"]["admitted"]["envelope"], id);

    // Another envelope's admission proves nothing.
    let admission = format!("kept/{id}.admission");
    let bytes = place.read(&admission);
    let other = std::fs::read_dir(place.path("kept")).unwrap().map(|entry| entry.unwrap().path());
    let other = other.filter(|path| path.extension().unwrap() == "admission");
    let other = other.into_iter().find(|path| !path.ends_with(format!("{id}.admission"))).unwrap();
    place.write(&admission, std::fs::read(other).unwrap());
    let refused = place.run(&prove);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused.stdout));
    assert!(text(&refused.stdout).contains("admission_false"), "{}", text(&refused.stdout));
    place.write(&admission, bytes);
}

/// A person pauses a workflow and lets it go on, and a review tells of it.
fn workflows(place: &Place, creds: &str) {
    let list = ["workflow", "list", "-c", "bus", "--json"];
    assert_eq!(says(place, &list)["workflows"].as_array().unwrap().len(), 0);
    let order = |what: &str| {
        let args = ["workflow", what, "rule:hello", "--reason", "a look at it", "-c", "bus", "--json"];
        assert_eq!(says(place, &args)["accepted"], true);
    };
    order("pause");
    let told = says(place, &list);
    let paused = &told["workflows"][0];
    assert_eq!((&told["from"], &paused["workflow"]), (&"guard".into(), &"rule:hello".into()));
    assert_eq!(paused["paused"]["by"]["order"]["why"], "a look at it");
    let shown = text(&place.run(&["workflow", "show", "rule:hello", "-c", "bus"]).stdout);
    assert!(shown.contains("sealbus workflow resume rule:hello"), "{shown}");
    let refused = place.run(&["pub", "hello.world", "x", "--creds", creds]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("workflow_paused"), "{}", text(&refused.stderr));
    let mut waits = place.command(&["pub", "hello.world", "x", "--creds", creds, "--when-paused", "wait"]);
    let mut waits = waits.spawn().unwrap();
    order("resume");
    assert_eq!(waits.wait().unwrap().code(), Some(0), "it goes through");

    let review = ["review", "--since", "1h", "--html", "review.html", "-c", "bus", "--json"];
    let review = says(place, &review);
    let whats: Vec<_> =
        review["workflows"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!(whats, ["paused by order", "resumed by order"]);
    let page = place.read("review.html");
    assert!(page.contains("Look at this first") && page.contains("rule:hello"), "{page}");
    let unknown = place.run(&["workflow", "show", "nothing", "-c", "bus"]);
    assert_eq!(unknown.status.code(), Some(64));
}

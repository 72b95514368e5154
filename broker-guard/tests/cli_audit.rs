//! The audit log of a real guard: killed under load, on a full disk, set back, exported and pruned.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod cli;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cli::{Place, text};
use sealbus_client::{Client, Credentials, ErrorKind};
use sealbus_guard::{
    audit::{
        entry::Body,
        search::{Filter, search},
    },
    natsserver::locate_or_fetch,
};
use serde_json::Value;

/// Far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Killed when dropped.
struct Running(Child);

impl Running {
    /// Starts a command and waits for a line that has `ready` in it.
    fn start(command: &mut Command, ready: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let err = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let (said, lines) = std::sync::mpsc::channel();
        let both = said.clone();
        // Whoever writes into a pipe that nobody reads stops.
        std::thread::spawn(move || out.for_each(|line| drop(said.send(line))));
        std::thread::spawn(move || err.for_each(|line| drop(both.send(line))));
        let mut all = Vec::new();
        while !all.last().is_some_and(|line: &String| line.contains(ready)) {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => all.push(line),
                Err(_) => assert!(all.is_empty() && !all.is_empty(), "it does not say `{ready}`: {all:#?}"),
            }
        }
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ctrl-C, and the code it ends with.
    fn stop(&mut self) -> Option<i32> {
        assert!(Command::new("kill").args(["-INT", &self.pid().to_string()]).status().unwrap().success());
        self.0.wait().unwrap().code()
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

/// A bus directory with free ports and an agent, and its HTTP port.
fn prepared() -> (Place, u16) {
    let (place, http) = (Place::new(), free_port());
    let url = format!("nats://127.0.0.1:{}", free_port());
    says(&place, &["init", "bus", "--bus", "demo", "--url", &url, "--json"]);
    place.edit("bus/sealbus.toml", "127.0.0.1:9464", &format!("127.0.0.1:{http}"));
    let labels = "labels      = { level = \"public\" }\n";
    let faster = format!("{labels}rate        = {{ per_second = 2000, burst = 4000 }}\n");
    place.edit("bus/policy.toml", labels, &faster);
    says(&place, &["policy", "sign", "-c", "bus", "--json"]);
    (place, http)
}

/// Runs a command that succeeds and says one object.
fn says(place: &Place, args: &[&str]) -> Value {
    let output = place.run(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn nats_server(place: &Place) -> Running {
    let server = locate_or_fetch().unwrap();
    let config = place.path("bus/nats/nats.conf");
    let mut command = Command::new(server.path());
    command.current_dir(place.path("bus/nats")).arg("-c").arg(config);
    Running::start(&mut command, "Server is ready")
}

fn guard(place: &Place) -> Running {
    Running::start(&mut place.command(&["guard", "-c", "bus"]), "the guard is ready")
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Waits until a page says something.
fn await_page(port: u16, path: &str, what: &str) {
    let begun = Instant::now();
    while !get(port, path).contains(what) {
        assert!(begun.elapsed() < PATIENCE, "{path} never says `{what}`: {}", get(port, path));
        // A page says how things are and not when they change.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Verdicts that were reported: digest and position.
type Confirmed = BTreeMap<String, (u64, u64)>;

async fn publish(client: &Client, confirmed: &mut Confirmed) -> Result<(), sealbus_client::Error> {
    let receipt = client.publish_confirmed("hello.load", vec![7; 100]).await?;
    let position = (receipt.decision.epoch, receipt.decision.position);
    let known = confirmed.insert(sealbus_envelope::hash::hex(&receipt.digest), position);
    assert_eq!(known, None);
    Ok(())
}

/// Every verdict that was reported is in the log, where the verdict says.
fn assert_logged(log: &Path, confirmed: &Confirmed) {
    let mut logged = BTreeMap::new();
    for found in search(log, Filter::default()).unwrap() {
        let found = found.unwrap();
        if let Body::Admitted(admitted) = &found.entry.body {
            let position = found.entry.position;
            logged.insert(admitted.digest.to_string(), (position.epoch, position.n));
        }
    }
    for (digest, position) in confirmed {
        assert_eq!(logged.get(digest), Some(position), "{digest} was confirmed");
    }
}

fn credentials(place: &Place, agent: &str) -> Credentials {
    Credentials::load(place.path(&format!("bus/agents/{agent}.creds"))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_killed_under_load_loses_no_confirmed_envelope_and_finds_an_older_log() {
    let (place, _) = prepared();
    says(&place, &["agent", "add", "alice", "--team", "analyst", "-c", "bus", "--json"]);
    let _server = nats_server(&place);
    let mut running = guard(&place);
    let client = Client::connect(credentials(&place, "alice")).await.unwrap();
    let mut confirmed = Confirmed::new();
    let log = place.path("bus/guard/audit");
    for round in 0..10u64 {
        let before = confirmed.len();
        let begun = Instant::now();
        // until it admits again, and then a while, different each round
        let mut until = None;
        while until.is_none_or(|until| Instant::now() < until) {
            assert!(begun.elapsed() < PATIENCE, "nothing is admitted in round {round}");
            let outcomes = futures_util::future::join_all((0..8).map(async |_| {
                let mut one = Confirmed::new();
                let attempt = publish(&client, &mut one);
                (tokio::time::timeout(Duration::from_secs(2), attempt).await, one)
            }));
            let all: Vec<_> = outcomes.await.into_iter().map(|(_, one)| one).collect();
            all.into_iter().for_each(|mut one| confirmed.append(&mut one));
            if until.is_none() && confirmed.len() > before {
                until = Some(Instant::now() + Duration::from_millis(round * 37 % 150));
            }
            // Without a guard a publish fails at once: eight in a loop would take the processor from its start.
            if confirmed.len() == before {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        assert_logged(&log, &confirmed);
        running = guard(&place);
    }
    assert!(confirmed.len() > 80, "{}", confirmed.len());
    drop(client);
    assert_eq!(running.stop(), Some(0));
    let verified = says(&place, &["audit", "verify", "-c", "bus", "--json"]);
    assert_eq!(verified["epochs"].as_array().unwrap().len(), 11, "{verified}");

    // Set back to an older copy, whole and consistent: the guard does not start.
    let copy = |from: &str, to: &str| {
        let copied = Command::new("cp").arg("-r").args([place.path(from), place.path(to)]).status().unwrap();
        assert!(copied.success());
    };
    copy("bus/guard/audit", "older");
    let mut again = guard(&place);
    assert_eq!(again.stop(), Some(0));
    copy("bus/guard/audit", "newest");
    std::fs::remove_dir_all(&log).unwrap();
    copy("older", "bus/guard/audit");
    let refused = place.run(&["guard", "-c", "bus"]);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("was set back"), "{}", text(&refused.stderr));
    // The newest copy is good; without it the loss has to be accepted, and is written down.
    let accepted = says(&place, &["audit", "accept-loss", "-c", "bus", "--json"]);
    let mut forced = guard(&place);
    assert_eq!(forced.stop(), Some(0));
    let told = place.run(&["audit", "search", "--kind", "checkpoint", "-c", "bus", "--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(
        (&told["checkpoint"]["size"], &told["checkpoint"]["root"]),
        (&accepted["size"], &accepted["root"])
    );
    std::fs::remove_dir_all(&log).unwrap();
    copy("newest", "bus/guard/audit");
    let forked = place.run(&["guard", "-c", "bus"]);
    assert_eq!(forked.status.code(), Some(4), "{}", text(&forked.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_pruned_with_and_without_a_guard() {
    let (place, _) = prepared();
    let mut dev = Running::start(&mut place.command(&["dev", "--dir", "bus", "--json"]), "\"ready\":true");
    let segments = || std::fs::read_dir(place.path("bus/guard/audit/wal")).unwrap().count();
    let load = async |enough: &dyn Fn(usize) -> bool| {
        let client = Client::connect(credentials(&place, "alice")).await.unwrap();
        let (mut confirmed, begun) = (0, Instant::now());
        while !enough(confirmed) {
            assert!(begun.elapsed() < PATIENCE, "{confirmed} admitted, {} segments", segments());
            let all = (0..16).map(|_| client.publish_confirmed("hello.load", vec![7; 10]));
            confirmed += futures_util::future::join_all(all).await.iter().filter(|sent| sent.is_ok()).count();
        }
        client.close().await.unwrap();
    };
    // A guard keeps what is in its newest segments; a restart begins another.
    load(&|confirmed| confirmed >= 600).await;
    assert_eq!(dev.stop(), Some(0));
    let mut dev = Running::start(&mut place.command(&["dev", "--dir", "bus", "--json"]), "\"ready\":true");
    load(&|confirmed| confirmed > 0 && segments() == 1).await;
    let key = says(&place, &["audit", "key", "-c", "bus", "--json"])["key"].as_str().unwrap().to_owned();
    let exported = says(&place, &["audit", "export", "--out", "kept", "-c", "bus", "--json"]);
    assert_eq!(exported["from_leaf"], 0);
    let elsewhere = Place::new();
    std::fs::rename(place.path("kept"), elsewhere.path("kept")).unwrap();
    let verify = ["audit", "verify", "--export", "kept", "--key", &key, "--json"];
    assert_eq!(says(&elsewhere, &verify)["held"]["to"], exported["to_leaf"]);
    // So does a program that shares no line with this one.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/interop/log.py");
    match Command::new("python3").arg(script).arg("check").arg(&key).arg(elsewhere.path("kept")).output() {
        Ok(python) => assert!(python.status.success(), "{}{}", text(&python.stdout), text(&python.stderr)),
        Err(error) => eprintln!("not checked by the verifier in Python: {error}"),
    }
    std::fs::rename(elsewhere.path("kept"), place.path("kept")).unwrap();

    // By the guard that runs, then by the command alone.
    let prune = ["audit", "prune", "--keep", "0s", "--export", "kept", "-c", "bus", "--json"];
    let first = says(&place, &prune);
    assert!(first["removed"].as_u64().unwrap() >= 256, "{first}");
    let verified = says(&place, &["audit", "verify", "-c", "bus", "--json"]);
    assert_eq!(verified["held"]["from"], first["before"], "{verified}");
    assert!(verified["pruned"][0]["exported"].is_string());
    let searched = place.run(&["audit", "search", "--limit", "1", "-c", "bus"]);
    assert!(text(&searched.stderr).contains("look in the export"), "{}", text(&searched.stderr));
    assert_eq!(dev.stop(), Some(0));
    assert_eq!(says(&place, &prune)["removed"], 0);
    let missing = place.run(&["audit", "prune", "--keep", "0s", "-c", "bus"]);
    assert_eq!(missing.status.code(), Some(2), "{}", text(&missing.stderr));
    let mut again = Running::start(&mut place.command(&["dev", "--dir", "bus", "--json"]), "\"ready\":true");
    assert_eq!(again.stop(), Some(0));
    says(&place, &["audit", "verify", "-c", "bus", "--json"]);
}

/// What a full disk is to do to a guard that runs, and what it may not.
async fn full_disk(
    place: &Place,
    http: u16,
    log: &Path,
    fill: impl FnOnce(),
    free: impl FnOnce(),
    reserve: bool,
) {
    let client = Client::connect(credentials(place, "alice")).await.unwrap();
    let mut confirmed = Confirmed::new();
    for _ in 0..5 {
        publish(&client, &mut confirmed).await.unwrap();
    }
    let oncall = "bus/agents/oncall.creds";
    let watch = |kind: &'static str| {
        let args = ["events", "--creds", oncall, "--kind", kind, "--count", "1", "--json"];
        Running::start(&mut place.command(&args), "Ctrl-C ends")
    };
    let (mut unavailable, mut recovered) = (watch("audit_unavailable"), watch("audit_recovered"));
    fill();
    // It admits until the next write needs room.
    let refused = loop {
        if let Err(error) = publish(&client, &mut confirmed).await {
            break error;
        }
        assert!(confirmed.len() < 5_000, "the disk never filled");
    };
    assert!(matches!(refused.kind(), ErrorKind::Denied | ErrorKind::GuardUnavailable), "{refused}");
    await_page(http, "/readyz", "audit log");
    assert!(get(http, "/metrics").contains("sealbus_audit_writable 0"));
    assert!(unavailable.0.wait().unwrap().success());
    // Heartbeats stop: agents know without asking.
    let begun = Instant::now();
    while client.publish("hello.load", vec![1]).await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "the agent never hears of it");
        // It hears nothing, for three seconds: that is the sign.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let clear = ["taint", "clear", "bob", "--reason", "to see whether it fits", "-c", "bus", "--json"];
    let ordered = place.run(&clear);
    assert_eq!(ordered.status.success(), reserve, "{}{}", text(&ordered.stdout), text(&ordered.stderr));

    free();
    await_page(http, "/readyz", "200 OK");
    assert!(recovered.0.wait().unwrap().success());
    assert!(get(http, "/metrics").contains("sealbus_audit_writable 1"));
    let begun = Instant::now();
    while publish(&client, &mut confirmed).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "nothing is admitted again");
        // What fails at once is not to be tried in a circle.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    says(place, &clear);
    assert_logged(log, &confirmed);
}

/// The guard's files may not grow: to the guard that is a full disk, and to its store a disk on which nothing
/// can be written at all.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_running_guard_whose_files_may_not_grow_admits_nothing_until_they_may() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let (place, http) = prepared();
    let mut command = Command::new("sh");
    // without the trap the signal would end the guard
    command.current_dir(place.path("")).args(["-c", r#"trap "" XFSZ; exec "$0" dev --dir bus --json"#]);
    command.arg(env!("CARGO_BIN_EXE_sealbus"));
    let dev = Running::start(&mut command, "\"ready\":true");
    let log = place.path("bus/guard/audit");
    let pid = Pid::from_raw(i32::try_from(dev.pid()).unwrap());
    let limit = |current| {
        prlimit(pid, Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
    };
    let segment = || -> u64 {
        let files = std::fs::read_dir(log.join("wal")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).max().unwrap()
    };
    let fill = || limit(Some(segment() + 4_096));
    full_disk(&place, http, &log, fill, || limit(None), false).await;
}

/// A disk of its own that really fills.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_running_guard_on_a_full_disk_admits_nothing_and_takes_orders_until_there_is_room() {
    let possible =
        Command::new("unshare").args(["-Urm", "true"]).status().is_ok_and(|status| status.success());
    if !possible {
        eprintln!("skipped: this system lets no user mount a small file system of its own");
        return;
    }
    let (place, http) = prepared();
    std::fs::create_dir(place.path("disk")).unwrap();
    let directories = "[guard]\nstate_dir = \"../disk/state\"\naudit_dir = \"../disk/audit\"\n";
    place.edit("bus/sealbus.toml", "[guard]\n", directories);
    let mut command = Command::new("unshare");
    let script = r#"mount -t tmpfs -o size=16m tmpfs disk && exec "$0" dev --dir bus --json"#;
    command.current_dir(place.path("")).args(["-Urm", "sh", "-c", script]).arg(env!("CARGO_BIN_EXE_sealbus"));
    let dev = Running::start(&mut command, "\"ready\":true");
    // the file system as the guard sees it
    let disk = PathBuf::from(format!("/proc/{}/root{}", dev.pid(), place.path("disk").display()));
    let ballast = disk.join("ballast");
    let fill = || {
        let mut file = std::fs::File::create(&ballast).unwrap();
        while file.write_all(&[1; 4_096]).is_ok() {}
        while file.write_all(&[1]).is_ok() {}
    };
    let free = || std::fs::remove_file(&ballast).unwrap();
    full_disk(&place, http, &disk.join("audit"), fill, free, true).await;
}

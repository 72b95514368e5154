//! The child process that runs nats-server: same port after a restart, gone with its owner.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{io::BufRead, process::Stdio};

use sealbus_guard::natsserver::{ListenPort, ProcessError};
use sealbus_tests::{
    callout::{Answer, Callout, User},
    raw::{RawClient, nkey},
    server::{ServerSpec, TestServer},
};

async fn on(server: &TestServer) -> RawClient {
    RawClient::connect(&server.address(), nkey(&server.keys().guard)).await.unwrap()
}

#[tokio::test]
async fn a_restart_keeps_port_and_logins() {
    let mut server = TestServer::start(ServerSpec { jetstream: true, ..ServerSpec::default() }).await;
    let (url, mut before) = (server.url(), on(&server).await);
    server.restart().await;
    before.closed().await;
    assert_eq!(server.url(), url);
    on(&server).await.publish("sb.all.0", "x").await.unwrap();

    server.process().kill().await.unwrap();
    assert!(server.process().pid().is_none());
    assert!(matches!(server.process().reload().await, Err(ProcessError::NotRunning)));
    server.restart().await;
    assert_eq!(server.url(), url);
    on(&server).await;
}

#[tokio::test]
async fn a_client_reconnects_through_a_restart() {
    let mut server = TestServer::start(ServerSpec::default()).await;
    let guard = server.guard().await;
    server.restart().await;
    sealbus_tests::callout::round_trip(&guard).await;
    let _callout = Callout::start(&server, |_| Answer::Admit(User::new(&["a"], &["a"]))).await;
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let server = TestServer::start(ServerSpec::default()).await;
    let (dir, mut client) = (server.dir().to_owned(), on(&server).await);
    drop(server);
    client.closed().await;
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_refused_reload_keeps_the_old_configuration() {
    let mut server = TestServer::start(ServerSpec::default()).await;
    let mut client = on(&server).await;
    let result = server.process().reload_with(|config| config.server_name = "other".to_owned()).await;
    let log = result.unwrap_err().to_string();
    assert!(log.contains("server_name") || log.to_lowercase().contains("servername"), "{log}");
    client.publish("sb.all.0", "x").await.unwrap();
    server.reload().await;
    client.publish("sb.all.0", "x").await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let mut first = TestServer::start(ServerSpec::default()).await;
    let (binary, config) = (first.process().binary().clone(), first.process().config().clone());
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let mut config = config;
    config.pid_file = Some(blocked.join("pid"));
    let error = sealbus_guard::natsserver::NatsProcess::start(binary, dir.path().join("s"), config)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("did not start") && error.contains("pid"), "{error}");
}

/// What a path means to the server is what it means to us, however hostile its characters.
#[tokio::test]
async fn a_hostile_path_is_taken_literally() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("a\"b\\c\n}\t$HOME # 'é☃\u{1}");
    let file = pid.clone();
    let mut server = TestServer::start(ServerSpec::with(move |config| config.pid_file = Some(file))).await;
    assert_eq!(std::fs::read_to_string(&pid).unwrap().trim(), server.process().pid().unwrap().to_string());
}

#[tokio::test]
async fn a_fixed_port_is_kept_to() {
    let mut first = TestServer::start(ServerSpec::default()).await;
    let port = first.process().port();
    first.process().stop().await.unwrap();
    let spec = ServerSpec::with(move |config| config.port = ListenPort::Fixed(port));
    assert_eq!(TestServer::start(spec).await.process().port(), port);
}

const OWNER: &str = "SEALBUS_TEST_SERVER_OWNER";

/// Only does something in the process that the next test starts.
#[tokio::test]
async fn owner_that_is_killed() {
    if std::env::var_os(OWNER).is_some() {
        let server = TestServer::start(ServerSpec::default()).await;
        println!("\naddress {}", server.address());
        std::future::pending::<()>().await;
    }
}

/// `kill -9` on the owner runs no destructor; the watchdog does it.
#[tokio::test]
async fn a_server_does_not_outlive_a_killed_owner() {
    // What a killed owner leaves behind must go with this test.
    let dir = tempfile::tempdir().unwrap();
    let mut owner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_that_is_killed", "--nocapture"])
        .env(OWNER, "1")
        .env("TMPDIR", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = std::io::BufReader::new(owner.stdout.take().unwrap());
    let address =
        said.lines().find_map(|line| line.unwrap().strip_prefix("address ").map(str::to_owned)).unwrap();
    tokio::net::TcpStream::connect(&address).await.unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    // A process being torn down gives back its sockets in no order one could await: ask until it refuses.
    let refuses = async { while tokio::net::TcpStream::connect(&address).await.is_ok() {} };
    tokio::time::timeout(std::time::Duration::from_secs(15), refuses).await.unwrap();
}

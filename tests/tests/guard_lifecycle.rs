//! A guard starts on a real server, says that it is ready, and stops in order.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use sealbus_guard::{
    bus::stream::{EVENTS_STREAM, Stream},
    http::StatusReport,
    policy::DEFAULT_POLICY,
};
use sealbus_tests::{
    bus::{TestBus, soon},
    hostile::watch::page_that,
    server::ServerSpec,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn get(bus: &TestBus, path: &str) -> (u16, String) {
    get_from(bus, "localhost", path).await
}

async fn get_from(bus: &TestBus, host: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(bus.http()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_starts_and_says_so_and_stops_in_order() {
    let mut bus = TestBus::start(DEFAULT_POLICY).await;
    let on_call = bus.on_call().await;
    let mut events = on_call.subscribe("sb.events.>").await.unwrap();
    on_call.flush().await.unwrap();

    assert_eq!(get(&bus, "/healthz").await.0, 200);
    let ready = async {
        while get(&bus, "/readyz").await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    soon("the guard to be ready", ready).await;
    let report: StatusReport = serde_json::from_str(&get(&bus, "/statusz").await.1).unwrap();
    assert_eq!((report.bus.as_str(), report.epoch, report.policy_version), ("test", 1, 1));
    // A web page whose name was made to lead here.
    for path in ["/floors", "/statusz", "/metrics"] {
        assert_eq!(get_from(&bus, "evil.example", path).await.0, 421, "{path}");
    }
    assert!(get(&bus, "/metrics").await.1.contains("sealbus_audit_writable 1"));

    bus.stop_guard().await;
    let stopping = async {
        use futures_util::StreamExt as _;
        while let Some(event) = events.next().await {
            if event.subject.as_str() == "sb.events.stopping" {
                break;
            }
        }
    };
    soon("the event of stopping", stopping).await;
    bus.start_guard().await;
    let again = async {
        loop {
            let report: StatusReport = serde_json::from_str(&get(&bus, "/statusz").await.1).unwrap();
            if report.ready {
                break report.epoch;
            }
            tokio::task::yield_now().await;
        }
    };
    assert!(soon("the guard again", again).await > 1, "each start has an epoch of its own");
}

/// The stream of events has each event of the guard, though the server went away in between and events
/// happened meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_missing_in_the_stream_after_the_server_was_gone() {
    let spec = ServerSpec { jetstream: true, ..ServerSpec::default() };
    let mut bus = TestBus::start_with(DEFAULT_POLICY, spec).await;
    let started = "sealbus_events_total{kind=\"started\"} 1";
    page_that(&bus, "/metrics", |_, text| text.contains(started)).await;
    bus.server().restart().await;
    // Whoever comes back is an event, and so is whoever is refused.
    let _back = bus.on_call().await;
    bus.stop_guard().await;

    let stream = Stream::new(bus.server().guard().await, EVENTS_STREAM);
    let extent = stream.extent().await.unwrap();
    let mut kept = stream.range(extent.first, extent.last, ">");
    let (mut numbers, mut kinds) = (Vec::new(), Vec::new());
    while let Some(record) = kept.next().await.unwrap() {
        let event: Value = serde_json::from_slice(&record.payload).unwrap();
        let id = event["metadata"]["uid"].as_str().unwrap().to_owned();
        assert!(record.headers.contains(&("Nats-Msg-Id".to_owned(), id)), "{:?}", record.headers);
        numbers.push(event["metadata"]["sequence"].as_u64().unwrap());
        kinds.push(record.subject);
    }
    numbers.sort_unstable();
    let all: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, all, "{kinds:?}");
    for kind in ["started", "connection", "stopping"] {
        assert!(kinds.contains(&format!("sb.events.{kind}")), "{kinds:?}");
    }
}

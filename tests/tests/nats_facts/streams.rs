//! Durable streams by the guard's login, which names every subject it may use.

use std::time::Duration;

use async_nats::HeaderMap;
use sealbus_envelope::subject::WireSubjects;
use sealbus_guard::bus::stream::{Found, Stored, Stream, StreamError, StreamSpec};
use sealbus_tests::{
    raw::{RawClient, nkey},
    server::{ServerSpec, TestServer},
};

const DAY: Duration = Duration::from_hours(24);

fn streams() -> ServerSpec {
    ServerSpec { jetstream: true, ..ServerSpec::default() }
}

async fn put(stream: &Stream, subject: &str, id: &str, payload: &str) -> Result<Stored, StreamError> {
    stream.publish(subject.to_owned(), id, HeaderMap::new(), payload.to_owned().into()).await
}

#[tokio::test]
async fn what_is_acknowledged_is_there_once_and_after_a_restart() {
    let mut server = TestServer::start(streams()).await;
    let spec = StreamSpec::events(&WireSubjects::default(), 1 << 20, DAY);
    let (stream, found) = Stream::ensure(server.guard().await, &spec, 1).await.unwrap();
    assert_eq!(found, Found::AsAsked);
    assert_eq!(stream.extent().await.unwrap().last, 0);
    assert_eq!(stream.get(1).await.unwrap(), None);
    assert_eq!(stream.last(">").await.unwrap(), None);

    for n in 1..=5 {
        let subject = if n % 2 == 0 { "sb.events.denied" } else { "sb.events.order" };
        let stored = put(&stream, subject, &n.to_string(), &format!("event {n}")).await.unwrap();
        assert_eq!(stored, Stored { sequence: n, duplicate: false });
        let again = put(&stream, subject, &n.to_string(), "another").await.unwrap();
        assert_eq!(again, Stored { sequence: n, duplicate: true });
    }
    server.restart().await;
    let stream = Stream::new(server.guard().await, spec.name);
    let extent = stream.extent().await.unwrap();
    assert_eq!((extent.messages, extent.first, extent.last), (5, 1, 5));

    let third = stream.get(3).await.unwrap().unwrap();
    assert_eq!((third.subject.as_str(), third.payload.as_slice()), ("sb.events.order", &b"event 3"[..]));
    assert!(third.headers.contains(&("Nats-Msg-Id".to_owned(), "3".to_owned())), "{:?}", third.headers);
    assert!(third.time.0 > 1_700_000_000_000);
    assert_eq!(stream.last("sb.events.denied").await.unwrap().unwrap().sequence, 4);
    assert_eq!(stream.next(3, "sb.events.denied").await.unwrap().unwrap().sequence, 4);
    let mut seen = Vec::new();
    let mut range = stream.range(2, 4, ">");
    while let Some(record) = range.next().await.unwrap() {
        seen.push(record.sequence);
    }
    assert_eq!(seen, [2, 3, 4]);
    assert_eq!(stream.range(6, 9, ">").next().await.unwrap(), None);

    // Made once more it is the same; asked for otherwise it stays as it is.
    let guard = server.guard().await;
    assert_eq!(Stream::ensure(guard.clone(), &spec, 1).await.unwrap().1, Found::AsAsked);
    let other = StreamSpec { max_bytes: 2 << 20, ..spec };
    assert_eq!(Stream::ensure(guard, &other, 1).await.unwrap().1, Found::Different);
}

#[tokio::test]
async fn at_its_limit_one_stream_drops_the_oldest_and_the_other_refuses() {
    let server = TestServer::start(streams()).await;
    let wire = WireSubjects::default();
    let events = StreamSpec { max_msgs: Some(3), ..StreamSpec::events(&wire, 1 << 20, DAY) };
    let evidence = StreamSpec { max_msgs: Some(3), ..StreamSpec::evidence(&wire, 1 << 20, DAY) };
    let (events, _) = Stream::ensure(server.guard().await, &events, 1).await.unwrap();
    let (evidence, _) = Stream::ensure(server.guard().await, &evidence, 1).await.unwrap();
    for n in 1..=3 {
        put(&events, "sb.events.x", &n.to_string(), "x").await.unwrap();
        put(&evidence, "sb.evidence.x", &n.to_string(), "x").await.unwrap();
    }
    assert_eq!(put(&events, "sb.events.x", "4", "x").await.unwrap().sequence, 4);
    assert_eq!(events.extent().await.unwrap().first, 2);
    assert_eq!(events.next(1, ">").await.unwrap().unwrap().sequence, 2);
    let full = put(&evidence, "sb.evidence.x", "4", "x").await.unwrap_err();
    assert_eq!(full, StreamError::Full("SB_EVIDENCE".to_owned()));
    assert_eq!(evidence.extent().await.unwrap().first, 1);
    // Not even a number is left out by what was refused.
    assert_eq!(evidence.extent().await.unwrap().last, 3);
}

#[tokio::test]
async fn what_is_not_there_is_said_at_once() {
    let without = TestServer::start(ServerSpec::default()).await;
    let spec = StreamSpec::events(&WireSubjects::default(), 1 << 20, DAY);
    // Its login does not even name the subjects there, so nobody answers: the guard asks only where a server
    // says that it has JetStream.
    assert!(!without.guard().await.server_info().jetstream);

    let server = TestServer::start(streams()).await;
    let stream = Stream::new(server.guard().await, spec.name);
    let absent = StreamError::Absent("SB_EVENTS".to_owned());
    assert_eq!(stream.get(1).await.unwrap_err(), absent);
    assert_eq!(stream.extent().await.unwrap_err(), absent);
    assert_eq!(put(&stream, "sb.events.x", "1", "x").await.unwrap_err(), absent);
    // More than the server has.
    let large = StreamSpec { max_bytes: 1 << 40, ..spec };
    let refused = Stream::ensure(server.guard().await, &large, 3).await.unwrap_err();
    assert!(matches!(refused, StreamError::Refused { .. }), "{refused}");
}

#[tokio::test]
async fn the_guards_login_can_neither_empty_nor_change_a_stream() {
    let server = TestServer::start(streams()).await;
    let spec = StreamSpec::events(&WireSubjects::default(), 1 << 20, DAY);
    Stream::ensure(server.guard().await, &spec, 1).await.unwrap();
    let mut guard = RawClient::connect(&server.address(), nkey(&server.keys().guard)).await.unwrap();
    for stream in ["SB_EVENTS", "SB_EVIDENCE"] {
        for verb in ["UPDATE", "DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT", "RESTORE"] {
            let subject = format!("$JS.API.STREAM.{verb}.{stream}");
            assert!(guard.publish(&subject, "{}").await.is_err(), "{subject}");
        }
        for subject in [format!("$JS.API.CONSUMER.CREATE.{stream}"), format!("$JS.API.DIRECT.GET.{stream}")] {
            assert!(guard.publish(&subject, "{}").await.is_err(), "{subject}");
        }
    }
    for subject in ["$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.MSG.GET.OTHER", "$JS.API.STREAM.NAMES"] {
        assert!(guard.publish(subject, "{}").await.is_err(), "{subject}");
    }
}

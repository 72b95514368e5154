//! Webhooks: a server that fails in every way, and what becomes of the events meanwhile.

use std::time::Duration;

use data_encoding::BASE64;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;
use crate::events::{
    ocsf::Severity,
    sink::{
        http::Address,
        signature::{Secret, Secrets},
        webhook::Webhook,
    },
};

const SECRET: &[u8] = b"a secret of at least 24 bytes, in the clear";

/// What came in.
struct Post {
    head: String,
    body: Vec<u8>,
    stream: TcpStream,
}

impl Post {
    async fn next(listener: &TcpListener) -> Self {
        let come = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let end = loop {
                if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                    break end + 4;
                }
                assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "half a request");
            };
            let mut body = bytes.split_off(end);
            let head = String::from_utf8(bytes).unwrap().to_ascii_lowercase();
            let length = header(&head, "content-length").parse::<usize>().unwrap();
            while body.len() < length {
                assert!(stream.read_buf(&mut body).await.unwrap() > 0, "half a body");
            }
            Self { head, body, stream }
        };
        timeout(Duration::from_secs(30), come).await.unwrap_or_else(|_| panic!("no post came"))
    }

    async fn answer(mut self, status: &str) -> Value {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        self.stream.write_all(answer.as_bytes()).await.unwrap();
        serde_json::from_slice(&self.body).unwrap()
    }

    /// HMAC-SHA256 as RFC 2104 writes it, not as our crate does.
    fn is_signed(&self) -> bool {
        let mut key = [0u8; 64];
        key.iter_mut().zip(SECRET).for_each(|(k, s)| *k = *s);
        let pad = |with: u8| key.map(|byte| byte ^ with);
        let signed =
            format!("{}.{}.", header(&self.head, "webhook-id"), header(&self.head, "webhook-timestamp"));
        let inner = Sha256::new().chain_update(pad(0x36)).chain_update(signed.to_uppercase());
        let inner = inner.chain_update(&self.body).finalize();
        let mac = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
        let expected = format!("v1,{}", BASE64.encode(&mac));
        header(&self.head, "webhook-signature") == expected.to_ascii_lowercase()
    }
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no {name} in {head}")).1
}

fn hook(listener: &TcpListener, give_up_after: Duration) -> Courier {
    let url = format!("http://127.0.0.1:{}/hook", listener.local_addr().unwrap().port());
    let secret = Secret::parse(&format!("whsec_{}", BASE64.encode(SECRET))).unwrap();
    let address = Address::new(&url, None).unwrap();
    let patience = Duration::from_millis(500);
    let webhook = Webhook::new(address, Secrets::from(secret), patience, give_up_after);
    Courier::Webhook(webhook.first_wait(Duration::from_millis(1)))
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

const LONG: Duration = Duration::from_mins(5);

#[tokio::test]
async fn a_server_that_fails_in_every_way_gets_each_event_once_it_takes_it() {
    let listener = listener().await;
    let filter = Filter { kinds: vec![Kind::Quarantine, Kind::Held], min_severity: Some(Severity::Medium) };
    let (herald, metrics) = herald(vec![("pager", filter, Bound::default(), hook(&listener, LONG))]);
    herald.report(&Event::new(Kind::Denied, NOON));
    herald.report(&Event::new(Kind::Quarantine, NOON).about("mallory-a2b3c4d5e6"));
    herald.report(&Event::new(Kind::Held, NOON));

    let first = Post::next(&listener).await;
    assert!(first.head.starts_with("post /hook http/1.1\r\n"), "{}", first.head);
    let id = header(&first.head, "webhook-id").to_owned();
    // Closes, hangs, speaks something else, says no and not now; each time the same event comes again.
    drop(first);
    let hanging = Post::next(&listener).await;
    assert_eq!(header(&hanging.head, "webhook-id"), id);
    let mut junk = Post::next(&listener).await;
    junk.stream.write_all(b"220 mail.example.com ESMTP\r\n").await.unwrap();
    drop(junk);
    for status in [
        "500 Oh",
        "503 Busy",
        "429 Slow down",
        "404 Not yet",
        "302 Elsewhere\r\nlocation: http://127.0.0.1:1/",
    ] {
        let post = Post::next(&listener).await;
        assert!(post.is_signed(), "{}", post.head);
        assert_eq!(header(&post.head, "webhook-id"), id, "{status}");
        post.answer(status).await;
    }
    let taken = Post::next(&listener).await;
    assert!(taken.is_signed());
    let event = taken.answer("200 OK").await;
    assert_eq!(event["metadata"]["uid"].as_str().unwrap().to_lowercase(), id);
    assert_eq!(event["metadata"]["event_code"], "quarantine");
    // The next one, not one that the filter leaves out.
    let next = Post::next(&listener).await.answer("204 None").await;
    assert_eq!(next["metadata"]["event_code"], "held");
    drop(hanging);
    herald.stop(LONG).await;
    let text = metrics.render();
    assert!(text.contains("sealbus_sink_delivered_total{sink=\"pager\"} 2"), "{text}");
    assert!(text.contains("sealbus_sink_failures_total{sink=\"pager\"} 8"), "{text}");
}

#[tokio::test]
async fn what_is_refused_for_good_is_dropped_told_and_holds_up_nothing() {
    let listener = listener().await;
    let (herald, _) = herald(vec![("pager", Filter::default(), Bound::default(), hook(&listener, LONG))]);
    herald.report(&Event::new(Kind::Denied, NOON));
    herald.report(&Event::new(Kind::Changed, NOON));
    for _ in 0..3 {
        let refused = Post::next(&listener).await.answer("400 Bad").await;
        assert_eq!(refused["metadata"]["event_code"], "denied");
    }
    let next = Post::next(&listener).await.answer("200 OK").await;
    assert_eq!(next["metadata"]["event_code"], "changed");
    let told = Post::next(&listener).await.answer("200 OK").await;
    assert_eq!((&told["metadata"]["event_code"], &told["count"]), (&"sink_dropped".into(), &1.into()));
}

#[tokio::test]
async fn a_sink_that_is_down_gets_all_up_to_its_bound_and_hears_what_it_lost() {
    let (down, other) = (listener().await, listener().await);
    let address = down.local_addr().unwrap();
    let bound = Bound { events: 16, bytes: 1 << 20 };
    let sinks = vec![
        ("down", Filter { kinds: vec![Kind::Denied], min_severity: None }, bound, hook(&down, LONG)),
        (
            "other",
            Filter { kinds: vec![Kind::Held], min_severity: None },
            Bound::default(),
            hook(&other, LONG),
        ),
    ];
    drop(down);
    let (herald, metrics) = herald(sinks);
    for _ in 0..40 {
        herald.report(&Event::new(Kind::Denied, NOON));
    }
    // Denials may take three quarters of the bound; the other sink hears of the rest at once.
    let told = Post::next(&other).await.answer("200 OK").await;
    assert_eq!((&told["metadata"]["event_code"], &told["count"]), (&"sink_dropped".into(), &28.into()));
    assert!(metrics.render().contains("sealbus_sink_dropped_total{sink=\"down\"} 28"));

    let back = TcpListener::bind(address).await.unwrap();
    for n in 1..=12 {
        let post = Post::next(&back).await;
        assert!(post.is_signed());
        assert_eq!(post.answer("200 OK").await["metadata"]["sequence"], n);
    }
    let told = Post::next(&back).await.answer("200 OK").await;
    assert_eq!((&told["metadata"]["event_code"], &told["count"]), (&"sink_dropped".into(), &28.into()));
    let detail = told["unmapped"]["sealbus"]["detail"].as_str().unwrap();
    assert!(detail.contains("it takes events again"), "{detail}");
}

#[tokio::test]
async fn an_event_is_not_tried_for_ever() {
    let listener = listener().await;
    let sink = hook(&listener, Duration::from_millis(50));
    let (herald, metrics) = herald(vec![("pager", Filter::default(), Bound::default(), sink)]);
    drop(listener);
    herald.report(&Event::new(Kind::Denied, NOON));
    while !metrics.render().contains("sealbus_sink_dropped_total{sink=\"pager\"} 1") {
        tokio::task::yield_now().await;
    }
}

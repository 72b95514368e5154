//! What the guard says it did: its events and its status page.
#![expect(clippy::expect_used, reason = "a fixture that cannot work fails its test")]

use std::time::Duration;

use futures_util::StreamExt as _;
use sealbus_envelope::{name::AgentToken, reason::Reason};
use sealbus_guard::{events::ocsf::unmapped, http::StatusReport};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::bus::{TestBus, soon};

/// Hears every event from when it is made.
pub struct Watch {
    // The connection must outlive the subscription.
    _client: async_nats::Client,
    events: async_nats::Subscriber,
    seen: Vec<Value>,
}

impl Watch {
    /// Listens as the on-call engineer.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn start(bus: &TestBus) -> Self {
        let client = bus.on_call().await;
        let events = client.subscribe("sb.events.>").await.expect("the engineer hears events");
        client.flush().await.expect("a live connection");
        Self { _client: client, events, seen: Vec::new() }
    }

    /// Waits for an event that is `wanted`, whether it came already or not; each is given once. It is what
    /// Sealbus says, without what OCSF makes of it.
    ///
    /// # Panics
    /// If none comes.
    pub async fn event(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(place) = self.seen.iter().position(&wanted) {
            return self.seen.remove(place);
        }
        let come = async {
            loop {
                let event = self.events.next().await.expect("the engineer's connection holds");
                let event: Value = serde_json::from_slice(&event.payload).expect("an event is JSON");
                let event = unmapped(&event).expect("an event of a guard").clone();
                if wanted(&event) {
                    return event;
                }
                self.seen.push(event);
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), come).await {
            Ok(event) => event,
            Err(_) => in_vain(what, &self.seen),
        }
    }

    /// Waits for the denial of something `agent` sent.
    pub async fn denied(&mut self, agent: &AgentToken, reason: Reason) -> Value {
        self.event(&format!("the denial of {agent} with {reason}"), |event| {
            is(event, "denied", agent) && event.get("reason") == Some(&reason.code().into())
        })
        .await
    }

    /// Waits until `agent` is quarantined.
    pub async fn quarantined(&mut self, agent: &AgentToken) -> Value {
        let off = |event: &Value| {
            is(event, "quarantine", agent) && event.get("outcome") == Some(&"quarantined".into())
        };
        self.event(&format!("the quarantine of {agent}"), off).await
    }

    /// What was said of `agent` under this kind and has not been asked for, until now.
    pub fn said(&mut self, kind: &str, agent: &AgentToken) -> Vec<Value> {
        use futures_util::FutureExt as _;
        while let Some(Some(event)) = self.events.next().now_or_never() {
            let event: Value = serde_json::from_slice(&event.payload).expect("an event is JSON");
            self.seen.extend(unmapped(&event).cloned());
        }
        self.seen.iter().filter(|event| is(event, kind, agent)).cloned().collect()
    }
}

fn is(event: &Value, kind: &str, agent: &AgentToken) -> bool {
    event.get("kind") == Some(&kind.into()) && event.get("agent") == Some(&agent.as_str().into())
}

#[expect(clippy::panic, reason = "a test that waits in vain fails")]
fn in_vain(what: &str, seen: &[Value]) -> ! {
    let last: Vec<String> = seen.iter().rev().take(12).map(ToString::to_string).collect();
    panic!("waited in vain for {what}; the last events were {}", last.join("\n"))
}

/// A page of the guard: its HTTP status and body.
///
/// # Panics
/// If the guard does not serve it.
pub async fn page(bus: &TestBus, path: &str) -> (u16, String) {
    try_page(bus, path).await.expect("the guard serves its pages")
}

/// A page of the guard, if it serves it just now.
pub async fn try_page(bus: &TestBus, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(bus.http()).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok())?;
    Some((code, body.to_owned()))
}

/// Waits until the guard serves a page that is as `wanted`.
///
/// # Panics
/// If it never does.
pub async fn page_that(bus: &TestBus, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
    let come = async {
        loop {
            match try_page(bus, path).await {
                Some((code, body)) if wanted(code, &body) => return body,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    soon(path, come).await
}

/// The guard's status, once it is as `wanted`: the page is renewed each second.
///
/// # Panics
/// If it never is.
pub async fn status(bus: &TestBus, what: &str, wanted: impl Fn(&StatusReport) -> bool) -> StatusReport {
    let come = async {
        loop {
            let report: StatusReport =
                serde_json::from_str(&page(bus, "/statusz").await.1).expect("a status report");
            if wanted(&report) {
                return report;
            }
            tokio::task::yield_now().await;
        }
    };
    soon(what, come).await
}

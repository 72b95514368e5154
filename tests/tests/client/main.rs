//! The client against a real server and a real guard.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod flow;
mod outage;
mod refused;
mod request;

use sealbus_client::{Client, Event, Events, Message, Subscription};
use sealbus_tests::bus::{TestBus, soon};

/// Two teams that write to each other, one that may only look at the lowest level, and one that shares work.
const POLICY: &str = r#"
levels       = ["public", "internal", "secret"]
compartments = ["deps"]
integrity    = ["untrusted", "checked"]

[teams.writer]
clearance = { level = "secret", compartments = ["deps"] }
integrity = "checked"

[teams.reader]
clearance = { level = "secret", compartments = ["deps"] }
integrity = "checked"

[teams.guest]
clearance = { level = "public" }

[teams.worker]
clearance = { level = "secret", compartments = ["deps"] }
integrity = "checked"

[rules.news]
pattern     = "news.>"
publishers  = ["writer"]
subscribers = ["reader", "guest"]
labels      = { level = "public" }
rate        = { per_second = 100000, burst = 100000 }
max_bytes   = 1000000

[rules.findings]
pattern     = "findings.>"
publishers  = ["writer", "reader"]
subscribers = ["reader", "writer"]
labels      = { level = { min = "public", max = "secret" }, allowed = ["deps"], integrity = { min = "untrusted", max = "checked" } }
default     = { level = "internal" }
rate        = { per_second = 100000, burst = 100000 }

[rules.jobs]
pattern     = "jobs.*"
publishers  = ["writer"]
subscribers = [{ team = "worker", queue = "workers" }]
labels      = { level = "internal" }
rate        = { per_second = 100000, burst = 100000 }

[rules.ask]
pattern     = "ask.>"
publishers  = ["writer"]
subscribers = ["worker"]
kind        = "request"
deadline    = "20s"
labels      = { level = { min = "internal", max = "secret" }, allowed = ["deps"] }
default     = { level = "internal" }
rate        = { per_second = 10000, burst = 10000 }
"#;

async fn bus() -> TestBus {
    TestBus::start(POLICY).await
}

async fn join(bus: &TestBus, agent: &str, team: &str) -> Client {
    soon("a welcome", Client::connect(bus.agent(agent, team))).await.unwrap()
}

async fn next(messages: &mut Subscription) -> Message {
    soon("a message", messages.next()).await.unwrap()
}

async fn event(events: &mut Events, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
    let found = async {
        loop {
            let event = events.next().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    };
    soon(what, found).await
}

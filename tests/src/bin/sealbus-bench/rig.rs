//! A bus to measure on: nats-server, the guard on threads of its own, and the load on others.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering};
use std::time::{Duration, Instant};

use async_nats::{Client, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use sealbus_guard::natsserver::INBOX_PREFIX;
use sealbus_tests::{bus::TestBus, server::ServerSpec};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
};

use crate::{
    agent::{Agent, Sealer},
    environment::Environment,
    progress, relay,
};

/// One rule that anybody may use as fast as the policy's format lets it say.
const POLICY: &str = r#"
levels = ["public"]
integrity = ["untrusted"]
freshness = "1h"

[teams.load]
clearance = { level = "public" }

[rules.load]
pattern = "load.>"
publishers = ["load"]
subscribers = ["load"]
labels = { level = "public" }
rate = { per_second = 1000000, burst = 1000000 }
max_bytes = 1048576
"#;
/// The rule's name.
pub(crate) const RULE: &str = "load";
/// Where sealed envelopes go, in the words of agents.
pub(crate) const LOGICAL: &str = "load.test";
/// Subjects that the guard's login may use in both directions and that the guard does not read.
const DIRECT: &str = "sb.guard.bench.direct";
const RELAY_IN: &str = "sb.guard.bench.in";
const RELAY_OUT: &str = "sb.guard.bench.out";
/// How many messages are under way at most: what no buffer on the way drops.
const WINDOW: usize = 16_384;
/// Messages that never come are lost after this long without any.
const SILENCE: Duration = Duration::from_secs(3);

/// Server, guard, and runtimes.
pub(crate) struct Rig {
    load: Runtime,
    guard: Runtime,
    bus: Option<TestBus>,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::start_with(POLICY)
    }

    /// With a policy that has [`RULE`] for the team of that name.
    pub(crate) fn start_with(policy: &str) -> Self {
        progress::say("starting nats-server and the guard");
        let runtime = |name: &str| {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(2).thread_name(name).enable_all().build().expect("a runtime")
        };
        let (load, guard) = (runtime("load"), runtime("guard"));
        let bus = guard.block_on(TestBus::start_with(policy, ServerSpec::default()));
        Self { load, guard, bus: Some(bus) }
    }

    pub(crate) fn bus(&self) -> &TestBus {
        self.bus.as_ref().expect("a bus until it is dropped")
    }

    pub(crate) const fn load(&self) -> &Runtime {
        &self.load
    }

    /// The machine, with the server's version.
    pub(crate) fn environment(&self, before: Environment) -> Environment {
        let version = self.load.block_on(async { self.login().await.server_info().version });
        before.with_server(version)
    }

    /// A login beside the guard's, with its permissions.
    pub(crate) async fn login(&self) -> Client {
        let seed = self.bus().guard_key().to_nkey_seed(sealbus_envelope::identity::KeyKind::User);
        let options = async_nats::ConnectOptions::with_nkey(seed.to_string());
        options.custom_inbox_prefix(INBOX_PREFIX).connect(self.bus().url()).await.expect("a login")
    }

    /// From publisher to subscriber through the server alone.
    pub(crate) fn direct(&self, lanes: usize) -> Path {
        self.load.block_on(async {
            let mut clients = Vec::with_capacity(lanes);
            for _ in 0..lanes {
                clients.push((self.login().await, Subject::from_static(DIRECT)));
            }
            Path { clients, subscriber: subscribe(&self.login().await, DIRECT).await }
        })
    }

    /// Through a relay that runs where the guard runs.
    pub(crate) fn relay(&self, lanes: usize) -> Path {
        let client = self.guard.block_on(self.login());
        self.guard.block_on(relay::spawn(client, RELAY_IN, RELAY_OUT));
        self.load.block_on(async {
            let mut clients = Vec::with_capacity(lanes);
            for _ in 0..lanes {
                clients.push((self.login().await, Subject::from_static(RELAY_IN)));
            }
            Path { clients, subscriber: subscribe(&self.login().await, RELAY_OUT).await }
        })
    }

    /// Through the guard: every lane is an agent with a session of its own.
    pub(crate) fn guarded(&self, lanes: usize) -> (Path, Vec<Sealer>) {
        self.load.block_on(async {
            let mut sealers = Vec::with_capacity(lanes);
            for lane in 0..lanes {
                let agent = Agent::connect(self.bus(), &format!("sender-{lane}"), "load").await;
                sealers.push(agent.open(RULE, LOGICAL).await);
            }
            let clients = sealers.iter().map(|sealer| (sealer.nats().clone(), sealer.subject())).collect();
            let reader = Agent::connect(self.bus(), "reader", "load").await;
            (Path { clients, subscriber: reader.deliveries("load.>").await }, sealers)
        })
    }

    /// Sends every lane's messages as fast as they go and counts what arrives.
    pub(crate) fn pump(&self, path: &mut Path, lanes: &[Vec<Bytes>]) -> Pumped {
        self.load.block_on(path.pump(lanes))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut bus) = self.bus.take() {
            self.guard.block_on(async move { bus.stop_guard().await });
        }
    }
}

pub(crate) async fn subscribe(client: &Client, subject: &'static str) -> Subscriber {
    let subscriber = client.subscribe(subject).await.expect("a subscription");
    client.flush().await.expect("the server answers");
    subscriber
}

/// A way from publishers to one subscriber.
pub(crate) struct Path {
    /// A connection and a wire subject for each lane.
    pub(crate) clients: Vec<(Client, Subject)>,
    /// Where everything arrives.
    pub(crate) subscriber: Subscriber,
}

/// What came of sending messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pumped {
    pub(crate) sent: usize,
    pub(crate) received: usize,
    /// From the first message sent to the last received.
    pub(crate) took: Duration,
}

impl Pumped {
    pub(crate) const fn lost(&self) -> usize {
        self.sent.saturating_sub(self.received)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of messages are far below 2^52")]
    pub(crate) fn per_second(&self) -> f64 {
        self.received as f64 / self.took.as_secs_f64()
    }
}

/// The publishers wait for room in turns of this many, so that waiting costs next to nothing.
const TURN: usize = 64;

impl Path {
    async fn pump(&mut self, lanes: &[Vec<Bytes>]) -> Pumped {
        let sent = lanes.iter().map(Vec::len).sum();
        let room = Arc::new(Semaphore::new(WINDOW));
        let given_up = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let publishers: Vec<_> = self
            .clients
            .iter()
            .zip(lanes)
            .map(|((client, subject), messages)| {
                // Handles to the same bytes: nothing is copied.
                let (client, subject, messages) = (client.clone(), subject.clone(), messages.clone());
                let (room, given_up) = (Arc::clone(&room), Arc::clone(&given_up));
                tokio::spawn(async move {
                    for turn in messages.chunks(TURN) {
                        let wanted = u32::try_from(turn.len()).unwrap_or(u32::MAX);
                        room.acquire_many(wanted).await.expect("never closed").forget();
                        if given_up.load(Ordering::Relaxed) {
                            return;
                        }
                        for message in turn {
                            client.publish(subject.clone(), message.clone()).await.expect("a connection");
                        }
                    }
                })
            })
            .collect();
        let (mut received, mut last) = (0, begun);
        while received < sent {
            match tokio::time::timeout(SILENCE, self.subscriber.next()).await {
                Ok(Some(_)) => received += 1,
                Ok(None) | Err(_) => break,
            }
            if received % TURN == 0 || received == sent {
                room.add_permits(TURN);
                last = Instant::now();
            }
        }
        given_up.store(true, Ordering::Relaxed);
        room.add_permits(sent);
        for publisher in publishers {
            publisher.await.expect("a publisher does not panic");
        }
        Pumped { sent, received, took: last.duration_since(begun) }
    }
}

//! The hostile agent: on a thread of its own, over a connection that only writes, for as long as it is let.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use sealbus_client::credentials::Credentials;
use sealbus_envelope::{
    control::{self, Greet, Heartbeat, kind, verb},
    identity::KeyKind,
    label::{Compartments, Integrity, Label, Level},
    name::AgentToken,
    subject::{Partition, WireSubjects},
};
use sealbus_tests::{
    hostile::{forge::Parts, papers::Papers},
    raw::{RawClient, Refusal, nkey},
};

use crate::rig::Rig;

/// About how much is written at once.
const CHUNK: usize = 1 << 20;
/// Large, and with room for what the server counts along.
const LARGE: usize = (1 << 20) - 256;
/// Envelopes sealed before the flood, three times what the rule lets through at once.
const SEALED: usize = 3_000;
const LABEL: Label = Label::new(Level::LOWEST, Compartments::EMPTY, Integrity::LOWEST);

/// What it floods with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flood {
    Plain,
    Junk,
    Signed,
    Control,
    Churn,
    Large,
    Quarantined,
}

impl Flood {
    pub(super) const ALL: [Self; 7] =
        [Self::Plain, Self::Junk, Self::Signed, Self::Control, Self::Churn, Self::Large, Self::Quarantined];

    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Plain => "no guard: 16 bytes to the same reader",
            Self::Junk => "junk of 16 bytes",
            Self::Signed => "good envelopes, above the rate",
            Self::Control => "hellos on the control subject",
            Self::Churn => "connect, junk, disconnect",
            Self::Large => "junk of 1 MiB",
            Self::Quarantined => "junk while quarantined",
        }
    }
}

/// What the flooder saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// From its first message to its first cut.
    pub(super) cut_after: Option<Duration>,
    /// Logins that were let in, the lobby included.
    pub(super) connections: u32,
    /// Logins that were refused.
    pub(super) refused: u32,
    connected: Duration,
    ran: Duration,
    bytes: u64,
}

impl Seen {
    pub(super) fn share(&self) -> f64 {
        self.connected.as_secs_f64() / self.ran.as_secs_f64().max(f64::EPSILON)
    }

    pub(super) fn megabytes(&self) -> f64 {
        f64::from(u32::try_from(self.bytes >> 10).unwrap_or(u32::MAX)) / 1024.0
    }
}

/// A running flood.
pub(super) struct Flooder {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Flooder {
    /// Starts one, by an agent that nobody knows yet.
    pub(super) fn start(rig: &Rig, flood: Flood) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let bus = rig.bus();
        let login = nkeys::KeyPair::from_seed(&bus.guard_key().to_nkey_seed(KeyKind::User)).expect("a key");
        let attack = Attack {
            flood,
            address: bus.url().trim_start_matches("nats://").to_owned(),
            credentials: bus.agent("mallory", "mob"),
            other: bus.agent("honest", "load").credential().token().clone(),
            login,
            wire: WireSubjects::default(),
            stop: Arc::clone(&stop),
            seen: Seen::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let thread = std::thread::spawn(move || runtime.block_on(attack.run()));
        Self { stop, thread }
    }

    pub(super) fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the flooder does not panic")
    }
}

struct Attack {
    flood: Flood,
    address: String,
    credentials: Credentials,
    other: AgentToken,
    login: nkeys::KeyPair,
    wire: WireSubjects,
    stop: Arc<AtomicBool>,
    seen: Seen,
}

impl Attack {
    fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn run(mut self) -> Seen {
        let begun = Instant::now();
        let mut first = true;
        while !self.over() {
            let came = Instant::now();
            let flooded = self.connection(&mut first).await;
            match flooded {
                Ok(()) => {}
                Err(Ended::Refused) => self.seen.refused += 1,
                Err(Ended::Cut(since)) => {
                    self.seen.cut_after.get_or_insert(since.elapsed());
                    self.seen.connected += came.elapsed();
                }
            }
        }
        self.seen.ran = begun.elapsed();
        self.seen
    }

    /// Connects and floods until it is cut.
    async fn connection(&mut self, first: &mut bool) -> Result<(), Ended> {
        if self.flood == Flood::Plain {
            let raw =
                RawClient::connect(&self.address, nkey(&self.login)).await.map_err(|_| Ended::Refused)?;
            self.seen.connections += 1;
            let chunk = bulk("sb.guard.bench.flood", &[vec![7; 16]], CHUNK);
            return self.flood(raw, &chunk).await;
        }
        let papers = Papers::new(&self.credentials);
        let login = RawClient::connect(&self.address, |nonce| papers.login(nonce)).await;
        let mut raw = login.map_err(|_| Ended::Refused)?;
        self.seen.connections += 1;
        let came = Instant::now();
        let ingress = self.wire.ingress(papers.token(), "mob.a");
        let chunk = match self.flood {
            Flood::Large => bulk(&ingress, &[vec![7; LARGE]], 1),
            Flood::Signed => {
                let Ok(envelopes) = self.sealed(&mut raw, &papers).await else {
                    return self.flood(raw, &bulk(&ingress, &[vec![7; 16]], CHUNK)).await;
                };
                bulk(&ingress, &envelopes, 1)
            }
            Flood::Control => {
                let Ok(guard) = self.heartbeat(&mut raw, &papers).await else {
                    return self.flood(raw, &bulk(&ingress, &[vec![7; 16]], CHUNK)).await;
                };
                let hello = control::encode(&papers.hello(guard.guard, &[])).expect("a hello");
                bulk(&self.wire.control(papers.token(), &papers.session(), verb::HELLO), &[hello], CHUNK)
            }
            Flood::Quarantined if std::mem::take(first) => {
                let _ = self.misbehave(&mut raw, &papers).await;
                let _ = raw.closed().await;
                return Err(Ended::Cut(came));
            }
            _ => bulk(&ingress, &[vec![7; 16]], CHUNK),
        };
        self.flood(raw, &chunk).await
    }

    async fn flood(&mut self, mut raw: RawClient, chunk: &[u8]) -> Result<(), Ended> {
        let since = Instant::now();
        loop {
            let sent = raw.command_bytes(chunk.to_vec()).await;
            match sent {
                Ok(()) => self.seen.bytes += u64::try_from(chunk.len()).unwrap_or(0),
                // In the lobby it goes on talking, though it may say nothing.
                Err(refusal) if refusal.says("permissions") => {}
                Err(_) => return Err(Ended::Cut(since)),
            }
            if self.over() || self.flood == Flood::Churn {
                self.seen.connected += since.elapsed();
                return Ok(());
            }
        }
    }

    async fn heartbeat(&self, raw: &mut RawClient, papers: &Papers) -> Result<Heartbeat, Refusal> {
        let beats = self.wire.heartbeat(Partition::of(papers.token()));
        raw.subscribe(&beats, None).await?;
        raw.subscribe(&self.wire.session_box(papers.token(), &papers.session(), ">"), None).await?;
        let greet = control::encode(&Greet {}).expect("a greeting");
        let subject = self.wire.control(papers.token(), &papers.session(), verb::GREET);
        raw.publish_bytes(&subject, None, "", &greet).await?;
        loop {
            let message = raw.next().await?;
            if message.subject == beats {
                let signer = Heartbeat::signer(&message.payload).expect("a heartbeat");
                return Ok(Heartbeat::verify(&message.payload, papers.bus(), &[signer])
                    .expect("a heartbeat")
                    .0);
            }
        }
    }

    /// Says hello with a key, and seals under it.
    async fn sealed(&self, raw: &mut RawClient, papers: &Papers) -> Result<Vec<Vec<u8>>, Refusal> {
        let guard = self.heartbeat(raw, papers).await?.guard;
        let mut key = papers.make_key("mob", LABEL, 0, None);
        let hello = control::encode(&papers.hello(guard, &[&key])).expect("a hello");
        let subject = self.wire.control(papers.token(), &papers.session(), verb::HELLO);
        raw.publish_bytes(&subject, None, "", &hello).await?;
        let welcome = self.wire.session_box(papers.token(), &papers.session(), kind::WELCOME);
        while raw.next().await?.subject != welcome {}
        let seal = |_| {
            let fields = papers.fields(&key, "mob.a");
            papers.seal(&mut key, &fields, &[7; 64])
        };
        Ok((0..SEALED).map(seal).collect())
    }

    /// Signs what quarantines at once: an envelope in another's name.
    async fn misbehave(&self, raw: &mut RawClient, papers: &Papers) -> Result<(), Refusal> {
        let guard = self.heartbeat(raw, papers).await?.guard;
        let key = papers.make_key("mob", LABEL, 0, None);
        let hello = control::encode(&papers.hello(guard, &[&key])).expect("a hello");
        let subject = self.wire.control(papers.token(), &papers.session(), verb::HELLO);
        raw.publish_bytes(&subject, None, "", &hello).await?;
        let mut fields = papers.fields(&key, "mob.a");
        fields.sender = self.other.clone();
        let envelope = Parts::signed(&fields, papers.session(), &papers.key).bytes();
        raw.publish_bytes(&self.wire.ingress(papers.token(), "mob.a"), None, "", &envelope).await
    }
}

enum Ended {
    Refused,
    Cut(Instant),
}

/// Publishes of these payloads in turn: once each, and on until it is `at_least` so many bytes.
fn bulk(subject: &str, payloads: &[Vec<u8>], at_least: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < at_least {
        for payload in payloads {
            bytes.extend_from_slice(format!("PUB {subject} {}\r\n", payload.len()).as_bytes());
            bytes.extend_from_slice(payload);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

//! The honest flow beside every attack: a publisher and a subscriber with the real client, and a count at the
//! end.
#![expect(clippy::expect_used, reason = "a fixture that cannot work fails its test")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sealbus_client::{Client, Error, Event, credentials::Credentials};
use sealbus_envelope::name::AgentToken;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::bus::{TestBus, soon};

/// A publisher that sends one confirmed message after another, and a subscriber that counts them.
pub struct Honest {
    publisher: Client,
    subscriber: Client,
    agents: [AgentToken; 2],
    stop: CancellationToken,
    publishing: JoinHandle<Sent>,
    reading: JoinHandle<()>,
    received: watch::Receiver<Vec<u64>>,
    complaints: Arc<Mutex<Vec<String>>>,
}

/// What the publisher knows when it stops.
#[derive(Debug, Default)]
pub struct Sent {
    /// Messages that the guard confirmed.
    pub confirmed: BTreeSet<u64>,
    /// Those that failed, and how.
    pub failed: Vec<(u64, Error)>,
}

/// What came of a flow.
#[derive(Debug)]
pub struct Outcome {
    /// What the publisher knows.
    pub sent: Sent,
    /// What the subscriber got, in order.
    pub received: Vec<u64>,
    /// What either client complained of: denials, refusals, gaps, drops, a quarantine.
    pub complaints: Vec<String>,
}

impl Honest {
    /// Starts a flow between two new agents of team `honest`, and waits until it flows.
    ///
    /// # Panics
    /// If it does not.
    pub async fn start(bus: &TestBus) -> Self {
        Self::between(bus.agent("alice", "honest"), bus.agent("bob", "honest")).await
    }

    /// Starts a flow between these two.
    ///
    /// # Panics
    /// If it does not flow.
    pub async fn between(publisher: Credentials, subscriber: Credentials) -> Self {
        let agents = [TestBus::token(&publisher), TestBus::token(&subscriber)];
        let subscriber = Client::connect(subscriber).await.expect("an honest subscriber");
        let publisher = Client::connect(publisher).await.expect("an honest publisher");
        let complaints: Arc<Mutex<Vec<String>>> = Arc::default();
        for client in [&publisher, &subscriber] {
            tokio::spawn(complain(client.events(), Arc::clone(&complaints)));
        }
        let mut messages = subscriber.subscribe("honest.>").await.expect("an honest subscription");
        let (heard, received) = watch::channel(Vec::new());
        let reading = tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let number = message.payload().try_into().map(u64::from_be_bytes).expect("a number");
                heard.send_modify(|all| all.push(number));
            }
        });
        let stop = CancellationToken::new();
        let publishing = tokio::spawn(publish(publisher.clone(), stop.clone()));
        let mut honest =
            Self { publisher, subscriber, agents, stop, publishing, reading, received, complaints };
        honest.flows("at the start").await;
        honest
    }

    /// The two agents.
    #[must_use]
    pub const fn agents(&self) -> &[AgentToken; 2] {
        &self.agents
    }

    /// Waits until a message that was published from now on has been read.
    ///
    /// # Panics
    /// If none is.
    pub async fn flows(&mut self, when: &str) {
        // One may be under way already; the second one after it was published after this call.
        let enough = self.received.borrow().len() + 2;
        let flowing = self.received.wait_for(|all| all.len() >= enough);
        soon(&format!("the honest flow to move on {when}"), flowing).await.expect("the subscriber reads");
    }

    /// Stops publishing, waits for what was confirmed, closes both clients.
    ///
    /// # Panics
    /// If something confirmed does not arrive.
    pub async fn stop(mut self) -> Outcome {
        self.stop.cancel();
        let sent = soon("the publisher to stop", self.publishing).await.expect("the publisher");
        // One publisher's messages come in order, so what is not there when the last one is will not come.
        let last = sent.confirmed.last().copied();
        let all_there = self.received.wait_for(|all| last.is_none_or(|last| all.contains(&last)));
        let in_time = tokio::time::timeout(Duration::from_secs(30), all_there).await.is_ok();
        if !in_time {
            lost(&sent, &self.received.borrow(), &self.complaints);
        }
        let _ = self.publisher.close().await;
        let _ = self.subscriber.close().await;
        soon("the subscription to end", self.reading).await.expect("the subscriber");
        let received = self.received.borrow().clone();
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Outcome { sent, received, complaints }
    }
}

#[expect(clippy::panic, reason = "a test whose honest flow loses messages fails")]
fn lost(sent: &Sent, received: &[u64], complaints: &Mutex<Vec<String>>) -> ! {
    let received: BTreeSet<u64> = received.iter().copied().collect();
    let lost: Vec<_> = sent.confirmed.difference(&received).collect();
    let complaints = complaints.lock().unwrap_or_else(PoisonError::into_inner);
    panic!("confirmed and never delivered: {lost:?}; {complaints:?}")
}

impl Outcome {
    /// Nothing failed, nothing was lost, nothing came twice or out of order, nobody complained.
    ///
    /// # Panics
    /// If not.
    pub fn spotless(&self) {
        assert!(self.sent.failed.is_empty(), "honest messages failed: {:?}", self.sent.failed);
        assert!(self.complaints.is_empty(), "the honest clients complained: {:?}", self.complaints);
        let sent: Vec<u64> = self.sent.confirmed.iter().copied().collect();
        assert_eq!(self.received, sent, "what was confirmed is what was read, once and in order");
    }

    /// All that was confirmed was delivered, and nothing twice or out of order, though some failed.
    ///
    /// # Panics
    /// If not.
    pub fn nothing_lost(&self) {
        self.nothing_lost_but_in_breaks(0);
    }

    /// As [`nothing_lost`](Self::nothing_lost), but the subscriber itself was away so many times. Delivery is
    /// at most once: what was confirmed in a break, after the publisher was back, is gone for it.
    ///
    /// # Panics
    /// If anything is missing but one run of messages for each break.
    pub fn nothing_lost_but_in_breaks(&self, breaks: usize) {
        let received: BTreeSet<u64> = self.received.iter().copied().collect();
        let present = self.sent.confirmed.iter().map(|number| received.contains(number));
        let runs = present.scan(true, |before, here| Some(std::mem::replace(before, here) && !here));
        let runs = runs.filter(|begins| *begins).count();
        assert!(runs <= breaks, "confirmed and lost, in {runs} places: {:?}", self.sent.confirmed);
        assert!(self.received.is_sorted_by(|a, b| a < b), "twice or out of order: {:?}", self.received);
        for (number, error) in &self.sent.failed {
            assert!(error.reason().is_some() || error.kind() != sealbus_client::ErrorKind::Denied);
            assert!(!self.sent.confirmed.contains(number));
        }
    }
}

async fn publish(client: Client, stop: CancellationToken) -> Sent {
    let mut sent = Sent::default();
    let mut number = 0u64;
    while !stop.is_cancelled() {
        match client.publish_confirmed("honest.flow", number.to_be_bytes().to_vec()).await {
            Ok(_) => {
                sent.confirmed.insert(number);
            }
            Err(error) => {
                sent.failed.push((number, error));
                let back = client.ready(Duration::from_secs(30));
                tokio::select! {
                    _ = back => {}
                    () = stop.cancelled() => break,
                }
                tokio::task::yield_now().await;
            }
        }
        number += 1;
    }
    sent
}

/// Notes every event that an honest agent should never see.
async fn complain(mut events: sealbus_client::Events, complaints: Arc<Mutex<Vec<String>>>) {
    while let Some(event) = events.next().await {
        let bad = matches!(
            event,
            Event::Denied { .. }
                | Event::Unsent { .. }
                | Event::Refused { .. }
                | Event::Quarantined
                | Event::Lobby { .. }
                | Event::GapSeen { .. }
                | Event::Dropped { .. }
                | Event::SubscriptionLost { .. }
        );
        if bad {
            complaints.lock().unwrap_or_else(PoisonError::into_inner).push(event.to_string());
        }
    }
}

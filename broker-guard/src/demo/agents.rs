//! The agents. Each runs as a task of its own with its own credentials and connection, and knows of the
//! others only what the bus brings it. What it hands back at its end are counts.

pub(super) mod aggregator;
pub(super) mod analyst;
pub(super) mod collector;
pub(super) mod duty;
pub(super) mod oncall;
pub(super) mod reporter;

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use sealbus_client::{Client, Credentials, Message, Publish, Receipt, Requests, Subscription};

use super::DemoError;

/// How many confirmed messages are under way at once.
const UNDER_WAY: usize = 64;
/// What one message names as its sources at most; more than the format takes is divided.
pub(super) const MAX_SOURCES: usize = 200;

/// The subjects that are spoken on.
pub(super) mod subjects {
    pub(in super::super) const ITEMS: &str = "deps.item.>";
    pub(in super::super) const FINDINGS: &str = "findings.>";
    pub(in super::super) const MERGED: &str = "review.merged";
    pub(in super::super) const REPORT: &str = "report.final";
    pub(in super::super) const ASK: &str = "ask.analyst";
    pub(in super::super) const HELLO: &str = "hello.>";
}

/// What an agent sent and got, by rule.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Messages that the guard confirmed.
    pub(super) published: BTreeMap<String, u64>,
    /// Messages that were opened.
    pub(super) received: BTreeMap<String, u64>,
}

impl Tally {
    fn sent(&mut self, rule: &str, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        *self.published.entry(rule.to_owned()).or_default() += count;
    }

    pub(super) fn got(&mut self, message: &Message) {
        *self.received.entry(message.rule().to_owned()).or_default() += 1;
    }
}

/// An agent's connection and counts.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) client: Client,
    pub(super) tally: Tally,
    /// Readings that are over but not ended: a key that is on its way to a reader that has ended its reading
    /// is denied to its sender, and here nobody is to be denied anything.
    pub(super) kept: (Vec<Subscription>, Option<Requests>),
}

impl Agent {
    pub(super) async fn join(credentials: Credentials) -> Result<Self, DemoError> {
        let name = credentials.credential().claims().name.to_string();
        let client = Client::connect(credentials).await.map_err(|source| DemoError::client(&name, source))?;
        Ok(Self { client, tally: Tally::default(), kept: (Vec::new(), None) })
    }

    pub(super) fn failed(&self, source: sealbus_client::Error) -> DemoError {
        DemoError::client(self.client.name(), source)
    }

    /// The stream ended though its client was not closed.
    pub(super) fn ended(&self, what: &'static str) -> DemoError {
        DemoError::Ended { who: self.client.name().to_owned(), what }
    }

    /// Publishes under `rule` and waits until the guard has confirmed each.
    pub(super) async fn publish(
        &mut self,
        rule: &str,
        messages: Vec<Publish>,
    ) -> Result<Vec<Receipt>, DemoError> {
        let client = &self.client;
        let confirmed: Vec<_> = stream::iter(messages)
            .map(|message| client.send_confirmed(message))
            .buffered(UNDER_WAY)
            .collect()
            .await;
        let mut receipts = Vec::with_capacity(confirmed.len());
        for receipt in confirmed {
            receipts.push(receipt.map_err(|source| self.failed(source))?);
        }
        self.tally.sent(rule, receipts.len());
        Ok(receipts)
    }

    /// Says goodbye and hands back the counts.
    pub(super) async fn leave(self) -> Result<Tally, DemoError> {
        let name = self.client.name().to_owned();
        self.client.close().await.map_err(|source| DemoError::client(&name, source))?;
        Ok(self.tally)
    }
}

//! The aggregator: trusts no finding whose chain it cannot check itself. It reads the dependencies too, so
//! for each parent that a finding names it knows whether that envelope exists, who sent it and how it was
//! labelled.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use sealbus_client::{
    Credentials, Message, Publish, Subscription,
    envelope::{hash::Hash, label::Label, wire::Parent},
};

use super::{
    super::{
        DemoError,
        messages::{Answer, Finding, Findings, Item, Merged, Question},
        progress::{Teller, count},
        review::Review,
    },
    Agent, MAX_SOURCES, subjects,
};

const WHO: &str = "aggregator";
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Joined and subscribed; not working yet.
pub(in super::super) struct Aggregator {
    agent: Agent,
    teller: Teller,
    items: Subscription,
    findings: Subscription,
    /// Every dependency it received itself: digest and label.
    known: HashMap<Hash, Label>,
    batches: BTreeMap<u32, Batch>,
    batch: u32,
    /// Of all that was merged.
    checked: Checked,
}

#[derive(Default)]
struct Batch {
    packages: u64,
    total: Option<u64>,
    last: bool,
    findings: Vec<(Finding, Message)>,
    /// What each analyst said it sent.
    ends: BTreeMap<String, u64>,
}

impl Batch {
    fn complete(&self) -> bool {
        let sent = |review: Review| self.ends.get(review.name()).copied();
        let got = |review: Review| {
            let of = self.findings.iter().filter(|(finding, _)| finding.analyst == review.name());
            u64::try_from(of.count()).unwrap_or(u64::MAX)
        };
        self.total.is_some_and(|total| self.packages >= total)
            && Review::ALL.iter().all(|review| sent(*review).is_some_and(|sent| got(*review) >= sent))
    }
}

/// How many chains were checked.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Checked {
    /// Findings.
    pub(in super::super) chains: u64,
    /// Parents they name.
    pub(in super::super) links: u64,
}

impl Aggregator {
    pub(in super::super) async fn join(credentials: Credentials, teller: Teller) -> Result<Self, DemoError> {
        let agent = Agent::join(credentials).await?;
        let items = agent.client.subscribe(subjects::ITEMS).await.map_err(|error| agent.failed(error))?;
        let findings =
            agent.client.subscribe(subjects::FINDINGS).await.map_err(|error| agent.failed(error))?;
        Ok(Self {
            agent,
            teller,
            items,
            findings,
            known: HashMap::new(),
            batches: BTreeMap::new(),
            batch: 1,
            checked: Checked::default(),
        })
    }

    /// Works until the last batch is merged.
    pub(in super::super) async fn run(mut self) -> Result<(Agent, Checked), DemoError> {
        loop {
            tokio::select! {
                item = self.items.next() => {
                    let item = item.ok_or_else(|| self.agent.ended("its subscription"))?;
                    self.take_item(&item)?;
                }
                finding = self.findings.next() => {
                    let finding = finding.ok_or_else(|| self.agent.ended("its subscription"))?;
                    self.take_finding(finding)?;
                }
            }
            while self.batches.get(&self.batch).is_some_and(Batch::complete) {
                let Some(batch) = self.batches.remove(&self.batch) else { break };
                let last = batch.last;
                self.merge(batch).await?;
                if last {
                    self.agent.kept.0 = vec![self.items, self.findings];
                    return Ok((self.agent, self.checked));
                }
                self.batch += 1;
            }
        }
    }

    fn take_item(&mut self, message: &Message) -> Result<(), DemoError> {
        self.agent.tally.got(message);
        self.known.insert(message.digest(), message.label());
        match message.json().map_err(|error| self.agent.failed(error))? {
            Item::Dependency { batch, .. } => self.batches.entry(batch).or_default().packages += 1,
            Item::End { batch, total, last } => {
                let batch = self.batches.entry(batch).or_default();
                batch.total = Some(total);
                batch.last = last;
            }
        }
        Ok(())
    }

    fn take_finding(&mut self, message: Message) -> Result<(), DemoError> {
        self.agent.tally.got(&message);
        // Who it is from is what the envelope proves, not what its text says.
        let subject = message.subject().strip_prefix("findings.").unwrap_or_default().to_owned();
        if message.sender() != subject || message.sender_team() != "analyst" {
            return Err(broken(&message, "its sender is not the analyst of its subject"));
        }
        match message.json().map_err(|error| self.agent.failed(error))? {
            Findings::Finding { batch, finding } => {
                if finding.analyst != subject {
                    return Err(broken(&message, "it names another analyst than its sender"));
                }
                self.batches.entry(batch).or_default().findings.push((finding, message));
            }
            Findings::End { batch, total, .. } => {
                self.batches.entry(batch).or_default().ends.insert(subject, total);
            }
        }
        Ok(())
    }

    /// Each parent must be a dependency that was received here, with the label the finding says it has, and
    /// the finding must be labelled at least as high.
    fn check(&mut self, message: &Message) -> Result<(), DemoError> {
        if message.parents().is_empty() {
            return Err(broken(message, "it names no source"));
        }
        for parent in message.parents() {
            match self.known.get(&parent.digest) {
                None => return Err(broken(message, "it names a source that nobody sent")),
                Some(label) if *label != parent.label => {
                    return Err(broken(message, "it names a source with another label than that has"));
                }
                Some(label) if !message.label().dominates(*label) => {
                    return Err(broken(message, "its label is below its source's"));
                }
                Some(_) => self.checked.links += 1,
            }
        }
        self.checked.chains += 1;
        Ok(())
    }

    async fn merge(&mut self, batch: Batch) -> Result<(), DemoError> {
        let before = self.checked;
        for (_, message) in &batch.findings {
            self.check(message)?;
        }
        let answer = if self.batch == 1 { Some(self.ask().await?) } else { None };
        let (chains, links) = (self.checked.chains - before.chains, self.checked.links - before.links);
        let mut parts: Vec<_> = batch.findings.chunks(MAX_SOURCES).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let (all, mut messages) = (parts.len(), Vec::new());
        for (n, part) in parts.into_iter().enumerate() {
            let first = n == 0;
            let merged = Merged {
                batch: self.batch,
                packages: if first { batch.packages } else { 0 },
                findings: part.iter().map(|(finding, _)| finding.clone()).collect(),
                chains: if first { chains } else { 0 },
                links: if first { links } else { 0 },
                answer: answer.clone().filter(|_| first),
                more: n + 1 < all,
                last: batch.last,
            };
            let parents: Vec<Parent> = part.iter().map(|(_, message)| message.as_parent()).collect();
            let message = Publish::json(subjects::MERGED, &merged);
            messages.push(message.map_err(|error| self.agent.failed(error))?.parents(parents));
        }
        self.agent.publish("review-merged", messages).await?;
        let findings = u64::try_from(batch.findings.len()).unwrap_or(u64::MAX);
        if batch.packages > 0 {
            self.teller.work(
                WHO,
                format!(
                    "{}: {} merged, {} checked",
                    count(batch.packages, "package"),
                    count(findings, "finding"),
                    count(links, "source")
                ),
            );
        }
        Ok(())
    }

    async fn ask(&mut self) -> Result<Answer, DemoError> {
        let question = Question { question: "what is the gravest you have found so far?".to_owned() };
        let question = Publish::json(subjects::ASK, &question).map_err(|error| self.agent.failed(error))?;
        let reply = self.agent.client.send_request(question, ANSWER_WITHIN).await;
        let reply = reply.map_err(|error| self.agent.failed(error))?;
        self.agent.tally.sent("ask-analyst", 1);
        self.agent.tally.got(&reply);
        let answer: Answer = reply.json().map_err(|error| self.agent.failed(error))?;
        self.teller.work(WHO, format!("asked an analyst; {} answered: {}", reply.sender(), answer.text));
        Ok(answer)
    }
}

fn broken(message: &Message, what: &'static str) -> DemoError {
    DemoError::Chain { sender: message.sender_token().to_owned(), what }
}

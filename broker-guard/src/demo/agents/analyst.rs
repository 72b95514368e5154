//! An analyst: reads dependencies, publishes findings that name what they are about as their parents, and
//! answers when asked.

use std::collections::BTreeMap;

use sealbus_client::{
    Credentials, Message, Publish, Request, Requests, Subscription, envelope::wire::Parent,
};

use super::{
    super::{
        DemoError,
        messages::{Answer, Finding, Findings, Item, Question, Severity},
        progress::{Teller, count},
        project::Dependency,
        review::Review,
    },
    Agent, MAX_SOURCES, subjects,
};

/// Joined and subscribed; not working yet.
pub(in super::super) struct Analyst {
    agent: Agent,
    review: Review,
    teller: Teller,
    items: Subscription,
    requests: Requests,
    seen: Vec<Dependency>,
    parents: Vec<Parent>,
    reviewed: usize,
    ends: BTreeMap<u32, (u64, bool)>,
    counts: BTreeMap<u32, u64>,
    batch: u32,
    gravest: Option<Finding>,
}

impl Analyst {
    pub(in super::super) async fn join(
        credentials: Credentials,
        review: Review,
        teller: Teller,
    ) -> Result<Self, DemoError> {
        let agent = Agent::join(credentials).await?;
        let items = agent.client.subscribe(subjects::ITEMS).await.map_err(|error| agent.failed(error))?;
        let requests = agent.client.serve(subjects::ASK).await.map_err(|error| agent.failed(error))?;
        Ok(Self {
            agent,
            review,
            teller,
            items,
            requests,
            seen: Vec::new(),
            parents: Vec::new(),
            reviewed: 0,
            ends: BTreeMap::new(),
            counts: BTreeMap::new(),
            batch: 1,
            gravest: None,
        })
    }

    /// Works until the last batch is reviewed.
    pub(in super::super) async fn run(mut self) -> Result<Agent, DemoError> {
        loop {
            tokio::select! {
                item = self.items.next() => {
                    let item = item.ok_or_else(|| self.agent.ended("its subscription"))?;
                    if self.take(&item).await? {
                        break;
                    }
                }
                request = self.requests.next() => {
                    let request = request.ok_or_else(|| self.agent.ended("its service"))?;
                    self.answer(request).await?;
                }
            }
        }
        self.agent.kept = (vec![self.items], Some(self.requests));
        Ok(self.agent)
    }

    /// Takes one message; says whether the last batch is done.
    async fn take(&mut self, message: &Message) -> Result<bool, DemoError> {
        self.agent.tally.got(message);
        match message.json().map_err(|error| self.agent.failed(error))? {
            Item::Dependency { batch, dependency } => {
                self.seen.push(dependency);
                self.parents.push(message.as_parent());
                *self.counts.entry(batch).or_default() += 1;
            }
            Item::End { batch, total, last } => {
                self.ends.insert(batch, (total, last));
            }
        }
        while let Some((total, last)) = self.ends.get(&self.batch).copied() {
            if self.counts.get(&self.batch).copied().unwrap_or(0) < total {
                break;
            }
            self.review(last).await?;
            if last {
                return Ok(true);
            }
            self.batch += 1;
        }
        Ok(false)
    }

    async fn review(&mut self, last: bool) -> Result<(), DemoError> {
        let name = self.review.name();
        let subject = format!("findings.{name}");
        let mut messages = Vec::new();
        for found in self.review.run(&self.seen, self.reviewed) {
            for about in found.about.chunks(MAX_SOURCES) {
                let of = |place: &usize| self.seen.get(*place).map(Dependency::shown);
                let finding = Finding {
                    analyst: name.to_owned(),
                    severity: found.severity,
                    title: found.title.clone(),
                    crates: about.iter().filter_map(of).collect(),
                };
                if self.gravest.as_ref().is_none_or(|gravest| finding.severity < gravest.severity) {
                    self.gravest = Some(finding.clone());
                }
                let parents = about.iter().filter_map(|place| self.parents.get(*place).copied());
                let message = Publish::json(&subject, &Findings::Finding { batch: self.batch, finding });
                messages.push(message.map_err(|error| self.agent.failed(error))?.parents(parents));
            }
        }
        let total = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        self.agent.publish("findings", messages).await?;
        let end = Publish::json(&subject, &Findings::End { batch: self.batch, total, last });
        let end = end.map_err(|error| self.agent.failed(error))?;
        self.agent.publish("findings", vec![end]).await?;
        if self.batch == 1 {
            self.teller
                .work(name, format!("{} packages reviewed, {}", self.seen.len(), count(total, "finding")));
        }
        self.reviewed = self.seen.len();
        Ok(())
    }

    async fn answer(&mut self, request: Request) -> Result<(), DemoError> {
        self.agent.tally.got(request.message());
        let Question { question: _ } = request.message().json().map_err(|error| self.agent.failed(error))?;
        let text = self.gravest.as_ref().map_or_else(
            || "nothing so far".to_owned(),
            |finding| {
                let first = finding.crates.first().map(String::as_str).unwrap_or_default();
                let severity = if finding.severity == Severity::Info { "nothing grave; " } else { "" };
                format!("{severity}{}: {first}", finding.title)
            },
        );
        let answer = Answer { analyst: self.review.name().to_owned(), text };
        request.respond_json(&answer).await.map_err(|error| self.agent.failed(error))?;
        self.agent.tally.sent("ask-analyst", 1);
        Ok(())
    }
}

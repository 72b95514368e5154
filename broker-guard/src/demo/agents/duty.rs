//! Who is on duty: reads the report, changes nothing.

use sealbus_client::{Credentials, Subscription};

use super::{super::DemoError, Agent, subjects};

/// Joined and subscribed; not reading yet.
pub(in super::super) struct Duty {
    agent: Agent,
    reports: Subscription,
}

/// What came.
#[derive(Debug)]
pub(in super::super) struct Received {
    pub(in super::super) sender: String,
    pub(in super::super) label: String,
    pub(in super::super) bytes: usize,
    pub(in super::super) sources: usize,
}

impl Duty {
    pub(in super::super) async fn join(credentials: Credentials) -> Result<Self, DemoError> {
        let agent = Agent::join(credentials).await?;
        let reports = agent.client.subscribe(subjects::REPORT).await.map_err(|error| agent.failed(error))?;
        Ok(Self { agent, reports })
    }

    /// Waits for the report.
    pub(in super::super) async fn run(mut self) -> Result<(Agent, Received), DemoError> {
        let report = self.reports.next().await.ok_or_else(|| self.agent.ended("its subscription"))?;
        self.agent.tally.got(&report);
        let received = Received {
            sender: report.sender_token().to_owned(),
            label: report.label_text(),
            bytes: report.payload().len(),
            sources: report.parents().len(),
        };
        self.agent.kept.0 = vec![self.reports];
        Ok((self.agent, received))
    }
}

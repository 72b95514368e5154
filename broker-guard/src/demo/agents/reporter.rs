//! The reporter: writes the report once all is merged, and publishes it.

use std::path::PathBuf;

use sealbus_client::{Credentials, Publish, Subscription, envelope::wire::Parent};

use super::{
    super::{DemoError, messages::Merged, report::Report},
    Agent, MAX_SOURCES, subjects,
};

/// Joined and subscribed; not working yet.
pub(in super::super) struct Reporter {
    agent: Agent,
    merged: Subscription,
    report: Report,
    file: Option<PathBuf>,
}

impl Reporter {
    pub(in super::super) async fn join(
        credentials: Credentials,
        project: String,
        file: Option<PathBuf>,
    ) -> Result<Self, DemoError> {
        let agent = Agent::join(credentials).await?;
        let merged = agent.client.subscribe(subjects::MERGED).await.map_err(|error| agent.failed(error))?;
        Ok(Self { agent, merged, report: Report::new(project), file })
    }

    /// Works until the report is published.
    pub(in super::super) async fn run(mut self) -> Result<(Agent, Report), DemoError> {
        let mut parents: Vec<Parent> = Vec::new();
        loop {
            let message = self.merged.next().await.ok_or_else(|| self.agent.ended("its subscription"))?;
            self.agent.tally.got(&message);
            parents.push(message.as_parent());
            let merged: Merged = message.json().map_err(|error| self.agent.failed(error))?;
            let over = merged.last && !merged.more;
            self.report.add(merged);
            if over {
                break;
            }
        }
        let text = self.report.markdown();
        if let Some(file) = &self.file {
            std::fs::write(file, &text).map_err(|source| DemoError::Report { file: file.clone(), source })?;
        }
        // The format takes so many sources; the first say where the rest is from.
        parents.truncate(MAX_SOURCES);
        let message = Publish::new(subjects::REPORT, text).content_type("text/markdown").parents(parents);
        self.agent.publish("report-final", vec![message]).await?;
        self.agent.kept.0 = vec![self.merged];
        Ok((self.agent, self.report))
    }
}

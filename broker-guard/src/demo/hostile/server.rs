//! What nats-server stops by the permissions that the guard gave the session.

use sealbus_client::Client;
use sealbus_envelope::{label::Level, name::AgentToken};

use super::{Fault, Hostile, Step, Stopped, by_server};

impl Hostile {
    pub(super) async fn past_the_server(&mut self, step: Step) -> Result<Stopped, Fault> {
        let level = |text| level_of(&self.client, text);
        let (session, victim) = (&self.thief.session, &self.thief.victim);
        let wire = session.subjects();
        let own: &AgentToken = session.agent();
        let (verb, subject) = match step {
            Step::SpeakAsAnalyst => ("PUB", wire.ingress(&victim.agent, "findings.licence")),
            Step::ForgeDelivery => ("PUB", wire.delivery(level("internal/-/untrusted")?, "deps.item.serde")),
            Step::ReadAnothersBox => ("SUB", wire.session_box(&victim.agent, &victim.session, ">")),
            Step::ReadFindings => ("SUB", wire.delivery(level("confidential/-/untrusted")?, "findings.>")),
            Step::JetStream => ("PUB", "$JS.API.STREAM.LIST".to_owned()),
            Step::SubjectNotGranted => ("PUB", wire.ingress(own, "findings.licence")),
            _ => return Err(Fault::Not("the server has no part in it")),
        };
        let refusal = match verb {
            "SUB" => self.thief.wire.subscribe(&subject).await?,
            _ => self.thief.wire.publish(&subject, b"{}").await?,
        };
        by_server(refusal)
    }
}

fn level_of(client: &Client, label: &str) -> Result<Level, Fault> {
    Ok(client.label(label)?.level)
}

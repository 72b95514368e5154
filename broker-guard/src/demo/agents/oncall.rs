//! Who is on call: hears every event, from the guard's start of work to its end.

use sealbus_client::Credentials;
use serde_json::Value;

use super::super::{DemoError, watch::Watch};
use crate::quarantine::state::State;

/// What was heard.
#[derive(Debug, Default)]
pub(in super::super) struct Heard {
    /// Agents that were quarantined, each once.
    pub(in super::super) quarantined: Vec<String>,
    /// Events of something that an agent other than the hostile one was denied.
    pub(in super::super) honest_denied: Vec<String>,
    /// Messages that the guard could not read in time.
    pub(in super::super) dropped: u64,
}

/// Connected and subscribed.
pub(in super::super) struct OnCall {
    watch: Watch,
    hostile: String,
}

impl OnCall {
    /// `hostile` is the token of the agent whose denials are no surprise.
    pub(in super::super) async fn join(
        credentials: &Credentials,
        hostile: String,
    ) -> Result<Self, DemoError> {
        Ok(Self { watch: Watch::start(credentials).await?, hostile })
    }

    /// Listens until the guard stops.
    pub(in super::super) async fn run(mut self) -> Result<Heard, DemoError> {
        let mut heard = Heard::default();
        loop {
            let event = self.watch.next().await?;
            let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (kind, agent) = (text("kind"), text("agent"));
            match kind.as_str() {
                "stopping" => return Ok(heard),
                // Who is only watched is on the bus.
                "quarantine"
                    if text("outcome") == State::Quarantined.code()
                        && !heard.quarantined.contains(&agent) =>
                {
                    heard.quarantined.push(agent);
                }
                "denied" if agent != self.hostile => {
                    heard.honest_denied.push(format!("{agent}: {} on `{}`", text("reason"), text("subject")));
                }
                "dropped" => heard.dropped += event.get("count").and_then(Value::as_u64).unwrap_or(1),
                _ => {}
            }
        }
    }
}

//! A flood: nobody signed it, so nobody is quarantined for it, but whoever sends it is cut off.

use sealbus_client::Event;

use super::{Fault, Guardian, Hostile, Stopped, closed, event, has, kicked, reason};

/// How many pieces are written at once, and how often. More than the guard takes before it acts, and less
/// than would have it act again on what is still under way when the agent has come back.
const PIECES: usize = 500;
const VOLLEYS: usize = 9;

impl Hostile {
    pub(super) async fn flood(&mut self) -> Result<Stopped, Fault> {
        let own = self.thief.session.agent().to_string();
        let volley = format!("PUB {} 4\r\njunk\r\n", self.thief.subject()).repeat(PIECES);
        for _ in 0..VOLLEYS {
            match self.thief.wire.command(volley.as_bytes()).await {
                Ok(_) => {}
                outcome => {
                    closed(outcome)?;
                    break;
                }
            }
        }
        let stopped = (
            Guardian::Guard,
            reason(&self.watch.until(|event| kicked(event) && has(event, "agent", &own)).await?),
        );
        self.thief.wire.closed().await?;
        // The agent's own client was cut off as well, and comes back by itself: it may not have been the
        // agent that flooded.
        event(&mut self.events, |event| matches!(event, Event::Disconnected))
            .await
            .ok_or(Fault::Not("the agent's own connection was not cut"))?;
        event(&mut self.events, |event| matches!(event, Event::Reconnected))
            .await
            .ok_or(Fault::Not("the agent's own client did not come back"))?;
        self.client.ready(super::super::wire::PATIENCE).await?;
        self.thief.restart(&self.credentials).await?;
        Ok(stopped)
    }
}

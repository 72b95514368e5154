//! A flood: nobody signed it, so nobody is quarantined for it, but whoever sends it is cut off.

use std::time::Duration;

use sealbus_client::Event;
use tokio::time::Instant;

use super::super::wire::PATIENCE;
use super::{Fault, Guardian, Hostile, Stopped, closed, event, has, kicked, reason};

/// How many pieces are written at once, and how often. More than the guard takes before it acts, and less
/// than would have it act again on what is still under way when the agent has come back.
const PIECES: usize = 500;
const VOLLEYS: usize = 9;
/// How long between two attempts to come back. No event says when the door opens: a refusal names no end, or whoever
/// floods would know when to go on.
const AGAIN: Duration = Duration::from_millis(300);

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
        // Whoever floods is refused for a second at first, and longer if it goes on.
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.client.ready(PATIENCE).await {
            wait_or(error.into(), deadline).await?;
        }
        while let Err(fault) = self.thief.restart(&self.credentials).await {
            wait_or(fault, deadline).await?;
        }
        Ok(stopped)
    }
}

async fn wait_or(fault: Fault, deadline: Instant) -> Result<(), Fault> {
    if Instant::now() >= deadline {
        return Err(fault);
    }
    tokio::time::sleep(AGAIN).await;
    Ok(())
}

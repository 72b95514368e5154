//! The event stream, as the security team sees it. It is also the instrument that the attacks are measured
//! with: what was denied, to whom, and why, in the guard's own words.

use std::time::Duration;

use sealbus_client::Credentials;
use serde_json::Value;

use crate::events::ocsf::unmapped;

use super::{
    DemoError,
    session::Session,
    wire::{PATIENCE, Wire, WireError},
};

/// A subscription to all events.
#[derive(Debug)]
pub(super) struct Watch {
    wire: Wire,
}

impl Watch {
    pub(super) async fn start(credentials: &Credentials) -> Result<Self, DemoError> {
        let session = Session::start(credentials).map_err(WireError::Login)?;
        let mut wire = session.connect().await?;
        match wire.subscribe(&session.subjects().event(">")).await? {
            None => Ok(Self { wire }),
            Some(refusal) => Err(WireError::Closed(refusal).into()),
        }
    }

    /// What Sealbus itself says in the next event, however long it takes.
    pub(super) async fn next(&mut self) -> Result<Value, WireError> {
        loop {
            match self.wire.next().await {
                Ok(message) => {
                    let event: Option<Value> = serde_json::from_slice(&message.payload).ok();
                    if let Some(said) = event.as_ref().and_then(unmapped) {
                        return Ok(said.clone());
                    }
                }
                // Nothing happened for a while: no fault of the connection.
                Err(WireError::Late) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the first event of which `wanted` is true.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value, WireError> {
        self.within(PATIENCE, wanted).await
    }

    async fn within(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, WireError> {
        let found = async {
            loop {
                let event = self.next().await?;
                if wanted(&event) {
                    return Ok(event);
                }
            }
        };
        tokio::time::timeout(patience, found).await.unwrap_or(Err(WireError::Late))
    }
}

/// Whether an event's field has this text.
pub(super) fn has(event: &Value, field: &str, text: &str) -> bool {
    event.get(field).and_then(Value::as_str) == Some(text)
}

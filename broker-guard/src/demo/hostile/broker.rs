//! What readers stop: lies of the broker itself. Played with the guard's own login, the only one that may
//! publish where readers read, as a nats-server that was taken over could.

use sealbus_envelope::identity::SigningKey;

use super::{
    super::{
        session::connect_nkey,
        wire::{Delivered, Wire, WireError},
    },
    Fault, Hostile, Stopped,
};

/// The broker, hostile.
#[derive(Debug)]
pub(super) struct Broker {
    wire: Wire,
    caught: Option<Delivered>,
}

impl Broker {
    pub(super) async fn connect(url: &str, guard: &SigningKey) -> Result<Self, WireError> {
        Ok(Self { wire: connect_nkey(url, guard).await?, caught: None })
    }

    /// Keeps a message that was delivered.
    pub(super) fn catch(&mut self, message: Delivered) {
        self.caught = Some(message);
    }

    fn caught(&self) -> Result<Delivered, Fault> {
        self.caught.clone().ok_or(Fault::Not("the broker has seen nothing yet"))
    }

    async fn deliver(&mut self, message: &Delivered) -> Result<(), Fault> {
        let (subject, payload) = (&message.subject, &message.payload);
        let refusal = if message.headers.is_empty() {
            self.wire.publish(subject, payload).await?
        } else {
            self.wire.publish_with(subject, &message.headers, payload).await?
        };
        if refusal.is_some() { Err(Fault::Not("the broker refused itself")) } else { Ok(()) }
    }
}

impl Hostile {
    /// The very bytes that were delivered, proof of admission and all.
    pub(super) async fn broker_replays(&mut self) -> Result<Stopped, Fault> {
        let message = self.broker.caught()?;
        self.broker.deliver(&message).await?;
        self.witness_refuses().await
    }

    pub(super) async fn broker_alters(&mut self) -> Result<Stopped, Fault> {
        let mut message = self.broker.caught()?;
        let mut bytes = message.payload.to_vec();
        let end = bytes.len().saturating_sub(1);
        if let Some(byte) = bytes.get_mut(end) {
            *byte ^= 1;
        }
        message.payload = bytes.into();
        self.broker.deliver(&message).await?;
        self.witness_refuses().await
    }

    /// A message that its sender did sign, but no guard admitted.
    pub(super) async fn broker_injects(&mut self) -> Result<Stopped, Fault> {
        let mut message = self.broker.caught()?;
        message.headers = bytes::Bytes::new();
        self.broker.deliver(&message).await?;
        self.witness_refuses().await
    }
}

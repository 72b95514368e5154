//! What the guard publishes: admitted envelopes, box messages, heartbeats, events.

use async_nats::{Client, HeaderMap, HeaderName, PublishError};
use bytes::Bytes;
use sealbus_envelope::{
    approval,
    identity::SessionId,
    label::Level,
    name::AgentToken,
    proof::admission::{Admission, HEADER_NAME},
    subject::{Partition, WireSubjects},
};

use crate::events::Event;

/// One message to publish.
#[derive(Debug, Clone)]
pub struct Outgoing {
    subject: String,
    admission: Option<String>,
    approvals: Option<String>,
    payload: Bytes,
    /// Not a message but something to tell: the herald writes it and brings it to all sinks.
    event: Option<Box<Event>>,
}

impl Outgoing {
    /// An admitted envelope to every subscriber: the sender's bytes untouched, the proof in the header.
    #[must_use]
    pub fn delivery(
        wire: &WireSubjects,
        level: Level,
        logical: &str,
        admission: &Admission,
        payload: Bytes,
    ) -> Self {
        Self::message(wire.delivery(level, logical), Some(admission.encode()), payload)
    }

    /// An admitted envelope to one session.
    #[must_use]
    pub fn boxed(
        wire: &WireSubjects,
        agent: &AgentToken,
        session: SessionId,
        kind: &str,
        admission: &Admission,
        payload: Bytes,
    ) -> Self {
        Self::message(wire.session_box(agent, &session, kind), Some(admission.encode()), payload)
    }

    /// A message to one session.
    #[must_use]
    pub fn tell(
        wire: &WireSubjects,
        agent: &AgentToken,
        session: SessionId,
        kind: &str,
        payload: Vec<u8>,
    ) -> Self {
        Self::message(wire.session_box(agent, &session, kind), None, payload.into())
    }

    /// A message to a session that only its control subject names, because the guard does not know it. None if
    /// the token cannot be a session's: the subject is made of what a server handed over.
    #[must_use]
    pub fn tell_unknown(
        wire: &WireSubjects,
        agent: &AgentToken,
        token: &str,
        kind: &str,
        payload: Vec<u8>,
    ) -> Option<Self> {
        let known = token.len() == 26 && token.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
        let subject = format!("{}.box.{agent}.{token}.{kind}", wire.prefix());
        known.then(|| Self::message(subject, None, payload.into()))
    }

    /// A heartbeat to the agents of a slot.
    #[must_use]
    pub fn heartbeat(wire: &WireSubjects, partition: Partition, payload: Bytes) -> Self {
        Self::message(wire.heartbeat(partition), None, payload)
    }

    /// An event. What is published of it is for the herald to write.
    #[must_use]
    pub fn event(wire: &WireSubjects, event: &Event) -> Self {
        let message = Self::message(wire.event(event.kind.token()), None, Bytes::new());
        Self { event: Some(Box::new(event.clone())), ..message }
    }

    const fn message(subject: String, admission: Option<String>, payload: Bytes) -> Self {
        Self { subject, admission, approvals: None, payload, event: None }
    }

    /// The event, or the message if it is none.
    ///
    /// # Errors
    /// The message.
    pub fn into_event(self) -> Result<Event, Self> {
        match self.event {
            Some(event) => Ok(*event),
            None => Err(self),
        }
    }

    /// The subject it goes to.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The proof of admission, if it is an envelope.
    #[must_use]
    pub fn admission(&self) -> Option<&str> {
        self.admission.as_deref()
    }

    /// With what people signed about it, for readers to count.
    #[must_use]
    pub fn approved(mut self, approvals: String) -> Self {
        self.approvals = Some(approvals);
        self
    }

    /// The approvals, if it was held.
    #[must_use]
    pub fn approvals(&self) -> Option<&str> {
        self.approvals.as_deref()
    }

    /// What it says.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Hands the message to the connection; waits while its buffer is full, so that a slow server slows the
    /// guard instead of filling its memory.
    ///
    /// # Errors
    /// The client library's own: the message is too large, or the connection is closed for good.
    pub async fn publish(self, client: &Client) -> Result<(), PublishError> {
        match self.admission {
            Some(admission) => {
                let mut headers = HeaderMap::new();
                headers.insert(HeaderName::from_static(HEADER_NAME), admission);
                if let Some(approvals) = self.approvals {
                    headers.insert(HeaderName::from_static(approval::HEADER_NAME), approvals);
                }
                client.publish_with_headers(self.subject, headers, self.payload).await
            }
            None => client.publish(self.subject, self.payload).await,
        }
    }
}

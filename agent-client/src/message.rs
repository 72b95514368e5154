//! A message as an agent gets it: verified, admitted, opened, with where it comes from.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use sealbus_envelope::{
    hash::{Hash, hex},
    identity::{Member, SessionId},
    proof::admission::Decision,
    wire::{EnvelopeId, Opened, Parent},
};
use serde::de::DeserializeOwned;

use crate::{
    error::{Error, ErrorKind, Result},
    policy_view::View,
    said::said_by_its_sender,
};

/// The media type of [`Publish::json`](crate::Publish::json).
pub(crate) const JSON: &str = "application/json";
/// The media type of [`Publish::msgpack`](crate::Publish::msgpack).
pub(crate) const MSGPACK: &str = "application/msgpack";

/// A message. Its sender's signature, the guard's admission and the policy were checked before it came here.
#[derive(Clone)]
pub struct Message {
    opened: Opened,
    sender: Arc<Member>,
    view: Arc<View>,
    envelope: Bytes,
    admission: String,
}

impl Message {
    pub(crate) const fn new(
        opened: Opened,
        sender: Arc<Member>,
        view: Arc<View>,
        envelope: Bytes,
        admission: String,
    ) -> Self {
        Self { opened, sender, view, envelope, admission }
    }

    /// The sealed envelope as it came. Kept with [`admission`](Self::admission) it is evidence that needs no
    /// key to check: the sender sealed this, and the guard let it pass and must have it in its audit log
    /// (`sealbus audit prove --delivery`).
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// The guard's signed proof of admission, as the header of the delivery carried it.
    #[must_use]
    pub fn admission(&self) -> &str {
        &self.admission
    }

    said_by_its_sender!();

    /// W3C trace context, if the sender traces.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.opened.content().traceparent.as_deref()
    }

    /// The payload as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is not the JSON of a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.payload()).map_err(|error| self.not("JSON", &error).caused(error))
    }

    /// The payload as MessagePack.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is not the MessagePack of a `T`.
    pub fn msgpack<T: DeserializeOwned>(&self) -> Result<T> {
        rmp_serde::from_slice(self.payload()).map_err(|error| self.not("MessagePack", &error).caused(error))
    }

    fn not(&self, format: &str, error: &dyn fmt::Display) -> Error {
        Error::new(
            ErrorKind::Invalid,
            format!(
                "payload of `{}` on `{}` is not the {format} expected: {error}",
                self.sender(),
                self.subject()
            ),
        )
    }

    /// The name of the agent that sent it.
    #[must_use]
    pub fn sender(&self) -> &str {
        self.sender.claims().name.as_str()
    }

    /// The sender's team.
    #[must_use]
    pub fn sender_team(&self) -> &str {
        self.sender.claims().team.as_str()
    }

    /// The session it was sent in.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.opened.header().session
    }

    /// Its id, drawn by the sender.
    #[must_use]
    pub const fn id(&self) -> EnvelopeId {
        self.opened.header().id
    }

    /// The digest of the request that it answers.
    #[must_use]
    pub const fn answers(&self) -> Option<Hash> {
        self.opened.header().request
    }

    /// What the guard decided about it, and when.
    #[must_use]
    pub const fn decision(&self) -> &Decision {
        self.opened.decision()
    }

    /// This message as a parent of one that is derived from it.
    #[must_use]
    pub const fn as_parent(&self) -> Parent {
        Parent { digest: self.digest(), label: self.label() }
    }

    /// Where it comes from, readable.
    #[must_use]
    pub const fn provenance(&self) -> Provenance<'_> {
        Provenance(self)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("sender", &self.sender_token())
            .field("subject", &self.subject())
            .field("digest", &hex(&self.digest()))
            .field("payload_len", &self.payload().len())
            .finish_non_exhaustive()
    }
}

/// Who sent a message, under what, derived from what, admitted when. For people; from [`Message::provenance`].
#[derive(Debug, Clone, Copy)]
pub struct Provenance<'a>(&'a Message);

impl fmt::Display for Provenance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(message) = self;
        let decision = message.decision();
        writeln!(f, "{} on {}", hex(&message.digest()), message.subject())?;
        writeln!(
            f,
            "  from   {} (team {}), session {}",
            message.sender_token(),
            message.sender_team(),
            message.session().token()
        )?;
        writeln!(f, "  label  {}, rule {}", message.label_text(), message.rule())?;
        write!(
            f,
            "  guard  admitted at {} ms, epoch {}, log position {}, policy {}",
            decision.time.0, decision.epoch, decision.position, decision.policy_version
        )?;
        if decision.observed {
            write!(f, " (observe mode: would have been denied)")?;
        }
        for parent in message.parents() {
            write!(f, "\n  parent {} ({})", hex(&parent.digest), message.view.tables.show(parent.label))?;
        }
        Ok(())
    }
}

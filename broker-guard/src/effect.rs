//! What the pure core wants done: messages to sessions, records in the log, connections to end. The
//! service carries them out.

use sealbus_envelope::{
    control,
    identity::SessionId,
    name::AgentToken,
    reason::{Reason, Refused},
    time::Millis,
};
use serde::Serialize;

use crate::audit::entry::Body;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell a session something in its box.
    Tell {
        /// Whose box.
        agent: AgentToken,
        /// Which session's.
        session: SessionId,
        /// The last token of the subject: one of [`control::kind`].
        kind: &'static str,
        /// The message.
        payload: Vec<u8>,
    },
    /// Write it in the audit log.
    Record(Body<'static>),
    /// End a session's connection, because its permissions are no longer right.
    Disconnect {
        /// Whose.
        session: SessionId,
        /// Why.
        reason: Reason,
    },
}

/// The things to do, in order.
#[derive(Debug, Default)]
pub struct Effects(Vec<Effect>);

impl Effects {
    /// Tells a session something.
    ///
    /// # Errors
    /// `malformed`, which no control message gives.
    pub fn tell<T: Serialize>(
        &mut self,
        agent: &AgentToken,
        session: SessionId,
        kind: &'static str,
        message: &T,
    ) -> Result<(), Refused> {
        let payload = control::encode(message)?;
        self.0.push(Effect::Tell { agent: agent.clone(), session, kind, payload });
        Ok(())
    }

    /// Writes in the audit log.
    pub fn record(&mut self, body: Body<'static>) {
        self.0.push(Effect::Record(body));
    }

    /// Ends a connection.
    pub fn disconnect(&mut self, session: SessionId, reason: Reason) {
        self.0.push(Effect::Disconnect { session, reason });
    }

    /// Takes what there is to do.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.0.drain(..)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The notice of something refused that is no envelope.
#[must_use]
pub fn refusal(refused: Refused, subject: &str, now: Millis) -> control::DeniedNotice {
    control::DeniedNotice {
        reason: refused.reason,
        what: refused.what.to_owned(),
        id: None,
        digest: None,
        subject: subject.to_owned(),
        time: now,
        count: 1,
    }
}

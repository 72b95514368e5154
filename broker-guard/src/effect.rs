//! What the pure core wants done: messages to sessions, records in the log, connections to end. The
//! service carries them out.

use sealbus_envelope::{
    control,
    identity::SessionId,
    name::AgentToken,
    reason::{Reason, Refused},
    subject::Partition,
};
use serde::Serialize;

use crate::{audit::entry::Body, taint::Raise};

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
    /// A heartbeat to the agents of a partition, now.
    Beat(Partition),
    /// Raise a floor, durably, before anything that comes after is told to anybody.
    RaiseFloor(Raise),
    /// Write it in the audit log.
    Record(Body<'static>),
    /// Take what a person signed about a held envelope, and tell the session that brought it what became of it.
    Approve {
        /// Whose session.
        agent: AgentToken,
        /// Which.
        session: SessionId,
        /// A [`SignedApproval`](sealbus_envelope::approval::SignedApproval), not verified yet.
        approval: Vec<u8>,
    },
    /// Tell a session what is held of what its agent may read.
    TellHeld {
        /// Whose session.
        agent: AgentToken,
        /// Which.
        session: SessionId,
        /// Its question.
        ask: control::AskHeld,
    },
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
pub struct Effects {
    list: Vec<Effect>,
    cost: u64,
}

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
        self.tell_encoded(agent, session, kind, control::encode(message)?);
        Ok(())
    }

    /// Tells a session something that is encoded already.
    pub fn tell_encoded(
        &mut self,
        agent: &AgentToken,
        session: SessionId,
        kind: &'static str,
        payload: Vec<u8>,
    ) {
        let kibibytes = u64::try_from(payload.len() >> 10).unwrap_or(u64::MAX);
        self.cost = self.cost.saturating_add(kibibytes).saturating_add(1);
        self.list.push(Effect::Tell { agent: agent.clone(), session, kind, payload });
    }

    /// Asks for a heartbeat.
    pub fn beat(&mut self, partition: Partition) {
        self.cost = self.cost.saturating_add(1);
        self.list.push(Effect::Beat(partition));
    }

    /// Raises a floor.
    pub fn raise_floor(&mut self, raise: Raise) {
        self.cost = self.cost.saturating_add(1);
        self.list.push(Effect::RaiseFloor(raise));
    }

    /// Writes in the audit log.
    pub fn record(&mut self, body: Body<'static>) {
        self.cost = self.cost.saturating_add(1);
        self.list.push(Effect::Record(body));
    }

    /// Asks for something of oversight, which knows what is held; `cost` is what the answer may weigh.
    pub fn oversee(&mut self, effect: Effect, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
        self.list.push(effect);
    }

    /// Ends a connection.
    pub fn disconnect(&mut self, session: SessionId, reason: Reason) {
        self.list.push(Effect::Disconnect { session, reason });
    }

    /// Puts an effect behind those there are.
    pub fn put(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// What all of it so far costs: one a message or record, and one a KiB. Who caused it is charged for it.
    #[must_use]
    pub const fn cost(&self) -> u64 {
        self.cost
    }

    /// Takes what there is to do.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.cost = 0;
        self.list.drain(..)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

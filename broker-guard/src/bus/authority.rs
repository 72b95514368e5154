//! What the authenticator may ask and tell the guard's core, without ever waiting for it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use sealbus_envelope::{
    identity::{PublicKey, Status},
    time::Millis,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    bus::auth::{Authority, Connection, ConnectionDecision},
    clock,
    policy::compile::CompiledPolicy,
    quarantine::{bars::Bars, state::State},
    sessions::InForce,
};

/// Decisions that wait to be logged. Past it they are counted only: a flood of strangers at the door must
/// not fill the guard's memory.
const DECISIONS: usize = 8_192;

/// Between the authenticator and the core.
#[derive(Debug)]
pub struct Hall {
    policy: ArcSwap<CompiledPolicy>,
    status: ArcSwap<Status>,
    bars: Arc<Bars>,
    decisions: mpsc::Sender<Judged>,
    uncounted: AtomicU64,
    departures: mpsc::UnboundedSender<Connection>,
}

/// A decision, and who waits for it to be logged.
#[derive(Debug)]
pub struct Judged {
    /// What was decided.
    pub decision: ConnectionDecision,
    /// Told whether the log has it; without that word nobody is let in.
    pub logged: Option<oneshot::Sender<bool>>,
}

/// The core's end.
#[derive(Debug)]
pub struct Door {
    /// Decisions, to be logged and told.
    pub decisions: mpsc::Receiver<Judged>,
    /// Connections that ended. As many as were let in, so their number is bounded.
    pub departures: mpsc::UnboundedReceiver<Connection>,
}

impl Hall {
    /// Both ends.
    #[must_use]
    pub fn new(in_force: &InForce, bars: Arc<Bars>) -> (Arc<Self>, Door) {
        let (decided, decisions) = mpsc::channel(DECISIONS);
        let (departed, departures) = mpsc::unbounded_channel();
        let hall = Self {
            policy: ArcSwap::new(Arc::clone(&in_force.policy)),
            status: ArcSwap::new(Arc::clone(&in_force.status)),
            bars,
            decisions: decided,
            uncounted: AtomicU64::new(0),
            departures: departed,
        };
        (Arc::new(hall), Door { decisions, departures })
    }

    /// Puts another policy and status in force for new connections.
    pub fn replace(&self, in_force: &InForce) {
        self.policy.store(Arc::clone(&in_force.policy));
        self.status.store(Arc::clone(&in_force.status));
    }

    /// Decisions that were made while too many waited to be logged one by one, since it was last asked.
    pub fn take_uncounted(&self) -> u64 {
        self.uncounted.swap(0, Ordering::Relaxed)
    }
}

impl Authority for Hall {
    fn policy(&self) -> Option<Arc<CompiledPolicy>> {
        Some(self.policy.load_full())
    }

    fn status(&self) -> Option<Arc<Status>> {
        Some(self.status.load_full())
    }

    fn is_barred(&self, identity: &PublicKey) -> bool {
        self.bars.is_barred(identity)
    }

    fn diverts(&self, identity: &PublicKey) -> bool {
        self.policy.load().supervision().anomaly.divert
            && self.bars.get(identity).is_some_and(|record| record.state == State::Quarantined)
    }

    fn now(&self) -> Millis {
        clock::now()
    }

    fn decided(&self, decision: ConnectionDecision, logged: Option<oneshot::Sender<bool>>) {
        if self.decisions.try_send(Judged { decision, logged }).is_err() {
            self.uncounted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn departed(&self, connection: &Connection) {
        // The core is gone only when the guard stops.
        let _ = self.departures.send(connection.clone());
    }
}

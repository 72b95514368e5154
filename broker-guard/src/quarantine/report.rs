//! What the guard's page tells of agents that are watched or off the bus, or were.

use sealbus_envelope::{hash::hex, identity::KeyKind};
use serde::{Deserialize, Serialize};

use super::{
    custody::{Account, Fate, Kept},
    state::{Cause, Known, State, Trigger},
};
use crate::{bus::auth::Connection, store::Store};

/// The most kept envelopes that a report lists.
pub const LISTED: usize = 64;

/// All about one agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentReport {
    /// The agent, as subjects name it.
    pub agent: String,
    /// Its identity key, an nkey.
    pub identity: String,
    /// Where it stands.
    pub state: State,
    /// Since when, unix milliseconds.
    pub since: u64,
    /// How many times it was quarantined.
    pub times: u32,
    /// Why it is where it is.
    pub cause: CauseReport,
    /// What led here, oldest first, the present state last.
    pub history: Vec<StepReport>,
    /// Its anomaly score, if anything is held against it.
    pub score: Option<f64>,
    /// Its live sessions.
    pub sessions: usize,
    /// Its connections that the guard knows of.
    pub connections: Vec<ConnectionReport>,
    /// What the servers said after it was taken off the bus.
    pub enforced: Option<EnforcedReport>,
    /// What is kept of it.
    pub evidence: EvidenceReport,
}

/// Why a state was entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseReport {
    /// What set it off.
    pub trigger: Trigger,
    /// The stable reason code.
    pub reason: String,
    /// What the code means.
    pub meaning: String,
    /// Which part of the evidence gave the reason; for an order, who signed it.
    pub what: String,
    /// Digests of the envelopes that are the evidence, in hexadecimal.
    pub envelopes: Vec<String>,
    /// The order, if it was one.
    pub order: Option<OrderReport>,
}

/// The order behind a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReport {
    /// Its id, in hexadecimal.
    pub id: String,
    /// Who signed it: nkeys.
    pub signers: Vec<String>,
    /// Why, in the words of who made it.
    pub why: String,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// When, unix milliseconds.
    pub at: u64,
    /// The state that was entered.
    pub state: State,
    /// Why.
    pub cause: CauseReport,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// The server's name.
    pub server: String,
    /// The server's number for it.
    pub client: u64,
    /// Whether it only waits to hear why it is refused.
    pub lobby: bool,
}

impl ConnectionReport {
    /// Of a connection in the books.
    #[must_use]
    pub fn of(connection: &Connection) -> Self {
        Self {
            server: connection.place.server.clone(),
            client: connection.id.client,
            lobby: connection.lobby,
        }
    }
}

/// What the servers said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnforcedReport {
    /// When they had all been asked twice, unix milliseconds.
    pub at: u64,
    /// Whether every server answered that it holds no connection of the agent.
    pub confirmed: bool,
    /// Connections that were cut.
    pub cut: u32,
    /// Connections that are left.
    pub left: u32,
    /// Servers that did not answer.
    pub silent: Vec<String>,
}

/// What is kept of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceReport {
    /// Envelopes that wait for a decision.
    pub waiting: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Envelopes that were not kept, because there were too many.
    pub dropped: u64,
    /// Delivered after all.
    pub delivered: u64,
    /// Refused when they were to be delivered.
    pub refused: u64,
    /// Discarded.
    pub discarded: u64,
    /// Whether a replay is under way.
    pub replaying: bool,
    /// Why, if the list cannot be read.
    pub fault: Option<String>,
    /// The newest, at most [`LISTED`].
    pub newest: Vec<KeptReport>,
}

/// One kept envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptReport {
    /// Its number.
    pub n: u64,
    /// When it came, unix milliseconds.
    pub time: u64,
    /// The logical subject.
    pub subject: String,
    /// Its size in bytes.
    pub size: u32,
    /// Why it is kept.
    pub reason: String,
    /// Whether it is what the agent was quarantined for.
    pub trigger: bool,
    /// Its digest in hexadecimal, if it can be read.
    pub digest: Option<String>,
    /// The session that it claims, in hexadecimal.
    pub session: Option<String>,
    /// The rule that it claims.
    pub rule: Option<String>,
    /// The label that it claims: level, compartments, integrity.
    pub label: Option<(u8, u64, u8)>,
    /// What became of it: `delivered`, `discarded`, or what it was refused for.
    pub fate: Option<String>,
}

impl AgentReport {
    /// What the store and the books say; connections and sessions are the running guard's to add.
    #[must_use]
    pub fn read(store: &Store, known: &Known) -> Self {
        let record = &known.record;
        let evidence = store
            .account(&known.identity)
            .and_then(|account| Ok(evidence(&account, &store.newest_evidence(&known.identity, LISTED)?)))
            .unwrap_or_else(|error| EvidenceReport { fault: Some(error.to_string()), ..Default::default() });
        Self {
            agent: record.agent.to_string(),
            identity: known.identity.to_nkey(KeyKind::User),
            state: record.state,
            since: record.since.0,
            times: record.times,
            cause: cause(&record.cause),
            history: record
                .history
                .iter()
                .map(|step| StepReport { at: step.at.0, state: step.state, cause: cause(&step.cause) })
                .collect(),
            score: None,
            sessions: 0,
            connections: Vec::new(),
            enforced: record.enforced.as_ref().map(|seen| EnforcedReport {
                at: seen.at.0,
                confirmed: seen.confirmed(),
                cut: seen.cut,
                left: seen.left,
                silent: seen.silent.clone(),
            }),
            evidence,
        }
    }
}

fn cause(cause: &Cause) -> CauseReport {
    CauseReport {
        trigger: cause.trigger,
        reason: cause.reason.code().to_owned(),
        meaning: cause.reason.meaning().to_owned(),
        what: cause.what.clone(),
        envelopes: cause.envelopes.iter().map(|digest| hex(digest)).collect(),
        order: cause.order.as_ref().map(|order| OrderReport {
            id: hex(&order.id),
            signers: order.signers.clone(),
            why: order.why.clone(),
        }),
    }
}

fn evidence(account: &Account, newest: &[Kept]) -> EvidenceReport {
    EvidenceReport {
        waiting: account.waiting,
        bytes: account.bytes,
        dropped: account.dropped,
        delivered: account.delivered,
        refused: account.refused,
        discarded: account.discarded,
        replaying: account.job.is_some(),
        fault: None,
        newest: newest.iter().map(kept).collect(),
    }
}

fn kept(kept: &Kept) -> KeptReport {
    let claims = kept.claims.as_ref();
    KeptReport {
        n: kept.n,
        time: kept.time.0,
        subject: kept.subject.clone(),
        size: kept.size,
        reason: kept.reason.code().to_owned(),
        trigger: kept.trigger,
        digest: claims.map(|claims| hex(&claims.digest)),
        session: claims.map(|claims| claims.session.to_string()),
        rule: claims.map(|claims| claims.rule.clone()),
        label: claims.map(|claims| {
            (claims.label.level.number(), claims.label.compartments.bits(), claims.label.integrity.number())
        }),
        fate: kept.fate.map(|fate| match fate {
            Fate::Delivered => "delivered".to_owned(),
            Fate::Refused(reason) => reason.code().to_owned(),
            Fate::Discarded => "discarded".to_owned(),
        }),
    }
}

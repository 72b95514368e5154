//! What the log records: every kind of entry, in one place. [`coding`] says how it is written.
//!
//! Fields are only ever added at the end of a kind, with a default.

use std::borrow::Cow;
use std::fmt;

use sealbus_envelope::label::Label;
use sealbus_envelope::time::Millis;
use serde::{Deserialize, Serialize};

pub mod coding;

pub use super::hex::Hex;

/// Text that the hot path lends and a reader owns.
pub type Text<'a> = Cow<'a, str>;

/// Where an entry stands: which start of the guard, and which entry since.
///
/// Never given twice: the epoch rises with every start, durably before anything else is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The start epoch, from 1.
    pub epoch: u64,
    /// The number within the epoch, from 0.
    pub n: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.n)
    }
}

/// An entry before the log gives it its position.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    /// The guard's clock, unix milliseconds.
    pub time: Millis,
    /// What happened.
    pub body: Body<'a>,
}

/// An entry as logged.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<'a> {
    /// The guard's clock, unix milliseconds. May step back; the position never does.
    pub time: Millis,
    /// Where it stands.
    pub position: Position,
    /// What happened.
    pub body: Body<'a>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Body<'a> {
    /// The guard's log was opened: the first entry of an epoch.
    Start(Start<'a>),
    /// The guard's log was closed in order: the last entry of an epoch.
    Stop,
    /// Positions that may have been given to entries which are not in the log.
    Gap(Gap),
    /// An envelope was admitted and forwarded.
    Admitted(Admitted<'a>),
    /// Something was refused; `count` alike refusals share one entry.
    Denied(Denied<'a>),
    /// A signed order was received: release, revoke, approve, clear a floor.
    Order(Order<'a>),
    /// A client asked the auth callout to be let in.
    Connection(Connection<'a>),
    /// A session began or ended.
    Session(Session<'a>),
    /// A sender key was relayed to a reader.
    KeyGranted(KeyGranted<'a>),
    /// Another policy bundle or status statement came into force.
    PolicyChange(PolicyChange<'a>),
    /// An agent's quarantine state changed.
    Quarantine(Quarantine<'a>),
    /// A checkpoint of another log or store was seen, and is bound into this one.
    Checkpoint(Seen<'a>),
    /// Entries were removed because their time was over.
    Pruned(Pruned),
    /// An envelope passed every check and waits for people to approve it.
    Held(Held<'a>),
    /// A person's approval or denial of a held envelope was received.
    Approval(Approval<'a>),
    /// A held envelope was decided. If it was released, the entry of its admission follows.
    HoldEnded(HoldEnded<'a>),
    /// A workflow was paused, or goes on.
    Workflow(Workflow<'a>),
}

/// See [`Body::Start`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start<'a> {
    /// The last position in the log before this start; none in a new log.
    pub previous: Option<Position>,
    /// Whether the log had been closed in order. If not, a [`Body::Gap`] follows.
    pub clean: bool,
    /// The version of the program.
    pub program: Text<'a>,
}

/// See [`Body::Gap`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The epoch the positions belong to.
    pub epoch: u64,
    /// The first position that may be missing.
    pub from: u64,
    /// The last one, if known. After a power failure nobody knows.
    pub to: Option<u64>,
    /// Bytes of an unfinished write that recovery removed.
    pub torn_bytes: u64,
    /// Why there is a gap.
    pub cause: GapCause,
}

/// See [`Gap::cause`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GapCause {
    /// The guard ended without closing its log.
    Crash,
    /// The disk refused a write; what was to be logged was not admitted.
    WriteFailed,
}

/// See [`Body::Admitted`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Admitted<'a> {
    /// The envelope's digest: the leaf of its proofs.
    pub digest: Hex<32>,
    /// The envelope's id.
    pub envelope: Hex<16>,
    /// The sender's token, `name-shortid`.
    pub sender: Text<'a>,
    /// The sender's session.
    pub session: Hex<32>,
    /// The rule it was admitted under.
    pub rule: Text<'a>,
    /// The logical subject.
    pub subject: Text<'a>,
    /// Its label.
    pub label: Label,
    /// The flow grant it used.
    pub flow_grant: Option<Text<'a>>,
    /// The digests of the envelopes it says it derives from.
    pub parents: Cow<'a, [Hex<32>]>,
    /// The version of the policy that admitted it.
    pub policy_version: u64,
    /// The guard time in the proof of admission, unix milliseconds.
    pub guard_time: Millis,
    /// Whether the sender asked for a verdict after fsync.
    pub confirm: bool,
    /// In observe mode: the reason it would have been denied for.
    pub observed: Option<Text<'a>>,
}

/// See [`Body::Denied`]. What is not known when a check fails is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Denied<'a> {
    /// The stable reason code.
    pub reason: Text<'a>,
    /// How many refusals this entry stands for, 1 or more.
    pub count: u64,
    /// The envelope's digest.
    pub digest: Option<Hex<32>>,
    /// The envelope's id.
    pub envelope: Option<Hex<16>>,
    /// The sender's token, as the broker attests it.
    pub sender: Option<Text<'a>>,
    /// The sender's session.
    pub session: Option<Hex<32>>,
    /// The rule named.
    pub rule: Option<Text<'a>>,
    /// The logical subject.
    pub subject: Option<Text<'a>>,
    /// The label claimed.
    pub label: Option<Label>,
    /// A sentence for people.
    pub detail: Option<Text<'a>>,
}

/// See [`Body::Order`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order<'a> {
    /// What is ordered.
    pub order: Text<'a>,
    /// The digest of the signed order.
    pub digest: Hex<32>,
    /// What or whom it concerns.
    pub target: Text<'a>,
    /// The public keys whose signatures were accepted.
    pub signers: Vec<Text<'a>>,
    /// Whether it is carried out. The entry is on disk first: a guard that died before it acted takes the order
    /// again, and the log has it twice.
    pub accepted: bool,
    /// Why not: the stable reason code.
    pub reason: Option<Text<'a>>,
    /// The order's id.
    #[serde(default)]
    pub id: Option<Hex<16>>,
    /// Why it was given, in the words of who signed it.
    #[serde(default)]
    pub why: Option<Text<'a>>,
}

/// See [`Body::Connection`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connection<'a> {
    /// The agent's token, if its credential was good enough to say.
    pub agent: Option<Text<'a>>,
    /// The server it connected to.
    pub server: Text<'a>,
    /// The answer.
    pub result: ConnectionResult,
    /// The stable reason code, unless accepted.
    pub reason: Option<Text<'a>>,
    /// The session that it is for, if that was proven.
    #[serde(default)]
    pub session: Option<Hex<32>>,
    /// Where it comes from, as the server says.
    #[serde(default)]
    pub host: Option<Text<'a>>,
}

/// See [`Connection::result`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConnectionResult {
    /// Let in with its permissions.
    Accepted,
    /// Known but refused: ten seconds in its own box to read why.
    Lobby,
    /// Refused without a word.
    Refused,
    /// Thrown off the bus.
    Kicked,
}

/// See [`Body::Session`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session<'a> {
    /// The session.
    pub session: Hex<32>,
    /// The agent's token.
    pub agent: Text<'a>,
    /// What happened to it: `hello`, `closed`, `expired`.
    pub event: Text<'a>,
}

/// See [`Body::KeyGranted`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyGranted<'a> {
    /// The sender key's id.
    pub key: Hex<32>,
    /// The sender's token.
    pub sender: Text<'a>,
    /// The sender's session.
    pub sender_session: Hex<32>,
    /// The reader's token.
    pub reader: Text<'a>,
    /// The reader's session.
    pub reader_session: Hex<32>,
    /// The rule the key is for.
    pub rule: Text<'a>,
    /// The label the key is for: what it adds to the reader's taint floor.
    pub label: Label,
}

/// See [`Body::PolicyChange`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyChange<'a> {
    /// `bundle` or `status`.
    pub what: Text<'a>,
    /// The version before; none at the first.
    pub from: Option<u64>,
    /// The version now in force.
    pub to: u64,
    /// The digest now in force.
    pub digest: Hex<32>,
}

/// See [`Body::Quarantine`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quarantine<'a> {
    /// The agent's token.
    pub agent: Text<'a>,
    /// The state it left.
    pub from: Text<'a>,
    /// The state it entered.
    pub to: Text<'a>,
    /// The stable reason code.
    pub reason: Text<'a>,
    /// The digests of the envelopes that are the evidence.
    pub evidence: Vec<Hex<32>>,
    /// Whether every server on the roster said it holds no connection of the agent; none if not asked yet.
    pub confirmed: Option<bool>,
    /// A sentence for people.
    pub detail: Option<Text<'a>>,
}

/// See [`Body::Pruned`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Entries below this leaf are gone; their hashes are still there.
    pub before: u64,
    /// The time of the newest of them, unix milliseconds.
    pub newest: Millis,
    /// The root of the checkpoint of the export that holds them; none if they were removed without one.
    pub exported: Option<Hex<32>>,
}

/// See [`Body::Workflow`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workflow<'a> {
    /// `team:NAME` or `rule:NAME`.
    pub workflow: Text<'a>,
    /// `paused` or `resumed`.
    pub to: Text<'a>,
    /// What did it: `breaker` or `order`.
    pub trigger: Text<'a>,
    /// Who deviated, as subjects name it.
    pub agent: Option<Text<'a>>,
    /// The stable reason of the deviation.
    pub reason: Option<Text<'a>>,
    /// The digest of the envelope that deviated, if it was one.
    pub evidence: Option<Hex<32>>,
    /// A sentence for people.
    pub detail: Option<Text<'a>>,
}

/// See [`Body::Checkpoint`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen<'a> {
    /// Whose checkpoint.
    pub origin: Text<'a>,
    /// The size it states.
    pub size: u64,
    /// The root it states.
    pub root: Hex<32>,
}

/// See [`Body::Held`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held<'a> {
    /// The envelope's digest: what approvals bind.
    pub digest: Hex<32>,
    /// The envelope's id.
    pub envelope: Hex<16>,
    /// The sender's token.
    pub sender: Text<'a>,
    /// The sender's session.
    pub session: Hex<32>,
    /// The rule.
    pub rule: Text<'a>,
    /// The logical subject.
    pub subject: Text<'a>,
    /// Its label.
    pub label: Label,
    /// The flow grant it names.
    pub flow_grant: Option<Text<'a>>,
    /// How many approvals it waits for.
    pub approvals: u8,
    /// When it is denied if they have not come, unix milliseconds.
    pub until: Millis,
    /// The version of the policy under which it passed.
    pub policy_version: u64,
}

/// See [`Body::Approval`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval<'a> {
    /// The envelope's digest.
    pub digest: Hex<32>,
    /// Who signed, as the policy names them; none if it names nobody with that key.
    pub person: Option<Text<'a>>,
    /// The public key that signed.
    pub key: Text<'a>,
    /// Yes or no.
    pub approve: bool,
    /// When it was signed, by that person's clock, unix milliseconds.
    pub signed: Millis,
    /// Whether it counts.
    pub accepted: bool,
    /// Why not: the stable reason code.
    pub reason: Option<Text<'a>>,
    /// How many approvals are missing after it.
    pub missing: u8,
}

/// See [`Body::HoldEnded`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldEnded<'a> {
    /// The envelope's digest.
    pub digest: Hex<32>,
    /// The envelope's id.
    pub envelope: Hex<16>,
    /// The sender's token.
    pub sender: Text<'a>,
    /// The rule.
    pub rule: Text<'a>,
    /// The logical subject.
    pub subject: Text<'a>,
    /// Whether it goes to its readers.
    pub released: bool,
    /// Why not: the stable reason code.
    pub reason: Option<Text<'a>>,
    /// Who approved it, or who denied it, as the policy names them.
    pub people: Vec<Text<'a>>,
    /// How long it waited, in milliseconds.
    pub waited_ms: u64,
}

impl Body<'_> {
    /// The name of the kind, as in JSON.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Stop => "stop",
            Self::Gap(_) => "gap",
            Self::Admitted(_) => "admitted",
            Self::Denied(_) => "denied",
            Self::Order(_) => "order",
            Self::Connection(_) => "connection",
            Self::Session(_) => "session",
            Self::KeyGranted(_) => "key_granted",
            Self::PolicyChange(_) => "policy_change",
            Self::Quarantine(_) => "quarantine",
            Self::Checkpoint(_) => "checkpoint",
            Self::Pruned(_) => "pruned",
            Self::Held(_) => "held",
            Self::Approval(_) => "approval",
            Self::HoldEnded(_) => "hold_ended",
            Self::Workflow(_) => "workflow",
        }
    }

    /// Whether this may be written from the reserve when the disk is full: what people need to do to bring
    /// the bus back, and what takes an agent off it. Admissions may not, so a full disk stops traffic; nor may
    /// refused orders, which anybody can send.
    #[must_use]
    pub const fn may_use_reserve(&self) -> bool {
        matches!(
            self,
            Self::Start(_)
                | Self::Stop
                | Self::Gap(_)
                | Self::Order(Order { accepted: true, .. })
                | Self::PolicyChange(_)
                | Self::Quarantine(_)
                | Self::Pruned(_)
                | Self::Workflow(_)
        )
    }
}

#[cfg(test)]
mod tests;

//! Rules as signed records: who may send what to whom.

use crate::{
    identity::Claims,
    label::{Label, LabelRange},
    name::{MAX_NAME, Name},
    policy::{
        oversight::{Hold, Oversight},
        record::{VERSION, pattern, reader, version},
    },
    reason::{Reason, Refused},
    subject::Pattern,
    wire::{
        codec::{Reader, Writer},
        header::{read_label, write_label},
    },
};

/// The most parties on one side of a rule.
pub const MAX_PARTIES: usize = 256;
const ARITY: usize = 15;

/// Whether messages stand alone or are asked and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Published to every subscriber.
    Stream,
    /// Delivered to one subscriber, which may answer once, within the deadline.
    Request {
        /// How long a request stays open, in milliseconds.
        deadline_ms: u32,
    },
}

/// Who a rule names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// Everyone in a team.
    Team(Name),
    /// One agent, by name.
    Agent(Name),
}

impl Who {
    /// Whether it names the holder of these claims.
    #[must_use]
    pub fn names(&self, claims: &Claims) -> bool {
        match self {
            Self::Team(team) => *team == claims.team,
            Self::Agent(agent) => *agent == claims.name,
        }
    }
}

/// One publisher or subscriber of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Party {
    /// Who.
    pub who: Who,
    /// Subscribers only: they must share the work in this queue group.
    pub queue: Option<Name>,
}

/// A limit on messages from one sender under one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Sustained messages a second.
    pub per_second: u32,
    /// How many may come at once.
    pub burst: u32,
}

impl Rate {
    pub(super) fn write(self, w: &mut Writer) {
        w.array(2).uint(self.per_second).uint(self.burst);
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Refused> {
        r.array(2)?;
        Ok(Self { per_second: r.small()?, burst: r.small()? })
    }
}

/// A rule: who may publish what to whom. Rules only allow; none narrows another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique in the policy; envelopes name the rule they use.
    pub name: Name,
    /// The logical subjects it covers.
    pub pattern: Pattern,
    /// Stream or request.
    pub kind: MessageKind,
    /// Who may publish (or ask).
    pub publishers: Vec<Party>,
    /// Who may subscribe (or answer).
    pub subscribers: Vec<Party>,
    /// Labels it accepts.
    pub labels: LabelRange,
    /// The label of messages whose sender chose none.
    pub default_label: Label,
    /// The largest envelope, in bytes.
    pub max_bytes: u32,
    /// The most messages from one sender.
    pub rate: Option<Rate>,
    /// At most so many different agents publish (or answer) at once: each holds an open sender key.
    pub fan_in: Option<u32>,
    /// Faults of senders are recorded and let pass, as far as [`Reason::is_observable`](crate::reason::Reason::is_observable).
    pub observe: bool,
    /// Envelopes wait until people approve them.
    pub hold: Option<Hold>,
    /// How people watch over what goes under it.
    pub oversight: Option<Oversight>,
}

impl Rule {
    /// Whether it names the holder as a publisher.
    #[must_use]
    pub fn names_publisher(&self, claims: &Claims) -> bool {
        self.publishers.iter().any(|party| party.who.names(claims))
    }

    /// The subscriber entry that names the holder, if one does.
    #[must_use]
    pub fn subscriber(&self, claims: &Claims) -> Option<&Party> {
        self.subscribers.iter().find(|party| party.who.names(claims))
    }

    /// Writes the record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(256);
        w.array(ARITY).uint(VERSION).str(self.name.as_str()).str(self.pattern.as_str());
        match self.kind {
            MessageKind::Stream => w.uint(0u8),
            MessageKind::Request { deadline_ms } => w.uint(deadline_ms.max(1)),
        };
        write_parties(&mut w, &self.publishers);
        write_parties(&mut w, &self.subscribers);
        write_label(&mut w, self.labels.low);
        write_label(&mut w, self.labels.high);
        write_label(&mut w, self.default_label);
        w.uint(self.max_bytes).option(self.rate, |w, rate| rate.write(w));
        w.option(self.fan_in, |w, most| {
            w.uint(most);
        });
        w.bool(self.observe).option(self.hold.as_ref(), |w, hold| hold.write(w));
        Oversight::write(self.oversight, &mut w);
        w.into_bytes()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `bad_name`, `bad_subject`, `bad_label`, `weak_key`; `policy_invalid`
    /// for a hold that nobody could approve.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let mut r = reader(bytes, "rule")?;
        r.array(ARITY)?;
        version(&mut r, "rule")?;
        let rule = Self {
            name: Name::parse(r.str(MAX_NAME)?)?,
            pattern: pattern(&mut r)?,
            kind: match r.small()? {
                0 => MessageKind::Stream,
                deadline_ms => MessageKind::Request { deadline_ms },
            },
            publishers: read_parties(&mut r)?,
            subscribers: read_parties(&mut r)?,
            labels: LabelRange { low: read_label(&mut r)?, high: read_label(&mut r)? },
            default_label: read_label(&mut r)?,
            max_bytes: r.small()?,
            rate: r.option(Rate::read)?,
            fan_in: r.option(|r| r.small())?,
            observe: r.bool()?,
            hold: r.option(Hold::read)?,
            oversight: Oversight::read(&mut r, "rule.oversight")?,
        };
        r.finish()?;
        Ok(rule)
    }
}

fn write_parties(w: &mut Writer, parties: &[Party]) {
    w.array(parties.len());
    for party in parties {
        let (kind, name) = match &party.who {
            Who::Team(name) => (0u8, name),
            Who::Agent(name) => (1, name),
        };
        w.array(3).uint(kind).str(name.as_str()).option(party.queue.as_ref(), |w, queue| {
            w.str(queue.as_str());
        });
    }
}

fn read_parties(r: &mut Reader<'_>) -> Result<Vec<Party>, Refused> {
    let count = r.array_len(MAX_PARTIES)?;
    let mut parties = Vec::with_capacity(count);
    for _ in 0..count {
        r.array(3)?;
        let (kind, name) = (r.uint()?, Name::parse(r.str(MAX_NAME)?)?);
        let who = match kind {
            0 => Who::Team(name),
            1 => Who::Agent(name),
            _ => return Err(Refused::new(Reason::BadEncoding, "party")),
        };
        parties.push(Party { who, queue: r.option(|r| Name::parse(r.str(MAX_NAME)?))? });
    }
    Ok(parties)
}

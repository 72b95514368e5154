//! Rules and tables as signed records: the leaves of a policy bundle.

use crate::{
    hash::Hash,
    identity::{BusId, Claims, PublicKey},
    label::{Clearance, Compartments, Integrity, Label, LabelRange, Level},
    name::{MAX_NAME, Name},
    reason::{Reason, Refused},
    subject::{MAX_SUBJECT, Pattern, Subject},
    wire::{
        codec::{Reader, Writer},
        header::{read_label, write_label},
    },
};

/// The most parties on one side of a rule.
pub const MAX_PARTIES: usize = 256;
/// The most teams of a policy.
pub const MAX_TEAMS: usize = 1024;
/// The most guards of a bus.
pub const MAX_GUARDS: usize = 64;
/// The longest record, in bytes.
pub const MAX_RECORD: usize = 256 * 1024;
const VERSION: u8 = 1;

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
        w.array(11).uint(VERSION).str(self.name.as_str()).str(self.pattern.as_str());
        match self.kind {
            MessageKind::Stream => w.uint(0u8),
            MessageKind::Request { deadline_ms } => w.uint(deadline_ms.max(1)),
        };
        write_parties(&mut w, &self.publishers);
        write_parties(&mut w, &self.subscribers);
        write_label(&mut w, self.labels.low);
        write_label(&mut w, self.labels.high);
        write_label(&mut w, self.default_label);
        w.uint(self.max_bytes).option(self.rate, |w, rate| {
            w.array(2).uint(rate.per_second).uint(rate.burst);
        });
        w.into_bytes()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `bad_name`, `bad_subject`, `bad_label`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let mut r = reader(bytes, "rule")?;
        r.array(11)?;
        version(&mut r, "rule")?;
        let rule = Self {
            name: Name::parse(r.str(MAX_NAME)?)?,
            pattern: Pattern::parse(r.str(MAX_SUBJECT)?)?,
            kind: match r.small()? {
                0 => MessageKind::Stream,
                deadline_ms => MessageKind::Request { deadline_ms },
            },
            publishers: read_parties(&mut r)?,
            subscribers: read_parties(&mut r)?,
            labels: LabelRange { low: read_label(&mut r)?, high: read_label(&mut r)? },
            default_label: read_label(&mut r)?,
            max_bytes: r.small()?,
            rate: r.option(|r| {
                r.array(2)?;
                Ok(Rate { per_second: r.small()?, burst: r.small()? })
            })?,
        };
        r.finish()?;
        Ok(rule)
    }
}

/// A team: what its members may at most read and vouch for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// Unique in the policy.
    pub name: Name,
    /// Its clearance; a member's is the meet of this and its credential's.
    pub clearance: Clearance,
    /// At most this integrity may its members claim.
    pub integrity_ceiling: Integrity,
}

/// The tables of a policy: names, teams and the keys that serve the bus. Leaf 0 of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// The bus.
    pub bus: BusId,
    /// Level names, lowest first; their number is their place.
    pub levels: Vec<Name>,
    /// Compartment names.
    pub compartments: Vec<Name>,
    /// Integrity rank names, least trusted first.
    pub integrity: Vec<Name>,
    /// Teams, by name ascending.
    pub teams: Vec<Team>,
    /// Signs status statements.
    pub status_key: PublicKey,
    /// Keys of the guards that may admit.
    pub guards: Vec<PublicKey>,
    /// How far an envelope's issued-at may be from the guard's clock, in milliseconds.
    pub freshness_ms: u32,
    /// The most readers that one sender key is granted to.
    pub max_readers: u32,
}

impl Tables {
    /// The team with this name.
    #[must_use]
    pub fn team(&self, name: &str) -> Option<&Team> {
        self.teams.iter().find(|team| team.name.as_str() == name)
    }

    /// What the holder of these claims may read: the meet of its credential and its team. Nothing, if the
    /// policy does not know the team.
    #[must_use]
    pub fn effective_clearance(&self, claims: &Claims) -> Option<Clearance> {
        Some(claims.clearance.meet(self.team(claims.team.as_str())?.clearance))
    }

    /// Whether the policy declares every number of the label.
    #[must_use]
    pub fn declares(&self, label: Label) -> bool {
        let compartments = u32::try_from(self.compartments.len()).unwrap_or(u32::MAX);
        let undeclared = label.compartments.bits().checked_shr(compartments).unwrap_or(0);
        usize::from(label.level.number()) < self.levels.len()
            && undeclared == 0
            && usize::from(label.integrity.number()) < self.integrity.len()
    }

    /// The label in the policy's words, such as `internal/deps+findings/checked`.
    #[must_use]
    pub fn show(&self, label: Label) -> String {
        let name =
            |names: &[Name], n: u8| names.get(usize::from(n)).map_or_else(|| n.to_string(), Name::to_string);
        let compartments: Vec<_> = label.compartments.iter().map(|n| name(&self.compartments, n)).collect();
        format!(
            "{}/{}/{}",
            name(&self.levels, label.level.number()),
            if compartments.is_empty() { "-".to_owned() } else { compartments.join("+") },
            name(&self.integrity, label.integrity.number()),
        )
    }

    /// Writes the record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(1024);
        w.array(10).uint(VERSION).bin(self.bus.as_bytes());
        for names in [&self.levels, &self.compartments, &self.integrity] {
            w.array(names.len());
            for name in names {
                w.str(name.as_str());
            }
        }
        w.array(self.teams.len());
        for team in &self.teams {
            w.array(4).str(team.name.as_str()).uint(team.clearance.level.number());
            w.uint(team.clearance.compartments.bits()).uint(team.integrity_ceiling.number());
        }
        w.bin(self.status_key.as_bytes()).array(self.guards.len());
        for guard in &self.guards {
            w.bin(guard.as_bytes());
        }
        w.uint(self.freshness_ms).uint(self.max_readers);
        w.into_bytes()
    }

    /// Reads the record.
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `bad_name`, `bad_label`, `weak_key`; `policy_invalid` if
    /// teams are out of order or double.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let bad = Refused::new(Reason::BadLabel, "tables");
        let mut r = reader(bytes, "tables")?;
        r.array(10)?;
        version(&mut r, "tables")?;
        let bus = BusId::from_bytes(r.bin_array()?);
        let levels = read_names(&mut r, Level::COUNT)?;
        let compartments = read_names(&mut r, Compartments::COUNT)?;
        let integrity = read_names(&mut r, Integrity::COUNT)?;
        let count = r.array_len(MAX_TEAMS)?;
        let mut teams: Vec<Team> = Vec::with_capacity(count);
        for _ in 0..count {
            r.array(4)?;
            let team = Team {
                name: Name::parse(r.str(MAX_NAME)?)?,
                clearance: Clearance {
                    level: Level::new(r.small()?).map_err(|_| bad)?,
                    compartments: Compartments::from_bits(r.uint()?),
                },
                integrity_ceiling: Integrity::new(r.small()?).map_err(|_| bad)?,
            };
            if teams.last().is_some_and(|last| last.name >= team.name) {
                return Err(Refused::new(Reason::PolicyInvalid, "tables.teams"));
            }
            teams.push(team);
        }
        let status_key = PublicKey::from_bytes(&r.bin_array()?)?;
        let count = r.array_len(MAX_GUARDS)?;
        let guards = (0..count).map(|_| PublicKey::from_bytes(&r.bin_array()?)).collect::<Result<_, _>>()?;
        let (freshness_ms, max_readers) = (r.small()?, r.small()?);
        r.finish()?;
        Ok(Self {
            bus,
            levels,
            compartments,
            integrity,
            teams,
            status_key,
            guards,
            freshness_ms,
            max_readers,
        })
    }
}

/// Whether the holder of `claims` may publish on `subject` with `label` under `rule`. What both clients
/// and the guard's reference model ask; the guard's hot path answers the same from compiled tables.
///
/// # Errors
/// In this order: `not_publisher` (or, for a reply to a request, `not_subscriber`), `unknown_team`, `subject_outside_rule`,
/// `label_unknown`, `label_out_of_range`, `above_clearance`, `above_integrity`.
pub fn check_publish(
    tables: &Tables,
    rule: &Rule,
    claims: &Claims,
    subject: &Subject,
    label: Label,
    reply: bool,
) -> Result<(), Refused> {
    if reply {
        rule.subscriber(claims).ok_or(Refused::new(Reason::NotSubscriber, "rule"))?;
    } else if !rule.names_publisher(claims) {
        return Err(Refused::new(Reason::NotPublisher, "rule"));
    }
    let team = tables.team(claims.team.as_str()).ok_or(Refused::new(Reason::UnknownTeam, "team"))?;
    if !rule.pattern.matches(subject) {
        return Err(Refused::new(Reason::SubjectOutsideRule, "subject"));
    }
    if !tables.declares(label) {
        return Err(Refused::new(Reason::LabelUnknown, "label"));
    }
    if !rule.labels.contains(label) {
        return Err(Refused::new(Reason::LabelOutOfRange, "label"));
    }
    if !claims.clearance.meet(team.clearance).covers(label) {
        return Err(Refused::new(Reason::AboveClearance, "label"));
    }
    if label.integrity > claims.integrity_ceiling.min(team.integrity_ceiling) {
        return Err(Refused::new(Reason::AboveIntegrity, "label"));
    }
    Ok(())
}

/// Whether the holder of `claims` may read `label` under `rule`: as a subscriber, or as the asker of a
/// request if `asked`.
///
/// # Errors
/// `not_subscriber` (or `not_publisher`), `above_clearance`.
pub fn check_read(
    tables: &Tables,
    rule: &Rule,
    claims: &Claims,
    label: Label,
    asked: bool,
) -> Result<(), Refused> {
    if asked {
        if !rule.names_publisher(claims) {
            return Err(Refused::new(Reason::NotPublisher, "rule"));
        }
    } else {
        rule.subscriber(claims).ok_or(Refused::new(Reason::NotSubscriber, "rule"))?;
    }
    match tables.effective_clearance(claims) {
        Some(clearance) if clearance.covers(label) => Ok(()),
        _ => Err(Refused::new(Reason::AboveClearance, "label")),
    }
}

/// The root over a bundle's leaves: the tables, then the rules in policy order.
#[must_use]
pub fn bundle_root(tables: &[u8], rules: &[Vec<u8>]) -> Hash {
    bundle_tree(tables, rules).root()
}

pub(super) fn bundle_tree(tables: &[u8], rules: &[Vec<u8>]) -> crate::proof::merkle::Tree {
    crate::proof::merkle::Tree::build(std::iter::once(tables).chain(rules.iter().map(Vec::as_slice)))
}

fn reader<'a>(bytes: &'a [u8], what: &'static str) -> Result<Reader<'a>, Refused> {
    if bytes.len() > MAX_RECORD {
        Err(Refused::new(Reason::TooLarge, what))
    } else {
        Ok(Reader::new(bytes, what))
    }
}

fn version(r: &mut Reader<'_>, what: &'static str) -> Result<(), Refused> {
    if r.uint()? == u64::from(VERSION) { Ok(()) } else { Err(Refused::new(Reason::UnsupportedVersion, what)) }
}

fn read_names(r: &mut Reader<'_>, max: u8) -> Result<Vec<Name>, Refused> {
    let count = r.array_len(usize::from(max))?;
    (0..count).map(|_| Name::parse(r.str(MAX_NAME)?)).collect()
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

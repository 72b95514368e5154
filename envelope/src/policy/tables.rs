//! Tables: names, teams, zones and the keys that serve the bus. Leaf 0 of a policy bundle.

use crate::{
    identity::{BusId, Claims, PublicKey},
    label::{Clearance, Compartments, Integrity, Label, Level},
    name::{MAX_NAME, Name},
    policy::{
        oversight::Oversight,
        record::{VERSION, clearance, read_names, reader, version},
        rule::Rule,
        zone::{MAX_ZONES, Zone},
    },
    reason::{Reason, Refused},
    wire::codec::{Reader, Writer},
};

/// The most teams of a policy.
pub const MAX_TEAMS: usize = 1024;
/// The most guards of a bus.
pub const MAX_GUARDS: usize = 64;
const ARITY: usize = 12;

/// How long what an agent was given to read counts against what it writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TaintScope {
    /// In all its sessions, until an order clears it.
    #[default]
    Agent,
    /// Until its session ends: trusts the harness to start agents with an empty memory.
    Session,
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
    /// The zone its members run in; none means any.
    pub zone: Option<Name>,
    /// How long what a member reads counts against what it writes.
    pub taint: TaintScope,
    /// Faults of members are recorded and let pass, as far as [`Reason::is_observable`], under every rule.
    pub observe: bool,
    /// How people watch over what its members send.
    pub oversight: Option<Oversight>,
}

impl Team {
    fn write(&self, w: &mut Writer) {
        w.array(8).str(self.name.as_str()).uint(self.clearance.level.number());
        w.uint(self.clearance.compartments.bits()).uint(self.integrity_ceiling.number());
        w.option(self.zone.as_ref(), |w, zone| {
            w.str(zone.as_str());
        });
        w.uint(self.taint as u8).bool(self.observe);
        Oversight::write(self.oversight, w);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Refused> {
        r.array(8)?;
        Ok(Self {
            name: Name::parse(r.str(MAX_NAME)?)?,
            clearance: clearance(r, "tables.teams")?,
            integrity_ceiling: u8::try_from(r.uint()?)
                .ok()
                .and_then(|n| Integrity::new(n).ok())
                .ok_or(Refused::new(Reason::BadLabel, "tables.teams"))?,
            zone: r.option(|r| Name::parse(r.str(MAX_NAME)?))?,
            taint: match r.uint()? {
                0 => TaintScope::Agent,
                1 => TaintScope::Session,
                _ => return Err(Refused::new(Reason::BadEncoding, "tables.teams")),
            },
            observe: r.bool()?,
            oversight: Oversight::read(r, "tables.teams")?,
        })
    }
}

/// The tables of a policy: what all rules refer to.
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
    /// Zones, by name ascending.
    pub zones: Vec<Zone>,
    /// Signs status statements.
    pub status_key: PublicKey,
    /// Keys of the guards that may admit.
    pub guards: Vec<PublicKey>,
    /// How far an envelope's issued-at may be from the guard's clock, in milliseconds.
    pub freshness_ms: u32,
    /// The most readers that one sender key is granted to.
    pub max_readers: u32,
    /// Faults of all senders are recorded and let pass, as far as [`Reason::is_observable`].
    pub observe: bool,
}

impl Tables {
    /// The team with this name.
    #[must_use]
    pub fn team(&self, name: &str) -> Option<&Team> {
        self.teams.iter().find(|team| team.name.as_str() == name)
    }

    /// The zone with this name.
    #[must_use]
    pub fn zone(&self, name: &str) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.name.as_str() == name)
    }

    /// Whether faults of the holder of these claims, who sends under `rule`, are recorded and let pass: the bus, the
    /// rule or the team of the sender is observed.
    #[must_use]
    pub fn observes(&self, rule: &Rule, claims: &Claims) -> bool {
        self.observe || rule.observe || self.team(claims.team.as_str()).is_some_and(|team| team.observe)
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
        w.array(ARITY).uint(VERSION).bin(self.bus.as_bytes());
        for names in [&self.levels, &self.compartments, &self.integrity] {
            w.array(names.len());
            for name in names {
                w.str(name.as_str());
            }
        }
        w.array(self.teams.len());
        for team in &self.teams {
            team.write(&mut w);
        }
        w.array(self.zones.len());
        for zone in &self.zones {
            zone.write(&mut w);
        }
        w.bin(self.status_key.as_bytes()).array(self.guards.len());
        for guard in &self.guards {
            w.bin(guard.as_bytes());
        }
        w.uint(self.freshness_ms).uint(self.max_readers).bool(self.observe);
        w.into_bytes()
    }

    /// Reads the record.
    ///
    /// # Errors
    /// The codec's reasons; `unsupported_version`, `bad_name`, `bad_label`, `weak_key`; `policy_invalid` if
    /// teams or zones are out of order or double.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let mut r = reader(bytes, "tables")?;
        r.array(ARITY)?;
        version(&mut r, "tables")?;
        let bus = BusId::from_bytes(r.bin_array()?);
        let levels = read_names(&mut r, Level::COUNT)?;
        let compartments = read_names(&mut r, Compartments::COUNT)?;
        let integrity = read_names(&mut r, Integrity::COUNT)?;
        let teams = read_sorted(&mut r, MAX_TEAMS, Team::read, |team| &team.name, "tables.teams")?;
        let zones = read_sorted(&mut r, MAX_ZONES, Zone::read, |zone| &zone.name, "tables.zones")?;
        let status_key = PublicKey::from_bytes(&r.bin_array()?)?;
        let count = r.array_len(MAX_GUARDS)?;
        let guards = (0..count).map(|_| PublicKey::from_bytes(&r.bin_array()?)).collect::<Result<_, _>>()?;
        let (freshness_ms, max_readers, observe) = (r.small()?, r.small()?, r.bool()?);
        r.finish()?;
        Ok(Self {
            bus,
            levels,
            compartments,
            integrity,
            teams,
            zones,
            status_key,
            guards,
            freshness_ms,
            max_readers,
            observe,
        })
    }
}

/// Reads a list whose names ascend, so that each list has one text and no name stands twice.
fn read_sorted<T>(
    r: &mut Reader<'_>,
    most: usize,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Refused>,
    name: impl Fn(&T) -> &Name,
    what: &'static str,
) -> Result<Vec<T>, Refused> {
    let count = r.array_len(most)?;
    let mut all: Vec<T> = Vec::with_capacity(count);
    for _ in 0..count {
        let next = read(r)?;
        if all.last().is_some_and(|last| name(last) >= name(&next)) {
            return Err(Refused::new(Reason::PolicyInvalid, what));
        }
        all.push(next);
    }
    Ok(all)
}

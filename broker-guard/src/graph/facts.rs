//! What the graph is made from: signed facts, lent to it.

use std::collections::BTreeSet;

use sealbus_envelope::{
    identity::{Claims, Role},
    label::{Clearance, Integrity},
    name::Name,
    policy::{Bundle, FlowGrant, Records, Rule, Tables, Team, Who},
    time::Millis,
};

/// The records of one policy: signed, or about to be (then `policy check` asks before anybody signs).
#[derive(Debug, Clone, Copy)]
pub struct Facts<'p> {
    /// Names, teams.
    pub tables: &'p Tables,
    /// Who may send what to whom, in policy order.
    pub rules: &'p [Rule],
    /// Explicit declassification and endorsement.
    pub grants: &'p [FlowGrant],
}

impl<'p> Facts<'p> {
    /// The records of a signed policy.
    #[must_use]
    pub fn of(bundle: &'p Bundle) -> Self {
        Self::records(bundle.records())
    }

    /// Records that nobody has signed yet.
    #[must_use]
    pub fn records(records: &'p Records) -> Self {
        Self { tables: &records.tables, rules: &records.rules, grants: &records.grants }
    }
}

/// Whether the bus lets a holder in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It may connect.
    Valid,
    /// Its credential is not good yet, or no longer.
    Expired,
    /// A status statement revokes it.
    Revoked,
    /// Its team is not in the policy.
    UnknownTeam,
    /// Its credential is not for the zone of its team, or the policy has no such zone.
    WrongZone,
    /// It is cleared above the ceiling of its team's zone.
    AboveCeiling,
    /// It is a guard or an observer: it neither publishes nor reads envelopes.
    NoAgent,
}

/// Somebody who can hold information: an agent with its credential, or any member of a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// An agent by name, or a team for whoever is in it.
    pub who: Who,
    /// The team.
    pub team: Name,
    /// What the credential clears it for; the policy may clear its team for less.
    pub clearance: Clearance,
    /// How trusted its credential lets it be; the policy may let its team be less.
    pub integrity_ceiling: Integrity,
    /// Zones its credential is for; none means any.
    pub zones: Vec<Name>,
    /// Whether it may connect. Who may not takes part in no flow.
    pub standing: Standing,
}

impl Holder {
    /// The agent of a verified credential, as it stands at `at`.
    #[must_use]
    pub fn agent(claims: &Claims, revoked: bool, at: Millis) -> Self {
        let standing = if claims.role != Role::Agent {
            Standing::NoAgent
        } else if revoked {
            Standing::Revoked
        } else if claims.validity.not_before <= at && at < claims.validity.not_after {
            Standing::Valid
        } else {
            Standing::Expired
        };
        Self {
            who: Who::Agent(claims.name.clone()),
            team: claims.team.clone(),
            clearance: claims.clearance,
            integrity_ceiling: claims.integrity_ceiling,
            zones: claims.zones.clone(),
            standing,
        }
    }

    /// Any member of `team` that has all the team has.
    #[must_use]
    pub fn member_of(team: &Team) -> Self {
        Self {
            who: Who::Team(team.name.clone()),
            team: team.name.clone(),
            clearance: team.clearance,
            integrity_ceiling: team.integrity_ceiling,
            zones: Vec::new(),
            standing: Standing::Valid,
        }
    }

    /// The name: of the agent, or of the team.
    #[must_use]
    pub const fn name(&self) -> &Name {
        match &self.who {
            Who::Agent(name) | Who::Team(name) => name,
        }
    }

    /// Whether it stands for any member of its team.
    #[must_use]
    pub const fn is_team(&self) -> bool {
        matches!(self.who, Who::Team(_))
    }
}

/// One holder a team, for a policy whose agents are not known: what is true of it is true of any member
/// with full rights that no rule names by itself.
#[must_use]
pub fn members(tables: &Tables) -> Vec<Holder> {
    tables.teams.iter().map(Holder::member_of).collect()
}

/// Agents that rules name by themselves and that are not among `holders`: nothing is known of their rights,
/// so the graph leaves them out.
#[must_use]
pub fn strangers<'p>(facts: Facts<'p>, holders: &[Holder]) -> BTreeSet<&'p Name> {
    let known: BTreeSet<&Name> = holders.iter().filter(|h| !h.is_team()).map(Holder::name).collect();
    let parties = facts.rules.iter().flat_map(|rule| rule.publishers.iter().chain(&rule.subscribers));
    let named = parties.filter_map(|party| match &party.who {
        Who::Agent(name) => Some(name),
        Who::Team(_) => None,
    });
    named.filter(|name| !known.contains(name)).collect()
}

/// Whether the label checks on what the team publishes under the rule only watch.
pub(super) fn observes(facts: Facts<'_>, rule: usize, team: usize) -> bool {
    let team = facts.tables.teams.get(team);
    let rule = facts.rules.get(rule);
    facts.tables.observe || rule.is_some_and(|rule| rule.observe) || team.is_some_and(|team| team.observe)
}

/// Why a member of the team with this clearance may not connect anywhere.
pub(super) fn misplaced(tables: &Tables, team: &Team, holder: &Holder) -> Option<Standing> {
    let name = team.zone.as_ref()?;
    let Some(zone) = tables.zone(name.as_str()) else { return Some(Standing::WrongZone) };
    if !holder.zones.is_empty() && !holder.zones.contains(name) {
        return Some(Standing::WrongZone);
    }
    let clearance = holder.clearance.meet(team.clearance);
    (zone.ceiling.meet(clearance) != clearance).then_some(Standing::AboveCeiling)
}

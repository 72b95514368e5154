//! Flow grants, matched with the rules they lead from and to, once.

use std::collections::HashMap;

use sealbus_envelope::{name::Name, time::Millis};

use super::{facts::Facts, flow::GrantNo};

/// Which grants concern which rules. Those that have expired or whose team is unknown concern none.
#[derive(Debug, Clone, Default)]
pub(super) struct Grants {
    /// By rule, ascending: what came in under the rule may be declassified by these.
    pub(super) from: Vec<Vec<GrantNo>>,
    /// By rule, ascending: these may be used to send under the rule.
    pub(super) to: Vec<Vec<GrantNo>>,
    /// By grant, the team's place in the tables.
    teams: Vec<Option<usize>>,
    /// In force and usable by somebody, ascending.
    live: Vec<GrantNo>,
}

impl Grants {
    pub(super) fn index(facts: Facts<'_>, at: Millis) -> Self {
        let teams: HashMap<&Name, usize> =
            facts.tables.teams.iter().enumerate().map(|(n, team)| (&team.name, n)).collect();
        let teams = facts.grants.iter().map(|grant| teams.get(&grant.team).copied());
        let mut index = Self { teams: teams.collect(), ..Self::default() };
        let live: Vec<GrantNo> = (0..)
            .zip(facts.grants)
            .filter(|(n, grant)| at < grant.expires && index.team_of(*n).is_some())
            .map(|(n, _)| n)
            .collect();
        for rule in facts.rules {
            let (mut from, mut to) = (Vec::new(), Vec::new());
            for &n in &live {
                let Some(grant) = facts.grants.get(n) else { continue };
                if grant.from.covers(&rule.pattern) {
                    from.push(n);
                }
                if grant.to.overlaps(&rule.pattern) {
                    to.push(n);
                }
            }
            index.from.push(from);
            index.to.push(to);
        }
        index.live = live;
        index
    }

    /// Whether it has not expired and its team exists.
    pub(super) fn is_live(&self, grant: GrantNo) -> bool {
        self.live.binary_search(&grant).is_ok()
    }

    /// The team that may use it.
    pub(super) fn team_of(&self, grant: GrantNo) -> Option<usize> {
        self.teams.get(grant).copied().flatten()
    }
}

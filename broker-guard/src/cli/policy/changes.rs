//! What a policy says other than another, by the names in it. Which flows that opens or closes is for
//! `sealbus policy diff` to tell; this is what a key holder and a history show in one line.

use sealbus_envelope::policy::Records;
use serde::Serialize;

/// How many names are shown before the rest is counted.
const SHOWN: usize = 8;

/// Names of what differs: `rule deps`, `team analyst`, `flow grant release`, `tables`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Changes {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
}

impl Changes {
    /// From `old` to `new`.
    pub(super) fn between(old: &Records, new: &Records) -> Self {
        let mut changes = Self::default();
        changes.of("rule", &old.rules, &new.rules, |rule| rule.name.as_str());
        changes.of("flow grant", &old.grants, &new.grants, |grant| grant.name.as_str());
        changes.of("team", &old.tables.teams, &new.tables.teams, |team| team.name.as_str());
        changes.of("zone", &old.tables.zones, &new.tables.zones, |zone| zone.name.as_str());
        let rest = |records: &Records| {
            let mut tables = records.tables.clone();
            tables.teams.clear();
            tables.zones.clear();
            tables
        };
        if rest(old) != rest(new) {
            changes.changed.push("tables".to_owned());
        }
        changes
    }

    fn of<T: PartialEq>(&mut self, what: &str, old: &[T], new: &[T], name: impl Fn(&T) -> &str) {
        use std::collections::BTreeMap;
        let by_name = |all: &'_ [T]| -> BTreeMap<String, usize> {
            all.iter().enumerate().map(|(n, one)| (name(one).to_owned(), n)).collect()
        };
        let (before, after) = (by_name(old), by_name(new));
        for (key, n) in &after {
            match before.get(key) {
                None => self.added.push(format!("{what} {key}")),
                Some(m) if old.get(*m) != new.get(*n) => self.changed.push(format!("{what} {key}")),
                Some(_) => {}
            }
        }
        self.removed
            .extend(before.keys().filter(|key| !after.contains_key(*key)).map(|key| format!("{what} {key}")));
    }

    /// Such as `+2 -1 ~3`.
    pub(super) fn short(&self) -> String {
        let counted = [("+", &self.added), ("-", &self.removed), ("~", &self.changed)];
        let parts = counted.iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<_> = parts.map(|(sign, names)| format!("{sign}{}", names.len())).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(" ") }
    }

    /// A line for each kind of change.
    pub(super) fn lines(&self) -> String {
        let mut lines = Vec::new();
        for (what, names) in [("adds", &self.added), ("removes", &self.removed), ("changes", &self.changed)] {
            if names.is_empty() {
                continue;
            }
            let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            let rest = names.len().saturating_sub(SHOWN);
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            lines.push(format!("  {what:<8} {shown}{more}"));
        }
        lines.join("\n")
    }
}

//! Duplicates, and what is outdated by the lock file's own evidence: an old version beside a newer one. What
//! else a registry may have is not known here, and not claimed.

use std::collections::BTreeMap;

use semver::Version;

use super::{Dependency, Found, Severity, fresh};

pub(super) fn review(all: &[Dependency], new: usize) -> Vec<Found> {
    let mut versions: BTreeMap<&str, Vec<(Option<Version>, usize)>> = BTreeMap::new();
    for (place, dependency) in all.iter().enumerate() {
        let version = Version::parse(&dependency.version).ok();
        versions.entry(&dependency.name).or_default().push((version, place));
    }
    let mut found = Vec::new();
    for (name, mut places) in versions {
        if places.len() < 2 || places.iter().all(|(_, place)| *place < new) {
            continue;
        }
        places.sort();
        let Some((_, newest)) = places.last() else { continue };
        let shown = |place: &usize| all.get(*place).map_or("?", |dependency| dependency.version.as_str());
        let older: Vec<_> = places
            .iter()
            .filter(|(_, place)| place != newest)
            .filter_map(|(_, place)| all.get(*place))
            .map(|old| format!("{} (needed by {})", old.version, old.dependents))
            .collect();
        found.push(Found {
            severity: Severity::Note,
            title: format!(
                "`{name}` is built {} times, in versions that cannot be one: {} beside {}",
                places.len(),
                older.join(", "),
                shown(newest)
            ),
            about: places.into_iter().map(|(_, place)| place).collect(),
        });
    }
    let unstable: Vec<_> = fresh(all, new)
        .filter(|(_, dependency)| dependency.direct)
        .filter(|(_, dependency)| Version::parse(&dependency.version).is_ok_and(|version| version.major == 0))
        .map(|(place, _)| place)
        .collect();
    if !unstable.is_empty() {
        let title = "named directly and below 1.0: its interface may change".to_owned();
        found.push(Found { severity: Severity::Info, title, about: unstable });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::dependency, *};

    #[test]
    fn a_duplicate_is_found_when_its_second_version_comes_and_only_then() {
        let all = [dependency("a", "0.9.0"), dependency("b", "1.0.0"), dependency("a", "0.10.0")];
        assert_eq!(review(all.get(..2).unwrap_or_default(), 0), []);
        let found = review(&all, 2);
        assert_eq!(found.len(), 1);
        assert!(
            found
                .iter()
                .all(|one| one.about == [0, 2] && one.title.contains("0.9.0 (needed by 1) beside 0.10.0"))
        );
        assert_eq!(review(&all, 3), [], "told once");
    }
}

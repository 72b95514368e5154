//! Supply-chain risk, as far as metadata tells it: what runs at build time, where code comes from.

use super::{super::project::Source, Dependency, Found, Severity, fresh};

type Signal = (Severity, &'static str, fn(&Dependency) -> bool);

const SIGNALS: [Signal; 6] = [
    (Severity::Warning, "comes from a git repository: no registry keeps it", |d| d.source == Source::Git),
    (Severity::Warning, "no repository stated: its source cannot be compared", |d| {
        d.repository.is_none() && d.source != Source::Path
    }),
    (Severity::Note, "links native code", |d| d.links.is_some()),
    (Severity::Note, "a build script runs on the machine that builds it", |d| d.build_script),
    (Severity::Note, "a procedural macro runs inside the compiler", |d| d.proc_macro),
    (Severity::Info, "outside the registry, on this disk", |d| d.source == Source::Path),
];

pub(super) fn review(all: &[Dependency], new: usize) -> Vec<Found> {
    SIGNALS
        .iter()
        .map(|(severity, title, applies)| Found {
            severity: *severity,
            title: (*title).to_owned(),
            about: fresh(all, new).filter(|(_, one)| applies(one)).map(|(place, _)| place).collect(),
        })
        .filter(|found| !found.about.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::dependency, *};

    #[test]
    fn each_signal_names_whom_it_is_about() {
        let mut all = [dependency("a", "1.0.0"), dependency("b", "1.0.0"), dependency("c", "1.0.0")];
        assert_eq!(review(&all, 0), []);
        let [a, _, c] = &mut all;
        a.build_script = true;
        c.build_script = true;
        c.source = Source::Git;
        let about: Vec<_> = review(&all, 0).into_iter().map(|found| (found.severity, found.about)).collect();
        assert_eq!(about, [(Severity::Warning, vec![2]), (Severity::Note, vec![0, 2])]);
    }
}

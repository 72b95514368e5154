//! What the analysts look for. Pure: dependencies in, findings out; nothing is claimed that neither lock file
//! nor metadata says.

mod licence;
mod risk;
mod versions;

use super::{messages::Severity, project::Dependency};

/// The analysts, by name: what each looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Review {
    Licence,
    Versions,
    Risk,
}

impl Review {
    pub(super) const ALL: [Self; 3] = [Self::Licence, Self::Versions, Self::Risk];

    /// The analyst's name, and the last token of the subject it publishes on.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Licence => "licence",
            Self::Versions => "versions",
            Self::Risk => "risk",
        }
    }

    /// Reviews what came from place `new` on; what came before may be looked at again.
    pub(super) fn run(self, all: &[Dependency], new: usize) -> Vec<Found> {
        match self {
            Self::Licence => licence::review(all, new),
            Self::Versions => versions::review(all, new),
            Self::Risk => risk::review(all, new),
        }
    }
}

/// A finding, and the places of the dependencies that it is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) severity: Severity,
    pub(super) title: String,
    pub(super) about: Vec<usize>,
}

/// Those from place `new` on, with their places.
fn fresh(all: &[Dependency], new: usize) -> impl Iterator<Item = (usize, &Dependency)> {
    all.iter().enumerate().skip(new)
}

#[cfg(test)]
fn dependency(name: &str, version: &str) -> Dependency {
    use super::project::Source;
    Dependency {
        name: name.to_owned(),
        version: version.to_owned(),
        license: Some("MIT".to_owned()),
        license_file: false,
        repository: Some("https://example.com".to_owned()),
        source: Source::Registry,
        build_script: false,
        proc_macro: false,
        links: None,
        dependents: 1,
        direct: false,
        yanked: None,
    }
}

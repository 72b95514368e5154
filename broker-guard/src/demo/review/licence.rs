//! Licence compliance: what each package's SPDX expression asks of who ships it.

use std::collections::BTreeMap;

use super::{Dependency, Found, Severity, fresh};

/// What a licence asks for, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Demand {
    Permissive,
    WeakCopyleft,
    /// Not on the list here: somebody has to read it.
    Unknown,
    StrongCopyleft,
}

pub(super) fn review(all: &[Dependency], new: usize) -> Vec<Found> {
    let mut kinds: BTreeMap<(Severity, String), Vec<usize>> = BTreeMap::new();
    for (place, dependency) in fresh(all, new) {
        let (severity, title) = match &dependency.license {
            Some(expression) => {
                let (severity, what) = match demand(expression) {
                    Demand::Permissive => (Severity::Info, "permissive"),
                    Demand::WeakCopyleft => (Severity::Note, "weak copyleft: changes to it must be shared"),
                    Demand::Unknown => (Severity::Note, "not a licence this review knows: read it"),
                    Demand::StrongCopyleft => {
                        (Severity::Warning, "strong copyleft: may bind the whole program")
                    }
                };
                (severity, format!("{expression} ({what})"))
            }
            None if dependency.license_file => {
                (Severity::Note, "a licence text of its own: read it".to_owned())
            }
            None => (Severity::Warning, "no licence stated: nobody may use it".to_owned()),
        };
        kinds.entry((severity, title)).or_default().push(place);
    }
    kinds.into_iter().map(|((severity, title), about)| Found { severity, title, about }).collect()
}

/// The mildest that the expression lets one choose.
fn demand(expression: &str) -> Demand {
    // `MIT/Apache-2.0` is how packages wrote `OR` before SPDX.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut tokens = spaced.split_whitespace().peekable();
    let demand = any(&mut tokens, 0);
    if tokens.next().is_none() { demand } else { Demand::Unknown }
}

type Tokens<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// Parentheses deeper than this are nobody's licence.
const MAX_DEPTH: u8 = 16;

fn any(tokens: &mut Tokens<'_>, depth: u8) -> Demand {
    let mut least = all_of(tokens, depth);
    while tokens.next_if_eq(&"OR").is_some() {
        least = least.min(all_of(tokens, depth));
    }
    least
}

fn all_of(tokens: &mut Tokens<'_>, depth: u8) -> Demand {
    let mut most = one(tokens, depth);
    while tokens.next_if_eq(&"AND").is_some() {
        most = most.max(one(tokens, depth));
    }
    most
}

fn one(tokens: &mut Tokens<'_>, depth: u8) -> Demand {
    match tokens.next() {
        Some("(") if depth < MAX_DEPTH => {
            let inside = any(tokens, depth + 1);
            if tokens.next() == Some(")") { inside } else { Demand::Unknown }
        }
        Some(id) => {
            // An exception only takes demands away, so leaving it out of account is on the safe side.
            if tokens.next_if_eq(&"WITH").is_some() {
                tokens.next();
            }
            of_id(id)
        }
        None => Demand::Unknown,
    }
}

fn of_id(id: &str) -> Demand {
    const PERMISSIVE: [&str; 19] = [
        "0BSD",
        "Apache-2.0",
        "BSD-1-Clause",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CDLA-Permissive-2.0",
        "ISC",
        "MIT",
        "MIT-0",
        "NCSA",
        "OpenSSL",
        "Unicode-3.0",
        "Unicode-DFS-2016",
        "Unlicense",
        "WTFPL",
        "Zlib",
        "bzip2-1.0.6",
    ];
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| id.starts_with(prefix));
    if PERMISSIVE.contains(&id) {
        Demand::Permissive
    } else if starts(&["MPL-", "LGPL-", "EPL-", "CDDL-"]) {
        Demand::WeakCopyleft
    } else if starts(&["GPL-", "AGPL-", "SSPL-", "EUPL-", "OSL-"]) {
        Demand::StrongCopyleft
    } else {
        Demand::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_as_mild_as_its_mildest_and_a_sum_as_strict_as_its_strictest() {
        for (expression, expected) in [
            ("MIT OR Apache-2.0", Demand::Permissive),
            ("MIT/Apache-2.0", Demand::Permissive),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", Demand::Permissive),
            ("MIT OR GPL-3.0-only", Demand::Permissive),
            ("MIT AND GPL-3.0-only", Demand::StrongCopyleft),
            ("MPL-2.0", Demand::WeakCopyleft),
            ("Apache-2.0 WITH LLVM-exception", Demand::Permissive),
            ("Unlicense OR MIT AND LGPL-2.1", Demand::Permissive),
            ("Weird-1.0", Demand::Unknown),
            ("MIT OR", Demand::Permissive),
            ("MIT MIT", Demand::Unknown),
            ("((MIT", Demand::Unknown),
            ("", Demand::Unknown),
        ] {
            assert_eq!(demand(expression), expected, "{expression}");
        }
    }

    #[test]
    fn packages_are_grouped_by_licence_and_none_is_left_out() {
        let mut all: Vec<_> = (0..5).map(|n| super::super::dependency(&format!("a{n}"), "1.0.0")).collect();
        if let Some(last) = all.last_mut() {
            last.license = None;
        }
        let found = review(&all, 1);
        let about: Vec<_> = found.iter().map(|found| (found.severity, found.about.clone())).collect();
        assert_eq!(about, [(Severity::Warning, vec![4]), (Severity::Info, vec![1, 2, 3])]);
    }
}
